package commands

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"syscall"
	"testing"

	"github.com/urfave/cli/v2"
)

// TestBadLines holds for every mistake: one line says what is wrong, one line
// says what to type next, nothing goes to standard output.
func TestBadLines(t *testing.T) {
	for name, test := range map[string]struct{ line, message, hint string }{
		"nothing at all":             {"", "etcdops needs a command", "write one of: proxy, member, demo, etcd, version, completion, help, group; or run etcdops --help"},
		"group alone":                {"group", "etcdops group needs a command", "write one of: show, start; or run etcdops group --help"},
		"unknown command":            {"vresion", `unknown command "vresion" for etcdops`, "did you mean etcdops version? write one of: proxy, member, demo, etcd, version, completion, help, group"},
		"unknown command in a group": {"group strat", `unknown command "strat" for etcdops group`, "did you mean etcdops group start? write one of: show, start"},
		"unlike any command":         {"group qqqqqq", `unknown command "qqqqqq" for etcdops group`, "write one of: show, start"},
		"flag behind the command":    {"group show --nam x", "unknown flag --nam for etcdops group show", "did you mean --name?"},
		"flag behind the argument":   {"group show a --nam x", "unknown flag --nam for etcdops group show", "did you mean --name?"},
		"flag with one dash":         {"group show a -forse=true", "unknown flag -forse for etcdops group show", "did you mean --force?"},
		"flag in the group":          {"group --bogus show", "unknown flag --bogus for etcdops group", "run etcdops group --help for its flags and examples"},
		"flag too early":             {"group --name x show", "unknown flag --name for etcdops group", "--name belongs to etcdops group show: write it behind that"},
		"flag of the program":        {"--colour never version", "unknown flag --colour for etcdops", "did you mean --color?"},
		"command as a flag":          {"--version", "unknown flag --version for etcdops", "did you mean etcdops version?"},
		"hidden flag not offered":    {"group show --enable-v3", "unknown flag --enable-v3 for etcdops group show", "run etcdops group show --help for its flags and examples"},
		"three dashes":               {"group show ---name x", "unknown flag ---name for etcdops group show", "did you mean --name?"},
		"no value":                   {"group show --name", "--name needs a value", "write --name=VALUE"},
		"no value of a choice":       {"version -o", "-o needs a value", "write -o=table|json|simple"},
		"bad output":                 {"version -o xml", `-o: "xml" is not one of table, json, simple`, "write one of: table, json, simple"},
		"bad output, nearly":         {"version --output jsno", `--output: "jsno" is not one of table, json, simple`, "did you mean json? write one of: table, json, simple"},
		"bad color":                  {"version --color sometimes", `--color: "sometimes" is not one of auto, always, never`, "write one of: auto, always, never"},
		"bad switch":                 {"group show --force=maybe", `--force: "maybe" is neither true nor false`, "write --force or --force=false"},
		"bad number":                 {"group show --count many", `invalid value "many" for flag -count: parse error`, "run etcdops group show --help for its flags and examples"},
		"argument too many":          {"version a", `etcdops version takes no argument, and there is "a"`, "run etcdops version --help for its flags and examples"},
		"argument behind dashes":     {"version -- -o", `etcdops version takes no argument, and there is "-o"`, "run etcdops version --help for its flags and examples"},
		"word behind a switch":       {"group start --force true", `etcdops group start takes no argument, and there is "true"`, "run etcdops group start --help for its flags and examples"},
		"no shell":                   {"completion", "completion needs the name of one shell, and there are 0", "run etcdops completion bash, or etcdops completion zsh"},
		"two shells":                 {"completion bash zsh", "completion needs the name of one shell, and there are 2", "run etcdops completion bash, or etcdops completion zsh"},
		"unknown shell":              {"completion fish", `no completion for the shell "fish"`, "run etcdops completion bash, or etcdops completion zsh"},
		"help for nothing":           {"help vresion", `unknown command "vresion" for etcdops`, "did you mean etcdops version? write one of: proxy, member, demo, etcd, version, completion, help, group"},
	} {
		t.Run(name, func(t *testing.T) {
			got := runSample(t, strings.Fields(test.line)...)
			want := "etcdops: " + test.message + "\nhint: " + test.hint + "\n"
			if got.code != ExitUsage || got.stdout != "" || got.stderr != want {
				t.Errorf("exit code %d, stdout %q, stderr\n%swant\n%s", got.code, got.stdout, got.stderr, want)
			}
		})
	}
}

