package h1

import (
	"bufio"
	"bytes"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"etcdops/proxy/policy"
)

func TestChunkedBothWaysWithTrailers(t *testing.T) {
	type seen struct {
		body    string
		trailer http.Header
	}
	got := make(chan seen, 1)
	p := newPeer(t, func(c net.Conn, req *http.Request) bool {
		body, _ := io.ReadAll(req.Body)
		got <- seen{string(body), req.Trailer}
		_, err := io.WriteString(c, "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTrailer: X-Sum\r\n\r\n4;ext=1\r\nabcd\r\n1\r\ne\r\n0\r\nX-Sum: 5\r\nX-More: 6\r\nContent-Length: 7\r\n\r\n")
		return err == nil
	})
	g := newRig(t, nil, p.url)
	c := g.dial(t)
	for range 2 {
		c.send("POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\nTrailer: X-In\r\n\r\n3\r\nabc\r\n2;x\r\nde\r\n0\r\nX-In: 1\r\nVia: evil\r\n\r\n")
		res, body := c.whole("POST")
		if body != "abcde" || fmt.Sprint(res.Trailer) != "map[X-More:[6] X-Sum:[5]]" {
			t.Errorf("%q %v", body, res.Trailer)
		}
		s := waitFor(t, "request", got)
		if s.body != "abcde" || fmt.Sprint(s.trailer) != "map[X-In:[1]]" {
			t.Errorf("%q %v", s.body, s.trailer)
		}
	}
}

