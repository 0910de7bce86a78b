package commands

import (
	"context"
	_ "embed"
	"fmt"
	"io"
	"strings"

	"github.com/urfave/cli/v2"
)

var (
	//go:embed completion.bash
	bashCompletion string
	//go:embed completion.zsh
	zshCompletion string
)

func newCompletionCommand(env *Env) *cli.Command {
	return &cli.Command{
		Name:      "completion",
		Usage:     "print a script that completes commands and flags in a shell",
		ArgsUsage: "bash|zsh",
		Description: `The script needs no other package, and asks etcdops itself what fits.

Examples:
  source <(etcdops completion bash)
  etcdops completion bash > etcdops.bash
  etcdops completion zsh > _etcdops`,
		Action: action{Run: func(ctx context.Context, c *cli.Context) error {
			return runCompletion(ctx, env, c.Args().Slice())
		}}.Do,
	}
}

func runCompletion(_ context.Context, env *Env, args []string) error {
	const hint = "run etcdops completion bash, or etcdops completion zsh"
	if len(args) != 1 {
		return usageError(hint, "completion needs the name of one shell, and there are %d", len(args))
	}
	script := ""
	switch args[0] {
	case "bash":
		script = bashCompletion
	case "zsh":
		script = zshCompletion
	default:
		return usageError(hint, "no completion for the shell %q", args[0])
	}
	_, err := io.WriteString(env.Stdout, script)
	return err
}

// newCompleteCommand makes the command that the scripts call with the words of
// the line up to the cursor, without the program's name.
func newCompleteCommand(env *Env, app *cli.App) *cli.Command {
	return &cli.Command{
		Name:            "__complete",
		Usage:           "print what may stand in place of the last word",
		ArgsUsage:       "[word...]",
		Hidden:          true,
		SkipFlagParsing: true,
		Action: action{Run: func(_ context.Context, c *cli.Context) error {
			for _, candidate := range complete(rootCommand(app), c.Args().Slice()) {
				fmt.Fprintln(env.Stdout, candidate)
			}
			return nil
		}}.Do,
	}
}

// complete returns what may stand in place of the last of words. Nothing means
// that the shell may offer files.
func complete(root *cli.Command, words []string) []string {
	if len(words) == 0 {
		return nil
	}
	last := words[len(words)-1]
	p := &lineParser{root: root, line: &line{}, flags: make([][]string, 1)}
	pending := p.skip(words[:len(words)-1])
	switch {
	case len(p.line.Path) > 0 && p.current().SkipFlagParsing:
		return nil
	case pending != nil:
		// bash makes three words of --flag=value.
		return withPrefix("", strings.TrimPrefix(last, "="), flagValues(pending))
	case strings.HasPrefix(last, "-"):
		written, value, hasValue := strings.Cut(last, "=")
		if !hasValue {
			return withPrefix("", last, p.flagNames())
		}
		flag, _ := p.find(strings.TrimLeft(written, "-"))
		return withPrefix(written+"=", value, flagValues(flag))
	case len(p.current().Subcommands) > 0:
		return withPrefix("", last, commandNames(p.current()))
	case strings.Contains(p.current().ArgsUsage, "|"):
		return withPrefix("", last, strings.Split(p.current().ArgsUsage, "|"))
	}
	return nil
}

// skip reads the finished words, whatever is wrong with them, and returns the
// flag whose value comes next, if one does.
func (p *lineParser) skip(words []string) cli.Flag {
	var pending cli.Flag
	for _, word := range words {
		switch {
		case len(p.line.Path) > 0 && p.current().SkipFlagParsing:
			return nil
		case pending != nil:
			if word != "=" {
				pending = nil
			}
		case strings.HasPrefix(word, "-"):
			if strings.Contains(word, "=") {
				continue
			}
			if flag, _ := p.find(strings.TrimLeft(word, "-")); flag != nil && takesValue(flag) {
				pending = flag
			}
		default:
			_ = p.command(word) // a word that names no command is an argument
		}
	}
	return pending
}

// flagNames lists the flags that may stand here, as they are typed.
func (p *lineParser) flagNames() []string {
	var names []string
	for level := len(p.line.Path); level >= 0; level-- {
		for _, flag := range p.flagsAt(level) {
			if isVisible(flag) {
				names = append(names, dashed(flag.Names()[0]))
			}
		}
	}
	return append(names, "--help")
}

func flagValues(flag cli.Flag) []string {
	if choice, ok := flag.(*ChoiceFlag); ok {
		return choice.Values
	}
	return nil
}

// withPrefix keeps the candidates that begin with typed, and writes lead
// before each.
func withPrefix(lead, typed string, candidates []string) []string {
	var kept []string
	for _, candidate := range candidates {
		if strings.HasPrefix(candidate, typed) {
			kept = append(kept, lead+candidate)
		}
	}
	return kept
}
