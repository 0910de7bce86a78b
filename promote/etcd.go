// Package promote turns a proxy into a member of the cluster that it stands
// in front of.
//
// Today it holds the one piece that starts and watches an etcd process. The
// demo uses it for its members.
package promote

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"slices"
	"strings"
	"sync/atomic"
	"syscall"
	"time"
)

// DefaultGrace is how long an etcd whose context ended may take to close its
// files before it is killed. A leader that hands over its leadership takes
// some hundred milliseconds, and up to seven seconds where nobody can take it.
const DefaultGrace = 10 * time.Second

// Etcd is one etcd process that we start and watch.
//
// Exported fields must be set before Start. A value stands for one process: to
// run etcd again, make another value.
type Etcd struct {
	// Path is the binary. It may be our own, with Args {"etcd"}.
	Path string
	// Args stand before the flags.
	Args []string
	// Flags are etcd's own.
	Flags []string
	// Environ is the base of the child's environment; Environment says what
	// is taken out of it. If nil, it is that of this process.
	Environ []string
	// AsIs gives the child its Environ as it stands: its variables are the
	// operator's own.
	AsIs bool
	// Dir is the working directory. If empty, it is that of this process.
	Dir string
	// Log receives everything that etcd prints. If nil, only the last lines
	// are kept, for the cause in errors.
	Log io.Writer
	// Out receives what etcd prints to its standard output. If nil, that goes to
	// Log too.
	Out io.Writer
	// Files are inherited by the child, the first one as FirstFile.
	Files []*os.File
	// DieWithParent makes the child end when this process ends, however that
	// happens. The child must call DieWithParent when it starts, as our own
	// etcd command does.
	DieWithParent bool
	// DeathSignal has the system end the child with SIGTERM when the thread ends
	// that has called Start, so for a binary that is not ours; on Linux alone. The
	// caller locks its goroutine to the thread until the child is gone.
	DeathSignal bool

	cmd      *exec.Cmd
	lastLog  *lastLines
	lifeline *os.File // the write end of the pipe; nil without DieWithParent
	stopping atomic.Bool
	done     chan struct{}
	err      error // written before done is closed
}

// Start starts the process and returns without waiting for it to serve. The
// process lives until Stop or Kill, or until ctx ends: it then gets SIGTERM,
// and SIGKILL after DefaultGrace.
//
// The child stands in a process group of its own, so that a Ctrl-C on the
// terminal reaches us alone and we decide how the cluster ends.
func (e *Etcd) Start(ctx context.Context) error {
	if e.done != nil {
		return errors.New("start etcd: already started")
	}
	environ := e.Environ
	if environ == nil {
		environ = os.Environ()
	}
	log := e.Log
	if log == nil {
		log = io.Discard
	}
	e.lastLog = &lastLines{Next: log}

	cmd := exec.CommandContext(ctx, e.Path, append(append([]string{}, e.Args...), e.Flags...)...)
	cmd.Env = environ
	if !e.AsIs {
		cmd.Env = Environment(environ)
	}
	cmd.Dir = e.Dir
	cmd.Stdout = e.lastLog
	if e.Out != nil {
		cmd.Stdout = e.Out
	}
	cmd.Stderr = e.lastLog
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if e.DeathSignal {
		setDeathSignal(cmd.SysProcAttr)
	}
	cmd.Cancel = func() error {
		e.stopping.Store(true)
		return cmd.Process.Signal(syscall.SIGTERM)
	}
	cmd.WaitDelay = DefaultGrace

	cmd.ExtraFiles = slices.Clone(e.Files)
	var inherited *os.File
	if e.DieWithParent {
		read, write, err := os.Pipe()
		if err != nil {
			return fmt.Errorf("start etcd: make the parent's pipe: %w", err)
		}
		inherited, e.lifeline = read, write
		cmd.ExtraFiles = append(cmd.ExtraFiles, read)
		cmd.Env = append(cmd.Env[:len(cmd.Env):len(cmd.Env)], fmt.Sprintf("%s=%d", parentPipeVariable, FirstFile+len(e.Files)))
	}
	err := cmd.Start()
	if inherited != nil {
		_ = inherited.Close()
	}
	if err != nil {
		if e.lifeline != nil {
			_ = e.lifeline.Close()
		}
		return fmt.Errorf("start etcd: %w", err)
	}
	e.cmd = cmd
	e.done = make(chan struct{})
	go e.wait()
	return nil
}

