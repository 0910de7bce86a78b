package director

import (
	"bufio"
	"bytes"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"time"
)

// faulty is a listener for the probe.
type faulty struct {
	l      net.Listener
	silent atomic.Bool // takes questions and does not answer
	says   atomic.Value
	via    atomic.Value // of the last question
	conns  atomic.Int64
}

func newFaulty(t *testing.T) *faulty {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	f := &faulty{l: l}
	f.says.Store("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}")
	t.Cleanup(func() { _ = l.Close() })
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			f.conns.Add(1)
			go f.serve(c)
		}
	}()
	return f
}

func (f *faulty) serve(c net.Conn) {
	defer c.Close()
	br := bufio.NewReader(c)
	for {
		req, err := http.ReadRequest(br)
		if err != nil {
			return
		}
		f.via.Store(req.Header.Get("Via"))
		if f.silent.Load() {
			_, _ = io.Copy(io.Discard, c)
			return
		}
		if _, err := io.WriteString(c, f.says.Load().(string)); err != nil {
			return
		}
	}
}

func (f *faulty) url() string { return "http://" + f.l.Addr().String() }

func find(d *Director, url string) *Endpoint {
	for _, e := range d.order {
		if e.URL == url {
			return e
		}
	}
	return nil
}

// still ends an endpoint's probe, so that the test alone judges.
func still(e *Endpoint) {
	e.endProbe()
	<-e.stopped
}

func TestProbe(t *testing.T) {
	t.Run("a silent member is out within 3 s, and comes back", func(t *testing.T) {
		t.Parallel()
		f := newFaulty(t)
		down := make(chan *Endpoint, 1)
		d := newDirector(t, func(d *Director) { d.OnDown = func(e *Endpoint) { down <- e } })
		d.Update(members(f.url(), newFaulty(t).url()))
		e := find(d, f.url())
		e.Suspect()
		eventually(t, "the first probe", func() bool { return f.conns.Load() == 1 })
		const limit = 3500 * time.Millisecond // 3 s, and this machine is busy
		best := patience
		for try := 0; try < 3 && best > limit; try++ { // it may stand still once, not each time
			f.silent.Store(true)
			start := time.Now()
			select {
			case got := <-down:
				best = min(best, time.Since(start))
				if got != e {
					t.Errorf("%s is down", got.URL)
				}
			case <-time.After(patience):
				t.Fatal("not condemned")
			}
			if reason, _ := e.state.get(); e.Usable() || reason == "" {
				t.Errorf("usable %v, reason %q", e.Usable(), reason)
			}
			f.silent.Store(false)
			eventually(t, "it is up again", func() bool {
				e.Suspect()
				return e.Usable()
			})
			if reason, _ := e.state.get(); reason != "" {
				t.Errorf("reason %q", reason)
			}
		}
		if best > limit {
			t.Errorf("took %v", best)
		}
	})
	t.Run("the reason is the last one", func(t *testing.T) {
		t.Parallel()
		var log bytes.Buffer
		d := newDirector(t, func(d *Director) { d.Logger = slog.New(slog.NewTextHandler(&log, nil)) })
		d.Update(members(newFaulty(t).url()))
		e := d.order[0]
		still(e)
		for _, reason := range []string{"refused", "refused", "certificate has expired", "no answer"} {
			e.judge(errors.New(reason), time.Now())
			if got, _ := e.state.get(); got != reason {
				t.Errorf("%q, want %q", got, reason)
			}
		}
		if text := log.String(); strings.Count(text, "level=WARN") != 2 || !strings.Contains(text, `msg="endpoint still down" endpoint=`) {
			t.Errorf("a new reason is logged, and not each second:\n%s", text)
		}
	})
	t.Run("a broken connection alone condemns nobody", func(t *testing.T) {
		t.Parallel()
		f := newFaulty(t)
		f.says.Store("HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 0\r\n\r\n")
		d := newDirector(t, func(d *Director) { d.OnDown = func(*Endpoint) { t.Error("condemned") } })
		d.Update(members(f.url()))
		eventually(t, "several probes", func() bool {
			d.order[0].Suspect()
			return f.conns.Load() > 5
		})
	})
	t.Run("any answer proves life", func(t *testing.T) {
		t.Parallel()
		f := newFaulty(t)
		f.says.Store("\x00\x00\x06\x04\x00\x00\x00\x00\x00\x00\x05\x00\x00\x40\x00") // SETTINGS
		d := newDirector(t, func(d *Director) { d.OnDown = func(*Endpoint) { t.Error("condemned") } })
		d.Update(members(f.url()))
		eventually(t, "several probes", func() bool {
			d.order[0].Suspect()
			return f.conns.Load() > 1
		})
	})
	t.Run("a refused connection condemns at once, for the failure wait", func(t *testing.T) {
		t.Parallel()
		f := newFaulty(t)
		_ = f.l.Close()
		d := newDirector(t, func(d *Director) { d.FailureWait = time.Hour })
		d.Update(members(f.url()))
		e := d.order[0]
		e.Suspect()
		eventually(t, "it is down", func() bool { return !e.Usable() })
		still(e)
		e.judge(nil, time.Now())
		if e.Usable() {
			t.Error("back before the failure wait is over")
		}
		e.judge(errSilent, time.Now())
		d.FailureWait = 0
		e.judge(nil, time.Now())
		if !e.Usable() {
			t.Error("not back after the failure wait")
		}
	})
	t.Run("a busy member that sends bytes is alive", func(t *testing.T) {
		t.Parallel()
		d := newDirector(t, nil)
		d.Update(members("http://127.0.0.1:1", "http://127.0.0.1:2"))
		e := d.order[0]
		still(e)
		e.down.Store(false)
		began := time.Now()
		e.Heard(began.Add(time.Second).UnixMilli())
		e.judge(errSilent, began)
		if !e.Usable() {
			t.Error("condemned although it had sent something since")
		}
		e.judge(errSilent, began.Add(2*time.Second))
		if e.Usable() {
			t.Error("what it sent before the probe counts")
		}
	})
	t.Run("nothing is cut where there is nowhere else to go", func(t *testing.T) {
		t.Parallel()
		cut := 0
		d := newDirector(t, func(d *Director) { d.OnDown = func(*Endpoint) { cut++ } })
		d.Update(members("http://127.0.0.1:1", "http://127.0.0.1:2"))
		a, b := d.order[0], d.order[1]
		for _, e := range []*Endpoint{a, b} {
			still(e)
			e.cut = false
		}
		cut = 0
		b.down.Store(true)
		a.down.Store(false)
		a.judge(errSilent, time.Now())
		if a.Usable() || cut != 0 {
			t.Errorf("usable %v, cut %d times", a.Usable(), cut)
		}
		b.down.Store(false)
		a.judge(errSilent, time.Now())
		a.judge(errSilent, time.Now())
		if cut != 1 {
			t.Errorf("cut %d times when the other was back", cut)
		}
	})
	t.Run("the probe of a member that left ends", func(t *testing.T) {
		t.Parallel()
		f := newFaulty(t)
		d := newDirector(t, nil)
		d.Update(members(f.url()))
		e := d.order[0]
		d.Update(nil)
		select {
		case <-e.stopped:
		case <-time.After(patience):
			t.Error("it goes on")
		}
	})
}
