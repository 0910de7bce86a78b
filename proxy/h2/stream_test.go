package h2

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"golang.org/x/net/http2"

	"etcdops/proxy/policy"
)

// A client that resets a stream, or leaves, cancels it at the member at once.
func TestCancelReachesTheMember(t *testing.T) {
	for _, tc := range []struct {
		name  string
		leave func(c *testClient, id uint32)
	}{
		{"reset", func(c *testClient, id uint32) { _ = c.fr.WriteRSTStream(id, http2.ErrCodeCancel) }},
		{"connection closed", func(c *testClient, _ uint32) { c.nc.Close() }},
	} {
		t.Run(tc.name, func(t *testing.T) {
			resets := make(chan http2.ErrCode, 1)
			m := startMember(t, func(m *fakeMember, p *peer) {
				for f := p.next(); f != nil; f = p.next() {
					switch f := f.(type) {
					case *http2.MetaHeadersFrame:
						m.saw(f)
					case *http2.RSTStreamFrame:
						resets <- f.ErrCode
					}
				}
			})
			c := dialRig(t, startRig(t, m.url).addr)
			id := c.open(pathWatch, true)
			waitFor(t, "the watch has arrived", func() bool { return m.count(pathWatch) == 1 })
			tc.leave(c, id)
			select {
			case code := <-resets:
				if code != http2.ErrCodeCancel {
					t.Fatalf("the member got %v", code)
				}
			case <-time.After(5 * time.Second):
				t.Fatal("the member was not told")
			}
		})
	}
}

// A member that the probe condemns loses its streams: an unanswered read moves,
// an answered watch ends with UNAVAILABLE.
func TestStoppedMemberIsLeft(t *testing.T) {
	const limit = 4 * time.Second // 3 s, and this machine is busy
	best := time.Minute
	for try := 0; try < 3 && best > limit; try++ { // it may stand still once, not each time
		best = min(best, leaveStopped(t))
	}
	if best > limit {
		t.Errorf("the read took %v to move", best)
	}
}

// leaveStopped stops a member, and returns how long its read took to move.
func leaveStopped(t *testing.T) time.Duration {
	t.Helper()
	stopped := startMember(t, behave(func(*peer, uint32) {}))
	good := startMember(t, behave(nil))
	r := startRig(t, stopped.url)
	c := stickTo(t, r, stopped, good)
	stopped.armed.Store(true)
	stopped.silent.Store(true)
	began := time.Now()
	o := c.wait(c.open(pathRange, false))
	if o.fields["grpc-status"] != "0" {
		t.Fatalf("got %+v", o)
	}
	took := time.Since(began)
	// It comes back by a probe, not by time alone.
	stopped.silent.Store(false)
	waitFor(t, "the member is back", func() bool {
		for _, s := range r.director.States() {
			if !s.Healthy {
				return false
			}
		}
		return true
	})
	return took
}

