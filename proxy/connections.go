package proxy

import (
	"context"
	"net"
	"sync"
	"time"

	"etcdops/proxy/h1"
)

// silentGrace is how long a client may take for its first byte while we drain:
// who connects in order to ask has it at hand.
const silentGrace = 500 * time.Millisecond

// connections are the client connections of a server.
type connections struct {
	mu       sync.Mutex
	open     int
	quiet    map[net.Conn]struct{} // nothing was read from them yet
	draining bool
	none     chan struct{} // closed when open becomes 0; nil while nobody waits
}

func (c *connections) begin() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.open++
}

func (c *connections) end() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.open--
	if c.open == 0 && c.none != nil {
		close(c.none)
		c.none = nil
	}
}

// silent gives a connection its limit for the first byte, until spoken is
// called.
func (c *connections) silent(nc net.Conn) (spoken func()) {
	c.mu.Lock()
	defer c.mu.Unlock()
	limit := h1.DefaultIdleTimeout
	if c.draining {
		limit = silentGrace
	}
	_ = nc.SetReadDeadline(time.Now().Add(limit)) // a closed one fails at the read
	if c.quiet == nil {
		c.quiet = map[net.Conn]struct{}{}
	}
	c.quiet[nc] = struct{}{}
	return func() {
		c.mu.Lock()
		defer c.mu.Unlock()
		delete(c.quiet, nc)
		_ = nc.SetReadDeadline(time.Time{})
	}
}

// drain bounds the wait for clients that have said nothing yet.
func (c *connections) drain() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.draining = true
	for nc := range c.quiet {
		_ = nc.SetReadDeadline(time.Now().Add(silentGrace))
	}
}

// wait waits until none is open. It says false where ctx ended first.
func (c *connections) wait(ctx context.Context) bool {
	c.mu.Lock()
	if c.open == 0 {
		c.mu.Unlock()
		return true
	}
	if c.none == nil {
		c.none = make(chan struct{})
	}
	none := c.none
	c.mu.Unlock()
	select {
	case <-none:
		return true
	case <-ctx.Done():
		return false
	}
}
