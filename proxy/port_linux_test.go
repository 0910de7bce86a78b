package proxy

import (
	"errors"
	"net"
	"net/url"
	"strings"
	"syscall"
	"testing"
	"time"
)

func TestListenTCP(t *testing.T) {
	for _, host := range []string{"127.0.0.1", "0.0.0.0", "", "localhost", "[::1]", "[::]", "[::ffff:127.0.0.1]"} {
		t.Run("as net.Listen on "+host, func(t *testing.T) {
			theirs, err := net.Listen("tcp", host+":0")
			if err != nil {
				if _, _, ours := listenTCP(t.Context(), host+":0", nil, false); ours == nil {
					t.Fatalf("listens where net.Listen says %v", err)
				}
				return
			}
			address := host + theirs.Addr().String()[strings.LastIndex(theirs.Addr().String(), ":"):]
			theirs.Close()
			ours, joined, err := listenTCP(t.Context(), address, nil, false)
			if err != nil || joined {
				t.Fatal(joined, err)
			}
			defer ours.Close()
			if ours.Addr().String() != theirs.Addr().String() {
				t.Fatalf("bound %s, net.Listen %s", ours.Addr(), theirs.Addr())
			}
			// What etcd would bind is the same address: it joins, and steering
			// decides between the two.
			beside := listenShared(t, address)
			if err := attach(ours, 1); err != nil {
				t.Fatal(err)
			}
			for _, target := range selfAddrs(ours.Addr().(*net.TCPAddr).AddrPort()) {
				c, err := net.Dial("tcp", target.String())
				if err != nil {
					t.Fatal(err)
				}
				defer c.Close()
				_ = beside.(*net.TCPListener).SetDeadline(time.Now().Add(5 * time.Second))
				far, err := beside.Accept()
				if err != nil {
					t.Fatalf("to %s: %v", target, err)
				}
				far.Close()
			}
		})
	}
	t.Run("a port is refused to others", func(t *testing.T) {
		first, _, err := listenTCP(t.Context(), "127.0.0.1:0", nil, false)
		if err != nil {
			t.Fatal(err)
		}
		defer first.Close()
		if _, _, err := listenTCP(t.Context(), first.Addr().String(), nil, false); !errors.Is(err, syscall.EADDRINUSE) {
			t.Errorf("a second proxy: %v", err)
		}
		if l, err := net.Listen("tcp", first.Addr().String()); !errors.Is(err, syscall.EADDRINUSE) {
			t.Errorf("another program: %v %v", l, err)
		}
		if l, joined, err := listenTCP(t.Context(), first.Addr().String(), nil, true); err != nil || !joined {
			t.Errorf("a proxy beside a member: %v %v", joined, err)
		} else {
			l.Close()
		}
	})
	t.Run("a port that is not shared can't be joined", func(t *testing.T) {
		alone, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		defer alone.Close()
		if _, _, err := listenTCP(t.Context(), alone.Addr().String(), nil, true); !errors.Is(err, syscall.EADDRINUSE) {
			t.Errorf("got %v", err)
		}
	})
}

// What waits for our accept is no sign of a lost port.
func TestQueued(t *testing.T) {
	l, _, err := listenTCP(t.Context(), "127.0.0.1:0", nil, false)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	for n := range 3 {
		if got := queued(l); got != n {
			t.Fatalf("%d wait, want %d", got, n)
		}
		c, err := net.Dial("tcp", l.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
	}
}

// Two names of one address are one listener.
func TestOneListenerAnAddress(t *testing.T) {
	p := startServer(t, func(s *Server) {
		_, port, _ := net.SplitHostPort(s.ListenURLs[0].Host)
		s.ListenURLs = append(s.ListenURLs, url.URL{Scheme: "http", Host: "localhost:" + port})
	})
	if got := p.Status().Listeners; len(got) != 1 || !got[0].HandOver || got[0].Address != p.addr {
		t.Fatalf("got %+v", got)
	}
}
