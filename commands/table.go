package commands

import (
	"encoding/json"
	"fmt"
	"io"
	"strings"

	"github.com/olekukonko/tablewriter"
	"github.com/olekukonko/tablewriter/tw"
	"github.com/urfave/cli/v2"
)

// Values of --output.
const (
	outputTable  = "table"
	outputJSON   = "json"
	outputSimple = "simple"
)

// outputFlagName is the flag that outputFlag makes.
const outputFlagName = "output"

// outputFlag is -o, the same for every command that prints a table.
func outputFlag() cli.Flag {
	return &ChoiceFlag{
		StringFlag: cli.StringFlag{
			Name: outputFlagName, Aliases: []string{"o"},
			Usage: "print as `FORMAT`; if not set: table on a terminal, simple in a pipe",
		},
		Values: []string{outputTable, outputJSON, outputSimple},
	}
}

// Table is what a command prints to standard output.
type Table struct {
	// Name begins each line of a part in the simple format of printTables.
	Name   string
	Header []string
	Rows   [][]string
	// Value is the same in JSON.
	Value any
}

// printTable prints in the given format, one of outputFlag's; empty means by
// the terminal. Nothing is ever cut or wrapped.
func (env *Env) printTable(format string, table Table) error {
	if format == "" {
		format = outputSimple
		if env.StdoutTTY {
			format = outputTable
		}
	}
	var err error
	switch format {
	case outputJSON:
		err = writeJSON(env.Stdout, table.Value)
	case outputTable:
		err = writeGrid(env.Stdout, table)
	default:
		err = writeColumns(env.Stdout, table.Rows)
	}
	if err != nil {
		return fmt.Errorf("print the result: %w", err)
	}
	return nil
}

// printTables prints the parts of one result; value is the whole in JSON. In the
// simple format each line begins with its part's name.
func (env *Env) printTables(format string, parts []Table, value any) error {
	if format == outputJSON {
		return env.printTable(format, Table{Value: value})
	}
	for i, part := range parts {
		if format == outputTable || format == "" && env.StdoutTTY {
			if len(part.Rows) == 0 {
				continue
			}
			if i > 0 {
				fmt.Fprintln(env.Stdout)
			}
		} else {
			rows := make([][]string, 0, len(part.Rows))
			for _, row := range part.Rows {
				rows = append(rows, append([]string{part.Name}, row...))
			}
			part.Rows = rows
		}
		if err := env.printTable(format, part); err != nil {
			return err
		}
	}
	return nil
}

func writeJSON(w io.Writer, value any) error {
	encoder := json.NewEncoder(w)
	encoder.SetEscapeHTML(false)
	encoder.SetIndent("", "  ")
	return encoder.Encode(value)
}

// writeGrid draws lines between the cells. A cell may have several lines.
func writeGrid(w io.Writer, table Table) error {
	grid := tablewriter.NewTable(w,
		tablewriter.WithHeaderAutoFormat(tw.Off),
		tablewriter.WithHeaderAutoWrap(tw.WrapNone),
		tablewriter.WithHeaderAlignment(tw.AlignLeft),
		tablewriter.WithRowAutoWrap(tw.WrapNone),
		tablewriter.WithRowAlignment(tw.AlignLeft))
	grid.Header(table.Header)
	for _, row := range table.Rows {
		if err := grid.Append(row); err != nil {
			return err
		}
	}
	return grid.Render()
}

// writeColumns writes one row a line for grep, cut and awk: tabs between the
// columns, "-" for an empty cell, commas for the line breaks in a cell.
func writeColumns(w io.Writer, rows [][]string) error {
	clean := strings.NewReplacer("\n", ",", "\t", " ")
	var text strings.Builder
	for _, row := range rows {
		for i, cell := range row {
			if i > 0 {
				text.WriteByte('\t')
			}
			if cell == "" {
				cell = "-"
			}
			text.WriteString(clean.Replace(cell))
		}
		text.WriteByte('\n')
	}
	_, err := io.WriteString(w, text.String())
	return err
}
