package h2

import (
	"bufio"
	"context"
	"io"
	"net"
	"net/http"
	"slices"
	"testing"
	"time"

	"golang.org/x/net/http2"
)

// A member may take fewer streams than before, or none, at any time: those that are
// open go on, and new ones go by another connection, to the same member or another.
func TestMembersMaxStreams(t *testing.T) {
	limit := func(n uint32) http2.Setting { return http2.Setting{ID: http2.SettingMaxConcurrentStreams, Val: n} }
	for _, tc := range []struct {
		name   string
		before uint32
		after  uint32
	}{
		{"lowered to what is open", 100, 1},
		{"lowered below what is open", 100, 0},
	} {
		t.Run(tc.name, func(t *testing.T) {
			h := startHeld(t, first(limit(tc.before)))
			r := startRig(t, h.url)
			c := dialRig(t, r.addr)
			watch := c.open(pathWatch, true)
			old := <-h.requests
			mc := r.relay.poolList()[0].list()[0]
			old.mu.Lock()
			_ = old.fr.WriteSettings(limit(tc.after))
			old.mu.Unlock()
			waitFor(t, "it has arrived", func() bool {
				mc.mu.Lock()
				defer mc.mu.Unlock()
				return mc.maxStreams == int64(tc.after)
			})
			for range 3 {
				put := c.open(pathPut, false)
				req := <-h.requests
				if req.peer == old.peer {
					t.Error("a stream too many on the old connection")
				}
				req.answer(req.id)
				if o := c.wait(put); o.fields["grpc-status"] != "0" {
					t.Fatalf("got %+v", o)
				}
			}
			old.answer(old.id)
			if o := c.wait(watch); o.fields["grpc-status"] != "0" {
				t.Fatalf("the open stream got %+v", o)
			}
		})
	}
	t.Run("none from the beginning", func(t *testing.T) {
		none, good := startMember(t, behave(nil), first(limit(0))), startMember(t, behave(nil))
		r := startRig(t, none.url, good.url)
		for range 4 { // two of them choose the first one first
			c := dialRig(t, r.addr)
			if o := c.wait(c.open(pathPut, false)); o.fields["grpc-status"] != "0" {
				t.Fatalf("got %+v", o)
			}
		}
		if none.count(pathPut) != 0 || good.count(pathPut) != 4 {
			t.Errorf("members saw %d and %d", none.count(pathPut), good.count(pathPut))
		}
	})
	t.Run("none, and nobody else", func(t *testing.T) {
		c := dialRig(t, startRig(t, startMember(t, behave(nil), first(limit(0))).url).addr)
		if o := c.wait(c.open(pathPut, false)); o.fields["grpc-message"] != safeToRetry {
			t.Fatalf("got %+v", o)
		}
	})
}

// A connection whose stream ids are used up takes no new stream, ends with its last
// one, and another connection goes on (RFC 9113 section 5.1.1).
func TestStreamIDsUsedUp(t *testing.T) {
	h := startHeld(t)
	r := startRig(t, h.url)
	c := dialRig(t, r.addr)
	watch := c.open(pathWatch, true)
	old := <-h.requests
	mc := r.relay.poolList()[0].list()[0]
	mc.mu.Lock()
	mc.nextID = maxStreamID - 4
	mc.mu.Unlock()
	var ids []uint32
	for range 4 {
		put := c.open(pathPut, false)
		req := <-h.requests
		if req.peer == old.peer {
			ids = append(ids, req.id)
		}
		req.answer(req.id)
		if o := c.wait(put); o.fields["grpc-status"] != "0" {
			t.Fatalf("got %+v", o)
		}
	}
	if !slices.Equal(ids, []uint32{maxStreamID - 4, maxStreamID - 2}) {
		t.Errorf("the old connection got %d", ids)
	}
	listed := func() bool { return slices.Contains(r.relay.poolList()[0].list(), mc) }
	if !listed() {
		t.Fatal("the old connection has gone before its last stream")
	}
	old.answer(old.id)
	c.data(watch, true, nil)
	if o := c.wait(watch); o.fields["grpc-status"] != "0" {
		t.Fatalf("the watch got %+v", o)
	}
	waitFor(t, "the old connection has ended", func() bool { return !listed() })
}

