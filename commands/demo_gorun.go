package commands

import (
	"context"
	"os"
	"strings"
	"time"
)

// parentInterval is how often a program of go run looks whether it has lost its
// parent.
const parentInterval = 300 * time.Millisecond

// fromGoRun says whether a binary is one that go run has built for this once.
func fromGoRun(exe string) bool { return strings.Contains(exe, "/go-build") }

// endWithGoRun ends the context when go run, our parent, has been killed: it
// passes no signal on, and nobody would ever stop us.
func endWithGoRun(ctx context.Context) (context.Context, context.CancelFunc) {
	ctx, cancel := context.WithCancel(ctx)
	if exe, err := os.Executable(); err != nil || !fromGoRun(exe) {
		return ctx, cancel
	}
	parent := os.Getppid()
	go func() {
		t := time.NewTicker(parentInterval)
		defer t.Stop()
		for {
			select {
			case <-ctx.Done():
				return
			case <-t.C:
				if os.Getppid() != parent {
					cancel()
					return
				}
			}
		}
	}()
	return ctx, cancel
}
