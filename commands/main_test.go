package commands

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"strings"
	"testing"

	"github.com/urfave/cli/v2"
)

// mainVariable tells the test binary to be etcdops.
const mainVariable = "COMMANDS_TEST_MAIN"

func TestMain(m *testing.M) {
	if os.Getenv(mainVariable) != "" {
		os.Exit(Main(os.Args, os.Stdin, os.Stdout, os.Stderr))
	}
	os.Exit(m.Run())
}

// result is what a command line gave.
type result struct {
	code           int
	stdout, stderr string
}

// testEnv is a world without terminals, and its two outputs.
func testEnv(environ ...string) (env *Env, stdout, stderr *bytes.Buffer) {
	stdout, stderr = new(bytes.Buffer), new(bytes.Buffer)
	return &Env{
		Stdin: strings.NewReader(""), Stdout: stdout, Stderr: stderr, Environ: environ,
		RunDirs: []string{"/dev/null/nobody registers here"},
		Out:     newPalette(false), Err: newPalette(false),
		Etcd: func(argv []string) { fmt.Fprintf(stdout, "etcd runs %q\n", argv) },
	}, stdout, stderr
}

// run runs a command line of etcdops.
func run(t *testing.T, words ...string) result {
	t.Helper()
	env, stdout, stderr := testEnv()
	code := Run(t.Context(), env, append([]string{programName}, words...))
	return result{code: code, stdout: stdout.String(), stderr: stderr.String()}
}

// runSample runs a command line of a small program with a group and flags of
// every kind. Its command prints what it was given.
func runSample(t *testing.T, words ...string) result {
	t.Helper()
	env, stdout, stderr := testEnv()
	code := runApp(t.Context(), env, sampleApp(env), append([]string{programName}, words...))
	return result{code: code, stdout: stdout.String(), stderr: stderr.String()}
}

func sampleApp(env *Env) *cli.App {
	app := newApp(env)
	show := func(_ context.Context, c *cli.Context) error {
		fmt.Fprintf(env.Stdout, "%s name=%s force=%v count=%d output=%s color=%s args=%q\n", c.Command.Name,
			c.String("name"), c.Bool("force"), c.Int("count"), c.String("output"), c.String("color"), c.Args().Slice())
		return nil
	}
	flags := func() []cli.Flag {
		return []cli.Flag{
			&cli.StringFlag{Name: "name", Aliases: []string{"n"}},
			&cli.BoolFlag{Name: "force"},
			&cli.IntFlag{Name: "count"},
			&cli.BoolFlag{Name: "enable-v2", Hidden: true},
			outputFlag(),
		}
	}
	daemon := func(_ context.Context, c *cli.Context) error {
		settings, err := loadSettings(proxySettings(), setFlags(c), env.Getenv)
		if err != nil {
			return err
		}
		for _, name := range []string{"proxy", "listen-client-urls", "client-cert-auth", "auto-tls", "name"} {
			value, origin := settings.Lookup(name)
			fmt.Fprintf(env.Stdout, "%s=%s (%s)\n", name, value, origin)
		}
		return nil
	}
	group := &cli.Command{Name: "group", Usage: "commands that show", Subcommands: []*cli.Command{
		{Name: "show", Usage: "show", ArgsUsage: "[word...]", Flags: flags(), Action: action{Run: show}.Do},
		{Name: "start", Usage: "start", Flags: flags(), Action: action{Run: show}.Do},
		{Name: "daemon", Usage: "daemon", Hidden: true, Flags: settingFlags(proxySettings()), Action: action{Run: daemon}.Do},
		{Name: "secret", Usage: "hidden", Hidden: true, Action: action{Run: show}.Do},
	}}
	app.Commands = append(app.Commands, group)
	prepare(app.Commands)
	return app
}
