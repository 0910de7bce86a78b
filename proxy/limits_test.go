package proxy

import (
	"bufio"
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"etcdops/proxy/h2"
	"etcdops/proxy/stats"
)

// refusedFor is how often the proxy has refused for a reason.
func (p *running) refusedFor(reason stats.Reason) (count int64) {
	p.refusals.Each(func(r stats.Reason, n int64) {
		if r == reason {
			count = n
		}
	})
	return count
}

// logBook is a log that can be read while it is written.
type logBook struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (b *logBook) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.text.Write(p)
}

func (b *logBook) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.text.String()
}

func (b *logBook) count(text string) int { return strings.Count(b.String(), text) }

// limited runs a proxy with a member that reads bodies and says ok, and waits until
// it follows it.
func limited(t *testing.T, change func(s *Server)) (*running, *logBook) {
	t.Helper()
	member := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		body, _ := io.ReadAll(req.Body)
		fmt.Fprintf(w, "ok, %d bytes, a field of %d", len(body), len(req.Header.Get("X")))
	}))
	t.Cleanup(member.Close)
	log := &logBook{}
	p := startServer(t, func(s *Server) {
		s.Logger = slog.New(slog.NewTextHandler(log, nil))
		s.Members = func(context.Context) (View, error) {
			return View{At: time.Now(), Members: []Member{{ID: 1, Name: "m", ClientURLs: []string{member.URL}}}}, nil
		}
		change(s)
	})
	waitUntil(t, "the list is there", func() bool { return p.Status().ListAt != nil })
	return p, log
}

// rawClient is a client byte by byte.
type rawClient struct {
	t *testing.T
	net.Conn
	in *bufio.Reader
}

func (p *running) dial(t *testing.T) *rawClient {
	t.Helper()
	c, err := net.Dial("tcp", p.addr)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	_ = c.SetDeadline(time.Now().Add(10 * time.Second))
	return &rawClient{t, c, bufio.NewReader(c)}
}

func (c *rawClient) send(text string) {
	c.t.Helper()
	if _, err := io.WriteString(c.Conn, text); err != nil {
		c.t.Fatal(err)
	}
}

// answered reads an answer and checks it.
func (c *rawClient) answered(status int, text string) {
	c.t.Helper()
	res, err := http.ReadResponse(c.in, nil)
	if err != nil {
		c.t.Fatal(err)
	}
	body, err := io.ReadAll(res.Body)
	if err != nil || res.StatusCode != status || !strings.Contains(string(body), text) {
		c.t.Fatalf("got %d %s, %v; want %d %s", res.StatusCode, body, err, status, text)
	}
}

// ends waits until the proxy has closed the connection, and says nothing more.
func (c *rawClient) ends() {
	c.t.Helper()
	rest, err := io.ReadAll(c.in)
	if errors.Is(err, os.ErrDeadlineExceeded) || len(rest) > 0 {
		c.t.Fatalf("got %q, %v", rest, err)
	}
}

const goodRequest = "GET /version HTTP/1.1\r\nHost: x\r\n\r\n"

// Connections with a request stay; without one the oldest gives way; where all have
// had one, a new one is closed. The log has one line of each reason.
func TestMaxConnections(t *testing.T) {
	p, log := limited(t, func(s *Server) { s.MaxConnections = 3 })
	proved := func() *rawClient {
		c := p.dial(t)
		c.send(goodRequest)
		c.answered(200, "ok")
		return c
	}
	good := []*rawClient{proved()}
	oldest := p.dial(t)
	waitUntil(t, "the oldest is there", func() bool { return p.conns.count() == 2 })
	p.dial(t)
	waitUntil(t, "three are there", func() bool { return p.conns.count() == 3 })
	good = append(good, proved())
	oldest.ends()
	good = append(good, proved())
	for range 3 {
		p.dial(t).ends()
	}
	for _, c := range good {
		c.send(goodRequest)
		c.answered(200, "ok")
	}
	if silent, over := p.refusedFor(stats.Silent), p.refusedFor(stats.Connections); silent != 2 || over != 3 {
		t.Errorf("%d gave way, %d were too many", silent, over)
	}
	for _, reason := range []string{"silent", "connections"} {
		if n := log.count("msg=refused reason=" + reason + " count=1 "); n != 1 {
			t.Errorf("%d lines of %s in %s", n, reason, log)
		}
	}
	good[0].Close()
	waitUntil(t, "there is room again", func() bool { return p.conns.count() == 2 })
	proved()
}

