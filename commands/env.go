package commands

import (
	"io"
	"os"
	"strings"

	"golang.org/x/term"

	"etcdops/proxy"
)

// Env is what a command gets from the world. Tests fill it with buffers.
type Env struct {
	Stdin  io.Reader
	Stdout io.Writer // data
	Stderr io.Writer // talk

	Environ []string // NAME=value, as os.Environ returns them

	StdinTTY  bool
	StdoutTTY bool
	StderrTTY bool

	// Out and Err are the colours of Stdout and Stderr. Run sets them from
	// the terminal, NO_COLOR and --color.
	Out Palette
	Err Palette

	// RunDirs are the folders in which running proxies are registered, the best
	// first. If nil, those of the environment.
	RunDirs []string

	// Journaled, if not nil, is called after each entry of a promotion's
	// journal with "STEP EVENT". Tests cut promotions there.
	Journaled func(entry string)

	// Etcd runs the embedded etcd with argv, of which the first is the
	// program's name. It may end the process.
	Etcd func(argv []string)
}

// NewEnv looks at the streams and the environment of this process.
func NewEnv(stdin io.Reader, stdout, stderr io.Writer) *Env {
	return &Env{
		Stdin:     stdin,
		Stdout:    stdout,
		Stderr:    stderr,
		Environ:   os.Environ(),
		StdinTTY:  isTerminal(stdin),
		StdoutTTY: isTerminal(stdout),
		StderrTTY: isTerminal(stderr),
		Etcd:      runEmbeddedEtcd,
	}
}

// Getenv returns the value of a variable, empty if it is not set.
func (env *Env) Getenv(name string) string {
	for i := len(env.Environ) - 1; i >= 0; i-- {
		if value, found := strings.CutPrefix(env.Environ[i], name+"="); found {
			return value
		}
	}
	return ""
}

// runDirs lists where proxies register.
func (env *Env) runDirs() []string {
	if env.RunDirs != nil {
		return env.RunDirs
	}
	return proxy.RunDirs(env.Getenv)
}

// setColor chooses the colours of both streams.
func (env *Env) setColor(mode string) {
	env.Out = newPalette(wantsColor(mode, env.StdoutTTY, env.Getenv))
	env.Err = newPalette(wantsColor(mode, env.StderrTTY, env.Getenv))
}

func isTerminal(stream any) bool {
	file, ok := stream.(*os.File)
	return ok && term.IsTerminal(int(file.Fd()))
}
