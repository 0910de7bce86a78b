package commands

import (
	"context"
	"errors"
	"io"
	"strings"
	"testing"
)

func TestConfirm(t *testing.T) {
	for name, test := range map[string]struct {
		typed    string
		terminal bool
		yes      bool
		refused  string // the hint; empty where it goes ahead
	}{
		"yes":             {typed: "yes\n", terminal: true},
		"yes and a blank": {typed: "yes \n", terminal: true},
		"--yes":           {yes: true},
		"no":              {typed: "no\n", terminal: true, refused: "run it again when you are ready; --dry-run shows the plan alone"},
		"y":               {typed: "y\n", terminal: true, refused: "run it again when you are ready; --dry-run shows the plan alone"},
		"cut off":         {typed: "yes", terminal: true, refused: "run it again when you are ready; --dry-run shows the plan alone"},
		"no terminal":     {typed: "yes\n", refused: "add --yes, or run it on a terminal"},
	} {
		t.Run(name, func(t *testing.T) {
			env, stdout, _ := testEnv()
			env.Stdin, env.StdinTTY = strings.NewReader(test.typed), test.terminal
			err := confirm(t.Context(), env, &promoteOptions{Yes: test.yes}, "Go ahead?")
			var failure *Failure
			switch {
			case test.refused == "" && err != nil:
				t.Errorf("got %v", err)
			case test.refused != "" && (!errors.As(err, &failure) || failure.Code != ExitRefused || failure.Hint != test.refused):
				t.Errorf("got %+v, want the hint %q", err, test.refused)
			}
			if stdout.Len() > 0 {
				t.Errorf("stdout: %s", stdout)
			}
		})
	}
}

// TestConfirmIsInterrupted holds that Ctrl-C at the question ends it.
func TestConfirmIsInterrupted(t *testing.T) {
	env, _, stderr := testEnv()
	reader, writer := io.Pipe() // nobody types
	defer writer.Close()
	env.Stdin, env.StdinTTY = reader, true
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := confirm(ctx, env, &promoteOptions{}, "Go ahead?"); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
	if want := "Go ahead? Type yes: \n"; stderr.String() != want {
		t.Errorf("stderr %q, want %q", stderr, want)
	}
}
