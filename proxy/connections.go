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

const (
	// lateLimit is how long a new connection may wait where we are late with
	// reading the one that is to give way.
	lateLimit = 500 * time.Millisecond
	// latePause is the time between two looks at that one.
	latePause = time.Millisecond
	// lateTurn is the time that it has when its bytes were read: for us to judge
	// them, and for its client to answer.
	lateTurn = 10 * time.Millisecond
)

// connections are the client connections of a server. There are at most max, and
// those on which no request has come yet give way to new ones: a flood of them
// shuts nobody out. One gives way only where all that its client has sent was read,
// and its turn begins anew with each stage that it reaches: that we are late is not
// the client's fault. Nor do younger ones give way in its place, and so all
// accepting waits, a little.
type connections struct {
	max int // 0: no limit

	mu       sync.Mutex
	open     int
	unproved list.List                      // of *newcomer: no request has come on them; the next to give way first
	places   map[*socket.Conn]*list.Element // theirs in unproved
	quiet    map[net.Conn]struct{}          // nothing was read from them yet
	draining bool
	none     chan struct{} // closed when open becomes 0; nil while nobody waits
}

// newcomer is a connection on which no request has come yet.
type newcomer struct {
	*socket.Conn
	unread time.Time // when bytes of its client were last seen to wait
}

// late tells whether it is our turn, and not its client's.
func (n *newcomer) late(now time.Time) bool {
	if n.Ended() {
		n.unread = now
	}
	return now.Sub(n.unread) < lateTurn
}

// begin takes a connection in, for which another one may have to give way; false
// means that there is no room for it.
func (c *connections) begin(s *socket.Conn) (gaveWay *socket.Conn, ok bool) {
	for began := time.Now(); ; time.Sleep(latePause) {
		now := time.Now()
		gaveWay, ok, late := c.take(s, now, now.Sub(began) >= lateLimit)
		if !late {
			return gaveWay, ok
		}
	}
}

// take is begin, once. late means that we are with the one that is to give way;
// must, that it does all the same.
func (c *connections) take(s *socket.Conn, now time.Time, must bool) (gaveWay *socket.Conn, ok, late bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.max > 0 && c.open >= c.max+c.leaving() {
		next := c.unproved.Front()
		if next == nil {
			return nil, false, false
		}
		n := next.Value.(*newcomer)
		if n.late(now) && !must {
			return nil, false, true
		}
		c.unproved.Remove(next)
		gaveWay = n.Conn
		c.places[gaveWay] = nil // it is about to end
		_ = gaveWay.Close()
	}
	c.open++
	if c.places == nil {
		c.places = map[*socket.Conn]*list.Element{}
	}
	c.places[s] = c.unproved.PushBack(&newcomer{Conn: s})
	return gaveWay, true, false
}

// leaving is how many connections have given way and not ended yet; c.mu is held.
func (c *connections) leaving() int { return len(c.places) - c.unproved.Len() }

// reached notes that a connection has reached a stage, from which on it is its
// client's turn. There are two, so that a slow client gains no more than that: TLS is
// agreed on, and the protocol known.
func (c *connections) reached(s *socket.Conn) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if place := c.places[s]; place != nil {
		c.unproved.MoveToBack(place)
	}
}

func (c *connections) end(s *socket.Conn) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.forget(s)
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
	if c.places[s] != nil {
		c.forget(s)
	}
}

// forget drops a connection's place; c.mu is held.
func (c *connections) forget(s *socket.Conn) {
	if place := c.places[s]; place != nil {
		c.unproved.Remove(place)
	}
	delete(c.places, s)
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
