package h1

import (
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"etcdops/proxy/director"
)

// unreachable is the URL of a member that takes no connection.
func unreachable(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return "http://" + l.Addr().String()
}

// The rows of the table at forward, each with every kind of request.
func TestLaw1(t *testing.T) {
	requests := map[string]struct {
		raw        string
		replayable bool
	}{
		"get":                    {"GET /v2/keys/a HTTP/1.1\r\nHost: a\r\n\r\n", true},
		"head":                   {"HEAD / HTTP/1.1\r\nHost: a\r\n\r\n", true},
		"json range":             {"POST /v3/kv/range HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\n{}", true},
		"json range, long body":  {"POST /v3/kv/range HTTP/1.1\r\nHost: a\r\nContent-Length: 65537\r\n\r\n" + strings.Repeat("x", 65537), false},
		"json range, chunked":    {"POST /v3/kv/range HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\n\r\n", false},
		"get, websocket":         {"GET /v3/kv/put?method=POST HTTP/1.1\r\nHost: a\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n", false},
		"json put":               {"POST /v3/kv/put HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\n{}", false},
		"json put, chunked":      {"POST /v3/kv/put HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\n\r\n", false},
		"put":                    {"PUT /v2/keys/a HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\nhi", false},
		"delete":                 {"DELETE /v2/keys/a HTTP/1.1\r\nHost: a\r\n\r\n", false},
		"unknown method":         {"BREW / HTTP/1.1\r\nHost: a\r\n\r\n", false},
		"escaped path, unproven": {"POST /v3/kv%2Frange HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\n{}", false},
	}
	faults := map[string]func(net.Conn, *http.Request){
		"closes after the head": func(net.Conn, *http.Request) {},
		"closes after the body": func(_ net.Conn, req *http.Request) { _, _ = io.Copy(io.Discard, req.Body) },
		"resets": func(c net.Conn, req *http.Request) {
			_, _ = io.Copy(io.Discard, req.Body)
			_ = c.(*net.TCPConn).SetLinger(0)
		},
		"half an answer's head": func(c net.Conn, req *http.Request) { answer("HTTP/1.1 200 OK\r\nContent-Le")(c, req) },
		"nonsense":              func(c net.Conn, req *http.Request) { answer("SSH-2.0-x\r\n\r\n")(c, req) },
		"101 unasked": func(c net.Conn, req *http.Request) {
			if req.Header.Get("Upgrade") == "" {
				answer("HTTP/1.1 101 Switching\r\n\r\n")(c, req)
			}
		},
	}
	for fault, fail := range faults {
		for _, pooled := range []bool{false, true} {
			for name, q := range requests {
				t.Run(fmt.Sprintf("%s/pooled %v/%s", fault, pooled, name), func(t *testing.T) {
					t.Parallel()
					var hits atomic.Int64
					serve := func(c net.Conn, req *http.Request) bool {
						if req.URL.Path == "/warm" {
							return answer(ok(""))(c, req)
						}
						if hits.Add(1) > 1 {
							return answer(ok("second"))(c, req)
						}
						fail(c, req)
						return false
					}
					g := newRig(t, nil, newPeer(t, serve).url, newPeer(t, serve).url)
					c := g.dial(t)
					if pooled {
						c.expect("GET /warm HTTP/1.1\r\nHost: a\r\n\r\n", 200, "")
					}
					go io.WriteString(c, q.raw)
					method, _, _ := strings.Cut(q.raw, " ")
					res, body := c.whole(method)
					s := g.relay.Stats
					if q.replayable {
						if res.StatusCode != 200 || hits.Load() != 2 || g.relay.Retries.Total() != 1 || s.Failed.Load() != 0 {
							t.Errorf("%d %s, %d hits", res.StatusCode, body, hits.Load())
						}
						return
					}
					if res.StatusCode != 502 || hits.Load() != 1 || g.relay.Retries.Total() != 0 || s.Failed.Load() != 1 {
						t.Errorf("%d %s, %d hits", res.StatusCode, body, hits.Load())
					}
					if read := strings.HasPrefix(name, "json range"); read == strings.Contains(body, "outcome unknown") || !strings.Contains(body, "http://127.0.0.1:") {
						t.Errorf("text: %s", body)
					}
					if !res.Close { // then the connection can really be used
						c.expect("GET /warm HTTP/1.1\r\nHost: a\r\n\r\n", 200, "")
					}
				})
			}
		}
	}
}