// A stream above the last GOAWAY was not processed: it goes on, to another member or,
// where there is none, by another connection to the same one. Those below it end there.
func TestAboveTheMembersGoAway(t *testing.T) {
	h := startHeld(t)
	r := startRig(t, h.url)
	c := dialRig(t, r.addr)
	watch := c.open(pathWatch, true)
	old := <-h.requests
	put := c.open(pathPut, false)
	req := <-h.requests
	if req.peer != old.peer {
		t.Fatal("two connections for two streams")
	}
	old.mu.Lock()
	_ = old.fr.WriteGoAway(old.id, http2.ErrCodeNo, nil)
	old.mu.Unlock()
	select {
	case again := <-h.requests:
		if again.path != pathPut || again.peer == old.peer {
			t.Fatalf("got %s", again.path)
		}
		again.answer(again.id)
	case <-time.After(10 * time.Second):
		t.Error("it did not come again")
	}
	if o := c.wait(put); o.fields["grpc-status"] != "0" {
		t.Fatalf("got %+v", o)
	}
	old.answer(old.id)
	if o := c.wait(watch); o.fields["grpc-status"] != "0" {
		t.Fatalf("the watch got %+v", o)
	}
}

// A member that gives back whatever comes is asked twice, and not for ever.
func TestGoAwayAgainAndAgain(t *testing.T) {
	m := startMember(t, behave(func(p *peer, id uint32) { _ = p.fr.WriteGoAway(id-1, http2.ErrCodeNo, nil) }))
	m.armed.Store(true)
	c := dialRig(t, startRig(t, m.url).addr)
	if o := c.wait(c.open(pathPut, false)); o.fields["grpc-message"] != safeToRetry || m.count(pathPut) != 2 {
		t.Fatalf("after %d times got %+v", m.count(pathPut), o)
	}
}

// What a member must not send ends its connection, and what was open there as if it
// had been lost.
func TestMemberBreaksTheProtocol(t *testing.T) {
	for _, tc := range []struct {
		name string
		send func(p *peer, id uint32)
		code http2.ErrCode // that the member is told; of the stream, where stream is set
		only bool          // the stream ends, the connection goes on
	}{
		{"PUSH_PROMISE", func(p *peer, id uint32) {
			_ = p.fr.WritePushPromise(http2.PushPromiseParam{StreamID: id, PromiseID: 2, EndHeaders: true})
		}, http2.ErrCodeProtocol, false},
		{"HEADERS of a stream of its own", func(p *peer, _ uint32) { p.headers(2, true, ":status", "200") }, http2.ErrCodeProtocol, false},
		{"a frame too long", func(p *peer, id uint32) { p.data(id, false, make([]byte, maxFrame+1)) }, http2.ErrCodeFrameSize, false},
		{"DATA before HEADERS", func(p *peer, id uint32) { p.data(id, false, []byte("x")) }, http2.ErrCodeProtocol, true},
		{"HEADERS without a status", func(p *peer, id uint32) { p.headers(id, false, "x", "1") }, http2.ErrCodeProtocol, true},
		{"more than the stream's window", func(p *peer, id uint32) {
			p.headers(id, false, ":status", "200", "content-type", "application/grpc")
			for range 5 {
				p.data(id, false, make([]byte, maxFrame))
			}
		}, http2.ErrCodeFlowControl, true},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			told := make(chan http2.ErrCode, 10)
			m := startMember(t, func(m *fakeMember, p *peer) {
				for fr := p.next(); fr != nil; fr = p.next() {
					switch f := fr.(type) {
					case *http2.MetaHeadersFrame:
						m.saw(f)
						if f.PseudoValue("path") == pathPut {
							tc.send(p, f.StreamID)
						}
					case *http2.RSTStreamFrame:
						told <- f.ErrCode
					case *http2.GoAwayFrame:
						told <- f.ErrCode
					}
				}
			})
			r := startRig(t, m.url)
			c := dialRig(t, r.addr)
			_ = c.fr.WriteSettings(http2.Setting{ID: http2.SettingInitialWindowSize, Val: 0})
			watch := c.open(pathWatch, true)
			waitFor(t, "the watch has arrived", func() bool { return m.count(pathWatch) == 1 })
			put := c.open(pathPut, true)
			if code := <-told; code != tc.code {
				t.Errorf("the member was told %v", code)
			}
			_ = c.fr.WriteWindowUpdate(put, 1<<20) // what came before the fault comes first
			_ = c.fr.WriteWindowUpdate(0, 1<<20)
			ended := map[uint32]string{}
			for want := 1; len(ended) < want; {
				switch f := c.next().(type) {
				case *http2.MetaHeadersFrame:
					if f.StreamEnded() {
						ended[f.StreamID] = valueOf(f.Fields, "grpc-status")
					}
				case nil:
					t.Fatalf("ended, after %v", ended)
				}
				if !tc.only {
					want = 2
				}
			}
			if ended[put] != "14" || (ended[watch] == "14") == tc.only {
				t.Errorf("put ended with %q, the watch with %q", ended[put], ended[watch])
			}
		})
	}
}

