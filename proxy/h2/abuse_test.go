package h2

import (
	"context"
	"encoding/binary"
	"errors"
	"io"
	"net"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/net/http2"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"

	"etcdops/proxy/stats"
)

// rawFrame is a frame as bytes.
func rawFrame(typ, flags byte, id uint32, payload ...byte) string {
	return string(appendFrame(nil, typ, flags, id, payload))
}

// uint32s are numbers as a payload.
func uint32s(numbers ...uint32) (p []byte) {
	for _, n := range numbers {
		p = binary.BigEndian.AppendUint32(p, n)
	}
	return p
}

// flood sends what round makes, again and again, and reads beside it unless mute is
// set, until the connection has ended. It returns how many rounds went out and what
// the GOAWAY said, if one was read.
func (c *testClient) flood(mute bool, round func(n int) string) (rounds int, said *http2.GoAwayFrame) {
	c.t.Helper()
	_ = c.nc.SetDeadline(time.Now().Add(30 * time.Second))
	var wg sync.WaitGroup
	if !mute {
		wg.Go(func() {
			c.fr.ReadMetaHeaders = nil
			for {
				f, err := c.fr.ReadFrame()
				if err != nil {
					return
				}
				if g, ok := f.(*http2.GoAwayFrame); ok {
					said = &http2.GoAwayFrame{ErrCode: g.ErrCode, LastStreamID: g.LastStreamID}
				}
			}
		})
	}
	var batch strings.Builder
	for {
		for batch.Reset(); batch.Len() < 16<<10; rounds++ {
			batch.WriteString(round(rounds))
		}
		if _, err := io.WriteString(c.nc, batch.String()); err != nil {
			var timeout interface{ Timeout() bool }
			if errors.As(err, &timeout) && timeout.Timeout() {
				c.t.Fatalf("not cut off after 30 s and %d rounds", rounds)
			}
			break
		}
	}
	wg.Wait()
	return rounds, said
}

// neighbour has a watch open, and makes calls, while others are cut off.
func neighbour(t *testing.T, r *rig, m *fakeMember) (check func()) {
	t.Helper()
	c := dialRig(t, r.addr)
	watch := c.open(pathWatch, true)
	waitFor(t, "the neighbour's watch has arrived", func() bool { return m.count(pathWatch) == 1 })
	return func() {
		t.Helper()
		for range 10 {
			if o := c.wait(c.open(pathRange, false)); o.fields["grpc-status"] != "0" {
				t.Fatalf("a neighbour got %+v", o)
			}
		}
		go r.relay.Cut("end")
		if o := c.wait(watch); o.fields["grpc-message"] != "end" {
			t.Fatalf("a neighbour's watch ended with %+v", o)
		}
	}
}

