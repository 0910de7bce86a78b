package h2

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"

	"etcdops/proxy/stats"
)

// refused is how often the relay has refused for a reason.
func (g *rig) refused(reason stats.Reason) (count int64) {
	g.relay.Refusals.Each(func(r stats.Reason, n int64) {
		if r == reason {
			count = n
		}
	})
	return count
}

// raw sends bytes as they are.
func (c *testClient) raw(p string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	_, _ = c.nc.Write([]byte(p))
}

// block encodes a header list.
func (c *testClient) block(kv ...string) []byte {
	c.buf.Reset()
	for i := 0; i < len(kv); i += 2 {
		_ = c.enc.WriteField(hpack.HeaderField{Name: kv[i], Value: kv[i+1]})
	}
	return c.buf.Bytes()
}

// long sends a gRPC request whose head takes many frames.
func (c *testClient) long(kv ...string) uint32 {
	id := c.nextID
	c.nextID += 2
	rest := c.block(append([]string{":method", "POST", ":scheme", "http", ":path", pathRange, ":authority", "x"}, kv...)...)
	part := rest[:min(len(rest), maxFrame)]
	rest = rest[len(part):]
	_ = c.fr.WriteHeaders(http2.HeadersFrameParam{StreamID: id, BlockFragment: part, EndHeaders: len(rest) == 0, EndStream: true})
	for len(rest) > 0 {
		part, rest = rest[:min(len(rest), maxFrame)], rest[min(len(rest), maxFrame):]
		_ = c.fr.WriteContinuation(id, len(rest) == 0, part)
	}
	return id
}

// closed reads until the connection has ended, and says nothing meanwhile.
func (c *testClient) closed() {
	c.t.Helper()
	var timeout net.Error
	if _, err := io.Copy(io.Discard, c.nc); errors.As(err, &timeout) && timeout.Timeout() {
		c.t.Fatal("the connection does not end")
	}
}

// Of heads that are too long only their own request is refused, in the words of its
// protocol; what no limit would help against ends the connection.
func TestHeaderLimit(t *testing.T) {
	grpcType, some := "application/grpc", func(n int) string { return strings.Repeat("v", n) }
	for _, tc := range []struct {
		name  string
		limit int // 0: the default
		kv    []string
		field string // of the answer; empty: the connection ends
		want  string
	}{
		{"just right", 64 << 10, []string{"content-type", grpcType, "x", some(60 << 10)}, "grpc-status", "0"},
		{"one field too long", 64 << 10, []string{"content-type", grpcType, "x", some(70 << 10)}, "grpc-status", "8"},
		{"the type behind it", 64 << 10, []string{"x", some(70 << 10), "content-type", grpcType}, "grpc-status", "8"},
		{"two together", 64 << 10, []string{"content-type", grpcType, "x", some(40 << 10), "y", some(40 << 10)}, "grpc-status", "8"},
		{"its type again and again", 64 << 10, slices.Repeat([]string{"content-type", grpcType + ";" + some(1<<10)}, 2000), "grpc-status", "8"},
		{"not gRPC", 64 << 10, []string{"content-type", "text/plain", "x", some(70 << 10)}, ":status", "431"},
		{"200 KiB of 256", 256 << 10, []string{"content-type", grpcType, "x", some(200 << 10)}, "grpc-status", "0"},
		{"over 256 KiB", 256 << 10, []string{"content-type", grpcType, "x", some(260 << 10)}, "grpc-status", "8"},
		{"a small limit", 1 << 10, []string{"content-type", grpcType, "x", some(1 << 10)}, "grpc-status", "8"},
		{"one field beyond all bounds", 16 << 10, []string{"content-type", grpcType, "x", some(70 << 10)}, "", ""},
	} {
		t.Run(tc.name, func(t *testing.T) {
			m := startMember(t, behave(nil))
			r := startRigWith(t, func(r *Relay) { r.HeaderLimit = tc.limit }, m.url)
			c := dialRig(t, r.addr)
			o := c.wait(c.long(tc.kv...))
			if tc.field == "" {
				if !o.gone {
					t.Fatalf("got %+v", o)
				}
				return
			}
			if o.fields[tc.field] != tc.want {
				t.Fatalf("got %+v", o)
			}
			if n := r.refused(stats.HeaderTooLong); (n == 1) != (tc.want != "0") {
				t.Errorf("%d were counted", n)
			}
			if o := c.wait(c.open(pathRange, false)); o.fields["grpc-status"] != "0" {
				t.Fatalf("the connection does not go on: %+v", o)
			}
			if n := cap(r.relay.clientList()[0].rd.fields); n > tc.limit/32 { // RFC 9113 section 6.5.2: a field counts 32 at least
				t.Errorf("there is room for %d fields", n)
			}
		})
	}
}