// Once a 1xx was given to the client, the request is not sent again, a read neither:
// the client may have acted on it.
func TestInterimAnswerBindsTheRequest(t *testing.T) {
	for raw, text := range map[string]string{
		"GET / HTTP/1.1\r\nHost: a\r\n\r\n":                        "can't be sent again",
		"PUT / HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\nhi": "outcome unknown",
	} {
		var hits atomic.Int64
		serve := func(c net.Conn, req *http.Request) bool {
			hits.Add(1)
			answer("HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\n")(c, req)
			return false
		}
		c := newRig(t, nil, newPeer(t, serve).url, newPeer(t, serve).url).dial(t)
		c.send(raw)
		if res := c.head("GET"); res.StatusCode != 103 {
			t.Fatalf("%v", res)
		}
		if res, body := c.whole("GET"); res.StatusCode != 502 || !strings.Contains(body, text) || hits.Load() != 1 {
			t.Errorf("%s: %d %s, %d hits", raw, res.StatusCode, body, hits.Load())
		}
	}
}

func TestNothingSentGoesOn(t *testing.T) {
	p := newPeer(t, func(c net.Conn, req *http.Request) bool { return answer(ok("x"))(c, req) })
	noTLS := strings.Replace(newPeer(t, answer(ok("in the clear"))).url, "http://", "https://", 1) // dialled, but no handshake
	g := newRig(t, nil, unreachable(t), noTLS, p.url, unreachable(t))
	for i, raw := range []string{
		"PUT / HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\nhi",
		"PUT / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhi\r\n0\r\n\r\n",
		"PUT / HTTP/1.1\r\nHost: a\r\nContent-Length: 100000\r\n\r\n" + strings.Repeat("x", 100000),
		"DELETE / HTTP/1.1\r\nHost: a\r\n\r\n",
	} {
		g.dial(t).expect(raw, 200, "x")
		if p.hits.Load() != int64(i+1) {
			t.Errorf("%d hits", p.hits.Load())
		}
	}
}

func TestNobodyLeft(t *testing.T) {
	t.Run("no members", func(t *testing.T) {
		newRig(t, nil).dial(t).expect("PUT / HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\nhi", 503, "no member")
	})
	t.Run("none takes a connection", func(t *testing.T) {
		g := newRig(t, nil, unreachable(t), unreachable(t))
		c := g.dial(t)
		for range 2 {
			c.expect("PUT / HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\nhi", 502, "connection refused")
		}
		if g.relay.Stats.Failed.Load() != 2 {
			t.Error("not counted")
		}
	})
	t.Run("none answers a read", func(t *testing.T) {
		closes := func(net.Conn, *http.Request) bool { return false }
		a, b := newPeer(t, closes), newPeer(t, closes)
		g := newRig(t, nil, a.url, b.url)
		g.dial(t).expect("GET / HTTP/1.1\r\nHost: a\r\n\r\n", 502, "the connection ended")
		if a.hits.Load() != 1 || b.hits.Load() != 1 {
			t.Errorf("hits %d %d", a.hits.Load(), b.hits.Load())
		}
	})
}

func TestEndedPooledConnectionIsNotUsed(t *testing.T) {
	p := newPeer(t, func(c net.Conn, req *http.Request) bool { return answer(ok("x"))(c, req) })
	g := newRig(t, nil, p.url)
	c := g.dial(t)
	c.expect("GET / HTTP/1.1\r\nHost: a\r\n\r\n", 200, "x")
	for i := range 3 {
		p.mu.Lock()
		for _, old := range p.conns {
			_ = old.Close()
		}
		p.mu.Unlock()
		c.expect("PUT / HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\nhi", 200, "x")
		if p.hits.Load() != int64(i+2) {
			t.Errorf("%d hits", p.hits.Load())
		}
	}
}