func TestReport(t *testing.T) {
	for name, test := range map[string]struct {
		err  error
		code int
		want string
	}{
		"plain error": {
			errors.New("it broke"), ExitFailed,
			"etcdops: it broke\nhint: run etcdops proxy start --help for its flags and examples\n",
		},
		"failure": {
			fail(ExitLocked, errors.New("data directory d is locked by 17"), "stop 17"), ExitLocked,
			"etcdops: data directory d is locked by 17\nhint: stop 17\n",
		},
		"wrapped failure": {
			fmt.Errorf("start the proxy: %w", fail(ExitNoCluster, errors.New("no peer answered"), "look at the peers")), ExitNoCluster,
			"etcdops: start the proxy: no peer answered\nhint: look at the peers\n",
		},
		"message and cause": {
			&Failure{Code: ExitRefused, Message: "refused", Err: errors.New("it is full"), Hint: "wait"}, ExitRefused,
			"etcdops: refused: it is full\nhint: wait\n",
		},
		"many lines": {
			fail(ExitFailed, errors.Join(errors.New("one"), errors.New("two\n")), "first\nsecond"), ExitFailed,
			"etcdops: one; two\nhint: first; second\n",
		},
	} {
		t.Run(name, func(t *testing.T) {
			var stderr strings.Builder
			code := report(&stderr, newPalette(false), "etcdops proxy start", test.err)
			if code != test.code || stderr.String() != test.want {
				t.Errorf("got %d and\n%swant %d and\n%s", code, stderr.String(), test.code, test.want)
			}
		})
	}
}

func TestSignals(t *testing.T) {
	signalled := func(answer func(context.Context) error) action {
		return action{Run: func(ctx context.Context, _ *cli.Context) error {
			if err := syscall.Kill(os.Getpid(), syscall.SIGINT); err != nil {
				return err
			}
			<-ctx.Done()
			return answer(ctx)
		}}
	}
	for name, test := range map[string]struct {
		action action
		code   int
		stderr string
	}{
		"cancelled": {
			signalled(func(ctx context.Context) error { return fmt.Errorf("ask: %w", ctx.Err()) }),
			ExitInterrupted, "etcdops: interrupted\nhint: run the same command again to start over\n",
		},
		"failed while it ended": {
			signalled(func(context.Context) error { return errors.New("a peer hung up") }),
			ExitInterrupted, "etcdops: interrupted: a peer hung up\nhint: run the same command again to start over\n",
		},
		"done all the same": {signalled(func(context.Context) error { return nil }), ExitDone, ""},
		"half-way": {
			signalled(func(context.Context) error { return fail(ExitHalfway, errors.New("added, not started"), "resume") }),
			ExitHalfway, "etcdops: added, not started\nhint: resume\n",
		},
		"no signal": {
			action{Run: func(context.Context, *cli.Context) error { return fail(ExitFailed, errors.New("no"), "yes") }},
			ExitFailed, "etcdops: no\nhint: yes\n",
		},
		"signals of its own": {
			action{OwnSignals: true, Run: func(ctx context.Context, c *cli.Context) error {
				if ctx != c.Context {
					return errors.New("the context was wrapped")
				}
				return nil
			}}, ExitDone, "",
		},
	} {
		t.Run(name, func(t *testing.T) {
			env, _, stderr := testEnv()
			app := newApp(env)
			app.Commands = append(app.Commands, &cli.Command{Name: "wait", Action: test.action.Do})
			prepare(app.Commands)
			code := runApp(t.Context(), env, app, []string{programName, "wait"})
			if code != test.code || stderr.String() != test.stderr {
				t.Errorf("got %d and %q, want %d and %q", code, stderr, test.code, test.stderr)
			}
		})
	}
}
