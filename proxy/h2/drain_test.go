package h2

import (
	"bufio"
	"context"
	"io"
	"net"
	"net/http"
	"testing"
	"time"

	"golang.org/x/net/http2"

	"etcdops/proxy/socket"
)

// bigAnswer answers each request with n bytes, within the windows.
func bigAnswer(n int) func(m *fakeMember, p *peer) {
	return func(m *fakeMember, p *peer) {
		left, window, conn := map[uint32]int{}, map[uint32]int64{}, int64(initWindow)
		for {
			f, err := p.fr.ReadFrame()
			if err != nil {
				return
			}
			switch f := f.(type) {
			case *http2.SettingsFrame:
				if !f.IsAck() {
					_ = p.fr.WriteSettingsAck()
				}
			case *http2.WindowUpdateFrame:
				if f.StreamID == 0 {
					conn += int64(f.Increment)
				} else {
					window[f.StreamID] += int64(f.Increment)
				}
			case *http2.MetaHeadersFrame:
				m.saw(f)
				left[f.StreamID], window[f.StreamID] = n, initWindow
				p.headers(f.StreamID, false, ":status", "200", "content-type", "application/grpc")
			}
			for id := range left {
				for k := int64(1); k > 0 && left[id] > 0; {
					if k = min(int64(left[id]), maxFrame, conn, window[id]); k > 0 {
						p.data(id, false, make([]byte, k))
						left[id] -= int(k)
						conn -= k
						window[id] -= k
					}
				}
				if left[id] == 0 {
					p.headers(id, true, "grpc-status", "0")
					delete(left, id)
				}
			}
		}
	}
}

// A drain in the middle of a big answer to a client that reads slowly loses
// nothing of it.
func TestDrainKeepsTheAnswerWhole(t *testing.T) {
	for name, n := range map[string]int{"more than the kernel holds": 12 << 20, "all in the kernel": 1500 << 10} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := startRig(t, startMember(t, bigAnswer(n)).url)
			c := dialRig(t, r.addr)
			_ = c.nc.(*net.TCPConn).SetReadBuffer(32 << 10)
			_ = c.fr.WriteSettings(http2.Setting{ID: http2.SettingInitialWindowSize, Val: 1 << 30})
			_ = c.fr.WriteWindowUpdate(0, 1<<30)
			id := c.open(pathRange, false)
			waitFor(t, "the answer is on its way", func() bool {
				list := r.relay.clientList()
				if len(list) == 0 {
					return false
				}
				list[0].mu.Lock()
				defer list[0].mu.Unlock()
				return list[0].given > 100<<10
			})
			r.relay.Drain()
			got := 0
			for {
				f, err := c.fr.ReadFrame()
				if err != nil {
					t.Fatalf("the end after %d of %d bytes: %v", got, n, err)
				}
				switch f := f.(type) {
				case *http2.PingFrame:
					_ = c.fr.WritePing(true, f.Data)
				case *http2.DataFrame:
					got += len(f.Data())
					_ = c.fr.WriteWindowUpdate(0, uint32(len(f.Data()))) // what arrives after a close makes the kernel reset
				case *http2.MetaHeadersFrame:
					if f.StreamID == id && f.StreamEnded() {
						if got != n || f.PseudoValue("status") != "" {
							t.Fatalf("%d of %d bytes", got, n)
						}
						return
					}
				}
			}
		})
	}
}

// Who comes while we drain is served, and then told to go.
func TestNewcomerOfADrainIsServed(t *testing.T) {
	m := startMember(t, behave(nil))
	r := startRig(t, m.url)
	r.relay.Drain()
	c := dialRig(t, r.addr)
	put := c.open(pathPut, true)
	var goaways []uint32
	answered := false
	for f := c.next(); f != nil; f = c.next() {
		switch f := f.(type) {
		case *http2.GoAwayFrame:
			goaways = append(goaways, f.LastStreamID)
		case *http2.MetaHeadersFrame:
			answered = answered || f.StreamID == put
			if f.StreamEnded() {
				c.data(put, true, nil)
			}
		}
	}
	if !answered || len(goaways) != 2 || goaways[0] != maxStreamID || goaways[1] != put {
		t.Fatalf("answered %v, GOAWAY %v", answered, goaways)
	}
	mute := dialRig(t, r.addr) // asks for nothing
	for f := mute.next(); f != nil; f = mute.next() {
		if _, ok := f.(*http2.GoAwayFrame); ok {
			return
		}
	}
	t.Fatal("ended without a GOAWAY")
}