// A member that answers before it has taken the request, and gives no window for the
// rest, keeps no stream that its client is done with, and none of the client's window.
func TestAnsweredBeforeItWasTaken(t *testing.T) {
	for _, answerFirst := range []bool{false, true} {
		h := startHeld(t, first(http2.Setting{ID: http2.SettingInitialWindowSize, Val: 10}))
		r := startRig(t, h.url)
		c := dialRig(t, r.addr)
		put := c.open(pathPut, true)
		req := <-h.requests
		rest := func() { c.data(put, true, make([]byte, 10000)) }
		cc := r.clientOf(c)
		if answerFirst {
			req.answer(req.id)
		} else {
			rest()
			waitFor(t, "the client's end has come", func() bool {
				cc.mu.Lock()
				defer cc.mu.Unlock()
				return cc.streams[put].over
			})
			req.answer(req.id)
		}
		if o := c.wait(put); o.fields["grpc-status"] != "0" || o.wasRST {
			t.Fatalf("got %+v", o)
		}
		if answerFirst {
			rest()
		}
		h.cancelled(t, req.id)
		waitFor(t, "the client's window is whole", func() bool {
			cc.mu.Lock()
			defer cc.mu.Unlock()
			return len(cc.streams) == 0 && cc.recvLeft+cc.recvOwed == clientWindow
		})
		if n := memberStreams(r.relay); n > 0 {
			t.Fatalf("%d streams are left at the member", n)
		}
		next := c.open(pathRange, false)
		req = <-h.requests
		req.answer(req.id)
		if o := c.wait(next); o.fields["grpc-status"] != "0" {
			t.Fatalf("the next request got %+v", o)
		}
	}
}

// A client whose answer is complete before its request is told that the rest is not
// wanted, as etcd would tell it: nothing waits for an END_STREAM that may never come.
func TestAnsweredBeforeItWasAsked(t *testing.T) {
	const window = 10
	for name, answer := range map[string]func(p *peer, id uint32){
		"trailers":      (*peer).answer,
		"trailers only": func(p *peer, id uint32) { p.headers(id, true, ":status", "200", "grpc-status", "0") },
		"data": func(p *peer, id uint32) {
			p.headers(id, false, ":status", "200")
			p.data(id, true, make([]byte, 5))
		},
		"trailers behind data that waits": func(p *peer, id uint32) {
			p.headers(id, false, ":status", "200")
			p.data(id, false, make([]byte, 3*window))
			p.headers(id, true, "grpc-status", "0")
		},
		"data that waits": func(p *peer, id uint32) {
			p.headers(id, false, ":status", "200")
			p.data(id, true, make([]byte, 3*window))
		},
		"by HTTP/1.1": nil,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			h := startHeld(t)
			r := startRig(t, h.url)
			r.relay.HTTP1 = func(_ context.Context, nc net.Conn) {
				defer nc.Close()
				_, _ = http.ReadRequest(bufio.NewReader(nc))
				_, _ = io.WriteString(nc, "HTTP/1.1 413 Content Too Large\r\nContent-Length: 5\r\n\r\nlarge")
			}
			c := dialRig(t, r.addr)
			c.settle(http2.Setting{ID: http2.SettingInitialWindowSize, Val: window})
			var early uint32
			if answer == nil {
				early = c.nextID
				c.nextID += 2
				c.headers(early, false, ":method", "POST", ":scheme", "http", ":path", "/v3/kv/put", ":authority", "x")
			} else {
				early = c.open(pathPut, true)
				req := <-h.requests
				answer(req.peer, req.id)
				h.cancelled(t, req.id)
			}
			if n := memberStreams(r.relay); n > 0 {
				t.Fatalf("%d streams are left at the member", n)
			}
			_ = c.fr.WriteWindowUpdate(early, 3*window)
			if o := c.wait(early); o.wasRST || o.gone {
				t.Fatalf("got %+v", o)
			}
			if f, ok := c.next().(*http2.RSTStreamFrame); !ok || f.StreamID != early || f.ErrCode != http2.ErrCodeNo {
				t.Fatalf("behind the answer came %v", f)
			}
			waitFor(t, "nothing of it is left at the client", func() bool {
				cc := r.clientOf(c)
				cc.mu.Lock()
				defer cc.mu.Unlock()
				return len(cc.streams) == 0
			})
			c.data(early, true, make([]byte, 100)) // was on its way
			next := c.open(pathRange, false)
			req := <-h.requests
			req.answer(req.id)
			if o := c.wait(next); o.fields["grpc-status"] != "0" {
				t.Fatalf("the next request got %+v", o)
			}
		})
	}
}
