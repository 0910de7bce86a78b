package h1

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"etcdops/proxy/director"
	"etcdops/proxy/policy"
	"etcdops/proxy/socket"
	"etcdops/proxy/stats"
)

// patience bounds every wait of the tests.
const patience = 10 * time.Second

// peer is a member that shows the faults it is told to.
type peer struct {
	url  string
	hits atomic.Int64 // requests, without the director's probes
	l    net.Listener

	mu    sync.Mutex
	conns []net.Conn
}

// turn serves one request on a peer and says whether the connection stays open.
type turn func(c net.Conn, req *http.Request) bool

func newPeer(t *testing.T, serve turn) *peer {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	return servePeer(t, l, serve)
}

// servePeer is a member on a listener that is there.
func servePeer(t *testing.T, l net.Listener, serve turn) *peer {
	t.Helper()
	p := &peer{url: "http://" + l.Addr().String(), l: l}
	var wg sync.WaitGroup
	wg.Add(1)
	go func() {
		defer wg.Done()
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			p.mu.Lock()
			p.conns = append(p.conns, c)
			p.mu.Unlock()
			wg.Add(1)
			go func() {
				defer wg.Done()
				defer c.Close()
				p.converse(c, serve)
			}()
		}
	}()
	t.Cleanup(func() {
		p.stop()
		wg.Wait()
	})
	return p
}

func (p *peer) converse(c net.Conn, serve turn) {
	br := bufio.NewReader(c)
	for {
		req, err := http.ReadRequest(br)
		if err != nil {
			return
		}
		if req.UserAgent() == "etcdops-probe" {
			fmt.Fprint(c, "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}")
			continue
		}
		p.hits.Add(1)
		if !serve(c, req) {
			return
		}
	}
}

// stop closes the listener and all connections.
func (p *peer) stop() {
	_ = p.l.Close()
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, c := range p.conns {
		_ = c.Close()
	}
}

// answer is a turn that reads the body and says raw.
func answer(raw string) turn {
	return func(c net.Conn, req *http.Request) bool {
		if _, err := io.Copy(io.Discard, req.Body); err != nil {
			return false
		}
		_, err := io.WriteString(c, raw)
		return err == nil
	}
}

// ok is an answer with a body.
func ok(body string) string {
	return fmt.Sprintf("HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s", len(body), body)
}

// rig is a relay on a loopback port with a director for the given members.
type rig struct {
	relay  *Relay
	addr   string
	cancel context.CancelFunc
	done   chan struct{} // everything has ended
}

func newRig(t *testing.T, set func(*Relay), urls ...string) *rig {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	d := &director.Director{Logger: slog.New(slog.DiscardHandler), DialTimeout: time.Second, FailureWait: time.Minute}
	r := &Relay{Director: d, Instance: policy.NewInstance(), Stats: &Stats{}, Refusals: &stats.Refusals{}, Retries: &stats.Retries{}, Answers: &stats.Answers{}}
	if set != nil {
		set(r)
	}
	watcher, err := socket.NewWatcher()
	if err != nil {
		t.Fatal(err)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	ready := make(chan struct{})
	wg.Go(func() { d.Run(ctx, ready) })
	wg.Go(func() { watcher.Run(ctx) })
	<-ready
	var members []director.Member
	for i, u := range urls {
		members = append(members, director.Member{ID: uint64(i + 1), Name: fmt.Sprintf("m%d", i+1), ClientURLs: []string{u}})
	}
	d.Update(members)
	wg.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			s, err := socket.New(c, watcher)
			if err != nil {
				panic(err)
			}
			wg.Go(func() { r.Serve(ctx, s, nil) })
		}
	})
	g := &rig{relay: r, addr: l.Addr().String(), cancel: cancel, done: make(chan struct{})}
	go func() {
		<-ctx.Done()
		_ = l.Close()
		r.Close()
		wg.Wait()
		close(g.done)
	}()
	t.Cleanup(func() {
		cancel()
		select {
		case <-g.done:
		case <-time.After(patience):
			t.Error("the relay does not end")
		}
	})
	return g
}

// noMemberConnections says whether the relay has no connection to any member.
func (g *rig) noMemberConnections() bool {
	g.relay.members.mu.Lock()
	defer g.relay.members.mu.Unlock()
	return len(g.relay.members.shelves) == 0
}

// conversation is a raw client connection.
type conversation struct {
	t *testing.T
	net.Conn
	br *bufio.Reader
}

func (g *rig) dial(t *testing.T) *conversation {
	t.Helper()
	c, err := net.Dial("tcp", g.addr)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	return talk(t, c)
}

func talk(t *testing.T, c net.Conn) *conversation {
	t.Helper()
	if err := c.SetDeadline(time.Now().Add(patience)); err != nil {
		t.Fatal(err)
	}
	return &conversation{t, c, bufio.NewReader(c)}
}

func (c *conversation) send(raw string) {
	c.t.Helper()
	_ = c.SetDeadline(time.Now().Add(patience)) // anew for each request; a closed one fails below
	if _, err := io.WriteString(c.Conn, raw); err != nil {
		c.t.Fatalf("send: %v", err)
	}
}

// head reads an answer's head; method is what was asked.
func (c *conversation) head(method string) *http.Response {
	c.t.Helper()
	res, err := http.ReadResponse(c.br, &http.Request{Method: method})
	if err != nil {
		c.t.Fatalf("read answer: %v", err)
	}
	return res
}

// whole reads an answer to its end.
func (c *conversation) whole(method string) (*http.Response, string) {
	c.t.Helper()
	res := c.head(method)
	body, err := io.ReadAll(res.Body)
	if err != nil {
		c.t.Fatalf("read body: %v", err)
	}
	return res, string(body)
}

// expect sends a request and checks its answer.
func (c *conversation) expect(raw string, status int, body string) *http.Response {
	c.t.Helper()
	c.send(raw)
	method, _, _ := strings.Cut(raw, " ")
	res, got := c.whole(method)
	if res.StatusCode != status || !strings.Contains(got, body) {
		c.t.Fatalf("got %d %q, want %d with %q", res.StatusCode, got, status, body)
	}
	return res
}

// ended checks that the other side has closed.
func (c *conversation) ended() {
	c.t.Helper()
	if n, err := c.br.Read(make([]byte, 1)); n > 0 || err == nil || isTimeout(err) {
		c.t.Fatalf("the connection is still open: %d bytes, %v", n, err)
	}
}

func isTimeout(err error) bool {
	ne, ok := err.(net.Error)
	return ok && ne.Timeout()
}

// eventually waits until a condition holds.
func eventually(t *testing.T, what string, cond func() bool) {
	t.Helper()
	limit := time.After(patience)
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for !cond() {
		select {
		case <-limit:
			t.Fatalf("never: %s", what)
		case <-tick.C:
		}
	}
}

func waitFor[T any](t *testing.T, what string, c <-chan T) T {
	t.Helper()
	select {
	case v := <-c:
		return v
	case <-time.After(patience):
		t.Fatalf("never: %s", what)
		panic("unreachable")
	}
}