// heldConn holds one Write back until it is let go.
type heldConn struct {
	net.Conn
	entered, leave chan struct{}
}

func (h *heldConn) NetConn() net.Conn { return h.Conn }

func (h *heldConn) Write(p []byte) (int, error) {
	if h.entered != nil {
		close(h.entered)
		h.entered = nil
		<-h.leave
	}
	return h.Conn.Write(p)
}

// finish beside a flusher that has taken the output but not yet written it.
func TestFinishWaitsForTheFlusher(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	nc, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	far, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	s, err := socket.New(nc, nil)
	if err != nil {
		t.Fatal(err)
	}
	entered := make(chan struct{})
	h := &heldConn{Conn: s, entered: entered, leave: make(chan struct{})}
	c := newConn(&Relay{}, h, clientWindow)
	s.NonBlocking(0, c.onDrain)
	c.mu.Lock()
	c.appendRaw([]byte("the last answer"))
	c.mu.Unlock()
	go c.onDrain()
	<-entered
	c.finish()
	close(h.leave)
	_ = far.SetReadDeadline(time.Now().Add(10 * time.Second))
	if got, err := io.ReadAll(far); string(got) != "the last answer" {
		t.Fatalf("got %q, %v", got, err)
	}
}

// Streams above the final GOAWAY are refused and harm nobody else.
func TestLateStreamIsRefusedAlone(t *testing.T) {
	m := startMember(t, behave(nil))
	r := startRig(t, m.url)
	c := dialRig(t, r.addr)
	watch := c.open(pathWatch, true)
	waitFor(t, "the watch has arrived", func() bool { return m.count(pathWatch) == 1 })
	r.relay.Drain()
	for n := 0; n < 2; {
		if _, ok := c.next().(*http2.GoAwayFrame); ok {
			n++
		}
	}
	if o := c.wait(c.open(pathPut, false)); !o.wasRST || o.reset != http2.ErrCodeRefusedStream { // HEADERS and DATA
		t.Fatalf("got %+v", o)
	}
	go r.relay.Cut("stopping")
	if o := c.wait(watch); o.fields["grpc-message"] != "stopping" {
		t.Fatalf("the watch ended with %+v", o)
	}
	if m.count(pathPut) != 0 {
		t.Fatal("a refused request has reached the member")
	}
}

// What a client sent before it saw our RST_STREAM is ignored.
func TestLateTrailersAreIgnored(t *testing.T) {
	m := startMember(t, behave(nil))
	r := startRig(t, m.url)
	r.relay.Readonly = true
	c := dialRig(t, r.addr)
	id := c.open(pathPut, true)
	c.wait(id)
	c.data(id, false, []byte("late"))
	c.headers(id, true, "x-trailer", "1")
	if o := c.wait(c.open(pathPut, false)); o.fields["grpc-status"] != "12" {
		t.Fatalf("the connection did not go on: %+v", o)
	}
}

// A request that is not gRPC must not look successful when it is cut.
func TestCutOfPlainHTTP(t *testing.T) {
	for _, begun := range []bool{false, true} {
		r := startRig(t)
		under := make(chan struct{})
		r.relay.HTTP1 = func(_ context.Context, c net.Conn) {
			defer c.Close()
			_, _ = http.ReadRequest(bufio.NewReader(c))
			if begun {
				_, _ = io.WriteString(c, "HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nhalf")
			}
			close(under)
			_, _ = io.Copy(io.Discard, c)
		}
		c := dialRig(t, r.addr)
		c.headers(1, true, ":method", "PUT", ":scheme", "http", ":path", "/v2/keys/a", ":authority", "x")
		<-under
		if begun {
			waitFor(t, "the answer has begun", func() bool {
				cc := r.relay.clientList()[0]
				cc.mu.Lock()
				defer cc.mu.Unlock()
				sd := cc.streams[1]
				return sd == nil || sd.began
			})
		}
		go r.relay.Cut("stopping")
		o := c.wait(1)
		if begun && !o.wasRST {
			t.Errorf("a cut answer looks whole: %+v", o)
		}
		if !begun && (o.fields[":status"] != "502" || o.data == 0) {
			t.Errorf("a cut PUT was answered %+v", o)
		}
	}
}

func TestPercentEncode(t *testing.T) {
	if got := percentEncode("a%b\nü"); got != "a%25b%0A%C3%BC" {
		t.Fatalf("got %s", got)
	}
}
