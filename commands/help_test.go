package commands

import (
	"strings"
	"testing"

	"github.com/urfave/cli/v2"
)

func TestHelp(t *testing.T) {
	for name, test := range map[string]struct {
		line string
		want []string
		not  []string
	}{
		"program":             {"--help", []string{"Usage: etcdops COMMAND", "\n  version ", "\n  group ", "--color WHEN"}, []string{"__complete"}},
		"short":               {"-h", []string{"Usage: etcdops COMMAND"}, nil},
		"one dash":            {"-help", []string{"Usage: etcdops COMMAND"}, nil},
		"command":             {"help", []string{"Usage: etcdops COMMAND"}, nil},
		"group":               {"group --help", []string{"Usage: etcdops group COMMAND", "\n  show ", "\n  start "}, []string{"secret"}},
		"command of a group":  {"group show --help", []string{"Usage: etcdops group show [flags] [word...]", "-n, --name VALUE", "-o, --output FORMAT", "(table|json|simple)", "accepted and ignored"}, []string{"enable-v2"}},
		"help for a command":  {"help group show", []string{"Usage: etcdops group show [flags] [word...]"}, nil},
		"before the command":  {"--help group show", []string{"Usage: etcdops group show [flags] [word...]"}, nil},
		"behind an argument":  {"group show a --help", []string{"Usage: etcdops group show [flags] [word...]"}, nil},
		"between flags":       {"version -o json --help", []string{"Usage: etcdops version [flags]"}, nil},
		"built-in etcd":       {"help etcd", []string{"Usage: etcdops etcd [etcd's flags]"}, nil},
		"no note without any": {"version --help", []string{"etcdops version -o json"}, []string{"ignored"}},
	} {
		t.Run(name, func(t *testing.T) {
			got := runSample(t, strings.Fields(test.line)...)
			if got.code != ExitDone || got.stderr != "" {
				t.Errorf("exit code %d, stderr %q", got.code, got.stderr)
			}
			for _, part := range test.want {
				if !strings.Contains(got.stdout, part) {
					t.Errorf("%q is missing in\n%s", part, got.stdout)
				}
			}
			for _, part := range test.not {
				if strings.Contains(got.stdout, part) {
					t.Errorf("%q is in\n%s", part, got.stdout)
				}
			}
		})
	}
}

// TestExamplesWork parses every example of every command.
func TestExamplesWork(t *testing.T) {
	env, _, _ := testEnv()
	root := rootCommand(newApp(env))
	checkExamples(t, root, root, nil)
}

func checkExamples(t *testing.T, root, command *cli.Command, path []*cli.Command) {
	if command.Hidden {
		return
	}
	_, examples, found := strings.Cut(command.Description, "Examples:\n")
	if !found {
		t.Errorf("%s has no examples", fullName(path))
	}
	for example := range strings.Lines(examples) {
		words := strings.Fields(strings.Trim(strings.TrimSpace(example), "()"))
		if len(words) == 0 || words[0] != programName {
			continue
		}
		for i, word := range words {
			if word == ">" || word == "|" || word == "#" || word == "&" {
				words = words[:i]
				break
			}
		}
		if _, err := parseLine(root, words[1:]); err != nil {
			t.Errorf("example of %s: %q: %v", fullName(path), example, err)
		}
	}
	for _, sub := range command.Subcommands {
		checkExamples(t, root, sub, append(path[:len(path):len(path)], sub))
	}
}