func TestUncleanConnectionIsNotPooled(t *testing.T) {
	for name, raw := range map[string]string{
		"more than was asked": ok("x") + "junk",
		"close":               "HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 1\r\n\r\nx",
	} {
		t.Run(name, func(t *testing.T) {
			p := newPeer(t, answer(raw))
			g := newRig(t, nil, p.url)
			c := g.dial(t)
			for range 3 {
				c.expect("GET / HTTP/1.1\r\nHost: a\r\n\r\n", 200, "x")
			}
			eventually(t, "it is not in the pool", g.noMemberConnections)
		})
	}
}

func TestCondemnedMember(t *testing.T) {
	var mu sync.Mutex
	var silent string // path of the member that is silent: the first asked
	serve := func(c net.Conn, req *http.Request) bool {
		mu.Lock()
		first := silent == ""
		if first {
			silent = c.LocalAddr().String()
		}
		mu.Unlock()
		if first {
			_, _ = io.Copy(io.Discard, c) // until the relay breaks it
			return false
		}
		return answer(ok("second"))(c, req)
	}
	for name, c := range map[string]struct {
		raw    string
		status int
		body   string
	}{
		"read goes on":  {"GET / HTTP/1.1\r\nHost: a\r\n\r\n", 200, "second"},
		"write is told": {"PUT / HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\nhi", 502, "stopped answering the probe"},
	} {
		t.Run(name, func(t *testing.T) {
			silent = ""
			a, b := newPeer(t, serve), newPeer(t, serve)
			g := newRig(t, nil, a.url, b.url)
			conn := g.dial(t)
			conn.send(c.raw)
			var e *director.Endpoint
			eventually(t, "a member is asked", func() bool {
				mu.Lock()
				defer mu.Unlock()
				g.relay.members.mu.Lock()
				defer g.relay.members.mu.Unlock()
				for e = range g.relay.members.shelves {
					return silent == e.Address
				}
				return false
			})
			g.relay.EndpointDown(e)
			res, body := conn.whole("GET")
			if res.StatusCode != c.status || !strings.Contains(body, c.body) {
				t.Errorf("%d %s", res.StatusCode, body)
			}
		})
	}
}

func TestMemberThatLeft(t *testing.T) {
	release := make(chan struct{})
	p := newPeer(t, func(c net.Conn, req *http.Request) bool {
		if req.URL.Path == "/wait" {
			<-release
		}
		return answer(ok("x"))(c, req)
	})
	g := newRig(t, nil, p.url)
	g.relay.Director.OnLeft = g.relay.EndpointLeft
	idle, busy := g.dial(t), g.dial(t)
	busy.send("GET /wait HTTP/1.1\r\nHost: a\r\n\r\n")
	eventually(t, "request arrives", func() bool { return p.hits.Load() == 1 })
	idle.expect("GET / HTTP/1.1\r\nHost: a\r\n\r\n", 200, "x")
	g.relay.Director.Update(nil)
	idle.expect("GET / HTTP/1.1\r\nHost: a\r\n\r\n", 503, "no member")
	close(release)
	if _, body := busy.whole("GET"); body != "x" {
		t.Error("what was in flight did not end well")
	}
	eventually(t, "no connection is kept", g.noMemberConnections)
}

func TestTimeoutsOfMemberConnection(t *testing.T) {
	hang := make(chan struct{})
	defer close(hang)
	p := newPeer(t, func(net.Conn, *http.Request) bool { <-hang; return false })
	t.Run("read", func(t *testing.T) {
		g := newRig(t, func(r *Relay) { r.ReadTimeout = 150 * time.Millisecond }, p.url)
		g.dial(t).expect("PUT / HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\nhi", 502, "timeout")
	})
	t.Run("write", func(t *testing.T) {
		g := newRig(t, func(r *Relay) { r.WriteTimeout = 50 * time.Millisecond }, p.url)
		c := g.dial(t)
		go func() {
			_, _ = fmt.Fprintf(c, "PUT / HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\n\r\n", 64<<20)
			piece := make([]byte, 1<<20)
			for range 64 {
				if _, err := c.Write(piece); err != nil {
					return
				}
			}
		}()
		if res, body := c.whole("PUT"); res.StatusCode != 502 || !strings.Contains(body, "timeout") {
			t.Errorf("%d %s", res.StatusCode, body)
		}
	})
}
