package commands

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
)

// Exit codes. They are part of the interface and never change their meaning.
const (
	ExitDone        = 0   // done
	ExitFailed      = 1   // it was tried and failed, or a check says no
	ExitUsage       = 2   // the command line, the environment or the config file is wrong
	ExitNoCluster   = 3   // no cluster was found
	ExitRefused     = 4   // refused, and nothing was changed
	ExitHalfway     = 5   // some steps are done: resume or abort
	ExitClusterFull = 6   // the cluster has all the members that it wants
	ExitLocked      = 7   // another process holds the lock
	ExitInterrupted = 130 // ended by SIGINT or SIGTERM before it was done
)

// Failure is an error that knows its exit code and what to type next.
//
//nolint:errname // it is what an operator meets, not a kind of error
type Failure struct {
	Code    int
	Message string
	Hint    string // one line; if empty, the printer finds a generic one
	Err     error  // the cause; may be nil
}

// Error is the message and the cause.
func (f *Failure) Error() string {
	switch {
	case f.Err == nil:
		return f.Message
	case f.Message == "":
		return f.Err.Error()
	default:
		return f.Message + ": " + f.Err.Error()
	}
}

// Unwrap returns the cause.
func (f *Failure) Unwrap() error { return f.Err }

// fail makes a Failure of err.
func fail(code int, err error, hint string) error {
	return &Failure{Code: code, Err: err, Hint: hint}
}

// usageError makes a Failure of something that was written wrongly.
func usageError(hint, format string, args ...any) error {
	return &Failure{Code: ExitUsage, Message: fmt.Sprintf(format, args...), Hint: hint}
}

// interrupted makes err, the answer of a command whose context a signal ended,
// an interruption. Half-done work keeps its own code and hint, because they
// say more.
func interrupted(err error) error {
	var failure *Failure
	if errors.As(err, &failure) && failure.Code == ExitHalfway {
		return err
	}
	message := "interrupted"
	if !errors.Is(err, context.Canceled) {
		message = "interrupted: " + err.Error()
	}
	return &Failure{Code: ExitInterrupted, Message: message, Hint: "run the same command again to start over"}
}

// report prints err as one line and what to type next as another, and returns
// the exit code. command is the full name of the command that failed.
func report(w io.Writer, paint Palette, command string, err error) int {
	code, hint := ExitFailed, ""
	var failure *Failure
	if errors.As(err, &failure) {
		code, hint = failure.Code, failure.Hint
	}
	if hint == "" {
		hint = fmt.Sprintf("run %s --help for its flags and examples", command)
	}
	fmt.Fprintf(w, "%s %s\n", paint.Bad.Sprint("etcdops:"), oneLine(err.Error()))
	fmt.Fprintf(w, "%s %s\n", paint.Strong.Sprint("hint:"), oneLine(hint))
	return code
}

// oneLine joins the lines of a text, such as those of errors.Join.
func oneLine(text string) string {
	var lines []string
	for line := range strings.Lines(text) {
		if line = strings.TrimSpace(line); line != "" {
			lines = append(lines, line)
		}
	}
	return strings.Join(lines, "; ")
}
