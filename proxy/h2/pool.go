package h2

import (
	"context"
	"errors"
	"runtime"
	"slices"
	"sync"

	"etcdops/proxy/director"
)

// poolCap is how many connections a member gets at most.
const poolCap = 100

var (
	errNoSlot = errors.New("no stream slot is free at the member")
	errLeft   = errors.New("the member has left the list")
)

// pool holds the connections to one member: as many as there are cores, and
// more only when no stream slot is free.
type pool struct {
	r  *Relay
	ep *director.Endpoint

	mu    sync.Mutex
	conns []*memberConn
	dial  *dial // under way
	left  bool
}

// dial is one attempt to connect that several requests may wait for.
type dial struct {
	done chan struct{}
	conn *memberConn
	err  error
}

// pick returns the connection with the fewest streams that has a slot free, or
// nil. It never waits, and lets the pool grow to the number of cores.
func (p *pool) pick() *memberConn {
	p.mu.Lock()
	defer p.mu.Unlock()
	var best *memberConn
	least, usable := 0, 0
	for _, m := range p.conns {
		if !m.usable() {
			continue
		}
		usable++
		m.mu.Lock()
		n, free := len(m.streams), m.admit()
		m.mu.Unlock()
		if free && (best == nil || n < least) {
			best, least = m, n
		}
	}
	if best != nil && least > 0 && usable < runtime.GOMAXPROCS(0) {
		p.start()
	}
	return best
}

// get returns a connection with a free slot and dials one where there is none.
func (p *pool) get(ctx context.Context) (*memberConn, error) {
	if m := p.pick(); m != nil {
		return m, nil
	}
	p.mu.Lock()
	if p.left {
		p.mu.Unlock()
		return nil, errLeft
	}
	d := p.dial
	if d == nil {
		if len(p.conns) >= poolCap { // those that end count: they are connections too
			p.mu.Unlock()
			return nil, errNoSlot
		}
		d = p.start()
	}
	p.mu.Unlock()
	select {
	case <-d.done:
		return d.conn, d.err
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// start begins to dial unless that is under way; p.mu is held.
func (p *pool) start() *dial {
	if p.dial != nil || p.left {
		return p.dial
	}
	d := &dial{done: make(chan struct{})}
	p.dial = d
	p.r.tasks.Add(1)
	go func() {
		defer p.r.tasks.Done()
		d.conn, d.err = dialMember(p.r.ctx, p)
		if d.err == nil && !d.conn.offersStreams() {
			d.conn.retire()
			d.err = errNoSlot
		}
		p.mu.Lock()
		if d.err == nil {
			p.conns = append(p.conns, d.conn)
			if p.left {
				go d.conn.retire()
			}
		}
		p.dial = nil
		p.mu.Unlock()
		close(d.done)
		if d.err == nil && !d.conn.usable() {
			p.remove(d.conn) // it ended before it was in the list
		}
	}()
	return d
}

func (p *pool) remove(m *memberConn) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.conns = slices.DeleteFunc(p.conns, func(x *memberConn) bool { return x == m })
}

func (p *pool) list() []*memberConn {
	p.mu.Lock()
	defer p.mu.Unlock()
	return slices.Clone(p.conns)
}

// leave lets every connection end with its last stream.
func (p *pool) leave() {
	p.mu.Lock()
	p.left = true
	p.mu.Unlock()
	for _, m := range p.list() {
		m.retire()
	}
}