func TestLargeBodiesBothWays(t *testing.T) {
	const size = 8<<20 + 1
	p := newPeer(t, func(c net.Conn, req *http.Request) bool {
		fmt.Fprint(c, "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
		body, _ := io.ReadAll(req.Body)
		w := bufio.NewWriterSize(c, 10000)
		for rest := body; len(rest) > 0; {
			n := min(len(rest), 77777)
			fmt.Fprintf(w, "%x\r\n%s\r\n", n, rest[:n])
			rest = rest[n:]
		}
		fmt.Fprint(w, "0\r\n\r\n")
		return w.Flush() == nil
	})
	g := newRig(t, nil, p.url)
	body := bytes.Repeat([]byte("0123456789abcdef-"), size/17+1)[:size]
	for name, head := range map[string]string{
		"length":  fmt.Sprintf("Content-Length: %d\r\n", size),
		"chunked": "Transfer-Encoding: chunked\r\n",
	} {
		t.Run(name, func(t *testing.T) {
			c := g.dial(t)
			go func() {
				fmt.Fprintf(c, "PUT / HTTP/1.1\r\nHost: a\r\n%s\r\n", head)
				if name == "chunked" {
					fmt.Fprintf(c, "%x\r\n%s\r\n0\r\n\r\n", size, body)
				} else {
					_, _ = c.Write(body)
				}
			}()
			_, got := c.whole("PUT")
			if sha256.Sum256([]byte(got)) != sha256.Sum256(body) {
				t.Errorf("%d bytes came back changed", len(got))
			}
		})
	}
}

func TestExpectContinue(t *testing.T) {
	p := newPeer(t, func(c net.Conn, req *http.Request) bool {
		if req.Header.Get("Expect") != "100-continue" {
			return false
		}
		if req.URL.Path == "/no" {
			return answer("HTTP/1.1 417 No\r\nContent-Length: 0\r\n\r\n")(c, &http.Request{Body: http.NoBody})
		}
		fmt.Fprint(c, "HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\nHTTP/1.1 100 Continue\r\n\r\n")
		return answer(ok("done"))(c, req)
	})
	g := newRig(t, nil, p.url)
	c := g.dial(t)
	for range 2 {
		c.send("PUT / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nExpect: 100-continue\r\n\r\n")
		if res := c.head("PUT"); res.StatusCode != 103 || res.Header.Get("Link") != "x" {
			t.Fatalf("%v", res)
		}
		if res := c.head("PUT"); res.StatusCode != 100 {
			t.Fatalf("%v", res)
		}
		c.send("hello")
		if res, body := c.whole("PUT"); body != "done" {
			t.Fatalf("%v %q", res, body)
		}
	}
	res := c.expect("PUT /no HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nExpect: 100-continue\r\n\r\n", 417, "")
	if !res.Close {
		t.Error("a body may still come, and the connection is said to stay open")
	}
	c.ended()
}

func TestEarlyAnswer(t *testing.T) {
	for name, stays := range map[string]bool{"member closes": false, "member reads no more": true} {
		t.Run(name, func(t *testing.T) {
			over := make(chan struct{})
			p := newPeer(t, func(c net.Conn, _ *http.Request) bool {
				fmt.Fprint(c, "HTTP/1.1 413 Too Large\r\nContent-Length: 3\r\n\r\nbig")
				if stays {
					<-over
				}
				return false
			})
			g := newRig(t, nil, p.url)
			c := g.dial(t)
			sent := make(chan struct{})
			go func() {
				defer close(sent)
				fmt.Fprint(c, "PUT / HTTP/1.1\r\nHost: a\r\nContent-Length: 100000000\r\n\r\n")
				piece := bytes.Repeat([]byte("x"), 1000)
				for range 100000 {
					if _, err := c.Write(piece); err != nil {
						return
					}
				}
			}()
			res, body := c.whole("PUT")
			if res.StatusCode != 413 || body != "big" || !res.Close {
				t.Errorf("%d %q close %v", res.StatusCode, body, res.Close)
			}
			close(over)
			c.ended()
			waitFor(t, "the client stops sending", sent)
		})
	}
}

// A chunked request may stay open beside its answer, as the JSON watch does.
func TestBothDirectionsAtOnce(t *testing.T) {
	p := newPeer(t, func(c net.Conn, req *http.Request) bool {
		fmt.Fprint(c, "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
		buf := make([]byte, 100)
		for {
			n, err := req.Body.Read(buf)
			if n > 0 {
				fmt.Fprintf(c, "%x\r\n%s\r\n", n, buf[:n])
			}
			if err != nil {
				fmt.Fprint(c, "0\r\n\r\n")
				return false
			}
		}
	})
	g := newRig(t, nil, p.url)
	c := g.dial(t)
	c.send("POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n")
	res := c.head("POST")
	for i := range 5 {
		c.send(fmt.Sprintf("5\r\nping%d\r\n", i))
		buf := make([]byte, 5)
		if _, err := io.ReadFull(res.Body, buf); err != nil || string(buf) != fmt.Sprintf("ping%d", i) {
			t.Fatalf("%q %v", buf, err)
		}
	}
	c.send("0\r\n\r\n")
	if rest, err := io.ReadAll(res.Body); err != nil || len(rest) > 0 {
		t.Errorf("%q %v", rest, err)
	}
}

func TestStreamIsNotHeldBack(t *testing.T) {
	next := make(chan string)
	p := newPeer(t, func(c net.Conn, _ *http.Request) bool {
		for s := range next {
			fmt.Fprint(c, s)
		}
		return false
	})
	g := newRig(t, nil, p.url)
	c := g.dial(t)
	c.send("GET /v2/keys/a?wait=true&stream=true HTTP/1.1\r\nHost: a\r\n\r\n")
	next <- "HTTP/1.1 200 OK\r\nX-Etcd-Index: 7\r\nTransfer-Encoding: chunked\r\n\r\n"
	res := c.head("GET") // before any event
	if res.Header.Get("X-Etcd-Index") != "7" {
		t.Error(res.Header)
	}
	for i := range 3 {
		// the beginning of the next chunk must not hold back the one before
		next <- fmt.Sprintf("6\r\nevent%d\r\n6", i)
		buf := make([]byte, 6)
		if _, err := io.ReadFull(res.Body, buf); err != nil || string(buf) != fmt.Sprintf("event%d", i) {
			t.Fatalf("%q %v", buf, err)
		}
		next <- "\r\nsecond\r\n"
		if _, err := io.ReadFull(res.Body, buf); err != nil || string(buf) != "second" {
			t.Fatalf("%q %v", buf, err)
		}
	}
	next <- "0\r\n\r\n"
	if rest, err := io.ReadAll(res.Body); err != nil || len(rest) > 0 {
		t.Errorf("%q %v", rest, err)
	}
	close(next)
}

func TestMalformedBody(t *testing.T) {
	p := newPeer(t, answer(ok("x")))
	g := newRig(t, nil, p.url)
	for name, body := range map[string]string{
		"size not hex":        "zz\r\n",
		"bare line feed":      "1\na\r\n0\r\n\r\n",
		"data longer than it": "1\r\nab\r\n0\r\n\r\n",
	} {
		t.Run(name, func(t *testing.T) {
			c := g.dial(t)
			c.expect("PUT / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n"+body, 400, "body")
			c.ended()
		})
	}
	if n := g.relay.Stats.Failed.Load(); n != 0 {
		t.Errorf("%d failures held against the member", n)
	}
}

func TestClientLeavesWithinBody(t *testing.T) {
	for name, head := range map[string]string{
		"kept":     "Content-Length: 100\r\n",
		"streamed": "Content-Length: 100000\r\n",
		"chunked":  "Transfer-Encoding: chunked\r\n",
	} {
		t.Run(name, func(t *testing.T) {
			ended := make(chan error, 1)
			p := newPeer(t, func(_ net.Conn, req *http.Request) bool {
				_, err := io.Copy(io.Discard, req.Body)
				ended <- err
				return false
			})
			g := newRig(t, nil, p.url)
			before := policy.Kept.Load()
			c := g.dial(t)
			c.send("PUT / HTTP/1.1\r\nHost: a\r\n" + head + "\r\n2\r\nab\r\n")
			if name != "kept" {
				eventually(t, "request arrives", func() bool { return p.hits.Load() == 1 })
			}
			_ = c.Close()
			if name != "kept" {
				if err := waitFor(t, "member sees the end", ended); err == nil {
					t.Error("the member took half a body for a whole one")
				}
			}
			eventually(t, "counted", func() bool { return g.relay.Stats.Left.Load() == 1 })
			if g.relay.Stats.Failed.Load() != 0 {
				t.Error("a client that left counts as a failure")
			}
			eventually(t, "nothing of it is kept", func() bool { return policy.Kept.Load() == before })
		})
	}
}

func TestPieceFrame(t *testing.T) {
	for _, n := range []int{1, 15, 16, 255, 256, 4096, pieceSize} {
		var p piece
		copy(p[chunkHead:], strings.Repeat("x", n))
		if got, want := string(p.frame(n)), fmt.Sprintf("%x\r\n%s\r\n", n, strings.Repeat("x", n)); got != want {
			t.Errorf("%d: %.20q", n, got)
		}
	}
}

func TestCopyBodyTellsTheSides(t *testing.T) {
	broken := errors.New("broken")
	r, w := io.Pipe()
	_ = r.CloseWithError(broken)
	if readErr, writeErr := copyBody(bufio.NewWriterSize(w, 16), strings.NewReader(strings.Repeat("x", 99)), false, true); readErr != nil || !errors.Is(writeErr, broken) {
		t.Error(readErr, writeErr)
	}
	if readErr, writeErr := copyBody(bufio.NewWriter(io.Discard), io.MultiReader(strings.NewReader("x"), r), true, true); !errors.Is(readErr, io.ErrClosedPipe) || writeErr != nil {
		t.Error(readErr, writeErr)
	}
}

func TestSlowHeadAndIdleConnection(t *testing.T) {
	p := newPeer(t, func(c net.Conn, req *http.Request) bool { return answer(ok("x"))(c, req) })
	g := newRig(t, func(r *Relay) { r.HeadTimeout, r.IdleTimeout = 50*time.Millisecond, 2*time.Second }, p.url)
	t.Run("half a head", func(t *testing.T) {
		c := g.dial(t)
		c.expect("GET / HTTP/1.1\r\n", 408, "too long")
		c.ended()
	})
	t.Run("nothing", func(t *testing.T) { g.dial(t).ended() })
	t.Run("a body may take its time", func(t *testing.T) {
		c := g.dial(t)
		c.send("PUT / HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\n\r\nab")
		<-time.After(150 * time.Millisecond) // three head timeouts
		c.send("cd")
		if res, _ := c.whole("PUT"); res.StatusCode != 200 {
			t.Error(res.Status)
		}
		c.ended()
	})
}

// What is left of a body must never be read as the next request.
func TestBodySentOnlyWhereItEndedWell(t *testing.T) {
	ended := make(chan struct{})
	close(ended)
	for name, c := range map[string]struct {
		a    *attempt
		want bool
	}{
		"nothing to stream": {&attempt{}, true},
		"under way":         {&attempt{sending: make(chan struct{})}, false},
		"ended well":        {&attempt{sending: ended}, true},
		"member broke off":  {&attempt{sending: ended, bodyErr: io.ErrClosedPipe}, false},
	} {
		if got := c.a.bodySent(); got != c.want {
			t.Errorf("%s: %v", name, got)
		}
	}
}

// An answer to a whole request closes no connection because the machine is busy.
func TestBodyThatWasTakenHasTime(t *testing.T) {
	under := &attempt{sending: make(chan struct{})}
	if under.bodyEnds() {
		t.Error("a body that the client is sending has ended")
	}
	busy := &attempt{x: new(exchange), sending: make(chan struct{})}
	if _, err := (*takenBody)(busy).Read(nil); !errors.Is(err, io.EOF) {
		t.Fatal(err)
	}
	time.AfterFunc(20*bodyGrace, func() { close(busy.sending) })
	if !busy.bodyEnds() {
		t.Error("a body that was taken has not ended")
	}
}

// Where no more may be kept, a short body is streamed, what was read of it first.
func TestBodyThatIsNotKept(t *testing.T) {
	p := newPeer(t, func(c net.Conn, req *http.Request) bool {
		body, err := io.ReadAll(req.Body)
		return err == nil && answer(ok(string(body)))(c, &http.Request{Body: http.NoBody})
	})
	g := newRig(t, nil, unreachable(t), p.url, unreachable(t))
	policy.Kept.Add(policy.KeptLimit)
	defer policy.Kept.Add(-policy.KeptLimit)
	for _, n := range []int{1, keptPiece, keptPiece + 1, 50_000} {
		body := strings.Repeat("x", n-1) + "y"
		for range 3 { // one of the unreachable members may come first
			c := g.dial(t)
			c.send(fmt.Sprintf("PUT / HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\n\r\n%s", n, body))
			if res, got := c.whole("PUT"); res.StatusCode != 200 || got != body {
				t.Fatalf("%d bytes: %s, %d came back", n, res.Status, len(got))
			}
		}
	}
}
