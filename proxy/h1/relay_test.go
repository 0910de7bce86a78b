package h1

import (
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"

	"etcdops/proxy/director"
)

// noAddr is a connection without an address.
type noAddr struct{ net.Conn }

func (noAddr) RemoteAddr() net.Addr { return nil }

func endpointOf(testing.TB) *director.Endpoint {
	return &director.Endpoint{Network: "tcp", Address: "127.0.0.1:2379"}
}

func TestHeadersOfRequest(t *testing.T) {
	got := make(chan *http.Request, 1)
	p := newPeer(t, func(c net.Conn, req *http.Request) bool {
		got <- req
		return answer(ok("x"))(c, req)
	})
	g := newRig(t, nil, p.url)
	g.dial(t).expect("GET http://the-host:1/a%2Fb?q=1 HTTP/1.1\r\nHost: other\r\nConnection: keep-alive, X-Hop, Content-Length\r\n"+
		"X-Hop: 1\r\nKeep-Alive: 1\r\nProxy-Connection: 1\r\nProxy-Authorization: 1\r\nTE: trailers\r\nUpgrade: h2c\r\n"+
		"Pragma: no-cache\r\nVia: 1.0 a\r\nVia: 1.1 b\r\nX-Forwarded-For: 1.2.3.4\r\nX-End: to\r\nX-End: end\r\nContent-Length: 2\r\n\r\nhi", 200, "x")
	req := waitFor(t, "request", got)
	if req.RequestURI != "/a%2Fb?q=1" || req.Host != "the-host:1" || req.ContentLength != 2 {
		t.Errorf("request line, host or length: %q %q %d", req.RequestURI, req.Host, req.ContentLength)
	}
	via := "1.0 a, 1.1 b, 1.1 " + string(g.relay.Instance)
	want := http.Header{
		"Pragma": {"no-cache"}, "Cache-Control": {"no-cache"}, // the second is the test's parser
		"Via": {via}, "X-Forwarded-For": {"1.2.3.4, 127.0.0.1"}, "X-End": {"to", "end"}, "Content-Length": {"2"},
	}
	if fmt.Sprint(req.Header) != fmt.Sprint(want) {
		t.Errorf("got  %v\nwant %v", req.Header, want)
	}
}

func TestHeadersOfAnswer(t *testing.T) {
	p := newPeer(t, answer("HTTP/1.1 418 I am odd\r\nConnection: X-Hop\r\nX-Hop: 1\r\nKeep-Alive: 1\r\nX-Etcd-Index: 7\r\n"+
		"Access-Control-Allow-Origin: them\r\nContent-Length: 2\r\n\r\nno"))
	g := newRig(t, nil, p.url)
	res := g.dial(t).expect("GET / HTTP/1.1\r\nHost: a\r\nOrigin: o\r\n\r\n", 418, "no")
	want := http.Header{"X-Etcd-Index": {"7"}, "Access-Control-Allow-Origin": {"them"}, "Content-Length": {"2"}}
	if res.Status != "418 I am odd" || fmt.Sprint(res.Header) != fmt.Sprint(want) {
		t.Errorf("%s %v", res.Status, res.Header)
	}
}

func TestBodylessAnswersKeepTheConnection(t *testing.T) {
	p := newPeer(t, func(c net.Conn, req *http.Request) bool {
		return answer(map[string]string{
			"/head":      "HTTP/1.1 200 OK\r\nContent-Length: 1234\r\n\r\n",
			"/head-te":   "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n",
			"/204":       "HTTP/1.1 204 No Content\r\n\r\n",
			"/304":       "HTTP/1.1 304 Not Modified\r\nContent-Length: 99\r\n\r\n",
			"/zero":      "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n",
			"/no-reason": "HTTP/1.1 299\r\nContent-Length: 0\r\n\r\n",
		}[req.URL.Path])(c, req)
	})
	g := newRig(t, nil, p.url)
	c := g.dial(t)
	for _, s := range []struct {
		method, path string
		status       int
		length       string
	}{
		{"HEAD", "/head", 200, "1234"},
		{"HEAD", "/head-te", 200, ""},
		{"GET", "/204", 204, ""},
		{"GET", "/304", 304, "99"},
		{"GET", "/zero", 200, "0"},
		{"GET", "/no-reason", 299, "0"},
	} {
		res := c.expect(s.method+" "+s.path+" HTTP/1.1\r\nHost: a\r\n\r\n", s.status, "")
		if got := res.Header.Get("Content-Length"); got != s.length || res.Close {
			t.Errorf("%s: Content-Length %q, close %v", s.path, got, res.Close)
		}
	}
	if n := len(g.relay.members.shelves); n != 1 || p.hits.Load() != 6 {
		t.Errorf("%d shelves, %d hits", n, p.hits.Load())
	}
}

