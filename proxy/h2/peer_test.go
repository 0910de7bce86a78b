package h2

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"net"
	"net/http"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"
)

// peer is one end of an HTTP/2 connection, frame by frame: a member or a client
// that can be made to misbehave.
type peer struct {
	t   *testing.T
	nc  net.Conn
	fr  *http2.Framer
	enc *hpack.Encoder
	buf bytes.Buffer
	mu  sync.Mutex // of writes
}

func newPeer(t *testing.T, nc net.Conn, r io.Reader) *peer {
	p := &peer{t: t, nc: nc, fr: http2.NewFramer(nc, r)}
	p.fr.ReadMetaHeaders = hpack.NewDecoder(4096, nil)
	p.enc = hpack.NewEncoder(&p.buf)
	return p
}

func (p *peer) headers(id uint32, end bool, kv ...string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.buf.Reset()
	for i := 0; i < len(kv); i += 2 {
		_ = p.enc.WriteField(hpack.HeaderField{Name: kv[i], Value: kv[i+1]})
	}
	_ = p.fr.WriteHeaders(http2.HeadersFrameParam{StreamID: id, BlockFragment: p.buf.Bytes(), EndStream: end, EndHeaders: true})
}

func (p *peer) data(id uint32, end bool, b []byte) {
	p.mu.Lock()
	defer p.mu.Unlock()
	_ = p.fr.WriteData(id, end, b)
}

// next reads frames until one is of interest to the tests, and acknowledges
// SETTINGS and PING on the way. It returns nil at the end of the connection.
func (p *peer) next() http2.Frame {
	for {
		f, err := p.fr.ReadFrame()
		if err != nil {
			return nil
		}
		p.mu.Lock()
		switch f := f.(type) {
		case *http2.SettingsFrame:
			if !f.IsAck() {
				_ = p.fr.WriteSettingsAck()
			}
		case *http2.PingFrame:
			if !f.IsAck() {
				_ = p.fr.WritePing(true, f.Data)
			}
		case *http2.WindowUpdateFrame:
		default:
			p.mu.Unlock()
			return f
		}
		p.mu.Unlock()
	}
}

// fakeMember is a member of which each test writes the behaviour.
type fakeMember struct {
	url    string
	first  []http2.Setting // of its first SETTINGS
	hold   func()          // called before the first SETTINGS
	armed  atomic.Bool     // misbehaves from now on
	silent atomic.Bool     // answers no probe
	conns  sync.Map
	l      net.Listener

	mu   sync.Mutex
	seen map[string]int // requests that arrived, by path
}

func (m *fakeMember) saw(h *http2.MetaHeadersFrame) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.seen[h.PseudoValue("path")]++
}

func (m *fakeMember) count(path string) int {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.seen[path]
}

// first makes settings the member's first.
func first(settings ...http2.Setting) func(m *fakeMember) {
	return func(m *fakeMember) { m.first = settings }
}

// startMember serves serve on each HTTP/2 connection, after the SETTINGS, and
// answers the probe.
func startMember(t *testing.T, serve func(m *fakeMember, p *peer), change ...func(m *fakeMember)) *fakeMember {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	m := &fakeMember{url: "http://" + l.Addr().String(), l: l, seen: map[string]int{}}
	for _, f := range change {
		f(m)
	}
	var wg sync.WaitGroup
	wg.Go(func() {
		for {
			nc, err := l.Accept()
			if err != nil {
				return
			}
			m.conns.Store(nc, true)
			wg.Go(func() {
				defer nc.Close()
				m.accept(t, nc, serve)
			})
		}
	})
	t.Cleanup(func() { m.close(); wg.Wait() })
	return m
}

