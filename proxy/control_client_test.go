package proxy

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"testing"
	"time"
)

// frozenProxy listens, and nobody accepts: as a proxy that is stopped.
func frozenProxy(t *testing.T, dir string) string {
	t.Helper()
	path := filepath.Join(dir, "control.sock")
	l, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	return path
}

func TestFrozenProxyIsNotWaitedFor(t *testing.T) {
	client := &ControlClient{Path: frozenProxy(t, t.TempDir())}
	for name, ask := range map[string]func(context.Context) error{
		"get":  func(ctx context.Context) error { return client.Get(ctx, "/v1/status", nil, nil) },
		"post": func(ctx context.Context) error { return client.Post(ctx, DrainPath, DrainRequest{}, nil) },
	} {
		t.Run(name, func(t *testing.T) {
			ctx, cancel := context.WithTimeoutCause(t.Context(), 10*time.Millisecond, ErrNoAnswer)
			defer cancel()
			if err := ask(ctx); !errors.Is(err, ErrNoAnswer) || errors.Is(err, context.DeadlineExceeded) {
				t.Errorf("got %v", err)
			}
			ctx, stop := context.WithCancel(t.Context())
			time.AfterFunc(10*time.Millisecond, stop)
			if err := ask(ctx); !errors.Is(err, context.Canceled) || errors.Is(err, ErrNoAnswer) {
				t.Errorf("after a signal: %v", err)
			}
		})
	}
}

func TestAnswersHaveALimit(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	client := &ControlClient{Path: frozenProxy(t, t.TempDir())}
	_ = client.Get(ctx, "/v1/status", func(r *http.Request) {
		if at, ok := r.Context().Deadline(); !ok || time.Until(at) > getLimit {
			t.Errorf("a question is asked until %v, %v", at, ok)
		}
		cancel()
	}, nil)
	for path, want := range map[string]time.Duration{
		HoldPath: steerLimit, ReleasePath: steerLimit, HandOverPath: handOverLimit, DrainPath: 0,
	} {
		if got := postLimit(path); got != want {
			t.Errorf("%s: %v, want %v", path, got, want)
		}
	}
}

// Proxies that are stopped are asked beside each other, and are listed.
func TestRegisteredWithFrozenProxies(t *testing.T) {
	run := t.TempDir()
	const frozen = 6
	for i := range frozen {
		r := Registration{PID: i, DataDir: fmt.Sprint(i), Control: frozenProxy(t, t.TempDir())}
		body, err := json.Marshal(r)
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(run, fmt.Sprint(i)+".json"), body, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	began := time.Now()
	found := Registered(t.Context(), []string{run})
	if took := time.Since(began); took >= frozen*registeredLimit {
		t.Errorf("it took %v", took)
	}
	if len(found) != frozen || found[0].DataDir != "0" || found[frozen-1].DataDir != fmt.Sprint(frozen-1) || found[1].Forbidden {
		t.Errorf("got %+v", found)
	}
}
