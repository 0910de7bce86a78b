package h1

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"runtime"
	"strings"
	"testing"
	"time"
)

const get = "GET / HTTP/1.1\r\nHost: a\r\n\r\n"

// silent is a turn that waits until the relay gives up, and tells.
func silent(ended chan<- struct{}) turn {
	return func(c net.Conn, _ *http.Request) bool {
		_, _ = io.Copy(io.Discard, c)
		ended <- struct{}{}
		return false
	}
}

// leaveAlone is a client that leaves while the member is silent, and returns how
// long it took until the member was told.
func leaveAlone(t *testing.T, first string, leave func(*net.TCPConn) error) time.Duration {
	t.Helper()
	ended := make(chan struct{}, 1)
	p := newPeer(t, func(conn net.Conn, req *http.Request) bool {
		_, _ = io.WriteString(conn, first)
		return silent(ended)(conn, req)
	})
	g := newRig(t, nil, p.url)
	conn := g.dial(t)
	conn.send(get + get) // what is pipelined behind does not hide the end
	eventually(t, "request arrives", func() bool { return p.hits.Load() == 1 })
	start := time.Now()
	if err := leave(conn.Conn.(*net.TCPConn)); err != nil {
		t.Fatal(err)
	}
	waitFor(t, "member connection ends", ended)
	took := time.Since(start)
	eventually(t, "the connection ends", func() bool { return g.relay.Stats.Connections.Load() == 0 })
	s := g.relay.Stats
	if s.Left.Load() != 1 || s.Failed.Load() != 0 || s.Inflight.Load() != 0 || p.hits.Load() != 1 {
		t.Errorf("left %d, failed %d, inflight %d, hits %d", s.Left.Load(), s.Failed.Load(), s.Inflight.Load(), p.hits.Load())
	}
	return took
}

func TestClientThatLeavesIsNotAFailure(t *testing.T) {
	for name, c := range map[string]struct {
		first string // what the member says before its silence
		leave func(*net.TCPConn) error
	}{
		"closes before the head":      {"", (*net.TCPConn).Close},
		"half-closes before the head": {"", (*net.TCPConn).CloseWrite},
		"closes in the body":          {"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\na\r\n", (*net.TCPConn).Close},
		"resets": {"", func(c *net.TCPConn) error {
			_ = c.SetLinger(0)
			return c.Close()
		}},
	} {
		t.Run(name, func(t *testing.T) {
			best := patience
			for try := 0; try < 3 && best > time.Second; try++ { // a busy machine may stand still once
				best = min(best, leaveAlone(t, c.first, c.leave))
			}
			if best > time.Second {
				t.Errorf("took %v", best)
			}
		})
	}
}

// TestClientThatLeavesDuringADial: its request reaches no member any more.
func TestClientThatLeavesDuringADial(t *testing.T) {
	p := newPeer(t, answer(ok("a")))
	dials := make(chan struct{}, 1)
	ended := make(chan struct{}, 1)
	g := newRig(t, func(r *Relay) {
		r.Director.DialTimeout = 0 // so that the probe's dials alone have a limit
		r.Director.DialMember = func(ctx context.Context, network, address string, _ bool) (net.Conn, error) {
			if _, probe := ctx.Deadline(); probe {
				return new(net.Dialer).DialContext(ctx, network, address)
			}
			dials <- struct{}{}
			<-ctx.Done()
			ended <- struct{}{}
			return nil, ctx.Err()
		}
	}, p.url)
	conn := g.dial(t)
	conn.send("PUT / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\n\r\nx")
	waitFor(t, "the member is dialled", dials)
	if err := conn.Close(); err != nil {
		t.Fatal(err)
	}
	waitFor(t, "the dial ends", ended)
	eventually(t, "the connection ends", func() bool { return g.relay.Stats.Connections.Load() == 0 })
	if s := g.relay.Stats; s.Left.Load() != 1 || s.Failed.Load() != 0 || s.Inflight.Load() != 0 || p.hits.Load() != 0 {
		t.Errorf("left %d, failed %d, inflight %d, hits %d", s.Left.Load(), s.Failed.Load(), s.Inflight.Load(), p.hits.Load())
	}
}

