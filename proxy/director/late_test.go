package director

import (
	"context"
	"net"
	"os"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
)

// unprobed makes the URLs endpoints of cluster 7 that no probe looks at, and returns
// the first one.
func unprobed(t *testing.T, d *Director, urls ...string) *Endpoint {
	t.Helper()
	for _, url := range urls {
		e, err := parseEndpoint(url)
		if err != nil {
			t.Fatal(err)
		}
		e.d, e.ClusterID = d, 7
		d.order = append(d.order, e)
	}
	return d.order[0]
}

// TestLateAnswers: how often a member is asked for its cluster's ID whose queue of new
// connections is full.
func TestLateAnswers(t *testing.T) {
	const always = 99
	for name, c := range map[string]struct {
		err       error // of the questions' dials
		fail      int64 // how many of them
		another   bool  // is usable
		condemned bool  // by the probe, meanwhile
		questions int64
		ok        bool
	}{
		"the last time":     {err: os.ErrDeadlineExceeded, fail: lateAnswers, questions: lateAnswers + 1, ok: true},
		"too late":          {err: os.ErrDeadlineExceeded, fail: always, questions: lateAnswers + 1},
		"another is usable": {err: os.ErrDeadlineExceeded, fail: always, another: true, questions: 1},
		"condemned":         {err: os.ErrDeadlineExceeded, fail: always, condemned: true, questions: 1},
		"refused":           {err: syscall.ECONNREFUSED, fail: always, questions: 1},
	} {
		t.Run(name, func(t *testing.T) {
			_, url := startIDServer(t, 7)
			var questions atomic.Int64
			var e *Endpoint
			d := newDirector(t, func(d *Director) {
				d.DialTimeout = 0 // so that the questions' dials alone have a limit
				d.DialMember = func(ctx context.Context, network, address string, _ bool) (net.Conn, error) {
					_, question := ctx.Deadline()
					if question && questions.Add(1) <= c.fail {
						e.down.Store(c.condemned)
						return nil, &net.OpError{Op: "dial", Net: network, Err: c.err}
					}
					return new(net.Dialer).DialContext(ctx, network, address)
				}
			})
			urls := []string{url}
			if c.another {
				urls = append(urls, "http://127.0.0.1:1")
			}
			e = unprobed(t, d, urls...)
			conn, err := e.Dial(t.Context(), "http/1.1")
			if err == nil {
				_ = conn.Close()
			}
			if (err == nil) != c.ok || questions.Load() != c.questions {
				t.Errorf("got %v after %d questions, want %d", err, questions.Load(), c.questions)
			}
		})
	}
}

// TestSilentMember: one that takes the question and is too busy to answer it.
func TestSilentMember(t *testing.T) {
	for name, another := range map[string]bool{"the only one": false, "another is usable": true} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s, url := startIDServer(t, 7)
			s.hold = make(chan struct{})
			urls := []string{url}
			if another {
				urls = append(urls, "http://127.0.0.1:1")
			}
			e := unprobed(t, newDirector(t, nil), urls...)
			done := make(chan error, 1)
			go func() {
				c, err := e.Dial(t.Context(), "http/1.1")
				if err == nil {
					_ = c.Close()
				}
				done <- err
			}()
			if another {
				if err := <-done; err == nil || !strings.HasSuffix(err.Error(), "which cluster it serves is not known: no answer within 3s") {
					t.Errorf("got %v", err)
				}
				return
			}
			eventually(t, "it is asked again", func() bool { return s.asked.Load() > 1 })
			close(s.hold)
			if err := <-done; err != nil {
				t.Error(err)
			}
		})
	}
}
