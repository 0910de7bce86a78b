package commands

import (
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/urfave/cli/v2"
)

// line is a command line taken apart against the tree of commands. The library
// drops every flag that stands after the first argument, so flags are found
// here, wherever they stand, and handed to it in the order that it reads.
type line struct {
	// Path is the commands that were named, from the outermost to the one to
	// run.
	Path []*cli.Command
	// Argv is the line in the library's order: each command's flags behind
	// its name, then "--" and the arguments.
	Argv []string
	// Help is set where help was asked for.
	Help bool
	// Color is the value of --color, empty if it was not given.
	Color string
}

// Name is the full name of the command, for messages.
func (l *line) Name() string { return fullName(l.Path) }

func fullName(path []*cli.Command) string {
	name := programName
	for _, command := range path {
		name += " " + command.Name
	}
	return name
}

// parseLine takes apart words, the command line without the program's name.
// With an error the line holds what was read before it.
//
// A flag may be written with one dash or two, its value behind "=" or in the
// next word, before or after the arguments. It may belong to any of the
// commands named so far. What follows "--" is an argument, and what follows a
// command with SkipFlagParsing is not looked at.
func parseLine(root *cli.Command, words []string) (*line, error) {
	p := &lineParser{root: root, line: &line{}, flags: make([][]string, 1)}
	err := p.parse(words)
	if err == nil && !p.line.Help {
		err = p.finish()
	}
	return p.line, err
}

type lineParser struct {
	root *cli.Command
	line *line
	// flags holds the flags of the root, then of each command of the path.
	flags [][]string
	args  []string
}

func (p *lineParser) parse(words []string) error {
	for len(words) > 0 {
		word := words[0]
		words = words[1:]
		switch {
		case word == "--":
			p.args = append(p.args, words...)
			return nil
		case len(word) > 1 && word[0] == '-':
			used, err := p.flag(word, words)
			if err != nil {
				return err
			}
			words = words[used:]
		case len(p.current().Subcommands) > 0:
			if err := p.command(word); err != nil {
				return err
			}
			if p.current().SkipFlagParsing {
				p.args = words
				return nil
			}
		default:
			p.args = append(p.args, word)
		}
	}
	return nil
}

// current is the command that was named last.
func (p *lineParser) current() *cli.Command {
	if len(p.line.Path) == 0 {
		return p.root
	}
	return p.line.Path[len(p.line.Path)-1]
}

// command goes down the tree.
func (p *lineParser) command(word string) error {
	for _, command := range p.current().Subcommands {
		if command.HasName(word) {
			p.line.Path = append(p.line.Path, command)
			p.flags = append(p.flags, nil)
			return nil
		}
	}
	names := commandNames(p.current())
	hint := "write one of: " + strings.Join(names, ", ")
	if near := nearest(word, names); near != "" {
		hint = fmt.Sprintf("did you mean %s %s? %s", p.line.Name(), near, hint)
	}
	return usageError(hint, "unknown command %q for %s", word, p.line.Name())
}

// commandNames lists the commands below one that people should see.
func commandNames(command *cli.Command) []string {
	var names []string
	for _, sub := range command.Subcommands {
		if !sub.Hidden {
			names = append(names, sub.Name)
		}
	}
	return names
}

