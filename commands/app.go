// Package commands is the command line of etcdops: commands, flags, settings,
// colours, tables, help, completion and exit codes. It talks; the packages
// below it return.
//
// A command is a file with an options struct, newXCommand and runX. newApp
// lists them all.
package commands

import (
	"context"
	"io"
	"os"
	"os/signal"
	"syscall"

	"github.com/urfave/cli/v2"
)

// programName is what people type.
const programName = "etcdops"

// Main runs the command line argv, of which the first is the program's name,
// and returns the exit code.
func Main(argv []string, stdin io.Reader, stdout, stderr io.Writer) int {
	//nolint:forbidigo // this is main: its caller does nothing but exit
	return Run(context.Background(), NewEnv(stdin, stdout, stderr), argv)
}

// Run is Main with a context and an environment of the caller's.
func Run(ctx context.Context, env *Env, argv []string) int {
	return runApp(ctx, env, newApp(env), argv)
}

func runApp(ctx context.Context, env *Env, app *cli.App, argv []string) int {
	root := rootCommand(app)
	line, err := parseLine(root, argv[1:])
	env.setColor(line.Color)
	switch {
	case err != nil:
	case line.Help:
		printHelp(env.Stdout, env.Out, root, line.Path)
	default:
		err = app.RunContext(ctx, line.Argv)
	}
	if err != nil {
		return report(env.Stderr, env.Err, line.Name(), err)
	}
	return ExitDone
}

// newApp is the tree of all commands.
func newApp(env *Env) *cli.App {
	app := &cli.App{
		Name:  programName,
		Usage: "an etcd endpoint on every machine",
		Description: `etcdops puts an etcd endpoint on every machine (the proxy), shows what that
endpoint sees, and has etcd itself built in.

Examples:
  etcdops demo
  etcdops proxy start --initial-cluster m1=http://127.0.0.1:2380
  etcdops proxy members`,
		Flags: []cli.Flag{
			&ChoiceFlag{
				StringFlag: cli.StringFlag{Name: "color", Value: colorAuto, Usage: "colour `WHEN`; auto: on terminals, unless NO_COLOR is set"},
				Values:     []string{colorAuto, colorAlways, colorNever},
			},
		},
		Commands: []*cli.Command{
			newProxyCommand(env),
			newMemberCommand(env),
			newDemoCommand(env),
			newEtcdCommand(env),
			newVersionCommand(env),
			newCompletionCommand(env),
		},
		Writer:    env.Stdout,
		ErrWriter: env.Stderr,

		HideHelp:        true,
		HideHelpCommand: true,
		HideVersion:     true,
		ExitErrHandler:  func(*cli.Context, error) {}, // the library would call os.Exit
		OnUsageError:    onUsageError,
	}
	app.Commands = append(app.Commands, newHelpCommand(env, app), newCompleteCommand(env, app))
	prepare(app.Commands)
	return app
}

// prepare sets what the library does not hand down the tree. Help is ours
// (help.go), because the library takes an argument named "help" for a command.
func prepare(commands []*cli.Command) {
	for _, command := range commands {
		command.HideHelp = true
		command.HideHelpCommand = true
		command.OnUsageError = onUsageError
		prepare(command.Subcommands)
	}
}

// onUsageError is for what the library alone can judge, such as a number.
func onUsageError(_ *cli.Context, err error, _ bool) error {
	return usageError("", "%v", err)
}

// rootCommand makes the root of the tree look like every other node.
func rootCommand(app *cli.App) *cli.Command {
	return &cli.Command{
		Name: app.Name, Usage: app.Usage, Description: app.Description,
		Flags: app.Flags, Subcommands: app.Commands,
	}
}

// action is what a command does.
type action struct {
	Run func(ctx context.Context, c *cli.Context) error
	// OwnSignals leaves SIGINT and SIGTERM to Run. Otherwise the first one
	// ends ctx, and an error that Run then returns becomes exit code 130; the
	// second one ends the process at once.
	OwnSignals bool
}

// Do is the action as the library wants it.
func (a action) Do(c *cli.Context) error {
	if a.OwnSignals {
		return a.Run(c.Context, c)
	}
	ctx, stop := signal.NotifyContext(c.Context, os.Interrupt, syscall.SIGTERM)
	defer stop()
	context.AfterFunc(ctx, stop)
	err := a.Run(ctx, c)
	if err != nil && ctx.Err() != nil && c.Context.Err() == nil {
		return interrupted(err)
	}
	return err
}
