package h2

import (
	"fmt"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/net/http2"
)

// startShut starts a member that keeps every stream's window at 0, so that data
// waits in our queues, and calls f for each request.
func startShut(t *testing.T, f func(p *peer, id uint32)) *fakeMember {
	return startMember(t, func(m *fakeMember, p *peer) {
		for fr := p.next(); fr != nil; fr = p.next() {
			if h, ok := fr.(*http2.MetaHeadersFrame); ok {
				m.saw(h)
				f(p, h.StreamID)
			}
		}
	}, first(http2.Setting{ID: http2.SettingInitialWindowSize, Val: 0}))
}

// whole says that nothing of a client connection's window is lost or made.
func whole(t *testing.T, r *rig) {
	t.Helper()
	missing := int64(1)
	for limit := time.Now().Add(5 * time.Second); missing != 0 && time.Now().Before(limit); time.Sleep(time.Millisecond) {
		for _, cc := range r.relay.clientList() {
			cc.mu.Lock()
			missing = clientWindow - cc.recvLeft - cc.recvOwed
			cc.mu.Unlock()
		}
	}
	if missing != 0 {
		t.Fatalf("%d bytes of the connection's window are missing", missing)
	}
}

// Requests that were lost with data in the queue, and then found no member,
// give the client its window back.
func TestWindowAfterUnplacedRequests(t *testing.T) {
	cut := make(chan *peer, 1)
	m := startShut(t, func(p *peer, _ uint32) { cut <- p })
	r := startRig(t, m.url)
	c := dialRig(t, r.addr)
	for range 25 { // more than the window in all
		id := c.nextID
		c.nextID += 2
		c.headers(id, false, ":method", "POST", ":scheme", "http", ":path", pathRange, ":authority", "x", "content-type", "application/grpc")
		for range 4 {
			c.data(id, false, make([]byte, 15000))
		}
		c.data(id, true, nil)
		p := <-cut
		waitFor(t, "the data waits", func() bool {
			cc := r.relay.clientList()[0]
			cc.mu.Lock()
			defer cc.mu.Unlock()
			return clientWindow-cc.recvLeft-cc.recvOwed == 60000
		})
		p.nc.Close()
		if o := c.wait(id); o.fields["grpc-status"] != "14" {
			t.Fatalf("got %+v", o)
		}
		whole(t, r)
	}
}

// A replayed request that the second member resets gives its window back once.
func TestWindowAfterReplayAndReset(t *testing.T) {
	bad := startMember(t, behave(func(p *peer, id uint32) {
		for n := 0; n < 30005; {
			d, ok := p.next().(*http2.DataFrame)
			if !ok {
				return
			}
			n += len(d.Data())
		}
		_ = p.fr.WriteRSTStream(id, http2.ErrCodeRefusedStream)
	}))
	release := make(chan struct{})
	second := startShut(t, func(p *peer, id uint32) {
		<-release
		_ = p.fr.WriteRSTStream(id, http2.ErrCodeEnhanceYourCalm)
	})
	r := startRig(t, bad.url)
	c := stickTo(t, r, bad, second)
	bad.armed.Store(true)
	id := c.open(pathPut, true)
	c.data(id, false, make([]byte, 15000))
	c.data(id, true, make([]byte, 15000))
	waitFor(t, "the second member has it", func() bool { return second.count(pathPut) == 1 })
	close(release)
	if o := c.wait(id); !o.wasRST {
		t.Fatalf("got %+v", o)
	}
	whole(t, r)
}

// A client that cancels while its member connection goes down gets all its
// window back.
func TestWindowAfterCancelOnADeadConnection(t *testing.T) {
	m := startShut(t, func(*peer, uint32) {})
	r := startRig(t, m.url)
	c := dialRig(t, r.addr)
	id := c.open(pathPut, true)
	waitFor(t, "the request has arrived", func() bool { return m.count(pathPut) == 1 })
	c.data(id, false, make([]byte, 15000))
	cc := r.relay.clientList()[0]
	waitFor(t, "the data waits", func() bool {
		cc.mu.Lock()
		defer cc.mu.Unlock()
		return clientWindow-cc.recvLeft-cc.recvOwed == 15005
	})
	cc.mu.Lock()
	s := cc.streams[id].s
	cc.mu.Unlock()
	mc := r.relay.poolList()[0].list()[0]
	mc.mu.Lock()
	mc.closed = true // as closeLocked, before its reader has noticed
	mc.mu.Unlock()
	var b batch
	s.cancel(&b)
	b.flush()
	_ = mc.nc.Close()
	whole(t, r)
}