func TestHeadLimits(t *testing.T) {
	head := func(n int) string {
		return "GET /version HTTP/1.1\r\nHost: x\r\nX: " + strings.Repeat("v", n) + "\r\n\r\n"
	}
	for _, tc := range []struct {
		name          string
		limit, length int
		status        int
		text          string
	}{
		{"just right", 64 << 10, 63 << 10, 200, "a field of 64512"},
		{"too long", 64 << 10, 64 << 10, 431, "longer than 65536 bytes"},
		{"200 KiB of 256", 256 << 10, 200 << 10, 200, "a field of 204800"},
		{"over 256 KiB", 256 << 10, 256 << 10, 431, "longer than 262144 bytes"},
		{"a small limit", 1 << 10, 1 << 10, 431, "longer than 1024 bytes"},
		{"within a small limit", 1 << 10, 900, 200, "a field of 900"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			p, log := limited(t, func(s *Server) { s.HeaderLimit = tc.limit })
			c := p.dial(t)
			c.send(head(tc.length))
			c.answered(tc.status, tc.text)
			if tc.status == 200 {
				c.send(goodRequest) // what the long head was read into must not stand in the way
				c.answered(200, "a field of 0")
				return
			}
			c.ends()
			if p.refusedFor(stats.HeaderTooLong) != 1 || log.count("reason=header_too_long") != 1 {
				t.Errorf("%d counted, log %s", p.refusedFor(stats.HeaderTooLong), log)
			}
		})
	}
}

// shortTime is a timeout that is waited for.
const shortTime = time.Second

func TestHeaderTimeout(t *testing.T) {
	for _, tc := range []struct {
		name, sent string
		status     int // 0: closed without an answer
	}{
		{"half a head", "GET /version HTTP/1.1\r\nHos", 408},
		{"the beginning of a preface", h2.Preface[:12], 0},
		{"half a hello", "\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", 0},
		{"no hello", "", 0},
	} {
		t.Run(tc.name, func(t *testing.T) {
			p, log := limited(t, func(s *Server) {
				s.HeaderTimeout = shortTime
				if strings.HasSuffix(tc.name, "hello") {
					s.useTLS(t)
				}
			})
			c := p.dial(t)
			c.send(tc.sent)
			if tc.status != 0 {
				c.answered(tc.status, "took too long")
			}
			c.ends()
			waitUntil(t, "it was counted and logged", func() bool {
				return p.refusedFor(stats.HeaderTimeout) == 1 && log.count("reason=header_timeout") == 1
			})
		})
	}
}

// useTLS makes the proxy's first URL an https one.
func (s *Server) useTLS(t *testing.T) {
	t.Helper()
	other := httptest.NewTLSServer(nil)
	other.Close()
	s.ListenURLs[0].Scheme, s.ListenTLS = "https", &tls.Config{Certificates: other.TLS.Certificates}
}

// Neither timeout is that of a body: this one takes longer than both.
func TestSlowBody(t *testing.T) {
	p, _ := limited(t, func(s *Server) { s.HeaderTimeout, s.IdleTimeout = shortTime, shortTime })
	slow := p.dial(t)
	slow.send("POST /v3/kv/put HTTP/1.1\r\nHost: x\r\nContent-Length: 10\r\n\r\nhalf ")
	for range 3 { // one after the other
		late := p.dial(t)
		late.send("GET")
		late.answered(408, "took too long")
	}
	slow.send("done.")
	slow.answered(200, "ok, 10 bytes")
}

func TestIdleTimeout(t *testing.T) {
	p, _ := limited(t, func(s *Server) { s.IdleTimeout = shortTime })
	silent, used := p.dial(t), p.dial(t)
	used.send(goodRequest)
	used.answered(200, "ok")
	used.ends()
	silent.ends()
	if n := p.refusals.Total(); n != 0 {
		t.Errorf("%d refusals: an idle connection is none", n)
	}
}

// A broken handshake at the metrics' port is no line of the log.
func TestMetricsPortIsQuiet(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	l.Close()
	p, log := limited(t, func(s *Server) {
		s.useTLS(t)
		s.ListenURLs[0].Scheme = "http"
		s.MetricsURLs = []url.URL{{Scheme: "https", Host: l.Addr().String()}}
	})
	c := (&running{addr: l.Addr().String(), Server: p.Server}).dial(t)
	c.send("GET /metrics HTTP/1.0\r\n\r\n")
	_, _ = io.Copy(io.Discard, c)
	if log.count("handshake") != 0 {
		t.Errorf("got %s", log)
	}
}

// Where ALPN has said HTTP/2, what is no preface is not taken for HTTP/1.1 (RFC 9113
// section 3.4): the connection ends without a word.
func TestNoPrefaceBehindALPN(t *testing.T) {
	p, _ := limited(t, func(s *Server) { s.useTLS(t) })
	for name, tc := range map[string]struct {
		offer  []string
		answer string // what begins it
	}{
		"HTTP/2 by ALPN":   {[]string{"h2"}, ""},
		"HTTP/1.1 by ALPN": {[]string{"http/1.1"}, "HTTP/1.1 400"},
		"without ALPN":     {nil, "HTTP/1.1 400"},
	} {
		t.Run(name, func(t *testing.T) {
			c := tls.Client(p.dial(t).Conn, &tls.Config{InsecureSkipVerify: true, NextProtos: tc.offer})
			if _, err := io.WriteString(c, "INVALID CONNECTION PREFACE\r\n\r\n"); err != nil {
				t.Fatal(err)
			}
			got, err := io.ReadAll(c)
			if err != nil || !strings.HasPrefix(string(got), tc.answer) || (len(got) > 0) != (tc.answer != "") {
				t.Errorf("got %q, %v", got, err)
			}
		})
	}
	if n := p.refusedFor(stats.Malformed); n < 1 {
		t.Errorf("%d were counted", n)
	}
}
