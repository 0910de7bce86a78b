package h1

import (
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"

	"etcdops/proxy/director"
)

func TestLoopIsRefused(t *testing.T) {
	p := newPeer(t, answer(ok("x")))
	g := newRig(t, nil, p.url)
	c := g.dial(t)
	res := c.expect("GET / HTTP/1.1\r\nHost: a\r\nVia: 1.1 other\r\nVia: 1.1 x, 1.1 "+string(g.relay.Instance)+"\r\n\r\n", 508, "--advertise-client-urls")
	if !g.relay.Instance.Refused(res.Header.Get("Proxy-Status")) {
		t.Errorf("Proxy-Status is %q", res.Header.Get("Proxy-Status"))
	}
	c.expect("GET / HTTP/1.1\r\nHost: a\r\nVia: 1.1 other\r\n\r\n", 200, "x")
	if p.hits.Load() != 1 || g.relay.Refusals.Total() != 1 {
		t.Errorf("%d hits, %d refused", p.hits.Load(), g.relay.Refusals.Total())
	}
}

// Each request costs one more, whether another proxy lies between or not, and the
// connections stay.
func TestLoopEnds(t *testing.T) {
	for name, between := range map[string]bool{"itself": false, "over another proxy": true} {
		t.Run(name, func(t *testing.T) {
			g := newRig(t, nil)
			to, hops := g, int64(2)
			if between {
				to, hops = newRig(t, nil), 3
				to.relay.Director.Update([]director.Member{{ID: 2, Name: "first", ClientURLs: []string{"http://" + g.addr}}})
			}
			g.relay.Director.Update([]director.Member{{ID: 1, Name: "self", ClientURLs: []string{"http://" + to.addr}}})
			c := g.dial(t)
			for n := int64(1); n <= 3; n++ {
				c.expect("PUT /v2/keys/a HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\n\r\nx", 508, "self http://"+to.addr+": it leads back to this proxy: ")
				got := g.relay.Stats.Requests.Load()
				if between {
					got += to.relay.Stats.Requests.Load()
				}
				if got != n*hops {
					t.Fatalf("%d requests were %d", n, got)
				}
			}
			if got := g.relay.Stats.Connections.Load(); got != 2 {
				t.Errorf("%d connections", got)
			}
		})
	}
}

// refuseForUs is a member that leads back: it answers as the proxy that asks would
// have.
func refuseForUs(c net.Conn, req *http.Request) bool {
	if req.ContentLength >= 0 { // else the refusal comes before the body's end, as ours would
		if _, err := io.Copy(io.Discard, req.Body); err != nil {
			return false
		}
	}
	via := strings.Fields(req.Header.Get("Via"))
	_, err := fmt.Fprintf(c, "HTTP/1.1 508 Loop Detected\r\nProxy-Status: %s; error=proxy_loop_detected\r\nContent-Length: 5\r\n\r\nloop!", via[len(via)-1])
	return err == nil && req.ContentLength >= 0
}

// TestLoopGoesOn walks the rows of the table in exchange.go on loops.
func TestLoopGoesOn(t *testing.T) {
	for name, c := range map[string]struct{ request, body string }{
		"a read":           {"GET /v2/keys/a HTTP/1.1\r\nHost: a\r\n\r\n", "good"},
		"a head":           {"HEAD /v2/keys/a HTTP/1.1\r\nHost: a\r\n\r\n", ""},
		"a write":          {"PUT /v2/keys/a HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nvalue", "good"},
		"a write, no body": {"DELETE /v2/keys/a HTTP/1.1\r\nHost: a\r\n\r\n", "good"},
	} {
		t.Run(name, func(t *testing.T) {
			bad, good := newPeer(t, refuseForUs), newPeer(t, answer(ok("good")))
			g := newRig(t, nil, bad.url, good.url)
			for range 4 { // at least one of the first two chooses the bad one
				g.dial(t).expect(c.request, 200, c.body)
			}
			if bad.hits.Load() != 1 || good.hits.Load() != 4 {
				t.Errorf("members saw %d and %d requests", bad.hits.Load(), good.hits.Load())
			}
			if r := g.relay; r.Retries.Total() != 1 || r.Stats.Failed.Load() != 0 || r.Refusals.Total() != 0 {
				t.Errorf("%d retried, %d failed, %d refused", r.Retries.Total(), r.Stats.Failed.Load(), r.Refusals.Total())
			}
		})
	}
	t.Run("a body that is streamed", func(t *testing.T) {
		bad, good := newPeer(t, refuseForUs), newPeer(t, answer(ok("good")))
		g := newRig(t, nil, bad.url)
		c := g.dial(t)
		c.expect("PUT /v2/keys/a HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nx\r\n0\r\n\r\n", 508, "it leads back")
		g.relay.Director.Update([]director.Member{
			{ID: 1, Name: "m1", ClientURLs: []string{bad.url}}, {ID: 2, Name: "m2", ClientURLs: []string{good.url}},
		})
		for range 4 {
			g.dial(t).expect("PUT /v2/keys/a HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nx\r\n0\r\n\r\n", 200, "good")
		}
	})
	t.Run("the other one is dead", func(t *testing.T) {
		bad, dead := newPeer(t, refuseForUs), newPeer(t, answer(ok("x")))
		dead.stop()
		g := newRig(t, nil, bad.url, dead.url)
		for range 4 {
			g.dial(t).expect("PUT /v2/keys/a HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\n\r\nx", 502, "connection refused")
		}
	})
	t.Run("another proxy's refusal is an answer", func(t *testing.T) {
		p := newPeer(t, answer("HTTP/1.1 508 Loop Detected\r\nProxy-Status: nginx; error=proxy_loop_detected\r\nContent-Length: 6\r\n\r\ntheirs"))
		g := newRig(t, nil, p.url)
		res := g.dial(t).expect("GET / HTTP/1.1\r\nHost: a\r\n\r\n", 508, "theirs")
		if res.Header.Get("Proxy-Status") == "" || !g.relay.Director.AnyUsable() {
			t.Errorf("%v", res.Header)
		}
	})
}
