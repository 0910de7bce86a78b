package proxy

import (
	"context"
	"time"
)

const (
	// guardInterval is how often each port is tried while a promotion is under
	// way.
	guardInterval = 100 * time.Millisecond
	// guardWait is how long one try may take.
	guardWait = 125 * time.Millisecond
	// guardTries are made before a port is given up for lost: one that is late
	// may be our own lateness.
	guardTries = 2
)

// guard keeps the ports ours while a promotion is under way: when sockets join
// and leave, indexes move.
func (s *Server) guard(ctx context.Context) {
	t := time.NewTicker(guardInterval)
	defer t.Stop()
	for {
		t.Stop()
		select {
		case <-ctx.Done():
			return
		case <-s.promotion.wake:
		}
		t.Reset(guardInterval)
		for s.look(ctx) {
			select {
			case <-ctx.Done():
				return
			case <-t.C:
			}
		}
	}
}

// look tries every port once. It says false when there is nothing to guard.
func (s *Server) look(ctx context.Context) bool {
	p := &s.promotion
	p.mu.Lock()
	defer p.mu.Unlock()
	if !p.guarding {
		return false
	}
	for _, l := range s.listeners {
		if l.path != "" || l.unsteerable != nil {
			continue
		}
		ours := false
		if l.own != 0 && alone(l.Listener) {
			// etcd has gone: its next start must not find the port open to it.
			if err := p.probes.claim(ctx, l); err == nil {
				continue
			}
		}
		for range guardTries {
			ours = ours || p.probes.ours(ctx, l, guardWait)
		}
		if ours || ctx.Err() != nil {
			continue
		}
		lost := time.Now()
		err := p.probes.claim(ctx, l)
		switch {
		case ctx.Err() != nil:
		case err != nil:
			s.Logger.Warn("new connections do not reach this proxy", "url", l.url.String(), "error", err)
		default:
			s.Logger.Warn("new connections went elsewhere, taken back", "url", l.url.String(), "index", l.own, "took", time.Since(lost))
		}
	}
	return true
}
