package h1

import (
	"net"
	"net/http"
	"sync"
	"testing"
	"time"
)

func TestIdleConnectionsHoldNoBuffers(t *testing.T) {
	p := newPeer(t, answer(ok("x")))
	g := newRig(t, nil, p.url)
	g.dial(t).expect(get, 200, "x")
	eventually(t, "buffers are back", func() bool {
		for _, cl := range g.relay.present() {
			cl.mu.Lock()
			idle := cl.idle
			cl.mu.Unlock()
			if !idle || cl.in.br != nil || cl.out != nil {
				return false
			}
		}
		return true
	})
}

func TestPoolIsBounded(t *testing.T) {
	const n = idlePerEndpoint + 20
	var arrived sync.WaitGroup
	arrived.Add(n)
	p := newPeer(t, func(c net.Conn, req *http.Request) bool {
		arrived.Done()
		arrived.Wait()
		return answer(ok("x"))(c, req)
	})
	g := newRig(t, nil, p.url)
	var clients sync.WaitGroup
	for range n {
		c := g.dial(t)
		clients.Go(func() {
			c.send(get)
			c.whole("GET")
		})
	}
	clients.Wait()
	eventually(t, "the pool is full and no more", func() bool {
		g.relay.members.mu.Lock()
		defer g.relay.members.mu.Unlock()
		for _, s := range g.relay.members.shelves {
			return len(s.idle) == idlePerEndpoint && len(s.busy) == 0
		}
		return false
	})
}

func TestSweepClosesWhatIsOld(t *testing.T) {
	p := newPeer(t, answer(ok("x")))
	g := newRig(t, nil, p.url)
	g.dial(t).expect(get, 200, "x")
	pool := &g.relay.members
	age := func(d time.Duration) (found bool) {
		pool.mu.Lock()
		defer pool.mu.Unlock()
		for _, s := range pool.shelves {
			for _, m := range s.idle {
				m.since, found = time.Now().Add(-d), true
			}
		}
		return found
	}
	eventually(t, "it is idle", func() bool { return age(idleTime / 2) })
	pool.sweep()
	if g.noMemberConnections() || pool.sweeper == nil {
		t.Error("it was not old yet")
	}
	age(idleTime)
	pool.sweep()
	if !g.noMemberConnections() || pool.sweeper != nil {
		t.Error("it was old")
	}
}
