package h2

import (
	"context"
	"io"
	"net"
	"strings"
	"testing"

	"golang.org/x/net/http2"

	"etcdops/proxy/policy"
	"etcdops/proxy/stats"
)

// A long header list takes room until its answer begins, and is refused where there
// is none; a short one goes on.
func TestLongHeadsTakeRoom(t *testing.T) {
	m := startMember(t, behave(nil))
	r := startRig(t, m.url)
	c := dialRig(t, r.addr)
	before := policy.Kept.Load()
	watch := c.open(pathWatch, true, "x", strings.Repeat("0", 16000))
	waitFor(t, "it takes room", func() bool { return policy.Kept.Load() >= before+16000 })
	_ = c.fr.WriteRSTStream(watch, http2.ErrCodeCancel)
	waitFor(t, "it is given back", func() bool { return policy.Kept.Load() == before })
	if o := c.wait(c.open(pathRange, false, "x", strings.Repeat("0", 16000))); o.fields["grpc-status"] != "0" {
		t.Fatalf("got %+v", o)
	}
	waitFor(t, "an answer gives it back too", func() bool { return policy.Kept.Load() == before })

	policy.Kept.Add(policy.KeptLimit + 1)
	defer policy.Kept.Add(-policy.KeptLimit - 1)
	if o := c.wait(c.open(pathRange, false, "x", strings.Repeat("0", 16000))); o.fields["grpc-status"] != "8" || r.refused(stats.Memory) != 1 {
		t.Fatalf("without room: %+v", o)
	}
	if o := c.wait(c.open(pathRange, false)); o.fields["grpc-status"] != "0" {
		t.Fatalf("a short one: %+v", o)
	}
	if m.count(pathRange) != 2 {
		t.Fatalf("the member saw %d requests", m.count(pathRange))
	}
}

// A header block takes room while it comes, and its connection ends where there is
// none.
func TestPartsOfHeadsTakeRoom(t *testing.T) {
	m := startMember(t, behave(nil))
	r := startRig(t, m.url)
	before := policy.Kept.Load()
	begin := func() *testClient {
		c := dialRig(t, r.addr)
		block := c.block(":method", "POST", ":scheme", "http", ":path", pathRange, ":authority", "x", "x", strings.Repeat("0", 60000))
		_ = c.fr.WriteHeaders(http2.HeadersFrameParam{StreamID: 1, BlockFragment: block[:10000]})
		_ = c.fr.WriteContinuation(1, false, block[10000:20000])
		return c
	}
	whole, gone := begin(), begin()
	waitFor(t, "they take room", func() bool { return policy.Kept.Load() == before+40000 })
	gone.nc.Close()
	waitFor(t, "who leaves gives it back", func() bool { return policy.Kept.Load() == before+20000 })

	policy.Kept.Add(policy.KeptLimit)
	defer policy.Kept.Add(-policy.KeptLimit)
	block := whole.block("y", "")
	_ = whole.fr.WriteContinuation(1, true, block)
	whole.closed()
	whole.nc.Close()
	waitFor(t, "it is cut off", func() bool { return r.refused(stats.Abuse) == 1 })
	waitFor(t, "so does who is cut off", func() bool { return policy.Kept.Load() == before+policy.KeptLimit })
	if o := dialRig(t, r.addr); o.wait(o.open(pathRange, false)).fields["grpc-status"] != "0" {
		t.Error("a short one was refused")
	}
}

// Who is cut off from outside its reader may have a request in the reader's hands:
// nothing of it goes on, and nothing stays.
func TestCutOffWithinARequest(t *testing.T) {
	m := startMember(t, behave(nil))
	r := startRig(t, m.url)
	c := dialRig(t, r.addr)
	c.wait(c.open(pathRange, false))
	cc := r.clientOf(c)
	request := func(contentType string) (*stream, *requestHead) {
		h, ok := parseRequest(fieldsOf(":method", "POST", ":scheme", "http", ":path", pathTxn, ":authority", "x", "content-type", contentType), "")
		if !ok {
			t.Fatal("not a request")
		}
		cc.mu.Lock()
		s := cc.newStream(1001, h, nil, 0, false)
		cc.mu.Unlock()
		var b batch
		s.cancel(&b)
		b.flush()
		return s, h
	}
	s, h := request("application/json")
	if r.relay.openBridge(cc, s, h); cc.bridges.Load() != 0 || s.bridge != nil {
		t.Error("a bridge was opened")
	}
	before := policy.Kept.Load()
	s, _ = request("application/grpc")
	if s.collect(make([]byte, 100), false); policy.Kept.Load() != before {
		t.Error("what nobody judges is kept")
	}
}

// Trailers end a request: its content-length holds then.
func TestTrailersBeforeTheLength(t *testing.T) {
	m := startMember(t, behave(nil))
	r := startRig(t, m.url)
	r.relay.HTTP1 = func(_ context.Context, far net.Conn) { _, _ = io.Copy(io.Discard, far) }
	c := dialRig(t, r.addr)
	for _, contentType := range []string{"application/grpc", "application/json"} {
		id := c.nextID
		c.nextID += 2
		c.headers(id, false, ":method", "POST", ":scheme", "http", ":path", pathWatch, ":authority", "x", "content-type", contentType, "content-length", "10")
		c.data(id, false, make([]byte, 5))
		c.headers(id, true, "x-late", "1")
		if o := c.wait(id); !o.wasRST || o.reset != http2.ErrCodeProtocol {
			t.Errorf("%s: %+v", contentType, o)
		}
	}
}
