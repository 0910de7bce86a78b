package director

import (
	"errors"
	"log/slog"
	"strings"
	"testing"
	"time"
)

// counter counts what is logged.
type counter struct{ warned, told int }

func (c *counter) Write(p []byte) (int, error) {
	switch line := string(p); {
	case strings.Contains(line, `level=WARN msg="endpoint leads back`) && strings.Contains(line, "member=m1 url=http://"):
		c.warned++
	case strings.Contains(line, "level=WARN"):
		c.warned += 100
	case strings.Contains(line, "level=INFO") && strings.Contains(line, "again"):
		c.told++
	}
	return len(p), nil
}

// The probe says who asks, and so finds a loop before any request does.
func TestProbeFindsLoop(t *testing.T) {
	t.Parallel()
	f := newFaulty(t)
	f.says.Store("HTTP/1.1 508 Loop Detected\r\nProxy-Status: us; error\r\nContent-Length: 2\r\n\r\n{}")
	d := newDirector(t, func(d *Director) {
		d.Via, d.LedBack = "1.1 us", func(status string) bool { return status == "us; error" }
		d.OnDown = func(*Endpoint) { t.Error("what is under way was cut") }
	})
	d.Update(members(f.url(), newFaulty(t).url()))
	e := find(d, f.url())
	e.Suspect()
	eventually(t, "it is out", func() bool { return !e.Usable() })
	if reason, _ := e.state.get(); reason != ErrLoop.Error() || f.via.Load() != "1.1 us" || f.conns.Load() != 1 {
		t.Errorf("reason %q, via %q, %d connections", reason, f.via.Load(), f.conns.Load())
	}
}

// An endpoint that leads back stays out for longer than one that failed, and is
// warned of once.
func TestLeadsBack(t *testing.T) {
	t.Parallel()
	var log counter
	d := newDirector(t, func(d *Director) { d.Logger = slog.New(slog.NewTextHandler(&log, nil)) })
	d.Update(members(newFaulty(t).url()))
	e := d.order[0]
	still(e)
	ago := func(age time.Duration) { e.state.since = time.Now().Add(-age) }

	e.LeadsBack()
	e.LeadsBack()
	e.judge(ErrLoop, time.Now())
	if e.Usable() || log.warned != 1 || log.told != 0 {
		t.Fatalf("usable %v, %+v", e.Usable(), log)
	}
	ago(loopWait - time.Minute)
	e.judge(nil, time.Now())
	if e.Usable() {
		t.Fatal("back after one good probe")
	}
	ago(loopWait)
	e.judge(errors.New("refused"), time.Now())
	if reason, _ := e.state.get(); e.Usable() || reason != ErrLoop.Error() {
		t.Fatalf("usable %v, reason %q", e.Usable(), reason)
	}
	e.judge(nil, time.Now())
	if reason, _ := e.state.get(); !e.Usable() || reason != "" {
		t.Fatalf("usable %v, reason %q", e.Usable(), reason)
	}
	e.LeadsBack()
	if e.Usable() || log.warned != 1 || log.told != 2 { // "up again", and "leads back again"
		t.Fatalf("usable %v, %+v", e.Usable(), log)
	}
}