// A request that is between two members waits whole for the second one, however
// much the client adds meanwhile.
func TestRequestBetweenTwoMembers(t *testing.T) {
	bad := startMember(t, behave(func(p *peer, id uint32) {
		for n := 0; n < 40000; {
			d, ok := p.next().(*http2.DataFrame)
			if !ok {
				return
			}
			n += len(d.Data())
		}
		_ = p.fr.WriteRSTStream(id, http2.ErrCodeRefusedStream)
	}))
	var slow atomic.Bool
	slow.Store(true)
	got := make(chan string, 1)
	second := startMember(t, func(m *fakeMember, p *peer) {
		_ = p.fr.WriteWindowUpdate(0, 1<<20)
		n, path := 0, ""
		for fr := p.next(); fr != nil; fr = p.next() {
			switch f := fr.(type) {
			case *http2.MetaHeadersFrame:
				m.saw(f)
				path = f.PseudoValue("path")
			case *http2.DataFrame:
				if n += len(f.Data()); f.StreamEnded() {
					got <- fmt.Sprint(path, " ", n)
					p.answer(f.StreamID)
				}
			}
		}
	}, first(http2.Setting{ID: http2.SettingInitialWindowSize, Val: 1 << 20}), func(m *fakeMember) {
		m.hold = func() { waitFor(t, "let go", func() bool { return !slow.Load() }) }
	})
	r := startRig(t, bad.url)
	c := stickTo(t, r, bad, second)
	bad.armed.Store(true)
	id := c.open(pathPut, true)
	for range 4 {
		c.data(id, false, make([]byte, 10000))
	}
	waitFor(t, "it was refused", func() bool { return r.relay.Retries.Total() == 1 })
	for range 3 {
		c.data(id, false, make([]byte, 10000))
	}
	c.data(id, true, nil)
	slow.Store(false)
	if o := c.wait(id); o.fields["grpc-status"] != "0" {
		t.Fatalf("got %+v", o)
	}
	if text := <-got; text != pathPut+" 70005" {
		t.Fatalf("the second member got %s", text)
	}
	whole(t, r)
}

// More streams than one connection of a member takes: the pool has more.
func TestFewStreamsAConnection(t *testing.T) {
	m := startMember(t, func(m *fakeMember, p *peer) {
		for fr := p.next(); fr != nil; fr = p.next() {
			if h, ok := fr.(*http2.MetaHeadersFrame); ok {
				m.saw(h)
				p.headers(h.StreamID, false, ":status", "200", "content-type", "application/grpc")
			}
		}
	}, first(http2.Setting{ID: http2.SettingMaxConcurrentStreams, Val: 10}))
	c := dialRig(t, startRig(t, m.url).addr)
	const n = 200
	for range n {
		c.open(pathWatch, true)
	}
	for begun := 0; begun < n; {
		switch f := c.next().(type) {
		case *http2.MetaHeadersFrame:
			if f.StreamEnded() {
				t.Fatalf("a watch failed after %d of %d: %v", begun, n, f.Fields)
			}
			begun++
		case nil:
			t.Fatalf("the connection ended after %d watches", begun)
		}
	}
}

// A connection that has got a GOAWAY is watched to its end.
func TestGoAwayThenSilence(t *testing.T) {
	m := startMember(t, behave(func(p *peer, id uint32) {
		p.headers(id, false, ":status", "200", "content-type", "application/grpc")
		_ = p.fr.WriteGoAway(maxStreamID, http2.ErrCodeNo, nil)
	}))
	m.armed.Store(true)
	other := startMember(t, behave(nil))
	r := startRig(t, m.url)
	c := stickTo(t, r, m, other)
	m.silent.Store(true)
	if o := c.wait(1); o.fields["grpc-status"] != "14" {
		t.Fatalf("got %+v", o)
	}
}