// flag reads one flag and returns how many of the words after it were its
// value.
func (p *lineParser) flag(word string, following []string) (int, error) {
	written, value, hasValue := strings.Cut(word, "=")
	name := strings.TrimPrefix(strings.TrimPrefix(written, "-"), "-")
	if (name == "help" || name == "h") && !hasValue {
		p.line.Help = true
		return 0, nil
	}
	flag, level := p.find(name)
	if flag == nil {
		return 0, p.unknownFlag(written, name)
	}
	used := 0
	switch {
	case !takesValue(flag):
		if !hasValue {
			value = "true"
		}
		if _, err := strconv.ParseBool(value); err != nil {
			return 0, usageError(fmt.Sprintf("write %s or %s=false", dashed(name), dashed(name)),
				"%s: %q is neither true nor false", dashed(name), value)
		}
	case !hasValue && len(following) == 0:
		hint := fmt.Sprintf("write %s=VALUE", dashed(name))
		if choice, ok := flag.(*ChoiceFlag); ok {
			hint = fmt.Sprintf("write %s=%s", dashed(name), strings.Join(choice.Values, "|"))
		}
		return 0, usageError(hint, "%s needs a value", dashed(name))
	case !hasValue:
		value, used = following[0], 1
	}
	if choice, ok := flag.(*ChoiceFlag); ok {
		if err := choice.check(dashed(name), value); err != nil {
			return 0, err
		}
	}
	if level == 0 && name == "color" {
		p.line.Color = value
	}
	p.flags[level] = append(p.flags[level], fmt.Sprintf("--%s=%s", name, value))
	return used, nil
}

// find looks for a flag in the commands named so far, the innermost first, and
// returns its place in p.flags.
func (p *lineParser) find(name string) (cli.Flag, int) {
	for level := len(p.line.Path); level >= 0; level-- {
		for _, flag := range p.flagsAt(level) {
			if slices.Contains(flag.Names(), name) {
				return flag, level
			}
		}
	}
	return nil, 0
}

func (p *lineParser) flagsAt(level int) []cli.Flag {
	if level == 0 {
		return p.root.Flags
	}
	return p.line.Path[level-1].Flags
}

// unknownFlag finds what was meant: a flag of a command below, a command, or a
// flag with nearly that name.
func (p *lineParser) unknownFlag(written, name string) error {
	command := p.line.Name()
	hint := ""
	if strings.HasPrefix(p.current().ArgsUsage, "-- ") {
		hint = "write etcd's own flags behind --, as in: " + command + " -- --name m1"
	} else if owner := ownerBelow(p.current(), name); owner != "" {
		hint = fmt.Sprintf("%s belongs to %s %s: write it behind that", dashed(name), command, owner)
	} else if slices.Contains(commandNames(p.current()), name) {
		hint = fmt.Sprintf("did you mean %s %s?", command, name)
	} else {
		names := []string{"help"}
		for level := range p.flags {
			for _, flag := range p.flagsAt(level) {
				if isVisible(flag) {
					names = append(names, flag.Names()...)
				}
			}
		}
		if near := nearest(name, names); near != "" {
			hint = fmt.Sprintf("did you mean %s?", dashed(near))
		}
	}
	if hint == "" {
		hint = fmt.Sprintf("run %s --help for its flags and examples", command)
	}
	return usageError(hint, "unknown flag %s for %s", written, command)
}

// ownerBelow names the first command below one that has the flag.
func ownerBelow(command *cli.Command, name string) string {
	for _, sub := range command.Subcommands {
		for _, flag := range sub.Flags {
			if slices.Contains(flag.Names(), name) && isVisible(flag) {
				return sub.Name
			}
		}
		if owner := ownerBelow(sub, name); owner != "" {
			return sub.Name + " " + owner
		}
	}
	return ""
}

// finish checks that a command was named that can be run, and that arguments
// go to one that takes some: ArgsUsage says so.
func (p *lineParser) finish() error {
	command := p.current()
	if len(command.Subcommands) > 0 {
		return usageError(
			fmt.Sprintf("write one of: %s; or run %s --help", strings.Join(commandNames(command), ", "), p.line.Name()),
			"%s needs a command", p.line.Name())
	}
	if len(p.args) > 0 && command.ArgsUsage == "" {
		return usageError("", "%s takes no argument, and there is %q", p.line.Name(), p.args[0])
	}
	argv := append([]string{programName}, p.flags[0]...)
	for i, command := range p.line.Path {
		argv = append(append(argv, command.Name), p.flags[i+1]...)
	}
	if len(p.args) > 0 && !command.SkipFlagParsing {
		argv = append(argv, "--")
	}
	p.line.Argv = append(argv, p.args...)
	return nil
}