// What the limits are is told in SETTINGS, and a stream too many harms no other.
func TestMaxStreams(t *testing.T) {
	m := startMember(t, behave(nil))
	r := startRigWith(t, func(r *Relay) { r.MaxStreams, r.HeaderLimit = 2, 32<<10 }, m.url)
	c := dialRig(t, r.addr)
	f, err := c.fr.ReadFrame()
	settings, ok := f.(*http2.SettingsFrame)
	if err != nil || !ok {
		t.Fatalf("got %v, %v", f, err)
	}
	streams, _ := settings.Value(http2.SettingMaxConcurrentStreams)
	list, _ := settings.Value(http2.SettingMaxHeaderListSize)
	if streams != 2 || list != 32<<10 {
		t.Fatalf("SETTINGS say %d streams, %d bytes", streams, list)
	}
	first, second := c.open(pathWatch, true), c.open(pathWatch, true)
	waitFor(t, "two watches have arrived", func() bool { return m.count(pathWatch) == 2 })
	if o := c.wait(c.open(pathPut, false)); !o.wasRST || o.reset != http2.ErrCodeRefusedStream {
		t.Fatalf("got %+v", o)
	}
	if r.refused(stats.Streams) != 1 || m.count(pathPut) != 0 {
		t.Fatalf("%d counted, %d arrived", r.refused(stats.Streams), m.count(pathPut))
	}
	_ = c.fr.WriteRSTStream(first, http2.ErrCodeCancel)
	if o := c.wait(c.open(pathPut, false)); o.fields["grpc-status"] != "0" {
		t.Fatalf("got %+v", o)
	}
	go r.relay.Cut("end")
	if o := c.wait(second); o.fields["grpc-message"] != "end" {
		t.Fatalf("the other watch ended with %+v", o)
	}
}

// half is the first part of a frame as bytes: its head says how long it is.
func half(typ http2.FrameType, flags http2.Flags, id byte, length int, payload string) string {
	return string([]byte{0, byte(length >> 8), byte(length), byte(typ), byte(flags), 0, 0, 0, id}) + payload
}

// testHeadTimeout is a short one. The relay looks each second.
const testHeadTimeout = 200 * time.Millisecond

// A client that takes too long for a head is closed and counted.
func TestLateHeads(t *testing.T) {
	for name, send := range map[string]func(c *testClient){
		"a part of a frame's head": func(c *testClient) { c.raw("\x00\x00") },
		"half a HEADERS":           func(c *testClient) { c.raw(half(http2.FrameHeaders, http2.FlagHeadersEndHeaders, 1, 100, "\x83")) },
		"half a SETTINGS":          func(c *testClient) { c.raw(half(http2.FrameSettings, 0, 0, 60, "\x00")) },
		"HEADERS without an end":   func(c *testClient) { c.raw(half(http2.FrameHeaders, 0, 1, 1, "\x83")) },
		"CONTINUATION drop by drop": func(c *testClient) {
			c.raw(half(http2.FrameHeaders, 0, 1, 1, "\x83"))
			drops := time.NewTicker(50 * time.Millisecond)
			defer drops.Stop()
			for range maxContinuations {
				c.raw(half(http2.FrameContinuation, 0, 1, 0, ""))
				<-drops.C
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := startRigWith(t, func(r *Relay) { r.HeadTimeout = testHeadTimeout }, startMember(t, behave(nil)).url)
			c := dialRig(t, r.addr)
			var sending sync.WaitGroup
			sending.Go(func() { send(c) })
			defer sending.Wait()
			c.closed()
			waitFor(t, "it was counted", func() bool { return r.refused(stats.HeaderTimeout) == 1 })
		})
	}
}