func TestPipelinedClientIsServedInOrder(t *testing.T) {
	p := newPeer(t, func(c net.Conn, req *http.Request) bool { return answer(ok(req.URL.Path))(c, req) })
	g := newRig(t, nil, p.url)
	c := g.dial(t)
	var all strings.Builder
	for i := range 300 { // more than one read brings
		fmt.Fprintf(&all, "\r\nPOST /%d HTTP/1.1\r\nHost: a\r\nContent-Length: 300\r\n\r\n%0300d", i, i)
	}
	sent := make(chan error, 1)
	go func() {
		_, err := io.WriteString(c.Conn, all.String())
		sent <- err
	}()
	for i := range 300 {
		if _, body := c.whole("POST"); body != fmt.Sprintf("/%d", i) {
			t.Fatalf("answer %d is %q", i, body)
		}
	}
	if err := <-sent; err != nil {
		t.Fatal(err)
	}
	if p.hits.Load() != 300 {
		t.Errorf("%d hits", p.hits.Load())
	}
}

func TestHTTP10Client(t *testing.T) {
	got := make(chan *http.Request, 1)
	p := newPeer(t, func(c net.Conn, req *http.Request) bool {
		got <- req
		return answer("HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n2\r\nde\r\n0\r\nX-T: 1\r\n\r\n")(c, req)
	})
	g := newRig(t, nil, p.url)
	c := g.dial(t)
	c.send("GET / HTTP/1.0\r\nConnection: keep-alive\r\nExpect: 100-continue\r\n\r\n")
	raw, err := io.ReadAll(c.br)
	if err != nil {
		t.Fatal(err)
	}
	if string(raw) != "HTTP/1.0 200 OK\r\nConnection: close\r\n\r\nabcde" {
		t.Errorf("%q", raw)
	}
	req := waitFor(t, "request", got)
	if req.Host == "" || req.Proto != "HTTP/1.1" || req.Header.Get("Expect") != "" {
		t.Errorf("%v", req)
	}
}

