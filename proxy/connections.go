package proxy

import (
	"container/list"
	"context"
	"net"
	"sync"
	"time"

	"etcdops/proxy/socket"
)

// silentGrace is how long a client may take for its first byte while we drain:
// who connects in order to ask has it at hand.
const silentGrace = 500 * time.Millisecond

// connections are the client connections of a server. There are at most max, and
// those on which no request has come yet give way to new ones: a flood of them
// shuts nobody out.
type connections struct {
	max int // 0: no limit

	mu       sync.Mutex
	open     int
	unproved list.List                  // of net.Conn: no request has come on them; the oldest first
	places   map[net.Conn]*list.Element // theirs in unproved
	quiet    map[net.Conn]struct{}      // nothing was read from them yet
	draining bool
	none     chan struct{} // closed when open becomes 0; nil while nobody waits
}

// begin takes a connection in, for which another one may have to give way; false
// means that there is no room for it.
func (c *connections) begin(nc net.Conn) (gaveWay net.Conn, ok bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.max > 0 && c.open >= c.max+c.leaving() {
		oldest := c.unproved.Front()
		if oldest == nil {
			return nil, false
		}
		gaveWay = c.unproved.Remove(oldest).(net.Conn)
		c.places[gaveWay] = nil // it is about to end
		_ = gaveWay.Close()
	}
	c.open++
	if c.places == nil {
		c.places = map[net.Conn]*list.Element{}
	}
	c.places[nc] = c.unproved.PushBack(nc)
	return gaveWay, true
}

// leaving is how many connections have given way and not ended yet; c.mu is held.
func (c *connections) leaving() int { return len(c.places) - c.unproved.Len() }

func (c *connections) end(nc net.Conn) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.forget(nc)
	c.open--
	if c.open == 0 && c.none != nil {
		close(c.none)
		c.none = nil
	}
}

// proved notes that a request has come on a connection: it gives way no more.
func (c *connections) proved(nc net.Conn) {
	s := socket.Of(nc)
	if s == nil {
		return // it is in memory, and its client's connection counts
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.places[s.Conn] != nil {
		c.forget(s.Conn)
	}
}

// forget drops a connection's place; c.mu is held.
func (c *connections) forget(nc net.Conn) {
	if place := c.places[nc]; place != nil {
		c.unproved.Remove(place)
	}
	delete(c.places, nc)
}

// count is how many are open.
func (c *connections) count() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.open
}

// silent gives a connection its limit for the first byte, until spoken is
// called.
func (c *connections) silent(nc net.Conn, limit time.Duration) (spoken func()) {
	c.mu.Lock()
	defer c.mu.Unlock()
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