// A slow body is none of the header timeout's business, and neither is a client
// whose every read ends in the midst of a frame.
func TestSlowButNotLate(t *testing.T) {
	m := startMember(t, behave(nil))
	r := startRigWith(t, func(r *Relay) { r.HeadTimeout = 2 * time.Second }, m.url)
	upload := dialRig(t, r.addr)
	put := upload.open(pathPut, true)
	upload.raw(half(http2.FrameData, http2.FlagDataEndStream, byte(put), 10, "\x00\x00\x00"))

	cut := dialRig(t, r.addr)
	ping := half(http2.FramePing, 0, 0, 8, "12345678")
	cut.raw(ping[:10])
	dialRig(t, r.addr).raw("\x00")
	pings := time.NewTicker(time.Millisecond) // more would be a flood
	defer pings.Stop()
	for again := false; ; <-pings.C { // when two were cut one after the other, these would have been too
		cut.raw(ping[10:] + ping[:10])
		for acknowledged := false; !acknowledged; {
			f, err := cut.fr.ReadFrame()
			if err != nil {
				t.Fatalf("cut in spite of whole frames: %v", err)
			}
			p, ok := f.(*http2.PingFrame)
			acknowledged = ok && p.IsAck()
		}
		if r.refused(stats.HeaderTimeout) == 2 {
			break
		}
		if !again && r.refused(stats.HeaderTimeout) == 1 {
			again = true
			dialRig(t, r.addr).raw("\x00")
		}
	}
	upload.raw("\x00\x00rest67")
	if o := upload.wait(put); o.fields["grpc-status"] != "0" {
		t.Fatalf("the slow upload was answered %+v", o)
	}
}

// An idle gRPC client is told to go, and its next request makes a connection anew.
func TestIdleClientGoesOn(t *testing.T) {
	m := startMember(t, behave(nil))
	r := startRigWith(t, func(r *Relay) { r.IdleTimeout = 100 * time.Millisecond }, m.url)
	watch := dialRig(t, r.addr)
	watching := watch.open(pathWatch, true)
	waitFor(t, "the watch has arrived", func() bool { return m.count(pathWatch) == 1 })
	conn, err := grpc.NewClient("passthrough:///"+r.addr, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	for range 2 {
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
		err := conn.Invoke(ctx, pathRange, []byte{}, new([]byte), grpc.ForceCodec(bare{}))
		cancel()
		if err != nil {
			t.Fatal(err)
		}
		waitFor(t, "the idle connection has ended", func() bool { return r.relay.Stats.Connections.Load() == 1 })
	}
	go r.relay.Cut("end")
	if o := watch.wait(watching); o.fields["grpc-message"] != "end" {
		t.Fatalf("the idle watch ended with %+v", o)
	}
}

// bare leaves messages as they are.
type bare struct{}

func (bare) Name() string                    { return "proto" }
func (bare) Marshal(v any) ([]byte, error)   { return v.([]byte), nil }
func (bare) Unmarshal(p []byte, v any) error { *v.(*[]byte) = p; return nil }

// Who does not go when told is closed, whatever else it sends.
func TestIdleClientThatStays(t *testing.T) {
	for _, pings := range []bool{false, true} {
		t.Run(fmt.Sprintf("it pings %v", pings), func(t *testing.T) {
			r := startRig(t, startMember(t, behave(nil)).url) // without a timeout: the time is ours
			c := dialRig(t, r.addr)
			c.wait(c.open(pathRange, false))
			var cc *clientConn
			waitFor(t, "it is idle", func() bool {
				cc = r.relay.clientList()[0]
				cc.mu.Lock()
				defer cc.mu.Unlock()
				return len(cc.streams) == 0
			})
			limit, now := time.Minute, time.Now()
			look := func(after time.Duration) {
				if pings {
					cc.lastRead.Store(now.Add(after).UnixMilli())
				}
				cc.endIdle(now.Add(after), limit)
			}
			look(0)
			look(limit)
			if cc.draining {
				t.Fatal("told too early")
			}
			look(limit + time.Second)
			var last uint32
			for f := c.next(); f != nil && last == 0; f = c.next() {
				if g, ok := f.(*http2.GoAwayFrame); ok {
					last = g.LastStreamID
				}
			}
			if last != maxStreamID {
				t.Fatalf("GOAWAY names stream %d", last)
			}
			look(limit + 2*time.Second + idleGrace)
			c.closed()
		})
	}
}