// One client that reads nothing must not slow its neighbours on the same member
// connection (law 10).
func TestStalledReaderHarmsNobody(t *testing.T) {
	r := startRig(t, startEtcd(t))
	good := newClient(t, r.addr)
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	value := strings.Repeat("v", 1<<20)
	for i := range 24 {
		if _, err := good.Put(ctx, fmt.Sprintf("big/%d", i), value); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := good.Put(ctx, "small", "x"); err != nil {
		t.Fatal(err)
	}
	// Two kinds of stall: windows open but TCP unread, and windows kept shut.
	for _, windows := range []bool{true, false} {
		c := dialRig(t, r.addr)
		if windows {
			_ = c.fr.WriteSettings(http2.Setting{ID: http2.SettingInitialWindowSize, Val: maxWindow})
			_ = c.fr.WriteWindowUpdate(0, maxWindow-initWindow)
		}
		for range 3 {
			id := c.nextID
			c.nextID += 2
			c.headers(id, false, ":method", "POST", ":scheme", "http", ":path", pathRange, ":authority", "x",
				"content-type", "application/grpc", "te", "trailers")
			// RangeRequest{key: "big/", range_end: "big0"}
			msg := []byte("\x0a\x04big/\x12\x04big0")
			c.data(id, true, append([]byte{0, 0, 0, 0, byte(len(msg))}, msg...))
		}
	}
	slowest := time.Duration(0)
	for range 300 {
		began := time.Now()
		if _, err := good.Get(ctx, "small"); err != nil {
			t.Fatal(err)
		}
		slowest = max(slowest, time.Since(began))
	}
	// A freeze lasts until the stalled client is closed, after stallLimit; less is
	// the machine.
	if slowest > stallLimit/2 {
		t.Fatalf("a neighbour waited %v", slowest)
	}
	// Law 9: what the stalled ones hold is bounded by windows, not by what they
	// asked for.
	for _, cc := range r.relay.clientList() {
		cc.mu.Lock()
		held := cc.queued + len(cc.out) + cc.sock.Pending()
		cc.mu.Unlock()
		if held > 16<<20 {
			t.Fatalf("%d bytes are held for a client that does not read", held)
		}
	}
}

func TestReadonlyRefuses(t *testing.T) {
	m := startMember(t, behave(nil))
	r := startRig(t, m.url)
	r.relay.Readonly = true
	c := dialRig(t, r.addr)
	const keepAlive = "/etcdserverpb.Lease/LeaseKeepAlive"
	lease := c.open(keepAlive, true) // the client's side stays open
	if o := c.wait(lease); o.fields["grpc-status"] != "12" || !strings.Contains(o.fields["grpc-message"], keepAlive) {
		t.Fatalf("got %+v", o)
	}
	if o := c.wait(c.open(pathPut, false)); o.fields["grpc-status"] != "12" || o.blocks != 1 {
		t.Fatalf("the connection did not go on: %+v", o)
	}
	if o := c.wait(c.open(pathRange, false)); o.fields["grpc-status"] != "0" || m.count(pathRange) != 1 {
		t.Fatalf("a read did not pass: %+v", o)
	}
	if m.count(pathPut)+m.count(keepAlive) != 0 {
		t.Fatal("a refused call has reached a member")
	}
}

// Drain: no new requests, those under way end, what is open at the cut ends
// once with UNAVAILABLE.
func TestDrainAndCut(t *testing.T) {
	m := startMember(t, behave(nil))
	r := startRig(t, m.url)
	idle, busy := dialRig(t, r.addr), dialRig(t, r.addr)
	if o := idle.wait(idle.open(pathPut, false)); o.fields["grpc-status"] != "0" {
		t.Fatal(o)
	}
	watch := busy.open(pathWatch, true)
	waitFor(t, "the watch has arrived", func() bool { return m.count(pathWatch) == 1 })
	r.relay.Drain()
	var goaways []uint32
	for f := idle.next(); f != nil; f = idle.next() {
		if g, ok := f.(*http2.GoAwayFrame); ok {
			goaways = append(goaways, g.LastStreamID)
		}
	}
	if len(goaways) != 2 || goaways[0] != maxStreamID || goaways[1] != 1 {
		t.Fatalf("the idle client got GOAWAY %v", goaways)
	}
	if f, ok := busy.next().(*http2.GoAwayFrame); !ok || f.LastStreamID != maxStreamID {
		t.Fatalf("the busy client got %v", f)
	}
	done := make(chan Cuts)
	go func() { done <- r.relay.Cut("stopping") }()
	o := busy.wait(watch)
	if o.fields["grpc-status"] != "14" || o.fields["grpc-message"] != "stopping" || o.blocks != 1 {
		t.Fatalf("got %+v", o)
	}
	if n := <-done; n != (Cuts{Requests: 1, Streams: 1}) {
		t.Fatalf("were cut: %+v", n)
	}
}

// Requests that are not gRPC go by the HTTP/1.1 relay, bodies and trailers
// included.
func TestBridge(t *testing.T) {
	r := startRig(t)
	var arrived, left atomic.Bool
	r.relay.HTTP1 = func(_ context.Context, c net.Conn) {
		defer c.Close()
		req, err := http.ReadRequest(bufio.NewReader(c))
		if err != nil {
			t.Error(err)
			return
		}
		body, err := io.ReadAll(req.Body)
		switch req.URL.Path {
		case "/echo":
			fmt.Fprintf(c, "HTTP/1.1 200 OK\r\nX-Method: %s\r\nX-Host: %s\r\nTransfer-Encoding: chunked\r\nTrailer: X-Sum\r\n\r\n%x\r\n%s\r\n0\r\nX-Sum: %d\r\n\r\n",
				req.Method, req.Host, len(body), body, len(body))
		case "/cut":
			fmt.Fprint(c, "HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nshort")
		case "/wait":
			stop := c.(interface{ NotifyGone(func()) func() }).NotifyGone(func() { left.Store(true); c.Close() })
			arrived.Store(true)
			defer stop()
			_, _ = io.Copy(io.Discard, c)
		}
		_ = err
	}
	var inTheClear http.Protocols
	inTheClear.SetUnencryptedHTTP2(true)
	tr := &http.Transport{Protocols: &inTheClear, DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		var d net.Dialer
		return d.DialContext(ctx, "tcp", r.addr)
	}}
	defer tr.CloseIdleConnections()
	client := http.Client{Transport: tr, Timeout: 20 * time.Second}
	t.Run("body and trailers", func(t *testing.T) {
		big := bytes.Repeat([]byte("b"), 300<<10)
		res, err := client.Post("http://example/echo", "application/json", io.MultiReader(bytes.NewReader(big)))
		if err != nil {
			t.Fatal(err)
		}
		defer res.Body.Close()
		body, err := io.ReadAll(res.Body)
		if err != nil || !bytes.Equal(body, big) || res.Trailer.Get("X-Sum") != fmt.Sprint(len(big)) ||
			res.Header.Get("X-Method") != "POST" || res.Header.Get("X-Host") != "example" {
			t.Fatalf("%d bytes, %v, %v, %v", len(body), res.Header, res.Trailer, err)
		}
	})
	t.Run("truncated stays truncated", func(t *testing.T) {
		res, err := client.Get("http://example/cut")
		if err != nil {
			t.Fatal(err)
		}
		defer res.Body.Close()
		if body, err := io.ReadAll(res.Body); err == nil {
			t.Fatalf("a truncated answer looks complete: %q", body)
		}
	})
	t.Run("the client leaves", func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		req, _ := http.NewRequestWithContext(ctx, http.MethodGet, "http://example/wait", nil)
		var wg sync.WaitGroup
		wg.Go(func() {
			if res, err := client.Do(req); err == nil {
				res.Body.Close()
			}
		})
		waitFor(t, "the request is under way", arrived.Load)
		cancel()
		wg.Wait()
		waitFor(t, "the relay is told", left.Load)
	})
}

