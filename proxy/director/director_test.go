package director

import (
	"context"
	"fmt"
	"log/slog"
	"slices"
	"testing"
	"time"
)

// patience bounds every wait of the tests.
const patience = 10 * time.Second

func newDirector(t *testing.T, set func(*Director)) *Director {
	t.Helper()
	d := &Director{DialTimeout: time.Second, FailureWait: 10 * time.Millisecond, Logger: slog.New(slog.DiscardHandler)}
	if set != nil {
		set(d)
	}
	ctx, cancel := context.WithCancel(t.Context())
	ready, done := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(done)
		d.Run(ctx, ready)
	}()
	<-ready
	t.Cleanup(func() {
		cancel()
		select {
		case <-done:
		case <-time.After(patience):
			t.Error("the probes do not end")
		}
	})
	return d
}

func members(urls ...string) (list []Member) {
	for i, u := range urls {
		list = append(list, Member{ID: uint64(i + 1), Name: fmt.Sprintf("m%d", i+1), ClientURLs: []string{u}})
	}
	return list
}

// living are URLs of members that answer the probe.
func living(t *testing.T, n int) (urls []string) {
	t.Helper()
	for range n {
		urls = append(urls, newFaulty(t).url())
	}
	return urls
}

func eventually(t *testing.T, what string, cond func() bool) {
	t.Helper()
	limit := time.After(patience)
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for !cond() {
		select {
		case <-limit:
			t.Fatalf("never: %s", what)
		case <-tick.C:
		}
	}
}

func TestUpdate(t *testing.T) {
	var left []string
	d := newDirector(t, func(d *Director) { d.OnLeft = func(e *Endpoint) { left = append(left, e.URL) } })
	u := living(t, 4)
	d.Update(members(u[0], u[1], u[1], "nonsense"))
	if d.Size() != 2 {
		t.Fatalf("%v", d.States())
	}
	before := slices.Clone(d.order)
	d.Update(members(u[0], u[1], u[2]))
	for _, e := range before {
		if !slices.Contains(d.order, e) {
			t.Errorf("%s lost its state", e)
		}
	}
	// The same address under another member is another endpoint.
	d.Update([]Member{{ID: 9, Name: "m1", ClientURLs: []string{u[0]}}, {ID: 2, Name: "m2", ClientURLs: []string{u[1], u[3]}}})
	slices.Sort(left)
	if fmt.Sprint(left) != fmt.Sprint(sorted(u[0], u[2])) {
		t.Errorf("left: %v", left)
	}
	urls := sorted(d.Available()...)
	if fmt.Sprint(urls) != fmt.Sprint(sorted(u[0], u[1], u[3])) {
		t.Errorf("available: %v", urls)
	}
	for _, e := range before {
		if gone := e.URL == u[0]; e.Left() != gone || e.Usable() == gone {
			t.Errorf("%s: left %v", e, e.Left())
		}
	}
}

func sorted(list ...string) []string {
	slices.Sort(list)
	return list
}

func TestUpdateShuffles(t *testing.T) {
	d := newDirector(t, nil)
	orders, urls := map[string]bool{}, living(t, 3)
	for range 100 {
		d.Update(members(urls...))
		orders[fmt.Sprint(d.Available())] = true
	}
	if len(orders) < 4 {
		t.Errorf("%d of 6 orders seen", len(orders))
	}
}

func TestConnectionsSpreadEvenly(t *testing.T) {
	d := newDirector(t, nil)
	d.Update(members(living(t, 3)...))
	var sessions []*Session
	for range 300 {
		s := d.NewSession()
		if _, err := s.Endpoint(true); err != nil {
			t.Fatal(err)
		}
		sessions = append(sessions, s)
	}
	for _, s := range d.States() {
		if s.Connections != 100 {
			t.Errorf("%s has %d", s.URL, s.Connections)
		}
	}
	for _, s := range sessions {
		s.Close()
		s.Close()
	}
	for _, s := range d.States() {
		if s.Connections != 0 {
			t.Errorf("%s keeps %d", s.URL, s.Connections)
		}
	}
}
