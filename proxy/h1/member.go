package h1

import (
	"context"
	"errors"
	"net"
	"sync"
	"time"

	"etcdops/proxy/director"
	"etcdops/proxy/socket"
)

const (
	// idlePerEndpoint is how many unused connections to one endpoint are kept,
	// as etcd's proxy did.
	idlePerEndpoint = 128
	// idleTime is how long an unused member connection is kept.
	idleTime = 90 * time.Second
)

// Why a member connection was broken by us.
var (
	errClientLeft = errors.New("the client left")
	errCondemned  = errors.New("the member stopped answering the probe")
	errClosed     = errors.New("the proxy closes")
)

// member is one connection to a member, or the attempt to make one.
type member struct {
	ep    *director.Endpoint
	c     net.Conn
	since time.Time     // of its present idleness
	write time.Duration // bounds one write, zero means no limit
	sent  bool          // bytes of the present request were given to write()
	until time.Time     // the deadline of reads; zero means none

	mu      sync.Mutex
	cancel  context.CancelFunc // ends the dial
	dialled net.Conn           // c, for sever
	why     error              // the connection was severed
}

// Write implements io.Writer. What it was given counts as sent, whatever it
// returns.
func (m *member) Write(p []byte) (int, error) {
	m.sent = true
	if m.write > 0 {
		if err := m.c.SetWriteDeadline(time.Now().Add(m.write)); err != nil {
			return 0, err
		}
	}
	return m.c.Write(p)
}

// readWithin gives the next read a time limit; zero means none. While no more than
// slack of the limit has passed, the old deadline stays.
func (m *member) readWithin(limit, slack time.Duration) error {
	until := time.Time{}
	if limit > 0 {
		now := time.Now()
		if left := m.until.Sub(now); limit-slack <= left && left <= limit {
			return nil
		}
		until = now.Add(limit)
	} else if m.until.IsZero() {
		return nil
	}
	m.until = until
	return m.c.SetReadDeadline(until)
}

// sever breaks the connection or its dial from any goroutine.
func (m *member) sever(why error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.why == nil {
		m.why = why
	}
	m.cancel()
	if m.dialled != nil {
		_ = m.dialled.Close()
	}
}

// severed says why the connection was broken by us, if it was.
func (m *member) severed() error {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.why
}

func (m *member) dial(ctx context.Context) error {
	c, err := m.ep.Dial(ctx, "http/1.1")
	m.mu.Lock()
	defer m.mu.Unlock()
	switch {
	case m.why != nil:
		if err == nil {
			_ = c.Close()
		}
		return m.why
	case err != nil:
		return err
	}
	m.c, m.dialled = c, c
	return nil
}

// pool keeps the member connections. The zero value is empty.
type pool struct {
	mu      sync.Mutex
	shelves map[*director.Endpoint]*shelf
	sweeper *time.Timer // set while there are idle connections
	closed  bool
}

// shelf has the connections to one endpoint.
type shelf struct {
	idle []*member // the last used one at the end
	busy map[*member]struct{}
}

// take returns a connection to e that nobody else uses: an idle one, or a new
// one. The error means that nothing was sent.
func (p *pool) take(ctx context.Context, e *director.Endpoint, cl *client) (*member, error) {
	for {
		m := p.pop(e)
		if m == nil {
			break
		}
		if s := socket.Of(m.c); time.Since(m.since) < idleTime && (s == nil || !s.Ended()) {
			cl.use(m)
			return m, nil
		}
		p.drop(m)
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	m := &member{ep: e, cancel: cancel, write: cl.r.WriteTimeout}
	if !p.add(m) {
		return nil, errClosed
	}
	cl.use(m)
	if err := cl.watched(func() error { return m.dial(ctx) }); err != nil {
		cl.use(nil)
		p.drop(m)
		return nil, err
	}
	return m, nil
}

func (p *pool) pop(e *director.Endpoint) *member {
	p.mu.Lock()
	defer p.mu.Unlock()
	s := p.shelves[e]
	if s == nil || len(s.idle) == 0 {
		return nil
	}
	m := s.idle[len(s.idle)-1]
	s.idle[len(s.idle)-1] = nil
	s.idle = s.idle[:len(s.idle)-1]
	s.busy[m] = struct{}{}
	return m
}

func (p *pool) add(m *member) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed {
		return false
	}
	if p.shelves == nil {
		p.shelves = map[*director.Endpoint]*shelf{}
	}
	s := p.shelves[m.ep]
	if s == nil {
		s = &shelf{busy: map[*member]struct{}{}}
		p.shelves[m.ep] = s
	}
	s.busy[m] = struct{}{}
	return true
}

// put takes a connection back on which nothing is under way.
func (p *pool) put(m *member) {
	p.mu.Lock()
	s := p.shelves[m.ep]
	if m.severed() != nil || p.closed || m.ep.Left() || len(s.idle) >= idlePerEndpoint {
		p.mu.Unlock()
		p.drop(m)
		return
	}
	defer p.mu.Unlock()
	m.since, m.sent = time.Now(), false
	delete(s.busy, m)
	s.idle = append(s.idle, m)
	if p.sweeper == nil {
		p.sweeper = time.AfterFunc(idleTime, p.sweep)
	}
}

// drop closes a connection that take has returned.
func (p *pool) drop(m *member) {
	m.sever(errClosed)
	p.mu.Lock()
	defer p.mu.Unlock()
	if s := p.shelves[m.ep]; s != nil {
		delete(s.busy, m)
		p.tidy(m.ep, s)
	}
}

// tidy removes an empty shelf; p.mu is held.
func (p *pool) tidy(e *director.Endpoint, s *shelf) {
	if len(s.busy)+len(s.idle) == 0 {
		delete(p.shelves, e)
	}
}

// sweep closes what was idle for too long.
func (p *pool) sweep() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed {
		return
	}
	now := time.Now()
	next := time.Duration(-1)
	for e, s := range p.shelves {
		old := 0
		for old < len(s.idle) && now.Sub(s.idle[old].since) >= idleTime {
			s.idle[old].sever(errClosed)
			old++
		}
		s.idle = append([]*member(nil), s.idle[old:]...)
		if len(s.idle) > 0 {
			if d := idleTime - now.Sub(s.idle[0].since); next < 0 || d < next {
				next = d
			}
		}
		p.tidy(e, s)
	}
	if p.sweeper = nil; next >= 0 {
		p.sweeper = time.AfterFunc(next, p.sweep)
	}
}

// condemn breaks all connections to e.
func (p *pool) condemn(e *director.Endpoint) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if s := p.shelves[e]; s != nil {
		s.breakIdle(errCondemned)
		s.breakBusy(errCondemned)
		p.tidy(e, s)
	}
}

// forget closes the idle connections to e.
func (p *pool) forget(e *director.Endpoint) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if s := p.shelves[e]; s != nil {
		s.breakIdle(errClosed)
		p.tidy(e, s)
	}
}

func (p *pool) close() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.closed = true
	if p.sweeper != nil {
		p.sweeper.Stop()
	}
	for e, s := range p.shelves {
		s.breakIdle(errClosed)
		s.breakBusy(errClosed)
		p.tidy(e, s)
	}
}

func (s *shelf) breakIdle(why error) {
	for _, m := range s.idle {
		m.sever(why)
	}
	s.idle = nil
}

func (s *shelf) breakBusy(why error) {
	for m := range s.busy {
		m.sever(why)
	}
}
