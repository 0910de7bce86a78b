package h1

import (
	"context"
	"net"
	"os"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// fullPeer is a member whose queue of new connections is full until free is called:
// it then serves as p.
func fullPeer(t *testing.T, serve turn) (url string, free func() (p *peer)) {
	t.Helper()
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	file := os.NewFile(uintptr(fd), "listener")
	defer file.Close()
	if err := unix.Bind(fd, &unix.SockaddrInet4{Addr: [4]byte{127, 0, 0, 1}}); err != nil {
		t.Fatal(err)
	}
	if err := unix.Listen(fd, 1); err != nil {
		t.Fatal(err)
	}
	l, err := net.FileListener(file)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	for {
		c, err := net.DialTimeout("tcp", l.Addr().String(), 200*time.Millisecond)
		if err != nil {
			break // it is full
		}
		t.Cleanup(func() { _ = c.Close() })
	}
	return "http://" + l.Addr().String(), func() *peer { return servePeer(t, l, serve) }
}

func TestMemberWhoseQueueIsFull(t *testing.T) {
	url, free := fullPeer(t, answer(ok("a")))
	g := newRig(t, nil, url)
	conn := g.dial(t)
	conn.send("PUT / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\n\r\nx")
	eventually(t, "a dial has run out of time", func() bool { return g.relay.Retries.Total() == 1 })
	p := free()
	if res, body := conn.whole("PUT"); res.StatusCode != 200 || body != "a" {
		t.Errorf("got %d %q", res.StatusCode, body)
	}
	if n := p.hits.Load(); n != 1 {
		t.Errorf("%d requests have reached it", n)
	}
}

func TestLateDials(t *testing.T) {
	for name, c := range map[string]struct {
		members   int
		err       error // of the dials
		fail      int64 // how many of them, of the request
		condemned bool  // by the probe, during the first one
		dials     int64
		status    int
	}{
		"the last round":     {members: 1, err: os.ErrDeadlineExceeded, fail: lateDials, dials: lateDials + 1, status: 200},
		"too late":           {members: 1, err: os.ErrDeadlineExceeded, fail: lateDials + 1, dials: lateDials + 1, status: 502},
		"another one is not": {members: 3, err: os.ErrDeadlineExceeded, fail: 2, dials: 3, status: 200},
		"the last of three":  {members: 3, err: os.ErrDeadlineExceeded, fail: 3*lateDials + 2, dials: 3*lateDials + 3, status: 200},
		"three, too late":    {members: 3, err: os.ErrDeadlineExceeded, fail: 99, dials: 3*lateDials + 3, status: 502},
		"condemned":          {members: 1, err: os.ErrDeadlineExceeded, fail: 99, condemned: true, dials: 1, status: 502},
		"refused":            {members: 1, err: unix.ECONNREFUSED, fail: 99, dials: 1, status: 502},
		"no route":           {members: 2, err: unix.EHOSTUNREACH, fail: 99, dials: 2, status: 502},
	} {
		t.Run(name, func(t *testing.T) {
			var urls []string
			for range c.members {
				urls = append(urls, newPeer(t, answer(ok("a"))).url)
			}
			var dials atomic.Int64
			g := newRig(t, func(r *Relay) {
				r.Director.DialTimeout = 0 // so that the probe's dials alone have a limit
				r.Director.DialMember = func(ctx context.Context, network, address string, _ bool) (net.Conn, error) {
					_, probe := ctx.Deadline()
					switch {
					case probe && c.condemned:
						return nil, unix.ECONNREFUSED
					case !probe && dials.Add(1) <= c.fail:
						for c.condemned && ctx.Err() == nil && r.Director.AnyUsable() {
							<-time.After(time.Millisecond)
						}
						return nil, &net.OpError{Op: "dial", Net: network, Err: c.err}
					}
					return new(net.Dialer).DialContext(ctx, network, address)
				}
			}, urls...)
			conn := g.dial(t)
			conn.send("PUT / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\n\r\nx")
			if res, body := conn.whole("PUT"); res.StatusCode != c.status {
				t.Errorf("got %d %q, want %d", res.StatusCode, body, c.status)
			}
			if n := dials.Load(); n != c.dials {
				t.Errorf("dialled %d times, want %d", n, c.dials)
			}
		})
	}
}
