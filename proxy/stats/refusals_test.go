package stats

import (
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// lines is a log in memory, with the seconds since its start before each line.
type lines struct {
	mu    sync.Mutex
	began time.Time
	all   []string
}

func (l *lines) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.all = append(l.all, fmt.Sprintf("%g %s", time.Since(l.began).Seconds(), strings.TrimSpace(string(p))))
	return len(p), nil
}

func (l *lines) take() []string {
	l.mu.Lock()
	defer l.mu.Unlock()
	all := l.all
	l.all = nil
	return all
}

func logged() (*Refusals, *lines) {
	l := &lines{began: time.Now()}
	logger := slog.New(slog.NewTextHandler(l, &slog.HandlerOptions{ReplaceAttr: func(_ []string, a slog.Attr) slog.Attr {
		if a.Key == slog.TimeKey || a.Key == slog.LevelKey || a.Key == slog.MessageKey {
			return slog.Attr{}
		}
		return a
	}}))
	return &Refusals{Logger: logger}, l
}

func wantLines(t *testing.T, l *lines, want ...string) {
	t.Helper()
	if got := l.take(); !slices.Equal(got, want) {
		t.Errorf("logged\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
}

// The first refusal is told at once, those of the next 10 s by one line at their
// end, which names the last one, and then the same again.
func TestRefusalsAreToldSparingly(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r, l := logged()
		r.Refuse(Readonly, "PUT /v2/keys/foo", "10.0.0.1:1")
		wantLines(t, l, `0 reason=readonly count=1 last="PUT /v2/keys/foo" client=10.0.0.1:1`)
		for range 9 {
			time.Sleep(time.Second)
			r.Refuse(Readonly, "PUT /v2/keys/foo", "10.0.0.2:2")
		}
		wantLines(t, l)
		time.Sleep(time.Second)
		synctest.Wait()
		wantLines(t, l, `10 reason=readonly count=9 last="PUT /v2/keys/foo" client=10.0.0.2:2`)

		// That line counts as one too.
		r.Refuse(Readonly, "a", "b")
		wantLines(t, l)
		time.Sleep(lineInterval)
		synctest.Wait()
		wantLines(t, l, "20 reason=readonly count=1 last=a client=b")

		// Silence costs no line, and ends the thrift.
		time.Sleep(time.Hour)
		synctest.Wait()
		wantLines(t, l)
		r.Refuse(Readonly, "a", "b")
		wantLines(t, l, "3620 reason=readonly count=1 last=a client=b")
	})
}

// One reason does not keep another quiet.
func TestRefusalsOfEachReason(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r, l := logged()
		var want []string
		for reason := range numReasons {
			for range 3 {
				r.Refuse(reason, "a", "b")
			}
			want = append(want, fmt.Sprintf("0 reason=%s count=1 last=a client=b", reason))
		}
		wantLines(t, l, want...)
		time.Sleep(lineInterval)
		synctest.Wait()
		got := l.take()
		slices.Sort(got)
		want = nil
		for reason := range numReasons {
			want = append(want, fmt.Sprintf("10 reason=%s count=2 last=a client=b", reason))
		}
		slices.Sort(want)
		if !slices.Equal(got, want) {
			t.Errorf("logged %q, want %q", got, want)
		}
	})
}

// In a flood from everywhere each refusal is counted and told of once, in at most
// one line in 10 s.
func TestRefusalsInAFlood(t *testing.T) {
	const clients, each = 20, 500
	synctest.Test(t, func(t *testing.T) {
		r, l := logged()
		var flood sync.WaitGroup
		for range clients {
			flood.Go(func() {
				for range each {
					r.Refuse(Connections, "", "b")
					time.Sleep(100 * time.Millisecond)
				}
			})
		}
		flood.Wait()
		time.Sleep(lineInterval)
		synctest.Wait()
		told, last := int64(0), -lineInterval.Seconds()
		for _, line := range l.take() {
			var at float64
			var count int64
			if _, err := fmt.Sscanf(line, "%g reason=connections count=%d", &at, &count); err != nil {
				t.Fatalf("%s: %v", line, err)
			}
			if at-last < lineInterval.Seconds() {
				t.Errorf("a line at %g s and one at %g s", last, at)
			}
			told, last = told+count, at
		}
		if told != clients*each || r.Total() != clients*each {
			t.Errorf("%d are told of and %d counted, of %d", told, r.Total(), clients*each)
		}
	})
}

// Without a logger it counts, and starts nothing.
func TestRefusalsInSilence(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var r Refusals
		for range 3 {
			r.Refuse(Loop, "a", "b")
		}
		var got []string
		r.Each(func(reason Reason, n int64) {
			if n != 0 {
				got = append(got, fmt.Sprint(reason, " ", n))
			}
		})
		if !slices.Equal(got, []string{"loop 3"}) {
			t.Errorf("counted %q", got)
		}
	})
}