func TestTruncatedAnswerStaysTruncated(t *testing.T) {
	for name, c := range map[string]struct{ request, answer string }{
		"length":         {"GET / HTTP/1.1\r\nHost: a\r\n\r\n", "HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nabc"},
		"chunks":         {"GET / HTTP/1.1\r\nHost: a\r\n\r\n", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n"},
		"within trailer": {"GET / HTTP/1.1\r\nHost: a\r\n\r\n", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n"},
	} {
		t.Run(name, func(t *testing.T) {
			p := newPeer(t, func(conn net.Conn, req *http.Request) bool {
				answer(c.answer)(conn, req)
				return false
			})
			g := newRig(t, nil, p.url)
			conn := g.dial(t)
			conn.send(c.request)
			res := conn.head("GET")
			body, err := io.ReadAll(res.Body)
			if string(body) != "abc" || !errors.Is(err, io.ErrUnexpectedEOF) {
				t.Errorf("%q, %v", body, err)
			}
			conn.ended()
			if g.relay.Stats.Failed.Load() != 1 || p.hits.Load() != 1 {
				t.Errorf("failed %d, hits %d", g.relay.Stats.Failed.Load(), p.hits.Load())
			}
		})
	}
	t.Run("towards HTTP/1.0", func(t *testing.T) {
		seen := make(chan struct{})
		p := newPeer(t, func(c net.Conn, req *http.Request) bool {
			answer("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n")(c, req)
			<-seen
			return false
		})
		g := newRig(t, nil, p.url)
		c := g.dial(t)
		c.send("GET / HTTP/1.0\r\n\r\n")
		res := c.head("GET")
		if _, err := io.ReadFull(res.Body, make([]byte, 3)); err != nil {
			t.Fatal(err)
		}
		close(seen)
		if _, err := io.ReadAll(res.Body); err == nil {
			t.Error("the end looks like that of a whole answer")
		}
	})
}

func TestAnswerUntilCloseIsWhole(t *testing.T) {
	p := newPeer(t, func(c net.Conn, req *http.Request) bool {
		answer("HTTP/1.1 200 OK\r\n\r\nabc")(c, req)
		return false
	})
	g := newRig(t, nil, p.url)
	c := g.dial(t)
	for range 2 { // and the client's connection stays
		if res := c.expect("GET / HTTP/1.1\r\nHost: a\r\n\r\n", 200, "abc"); len(res.TransferEncoding) != 1 {
			t.Error("not chunked")
		}
	}
}

func TestAnswersOfOurOwn(t *testing.T) {
	p := newPeer(t, answer("HTTP/1.1 200 OK\r\nAccess-Control-Allow-Origin: them\r\nAccess-Control-Allow-Methods: them\r\nContent-Length: 2\r\n\r\nup"))
	const get = "GET / HTTP/1.1\r\nHost: a\r\n"
	readonly := func(r *Relay) { r.Readonly = true }
	for name, c := range map[string]struct {
		set     func(*Relay)
		request string
		status  int
		body    string
		header  map[string]string
		hits    int64
		closed  bool
	}{
		"readonly get":             {set: readonly, request: get + "\r\n", status: 200, body: "up", hits: 1},
		"readonly head":            {set: readonly, request: "HEAD / HTTP/1.1\r\nHost: a\r\n\r\n", status: 200, hits: 1},
		"readonly post":            {set: readonly, request: "POST /v3/kv/put HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\nhi", status: 501, body: `{"message":"`},
		"readonly range":           {set: readonly, request: "POST /v3/kv/range HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\n{}", status: 200, body: "up", hits: 1},
		"readonly put, absolute":   {set: readonly, request: "POST http://b/v3/kv/put HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\n{}", status: 501, body: `{"message":"`},
		"readonly put, escaped":    {set: readonly, request: "GET /v3/k%76%2Fput HTTP/1.1\r\nHost: a\r\n\r\n", status: 501, body: `{"message":"`},
		"readonly put, slashes":    {set: readonly, request: "POST //v3/kv/put HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\n{}", status: 501, body: `{"message":"`},
		"readonly put, override":   {set: readonly, request: "POST /v3/kv/range HTTP/1.1\r\nHost: a\r\nX-HTTP-Method-Override: PUT\r\nContent-Length: 2\r\n\r\n{}", status: 501, body: `{"message":"`},
		"readonly gRPC over 1.1":   {set: readonly, request: "POST /etcdserverpb.KV/Put HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\n{}", status: 501, body: `{"message":"`},
		"readonly post, long body": {set: readonly, request: "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n", status: 501, closed: true},
		"refused": {
			set:     func(r *Relay) { r.Refuse = func() error { return errors.New("no list yet") } },
			request: get + "\r\n", status: 503, body: `{"message":"no list yet"}`, header: map[string]string{"Content-Type": "application/json"},
		},
		"local": {
			set: func(r *Relay) {
				r.Refuse = func() error { return errors.New("no list yet") }
				r.Local = map[string]http.HandlerFunc{"/mine": func(w http.ResponseWriter, _ *http.Request) { fmt.Fprintln(w, "{}") }}
			},
			request: "GET /mine HTTP/1.1\r\nHost: a\r\n\r\n", status: 200, body: "{}\n", header: map[string]string{"Content-Type": "text/plain; charset=utf-8"},
		},
		"local status": {
			set: func(r *Relay) {
				r.Local = map[string]http.HandlerFunc{"/mine": func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(405) }}
			},
			request: "GET /mine HTTP/1.1\r\nHost: a\r\n\r\n", status: 405,
		},
		"cors is the members'":    {request: get + "Origin: http://o\r\n\r\n", status: 200, header: map[string]string{"Access-Control-Allow-Origin": "them"}, hits: 1},
		"options is the members'": {request: "OPTIONS / HTTP/1.1\r\nHost: a\r\n\r\n", status: 200, body: "up", hits: 1},
		"cors for all": {
			set: func(r *Relay) { r.CORS = []string{"*"} }, request: get + "\r\n", status: 200, hits: 1,
			header: map[string]string{"Access-Control-Allow-Origin": "*", "Access-Control-Allow-Methods": "POST, GET, OPTIONS, PUT, DELETE"},
		},
		"cors for one": {
			set: func(r *Relay) { r.CORS = []string{"http://o"} }, request: get + "Origin: http://o\r\n\r\n", status: 200, hits: 1,
			header: map[string]string{"Access-Control-Allow-Origin": "http://o"},
		},
		"cors for another": {
			set: func(r *Relay) { r.CORS = []string{"http://o"} }, request: get + "Origin: http://p\r\n\r\n", status: 200, hits: 1,
			header: map[string]string{"Access-Control-Allow-Origin": "", "Access-Control-Allow-Methods": ""},
		},
		"cors preflight": {
			set: func(r *Relay) { r.CORS = []string{"*"} }, request: "OPTIONS / HTTP/1.1\r\nHost: a\r\n\r\n", status: 200,
			header: map[string]string{"Access-Control-Allow-Origin": "*", "Content-Length": "0"},
		},
		"bad head":   {request: get + "X : 1\r\n\r\n", status: 400, body: `{"message":"white space before a colon"}`, closed: true},
		"long head":  {request: get + "X: " + strings.Repeat("x", headLimit) + "\r\n\r\n", status: 431, closed: true},
		"bad escape": {request: "GET /%zz HTTP/1.1\r\nHost: a\r\n\r\n", status: 400, closed: true},
		"connect":    {request: "CONNECT a:1 HTTP/1.1\r\nHost: a\r\n\r\n", status: 405, closed: true},
	} {
		t.Run(name, func(t *testing.T) {
			p.hits.Store(0)
			g := newRig(t, c.set, p.url)
			conn := g.dial(t)
			res := conn.expect(c.request, c.status, c.body)
			for k, v := range c.header {
				if got := strings.Join(res.Header[k], "|"); got != v {
					t.Errorf("%s is %q", k, got)
				}
			}
			if res.Close != c.closed || p.hits.Load() != c.hits {
				t.Errorf("close %v, %d hits", res.Close, p.hits.Load())
			}
			if c.closed {
				conn.ended()
			} else {
				conn.send(get + "\r\n")
				conn.whole("GET")
			}
		})
	}
}