// watched is an in-memory connection as package h2 bridges with.
type watched struct {
	net.Conn
	gone chan func()
}

func (w *watched) NotifyGone(f func()) (stop func()) {
	w.gone <- f
	return func() {}
}

func TestInMemoryClient(t *testing.T) {
	ended := make(chan struct{}, 1)
	p := newPeer(t, func(c net.Conn, req *http.Request) bool {
		if req.URL.Path == "/silent" {
			return silent(ended)(c, req)
		}
		return answer(ok(req.Header.Get("X-Forwarded-For")))(c, req)
	})
	g := newRig(t, nil, p.url)
	near, far := net.Pipe()
	w := &watched{far, make(chan func(), 1)}
	served := make(chan struct{})
	go func() {
		defer close(served)
		g.relay.Serve(t.Context(), w, []byte("GET /"))
	}()
	c := talk(t, near)
	c.expect(" HTTP/1.1\r\nHost: a\r\n\r\n", 200, "")
	c.send("GET /silent HTTP/1.1\r\nHost: a\r\n\r\n")
	waitFor(t, "the client is watched", w.gone)()
	waitFor(t, "member connection ends", ended)
	waitFor(t, "served", served)
}

func TestTunnel(t *testing.T) {
	const upgrade = "GET /v3/watch HTTP/1.1\r\nHost: a\r\nConnection: keep-alive, Upgrade\r\nUpgrade: WebSocket\r\nSec-WebSocket-Key: k\r\n\r\n"
	p := newPeer(t, func(c net.Conn, req *http.Request) bool {
		if req.Header.Get("Upgrade") == "" || req.Header.Get("Connection") != "Upgrade" {
			return answer(ok("no upgrade"))(c, req)
		}
		if req.URL.Path == "/refused" {
			return answer("HTTP/1.1 403 Forbidden\r\nContent-Length: 2\r\n\r\nno")(c, req)
		}
		_, _ = io.WriteString(c, "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Accept: k\r\n\r\nhello")
		all, _ := io.ReadAll(c)
		fmt.Fprintf(c, "got %s", all)
		return false
	})
	g := newRig(t, nil, p.url)
	c := g.dial(t)
	c.send(upgrade + "early ")
	res := c.head("GET")
	if res.StatusCode != 101 || res.Header.Get("Upgrade") != "websocket" || res.Header.Get("Connection") != "Upgrade" || res.Header.Get("Sec-WebSocket-Accept") != "k" {
		t.Fatalf("%v", res)
	}
	buf := make([]byte, 5)
	if _, err := io.ReadFull(c.br, buf); err != nil || string(buf) != "hello" {
		t.Fatalf("%q %v", buf, err)
	}
	c.send("late")
	if err := c.Conn.(*net.TCPConn).CloseWrite(); err != nil {
		t.Fatal(err)
	}
	if rest, err := io.ReadAll(c.br); err != nil || string(rest) != "got early late" {
		t.Errorf("%q %v", rest, err)
	}
	eventually(t, "the connection ends", func() bool { return g.relay.Stats.Connections.Load() == 0 && g.noMemberConnections() })

	c = g.dial(t)
	c.expect(strings.Replace(upgrade, "/v3/watch", "/refused", 1), 403, "no")
	c.expect(strings.Replace(upgrade, "WebSocket", "h2c", 1), 200, "no upgrade")
	c.expect(strings.Replace(upgrade, "GET", "DELETE", 1), 200, "no upgrade")
	g = newRig(t, func(r *Relay) { r.Readonly = true }, p.url)
	c = g.dial(t)
	c.expect(strings.Replace(upgrade, "/v3/watch", "/v3/lease/keepalive", 1), 501, `{"message":"an upgrade of /v3/lease/keepalive is refused: this endpoint is readonly"}`)
	c.expect(strings.Replace(upgrade, "WebSocket", "h2c", 1), 501, `{"message":"an upgrade of /v3/watch is refused: this endpoint is readonly"}`)
	c.send(upgrade)
	if res := c.head("GET"); res.StatusCode != 101 {
		t.Errorf("readonly: %v", res)
	}
}