func (m *fakeMember) accept(t *testing.T, nc net.Conn, serve func(m *fakeMember, p *peer)) {
	br := bufio.NewReader(nc)
	first, err := br.Peek(3)
	if err != nil {
		return
	}
	if string(first) == "GET" {
		for {
			if _, err := http.ReadRequest(br); err != nil {
				return
			}
			if m.silent.Load() {
				continue
			}
			fmt.Fprintf(nc, "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}")
		}
	}
	if _, err := br.Discard(len(Preface)); err != nil {
		return
	}
	p := newPeer(t, nc, br)
	if m.hold != nil {
		m.hold()
	}
	_ = p.fr.WriteSettings(m.first...)
	serve(m, p)
}

func (m *fakeMember) close() {
	m.l.Close()
	m.conns.Range(func(k, _ any) bool { k.(net.Conn).Close(); return true })
}

// behave answers every request but watches with an empty gRPC message and status
// 0, until the member is armed: then f is called for each.
func behave(f func(p *peer, id uint32)) func(m *fakeMember, p *peer) {
	return func(m *fakeMember, p *peer) {
		for fr := p.next(); fr != nil; fr = p.next() {
			h, ok := fr.(*http2.MetaHeadersFrame)
			if !ok {
				continue
			}
			m.saw(h)
			switch {
			case m.armed.Load() && f != nil:
				f(p, h.StreamID)
			case h.PseudoValue("path") != pathWatch:
				p.answer(h.StreamID)
			}
		}
	}
}

func (p *peer) answer(id uint32) {
	p.headers(id, false, ":status", "200", "content-type", "application/grpc")
	p.data(id, false, []byte{0, 0, 0, 0, 0})
	p.headers(id, true, "grpc-status", "0")
}

// testClient is a client that speaks frames to the relay.
type testClient struct {
	*peer
	nextID  uint32
	windows map[uint32]int64 // what untilOpen has counted
}

func dialRig(t *testing.T, addr string) *testClient {
	t.Helper()
	nc, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { nc.Close() })
	_ = nc.SetDeadline(time.Now().Add(30 * time.Second))
	if _, err := io.WriteString(nc, Preface); err != nil {
		t.Fatal(err)
	}
	c := &testClient{peer: newPeer(t, nc, nc), nextID: 1}
	_ = c.fr.WriteSettings()
	return c
}

const (
	pathRange = "/etcdserverpb.KV/Range"
	pathPut   = "/etcdserverpb.KV/Put"
	pathWatch = "/etcdserverpb.Watch/Watch"
)

// open sends a request head, and a message with END_STREAM unless stay is set.
func (c *testClient) open(path string, stay bool, more ...string) uint32 {
	id := c.nextID
	c.nextID += 2
	c.headers(id, false, append([]string{
		":method", "POST", ":scheme", "http", ":path", path, ":authority", "x",
		"content-type", "application/grpc", "te", "trailers",
	}, more...)...)
	c.data(id, !stay, []byte{0, 0, 0, 0, 0})
	return id
}

// outcome is how one stream ended for the client.
type outcome struct {
	fields map[string]string // of all header blocks
	blocks int
	data   int
	reset  http2.ErrCode
	wasRST bool
	gone   bool // the connection ended first
}

// wait reads until the stream has ended.
func (c *testClient) wait(id uint32) outcome {
	o := outcome{fields: map[string]string{}}
	for {
		f := c.next()
		switch f := f.(type) {
		case nil:
			o.gone = true
			return o
		case *http2.MetaHeadersFrame:
			if f.StreamID != id {
				continue
			}
			o.blocks++
			for _, h := range f.Fields {
				o.fields[h.Name] = h.Value
			}
			if f.StreamEnded() {
				return o
			}
		case *http2.DataFrame:
			if f.StreamID != id {
				continue
			}
			o.data += len(f.Data())
			if f.StreamEnded() {
				return o
			}
		case *http2.RSTStreamFrame:
			if f.StreamID == id {
				o.reset, o.wasRST = f.ErrCode, true
				return o
			}
		}
	}
}

// startMute listens, accepts, and never says a word on HTTP/2.
func startMute(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	return "http://" + l.Addr().String()
}
