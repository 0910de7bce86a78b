package commands

import (
	"slices"
	"strings"

	"github.com/urfave/cli/v2"
)

// ChoiceFlag is a string flag with a fixed set of values. The command line's
// parser refuses others, help and completion list them.
type ChoiceFlag struct {
	cli.StringFlag
	Values []string
	// Also are values that are accepted and not shown.
	Also []string
}

// Names implements cli.Flag.
func (f *ChoiceFlag) Names() []string { return flagNames(f.Name, f.Aliases) }

// textFlag is a string flag whose names are looked up quickly.
type textFlag struct{ cli.StringFlag }

// Names implements cli.Flag.
func (f *textFlag) Names() []string { return flagNames(f.Name, f.Aliases) }

// switchFlag is a boolean flag whose names are looked up quickly.
type switchFlag struct{ cli.BoolFlag }

// Names implements cli.Flag.
func (f *switchFlag) Names() []string { return flagNames(f.Name, f.Aliases) }

// flagNames are the names of a flag as they stand. The library's own Names looks
// by a regular expression for what follows a comma in them, as programs of its
// first version had it, and is asked for each pair of flags: with the flags of all
// settings that was four fifths of what a command did until it ran.
func flagNames(name string, aliases []string) []string {
	return append([]string{name}, aliases...)
}

// check says what is wrong with a value that came from origin, such as
// "--color".
func (f *ChoiceFlag) check(origin, value string) error {
	if slices.Contains(f.Values, value) || slices.Contains(f.Also, value) {
		return nil
	}
	hint := "write one of: " + strings.Join(f.Values, ", ")
	if near := nearest(value, f.Values); near != "" {
		hint = "did you mean " + near + "? " + hint
	}
	return usageError(hint, "%s: %q is not one of %s", origin, value, strings.Join(f.Values, ", "))
}

// takesValue says whether a flag needs a value: all but booleans do.
func takesValue(flag cli.Flag) bool {
	documented, ok := flag.(cli.DocGenerationFlag)
	return !ok || documented.TakesValue()
}

// isVisible says whether help and completion show a flag.
func isVisible(flag cli.Flag) bool {
	visible, ok := flag.(cli.VisibleFlag)
	return !ok || visible.IsVisible()
}

// dashed writes a flag's name as it is typed.
func dashed(name string) string {
	if len(name) == 1 {
		return "-" + name
	}
	return "--" + name
}