// TestFloods walks the table in abuse.go: who floods is cut off soon, and nobody else.
func TestFloods(t *testing.T) {
	const watch = 1 // a stream that is open
	request := func(c *testClient, n int, end bool) (uint32, string) {
		id := uint32(2*n + 3)
		flags := byte(flagEndHeaders)
		if end {
			flags |= flagEndStream
		}
		return id, rawFrame(frameHeaders, flags, id, c.block(":method", "POST", ":scheme", "http",
			":path", pathWatch, ":authority", "x", "content-type", "application/grpc")...)
	}
	same := func(frame string) func(*testClient, int) string {
		return func(*testClient, int) string { return frame }
	}
	for _, tc := range []struct {
		name  string
		round func(c *testClient, n int) string
		most  int // streams that we take at most
		mute  bool
	}{
		{"CONTINUATION without end", func(_ *testClient, n int) string {
			if n == 0 {
				return rawFrame(frameHeaders, 0, 3)
			}
			return rawFrame(frameContinuation, 0, 3)
		}, 0, false},
		{"CONTINUATION with ever more fields", func(_ *testClient, n int) string {
			field := append([]byte{0, 1, 'x', 0x7f, 0xe1, 0x5d}, make([]byte, 12128)...)
			if n == 0 {
				return rawFrame(frameHeaders, 0, 3, field...)
			}
			return rawFrame(frameContinuation, 0, 3, field...)
		}, 0, false},
		{"rapid reset", func(c *testClient, n int) string {
			id, head := request(c, n, false)
			return head + rawFrame(frameRSTStream, 0, id, uint32s(8)...)
		}, resetBurst * leastResets, false},
		{"we are made to reset: WINDOW_UPDATE of 0", func(c *testClient, n int) string {
			id, head := request(c, n, false)
			return head + rawFrame(frameWindowUpdate, 0, id, uint32s(0)...)
		}, resetBurst * leastResets, false},
		{"we are made to reset: a window over 2^31-1", func(c *testClient, n int) string {
			id, head := request(c, n, false)
			return head + rawFrame(frameWindowUpdate, 0, id, uint32s(maxWindow)...)
		}, resetBurst * leastResets, false},
		{"we are made to reset: DATA behind the end", func(c *testClient, n int) string {
			id, head := request(c, n, true)
			return head + rawFrame(frameData, 0, id, 1)
		}, resetBurst * leastResets, false},
		{"we are made to reset: HEADERS behind the end", func(c *testClient, n int) string {
			_, head := request(c, n, true)
			_, again := request(c, n, true)
			return head + again
		}, resetBurst * leastResets, false},
		{"we are made to reset: PRIORITY of a wrong size", func(c *testClient, n int) string {
			id, head := request(c, n, false)
			return head + rawFrame(framePriority, 0, id, 1)
		}, resetBurst * leastResets, false},
		{"we are made to reset: a stream depends on itself", func(c *testClient, n int) string {
			id, head := request(c, n, false)
			return head + rawFrame(framePriority, 0, id, append(uint32s(id), 1)...)
		}, resetBurst * leastResets, false},
		{"we are made to reset: no such request", func(_ *testClient, n int) string {
			return rawFrame(frameHeaders, flagEndHeaders|flagEndStream, uint32(2*n+3), 0x82)
		}, resetBurst * leastResets, false},
		{"more streams than allowed", func(c *testClient, n int) string {
			_, head := request(c, n, false)
			return head
		}, (resetBurst + 1) * leastResets, false},
		{"PING", same(rawFrame(framePing, 0, 0, make([]byte, 8)...)), 0, false},
		{"PING, and no reply is read", same(rawFrame(framePing, 0, 0, make([]byte, 8)...)), 0, true},
		{"answers to PING", same(rawFrame(framePing, flagAck, 0, make([]byte, 8)...)), 0, false},
		{"SETTINGS", same(rawFrame(frameSettings, 0, 0)), 0, false},
		{"SETTINGS, and no reply is read", same(rawFrame(frameSettings, 0, 0)), 0, true},
		{"a window that goes up and down", func(*testClient, int) string {
			var p []byte
			for range maxFrame / 12 {
				p = appendSetting(appendSetting(p, settingInitialWindowSize, 0), settingInitialWindowSize, maxWindow/2)
			}
			return rawFrame(frameSettings, 0, 0, p...)
		}, 0, false},
		{"PRIORITY", same(rawFrame(framePriority, 0, watch, 0, 0, 0, 0, 1)), 0, false},
		{"PRIORITY of idle streams", func(_ *testClient, n int) string {
			return rawFrame(framePriority, 0, uint32(2*n+3), 0, 0, 0, 0, 1)
		}, 0, false},
		{"WINDOW_UPDATE of the connection", same(rawFrame(frameWindowUpdate, 0, 0, uint32s(1)...)), 0, false},
		{"WINDOW_UPDATE of a stream", same(rawFrame(frameWindowUpdate, 0, watch, uint32s(1)...)), 0, false},
		{"DATA without content", same(rawFrame(frameData, 0, watch)), 0, false},
		{"DATA of padding", same(rawFrame(frameData, flagPadded, watch, 3, 0, 0, 0)), 0, false},
		{"DATA of a closed stream", func(c *testClient, n int) string {
			if n == 0 {
				_, head := request(c, 0, true)
				return head + rawFrame(frameRSTStream, 0, 3, uint32s(8)...)
			}
			return rawFrame(frameData, 0, 3, 1)
		}, resetBurst * leastResets, false},
		{"RST_STREAM of a closed stream", same(rawFrame(frameRSTStream, 0, watch, uint32s(8)...)), 0, false},
		{"GOAWAY", same(rawFrame(frameGoAway, 0, 0, uint32s(0, 0)...)), 0, false},
		{"unknown frames", same(rawFrame(0xfa, 0, 0, 1, 2, 3)), 0, false},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			m := startMember(t, behave(nil))
			r := startRigWith(t, func(r *Relay) { r.MaxStreams = leastResets }, m.url)
			check := neighbour(t, r, m)
			c := dialRig(t, r.addr)
			c.open(pathWatch, true) // stream 1
			waitFor(t, "its watch has arrived", func() bool { return m.count(pathWatch) == 2 })
			cc := r.clientOf(c)
			began := time.Now()
			rounds, said := c.flood(tc.mute, func(n int) string { return tc.round(c, n) })
			if !tc.mute && (said == nil || said.ErrCode != http2.ErrCodeEnhanceYourCalm) {
				t.Errorf("GOAWAY said %v", said)
			}
			waitFor(t, "it was counted", func() bool { return r.refused(stats.Abuse) == 1 })
			cc.mu.Lock()
			taken, held := int(cc.maxID/2), cc.queued+len(cc.out)+cc.sock.Pending()
			cc.mu.Unlock()
			if taken > tc.most+leastResets*(1+int(time.Since(began).Seconds())) { // what the time has earned
				t.Errorf("%d streams of %d rounds were taken", taken, rounds)
			}
			if held > 2*outLimit {
				t.Errorf("%d bytes are held", held)
			}
			check()
		})
	}
}

