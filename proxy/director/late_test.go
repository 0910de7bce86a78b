package director

import (
	"context"
	"regexp"
	"testing"
	"testing/synctest"
	"time"
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

// TestLimit: how long a member is waited for that takes the question and is silent.
func TestLimit(t *testing.T) {
	for name, c := range map[string]struct {
		condemned time.Duration // by the probe, after it; 0: never
		another   bool          // is usable
		answered  time.Duration // after it; 0: never
		ends      time.Duration
		text      string
	}{
		"the only one":      {ends: verifyPatience, text: "no answer within 12s"},
		"answered":          {answered: 10 * time.Second, ends: 10 * time.Second},
		"another is usable": {another: true, ends: verifyTimeout, text: "no answer within 3s"},
		"condemned":         {condemned: 6*time.Second - 1, ends: 6 * time.Second, text: "no answer within 6s"},
		"condemned at once": {condemned: time.Second, ends: verifyTimeout, text: "no answer within 3s"},
		"condemned later":   {answered: time.Second, condemned: 2 * time.Second, ends: time.Second},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				urls := []string{"http://127.0.0.1:1"}
				if c.another {
					urls = append(urls, "http://127.0.0.1:2")
				}
				e := unprobed(t, &Director{}, urls...)
				ctx, end := context.WithCancelCause(t.Context())
				if c.condemned > 0 {
					time.AfterFunc(c.condemned, func() { e.down.Store(true) })
				}
				if c.answered > 0 {
					time.AfterFunc(c.answered, func() { end(nil) })
				}
				began := time.Now()
				e.limit(ctx, end)
				if took := time.Since(began); took != c.ends {
					t.Errorf("it ended after %v, want %v", took, c.ends)
				}
				want := c.text
				if want == "" {
					want = context.Canceled.Error()
				}
				if cause := context.Cause(ctx); cause == nil || cause.Error() != want {
					t.Errorf("got %v, want %q", cause, want)
				}
			})
		})
	}
}

// TestSilentMember: what the limit means for who waits for the member.
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
			began := time.Now()
			done := make(chan error, 1)
			go func() {
				c, err := e.Dial(t.Context(), "http/1.1")
				if err == nil {
					_ = c.Close()
				}
				done <- err
			}()
			if another {
				if err := <-done; err == nil || !regexp.MustCompile("which cluster it serves is not known: no answer within [3-9]s$").MatchString(err.Error()) {
					t.Errorf("got %v", err)
				}
				return
			}
			eventually(t, "the answer is late", func() bool { return time.Since(began) > verifyTimeout+verifyLook })
			close(s.hold)
			if err := <-done; err != nil {
				t.Error(err)
			}
		})
	}
}
