package commands

import (
	"context"
	"fmt"
	"io"
	"strings"
	"text/tabwriter"

	"github.com/urfave/cli/v2"
)

func newHelpCommand(env *Env, app *cli.App) *cli.Command {
	return &cli.Command{
		Name:      "help",
		Usage:     "explain a command, as --help does",
		ArgsUsage: "[command]",
		Description: `Examples:
  etcdops help
  etcdops help version`,
		Action: action{Run: func(ctx context.Context, c *cli.Context) error {
			return runHelp(ctx, env, rootCommand(app), c.Args().Slice())
		}}.Do,
	}
}

func runHelp(_ context.Context, env *Env, root *cli.Command, words []string) error {
	line, err := parseLine(root, append(words, "--help"))
	if err != nil {
		return err
	}
	printHelp(env.Stdout, env.Out, root, line.Path)
	return nil
}

// printHelp explains the last command of path, or the whole program.
func printHelp(w io.Writer, paint Palette, root *cli.Command, path []*cli.Command) {
	command := root
	if len(path) > 0 {
		command = path[len(path)-1]
	}
	usage := fullName(path)
	switch {
	case len(command.Subcommands) > 0:
		usage += " COMMAND"
	case len(command.Flags) > 0:
		usage += " [flags]"
	}
	if command.ArgsUsage != "" {
		usage += " " + command.ArgsUsage
	}
	fmt.Fprintf(w, "%s: %s\n\n%s %s\n", fullName(path), command.Usage, paint.Strong.Sprint("Usage:"), usage)
	if command.Description != "" {
		fmt.Fprintf(w, "\n%s\n", strings.Replace(command.Description, "Examples:", paint.Strong.Sprint("Examples:"), 1))
	}
	if len(command.Subcommands) > 0 {
		fmt.Fprintf(w, "\n%s\n", paint.Strong.Sprint("Commands:"))
		columns := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
		for _, sub := range command.Subcommands {
			if !sub.Hidden {
				fmt.Fprintf(columns, "  %s\t%s\n", sub.Name, sub.Usage)
			}
		}
		_ = columns.Flush()
	}
	if command != root {
		printFlags(w, paint, "Flags:", command.Flags)
	}
	printFlags(w, paint, "Flags of every command:", append(root.Flags[:len(root.Flags):len(root.Flags)],
		&cli.BoolFlag{Name: "help", Aliases: []string{"h"}, Usage: "print this"}))
}

// printFlags lists the visible flags. Hidden ones are etcd's, accepted and
// ignored.
func printFlags(w io.Writer, paint Palette, title string, flags []cli.Flag) {
	if len(flags) == 0 {
		return
	}
	fmt.Fprintf(w, "\n%s\n", paint.Strong.Sprint(title))
	columns := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	hidden := false
	for _, flag := range flags {
		documented, ok := flag.(cli.DocGenerationFlag)
		if !ok || !isVisible(flag) {
			hidden = true
			continue
		}
		fmt.Fprintf(columns, "  %s\t%s\n", flagSyntax(documented), flagUsage(documented))
	}
	_ = columns.Flush()
	if hidden {
		fmt.Fprintln(w, "  The other flags of an etcd member are accepted and ignored.")
	}
}

// flagSyntax is what to type, such as "-o, --output FORMAT".
func flagSyntax(flag cli.DocGenerationFlag) string {
	names := flag.Names()
	syntax := dashed(names[0])
	for _, alias := range names[1:] {
		syntax = dashed(alias) + ", " + syntax
	}
	if flag.TakesValue() {
		placeholder := "VALUE"
		if _, after, found := strings.Cut(flag.GetUsage(), "`"); found {
			placeholder, _, _ = strings.Cut(after, "`")
		}
		syntax += " " + placeholder
	}
	return syntax
}

// flagUsage is the flag's line with its values and its default.
func flagUsage(flag cli.DocGenerationFlag) string {
	usage := strings.ReplaceAll(flag.GetUsage(), "`", "")
	if choice, ok := flag.(*ChoiceFlag); ok {
		usage += " (" + strings.Join(choice.Values, "|") + ")"
	}
	if value := flag.GetValue(); flag.TakesValue() && value != "" {
		usage += " (default " + value + ")"
	}
	return usage
}
