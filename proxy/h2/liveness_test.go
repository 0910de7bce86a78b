package h2

import (
	"fmt"
	"testing"
	"time"

	"golang.org/x/net/http2"
)

// A PING is answered with its own data, on both sides; ours goes to a member that says
// nothing while a stream is open, each 10 s at most, and what stays dark is closed.
func TestPing(t *testing.T) {
	t.Run("of a client", func(t *testing.T) {
		c := dialRig(t, startRig(t).addr)
		_ = c.fr.WritePing(false, [8]byte{1, 2, 3})
		c.acknowledged([8]byte{1, 2, 3})
	})
	t.Run("of a member", func(t *testing.T) {
		acked := make(chan bool)
		m := startMember(t, func(_ *fakeMember, p *peer) {
			_ = p.fr.WritePing(false, [8]byte{4, 5, 6})
			(&testClient{peer: p}).acknowledged([8]byte{4, 5, 6})
			close(acked)
		})
		dialRig(t, startRig(t, m.url).addr).open(pathWatch, true)
		<-acked
	})
	for _, answers := range []bool{true, false} {
		t.Run(fmt.Sprintf("of ours, answered %v", answers), func(t *testing.T) {
			pings := make(chan [8]byte, 100)
			m := startMember(t, func(m *fakeMember, p *peer) {
				for {
					f, err := p.fr.ReadFrame()
					if err != nil {
						return
					}
					switch f := f.(type) {
					case *http2.MetaHeadersFrame:
						m.saw(f)
					case *http2.PingFrame:
						pings <- f.Data
						if answers {
							_ = p.fr.WritePing(true, f.Data)
						}
					}
				}
			})
			r := startRig(t, m.url)
			c := dialRig(t, r.addr)
			id := c.open(pathWatch, true)
			waitFor(t, "the watch has arrived", func() bool { return m.count(pathWatch) == 1 })
			mc := r.relay.poolList()[0].list()[0]
			open := func() bool {
				mc.mu.Lock()
				defer mc.mu.Unlock()
				return mc.pingOpen
			}
			began := time.Now().Add(time.Second)
			mc.check(began, 0)
			if open() {
				t.Fatal("too early")
			}
			mc.check(began.Add(pingInterval), 0)
			mc.check(began.Add(pingInterval+pingWait/2), 0)
			<-pings
			if answers {
				waitFor(t, "it is answered", func() bool { return !open() })
			}
			mc.check(began.Add(pingInterval+2*pingWait), 0)
			if !answers {
				if o := c.wait(id); o.fields["grpc-status"] != "14" {
					t.Fatalf("got %+v", o)
				}
				return
			}
			<-pings
			waitFor(t, "that one too", func() bool { return !open() })
			if len(pings) > 0 {
				t.Errorf("%d PINGs too many", len(pings))
			}
			_ = c.fr.WriteRSTStream(id, http2.ErrCodeCancel)
			waitFor(t, "no stream is open", func() bool {
				mc.mu.Lock()
				defer mc.mu.Unlock()
				return len(mc.streams) == 0
			})
			mc.check(began.Add(time.Hour), 0)
			if open() {
				t.Error("a PING without a stream")
			}
		})
	}
}

// acknowledged reads until the answer to a PING.
func (c *testClient) acknowledged(data [8]byte) {
	c.t.Helper()
	for {
		f, err := c.fr.ReadFrame()
		if err != nil {
			c.t.Error(err)
			return
		}
		if p, ok := f.(*http2.PingFrame); ok && p.IsAck() {
			if p.Data != data {
				c.t.Errorf("got %v", p.Data)
			}
			return
		}
	}
}

// Streams that are half closed, on either side, stay for as long as they like.
func TestHalfClosedForLong(t *testing.T) {
	watching := make(chan func(), 1)
	m := startMember(t, func(m *fakeMember, p *peer) {
		for fr := p.next(); fr != nil; fr = p.next() {
			h, ok := fr.(*http2.MetaHeadersFrame)
			if !ok {
				continue
			}
			m.saw(h)
			if h.PseudoValue("path") == pathPut { // the answer is over before the request
				p.answer(h.StreamID)
			} else {
				watching <- func() { p.answer(h.StreamID) }
			}
		}
	})
	r := startRig(t, m.url)
	c := dialRig(t, r.addr)
	put, watch := c.open(pathPut, true), c.open(pathWatch, false)
	if o := c.wait(put); o.fields["grpc-status"] != "0" || o.wasRST {
		t.Fatalf("got %+v", o)
	}
	answer := <-watching
	each := func(so func(mc *memberConn) bool) bool {
		for _, mc := range r.relay.poolList()[0].list() {
			mc.mu.Lock()
			ok := so(mc)
			mc.mu.Unlock()
			if !ok {
				return false
			}
		}
		return true
	}
	for hour := range 10 {
		r.relay.check(time.Now().Add(time.Duration(hour) * time.Hour))
		waitFor(t, "the PING is answered", func() bool { return each(func(mc *memberConn) bool { return !mc.pingOpen }) })
	}
	c.data(put, true, []byte("the rest"))
	answer()
	if o := c.wait(watch); o.fields["grpc-status"] != "0" {
		t.Fatalf("got %+v", o)
	}
	waitFor(t, "no stream is left", func() bool {
		cc := r.clientOf(c)
		cc.mu.Lock()
		defer cc.mu.Unlock()
		return len(cc.streams) == 0 && each(func(mc *memberConn) bool { return len(mc.streams) == 0 })
	})
}