func TestDrain(t *testing.T) {
	release := make(chan struct{})
	p := newPeer(t, func(c net.Conn, req *http.Request) bool {
		if req.URL.Path == "/wait" {
			<-release
		}
		return answer(ok("x"))(c, req)
	})
	g := newRig(t, nil, p.url)
	idle, busy := g.dial(t), g.dial(t)
	idle.expect(get, 200, "x")
	busy.send("GET /wait HTTP/1.1\r\nHost: a\r\n\r\n")
	eventually(t, "request arrives", func() bool { return p.hits.Load() == 2 })
	g.relay.Drain()
	idle.ended()
	g.dial(t).ended() // came too late, with nothing to ask
	close(release)
	if res, body := busy.whole("GET"); body != "x" || !res.Close {
		t.Errorf("%q close %v", body, res.Close)
	}
	busy.ended()
	eventually(t, "all end", func() bool { return g.relay.Stats.Connections.Load() == 0 })
}

func TestEverythingEnds(t *testing.T) {
	before := runtime.NumGoroutine()
	t.Run("with everything under way", func(t *testing.T) {
		ended := make(chan struct{}, 100)
		p := newPeer(t, func(c net.Conn, req *http.Request) bool {
			switch req.URL.Path {
			case "/silent":
				return silent(ended)(c, req)
			case "/flood":
				_, _ = io.WriteString(c, "HTTP/1.1 200 OK\r\n\r\n")
				for {
					if _, err := c.Write(make([]byte, 1<<16)); err != nil {
						return false
					}
				}
			}
			return answer(ok("x"))(c, req)
		})
		g := newRig(t, nil, p.url)
		var clients []*conversation
		for _, raw := range []string{
			"",
			"GET / HT",
			get,
			"GET /silent HTTP/1.1\r\nHost: a\r\n\r\n",
			"GET /flood HTTP/1.1\r\nHost: a\r\n\r\n",
			"PUT /silent HTTP/1.1\r\nHost: a\r\nContent-Length: 9\r\n\r\n",
			"PUT /silent HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n3\r\n",
			"GET /silent HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n",
		} {
			c := g.dial(t)
			c.send(raw)
			clients = append(clients, c)
		}
		eventually(t, "requests arrive", func() bool { return p.hits.Load() == 5 && g.relay.Stats.Inflight.Load() >= 5 })
		g.cancel()
		waitFor(t, "the end", g.done)
		for _, c := range clients {
			_, _ = io.Copy(io.Discard, c.br)
		}
	})
	eventually(t, "no goroutine is left", func() bool { return runtime.NumGoroutine() <= before })
}

func TestSlowReaderHoldsNobodyUp(t *testing.T) {
	p := newPeer(t, func(c net.Conn, req *http.Request) bool {
		if req.URL.Path != "/big" {
			return answer(ok("x"))(c, req)
		}
		fmt.Fprintf(c, "HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n", 64<<20)
		w := bufio.NewWriter(c)
		for range 1024 {
			if _, err := w.Write(make([]byte, 64<<10)); err != nil {
				return false
			}
		}
		return w.Flush() == nil
	})
	g := newRig(t, nil, p.url)
	slow, quick := g.dial(t), g.dial(t)
	slow.send("GET /big HTTP/1.1\r\nHost: a\r\n\r\n")
	res := slow.head("GET")
	for range 50 {
		quick.expect(get, 200, "x")
	}
	if n, err := io.Copy(io.Discard, res.Body); err != nil || n != 64<<20 {
		t.Errorf("%d bytes, %v", n, err)
	}
}

func TestSessionSticks(t *testing.T) {
	who := func(c net.Conn, req *http.Request) bool { return answer(ok(c.LocalAddr().String()))(c, req) }
	a, b := newPeer(t, who), newPeer(t, who)
	g := newRig(t, nil, a.url, b.url)
	seen := map[string]int{}
	for range 10 {
		c := g.dial(t)
		c.send(get)
		_, first := c.whole("GET")
		seen[first]++
		for range 5 {
			c.expect(get, 200, first)
		}
	}
	if len(seen) != 2 || seen[strings.TrimPrefix(a.url, "http://")] != 5 {
		t.Errorf("connections per member: %v", seen)
	}
	if ends := g.relay.Director.States(); ends[0].Connections+ends[1].Connections != 10 {
		t.Errorf("%+v", ends)
	}
}