// wait collects the process and publishes how it ended.
func (e *Etcd) wait() {
	err := e.cmd.Wait()
	if e.lifeline != nil {
		_ = e.lifeline.Close()
	}
	if !e.stopping.Load() {
		e.err = e.ended(err)
	}
	close(e.done)
}

// ended words the end of a process that nobody asked to end.
func (e *Etcd) ended(err error) error {
	how := "exit status 0"
	if err != nil {
		how = err.Error()
	}
	if cause := e.lastLog.cause(); cause != "" {
		return fmt.Errorf("etcd ended (%s): %s", how, cause)
	}
	return fmt.Errorf("etcd ended (%s)", how)
}

// Pid is the process id, and 0 before Start.
func (e *Etcd) Pid() int {
	if e.cmd == nil {
		return 0
	}
	return e.cmd.Process.Pid
}

// Done is closed when the process has ended. It is nil before Start.
func (e *Etcd) Done() <-chan struct{} { return e.done }

// Err says how the process ended, with the likely cause from its log. It is
// nil while the process runs and when it ended because we asked.
func (e *Etcd) Err() error {
	select {
	case <-e.done:
		return e.err
	default:
		return nil
	}
}

// Signal sends a signal to the process; one that has ended gets none.
func (e *Etcd) Signal(sig os.Signal) error {
	if err := e.cmd.Process.Signal(sig); err != nil && !errors.Is(err, os.ErrProcessDone) {
		return fmt.Errorf("signal etcd: %w", err)
	}
	return nil
}

// Exit is the process's exit code, or the signal that ended it. It may be asked
// for once Done is closed.
func (e *Etcd) Exit() (code int, sig syscall.Signal) {
	if status, ok := e.cmd.ProcessState.Sys().(syscall.WaitStatus); ok && status.Signaled() {
		return -1, status.Signal()
	}
	return e.cmd.ProcessState.ExitCode(), 0
}

// Stop asks the process to end with SIGTERM, kills it after grace or when ctx
// ends, and returns when it is gone. Stopping what never started or has ended
// is no error.
func (e *Etcd) Stop(ctx context.Context, grace time.Duration) error {
	if e.cmd == nil {
		return nil
	}
	e.stopping.Store(true)
	if err := e.cmd.Process.Signal(syscall.SIGTERM); err != nil && !errors.Is(err, os.ErrProcessDone) {
		return fmt.Errorf("stop etcd: %w", err)
	}
	timer := time.NewTimer(grace)
	defer timer.Stop()
	select {
	case <-e.done:
		return nil
	case <-timer.C:
	case <-ctx.Done():
	}
	return e.Kill()
}

// Kill ends the process with SIGKILL and returns when it is gone.
func (e *Etcd) Kill() error {
	if e.cmd == nil {
		return nil
	}
	e.stopping.Store(true)
	if err := e.cmd.Process.Kill(); err != nil && !errors.Is(err, os.ErrProcessDone) {
		return fmt.Errorf("kill etcd: %w", err)
	}
	<-e.done
	return nil
}

// Environment returns environ without what would change an etcd behind our
// back: its own ETCD_ variables, because each is a flag, and the HTTP proxies,
// because etcd would talk to its peers through them.
func Environment(environ []string) []string {
	clean := make([]string, 0, len(environ))
	for _, entry := range environ {
		name, _, _ := strings.Cut(entry, "=")
		if strings.HasPrefix(name, "ETCD_") || name == parentPipeVariable {
			continue
		}
		switch strings.ToUpper(name) {
		case "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY":
			continue
		}
		clean = append(clean, entry)
	}
	return clean
}
