package h2

import (
	"testing"
	"time"

	"golang.org/x/net/http2"

	"etcdops/proxy/stats"
)

// watch says whether the relay looks at a client each second.
func (g *rig) watch(cc *clientConn, so bool) {
	g.relay.mu.Lock()
	defer g.relay.mu.Unlock()
	delete(g.relay.clients, cc)
	if so {
		g.relay.clients[cc] = true
	}
}

// greedy opens n streams that a member answers at length, and lets the first byte of
// none through.
func greedy(t *testing.T, r *rig, n int, window uint32) (*testClient, *clientConn) {
	t.Helper()
	c := dialRig(t, r.addr)
	_ = c.fr.WriteSettings(http2.Setting{ID: http2.SettingInitialWindowSize, Val: window})
	for range n {
		c.open(pathRange, false)
	}
	cc := r.clientOf(c)
	waitFor(t, "the answers wait", func() bool {
		cc.mu.Lock()
		defer cc.mu.Unlock()
		return cc.queued > 3*outLimit
	})
	return c, cc
}

// calmed reads until GOAWAY with ENHANCE_YOUR_CALM, and then the end.
func (c *testClient) calmed() {
	c.t.Helper()
	code := http2.ErrCodeNo
	for f := c.next(); f != nil; f = c.next() {
		if g, ok := f.(*http2.GoAwayFrame); ok {
			code = g.ErrCode
		}
	}
	if code != http2.ErrCodeEnhanceYourCalm {
		c.t.Fatalf("the last GOAWAY said %v", code)
	}
}

// Who opens streams and keeps their windows shut, or lets through a byte now and then,
// is cut off, though it sends PING; who takes a little of much, or reads its other
// streams, is not: queueCap bounds it.
func TestShutWindows(t *testing.T) {
	for _, tc := range []struct {
		name string
		open uint32 // how much more of each stream is let through, from time to time
		call bool   // another stream is answered from time to time
		cut  bool
	}{
		{"shut", 0, false, true}, {"a byte at a time", 1, false, true}, {"slowly", 1000, false, false},
		{"beside a stream that flows", 0, true, false},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			m := startMember(t, bigAnswer(60<<10))
			r := startRig(t, m.url)
			c, cc := greedy(t, r, 60, 0)
			other := dialRig(t, r.addr)
			r.watch(cc, false) // the time is ours
			now := time.Now()
			for range 4 { // each but the last one half a stallLimit later
				cc.stalled(now)
				for id := uint32(1); id < c.nextID && tc.open > 0; id += 2 {
					_ = c.fr.WriteWindowUpdate(id, tc.open)
					_ = c.fr.WriteWindowUpdate(0, tc.open)
				}
				if tc.call {
					id := c.open(pathRange, false)
					_ = c.fr.WriteWindowUpdate(id, 64<<10)
					_ = c.fr.WriteWindowUpdate(0, 64<<10)
					if o := c.wait(id); o.data != 60<<10 {
						t.Fatalf("got %+v", o)
					}
				}
				_ = c.fr.WritePing(false, [8]byte{1})
				for f, err := c.fr.ReadFrame(); ; f, err = c.fr.ReadFrame() {
					if err != nil {
						t.Fatal(err)
					}
					if p, ok := f.(*http2.PingFrame); ok && p.IsAck() {
						break
					}
				}
				now = now.Add(stallLimit / 2)
			}
			if stalled := cc.stalled(now); stalled != tc.cut {
				t.Fatalf("stalled is %v", stalled)
			}
			if !tc.cut {
				return
			}
			r.watch(cc, true)
			r.relay.check(now)
			c.calmed()
			waitFor(t, "it was counted", func() bool { return r.refused(stats.Abuse) == 1 })
			cc.mu.Lock()
			held := cc.queued + len(cc.streams)
			cc.mu.Unlock()
			if held != 0 {
				t.Errorf("%d bytes and streams are held", held)
			}
			_ = other.fr.WriteWindowUpdate(0, 1<<20)
			if o := other.wait(other.open(pathRange, false)); o.fields["grpc-status"] != "0" || o.data != 60<<10 {
				t.Errorf("a neighbour got %+v", o)
			}
		})
	}
}

// When all queues together hold too much, who holds most goes.
func TestQueueCap(t *testing.T) {
	m := startMember(t, bigAnswer(60<<10))
	r := startRig(t, m.url)
	small, _ := greedy(t, r, 55, 0)
	big, cc := greedy(t, r, 100, 0)
	waitFor(t, "all of it waits", func() bool { return queuedToClients.Load() == 155*60<<10 })
	queuedToClients.Add(queueCap - 155*60<<10) // as if others held it
	defer queuedToClients.Add(155*60<<10 - queueCap)
	id := small.open(pathRange, false)
	big.calmed()
	waitFor(t, "its queues are gone", func() bool {
		cc.mu.Lock()
		defer cc.mu.Unlock()
		return cc.queued == 0 && len(cc.streams) == 0
	})
	_ = small.fr.WriteWindowUpdate(0, 1<<20)
	_ = small.fr.WriteWindowUpdate(id, 1<<20)
	if o := small.wait(id); o.fields["grpc-status"] != "0" || o.data != 60<<10 {
		t.Fatalf("who holds less got %+v", o)
	}
}