// clientOf is the relay's end of a connection.
func (g *rig) clientOf(c *testClient) (cc *clientConn) {
	c.t.Helper()
	waitFor(c.t, "the connection is known", func() bool {
		list := g.relay.clientList()
		at := slices.IndexFunc(list, func(cc *clientConn) bool { return cc.nc.RemoteAddr().String() == c.nc.LocalAddr().String() })
		if at >= 0 {
			cc = list[at]
		}
		return at >= 0
	})
	return cc
}

// Requests that go by HTTP/1.1 and were reset count until they have ended.
func TestBridgesAreBounded(t *testing.T) {
	r := startRigWith(t, func(r *Relay) { r.MaxStreams = 10 })
	var running atomic.Int64
	release := make(chan struct{})
	r.relay.HTTP1 = func(_ context.Context, c net.Conn) {
		defer c.Close()
		running.Add(1)
		<-release // it does not notice that the client is gone
		running.Add(-1)
	}
	c := dialRig(t, r.addr)
	plain := func() uint32 {
		id := c.nextID
		c.nextID += 2
		c.headers(id, true, ":method", "GET", ":scheme", "http", ":path", "/v2/keys/a", ":authority", "x")
		return id
	}
	for range 10 {
		_ = c.fr.WriteRSTStream(plain(), http2.ErrCodeCancel)
	}
	waitFor(t, "ten are running", func() bool { return running.Load() == 10 })
	for range 10 {
		if o := c.wait(plain()); o.reset != http2.ErrCodeRefusedStream {
			t.Fatalf("got %+v", o)
		}
	}
	if n := running.Load(); n != 10 || r.refused(stats.Streams) != 10 {
		t.Errorf("%d are running, %d were refused", n, r.refused(stats.Streams))
	}
	close(release)
	waitFor(t, "all have ended", func() bool { return r.relay.Bridged() == 0 })
	before := r.refused(stats.Streams)
	c.wait(plain())
	if r.refused(stats.Streams) != before {
		t.Error("there is no room again")
	}
}

// A client that behaves is never cut off, however many of its calls it gives up.
func TestManyCancelledCalls(t *testing.T) {
	m := startMember(t, behave(nil))
	r := startRig(t, m.url)
	conn, err := grpc.NewClient("passthrough:///"+r.addr, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	call := func(path string, limit time.Duration) error {
		ctx, cancel := context.WithTimeout(t.Context(), limit)
		defer cancel()
		return conn.Invoke(ctx, path, []byte{}, new([]byte), grpc.ForceCodec(bare{}))
	}
	if err := call(pathRange, 10*time.Second); err != nil {
		t.Fatal(err)
	}
	before := r.relay.clientList()
	var wg sync.WaitGroup
	for range 50 {
		wg.Go(func() {
			for n := range 200 {
				_ = call(pathWatch, time.Duration(n%5)*time.Millisecond) // which is never answered
				if err := call(pathRange, 10*time.Second); err != nil {
					t.Error(err)
					return
				}
			}
		})
	}
	wg.Wait()
	if n := r.refused(stats.Abuse); n != 0 {
		t.Errorf("it was cut off %d times", n)
	}
	if after := r.relay.clientList(); len(before) != 1 || len(after) != 1 || after[0] != before[0] {
		t.Error("it had to connect again")
	}
	if n := m.count(pathWatch); n < 5000 {
		t.Errorf("%d of 10000 calls have come", n)
	}
}