// Goroutines end with their connections.
func TestManyClientsLeaveNothing(t *testing.T) {
	r := startRig(t, startEtcd(t))
	var wg sync.WaitGroup
	for i := range 20 {
		wg.Go(func() {
			for j := range 10 {
				c, err := clientv3.New(clientv3.Config{Endpoints: []string{r.addr}, DialTimeout: 5 * time.Second})
				if err != nil {
					t.Error(err)
					return
				}
				ctx, cancel := context.WithTimeout(t.Context(), time.Duration(1+(i*j)%7)*10*time.Millisecond)
				_ = c.Watch(ctx, "x")
				_, _ = c.Get(ctx, "x")
				cancel()
				_ = c.Close()
			}
		})
	}
	wg.Wait()
	waitFor(t, "no client connection is left", func() bool { return r.relay.Stats.Connections.Load() == 0 })
	waitFor(t, "no stream is left at the member", func() bool {
		for _, p := range r.relay.poolList() {
			for _, m := range p.list() {
				m.mu.Lock()
				n := len(m.streams)
				m.mu.Unlock()
				if n > 0 {
					return false
				}
			}
		}
		return true
	})
	if n := granted.Load(); n != 0 {
		t.Fatalf("%d bytes of window are still granted", n)
	}
	if n := policy.Kept.Load(); n != 0 {
		t.Fatalf("%d bytes of requests are still kept", n)
	}
}

// A stream takes no goroutine, here a thousand watches: those there are belong to
// connections.
func TestNoGoroutinePerStream(t *testing.T) {
	const watches, connections = 1000, 10
	m := startMember(t, behave(nil))
	c := dialRig(t, startRig(t, m.url).addr)
	c.wait(c.open(pathRange, false))
	before := runtime.NumGoroutine()
	for range watches {
		c.open(pathWatch, true)
	}
	waitFor(t, "all are at the member", func() bool { return m.count(pathWatch) == watches })
	if now := runtime.NumGoroutine(); now > before+connections {
		t.Errorf("%d goroutines, %d before", now, before)
	}
}
