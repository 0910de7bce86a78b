package proxy

import (
	"io"
	"net"
	"testing"
	"time"

	"etcdops/proxy/h2"
	"etcdops/proxy/socket"
)

// TestWhoGivesWay: the oldest connection does where nothing on it waits to be read;
// one whose client has spoken does not, however late we are, unless all have.
func TestWhoGivesWay(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	var all []*socket.Conn
	dial := func(speaks bool) *socket.Conn {
		client, err := net.Dial("tcp", l.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { client.Close() })
		nc, err := l.Accept()
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { nc.Close() })
		s, err := socket.New(nc, nil)
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, s)
		if speaks {
			if _, err := client.Write([]byte("P")); err != nil {
				t.Fatal(err)
			}
			waitUntil(t, "it has arrived", s.Ended)
		}
		return s
	}
	c := &connections{max: 3}
	begun := func(name string, s, want *socket.Conn) {
		t.Helper()
		if gaveWay, ok := c.begin(s); !ok || gaveWay != want {
			t.Fatalf("%s: %p gave way, %t; want %p", name, gaveWay, ok, want)
		}
	}
	first := dial(true)
	second := dial(false)
	third := dial(true)
	begun("first", first, nil)
	begun("second", second, nil)
	begun("third", third, nil)

	fourth := dial(true)
	begun("the silent one, though the first is older", fourth, second)

	// All have spoken: the next waits for one that was read, as first is now.
	fifth := dial(true)
	read := time.AfterFunc(50*time.Millisecond, func() { _, _ = first.Read(make([]byte, 1)) })
	defer read.Stop()
	begun("the one that was read", fifth, first)

	last := dial(true)
	began := time.Now()
	if gaveWay, ok := c.begin(last); !ok || gaveWay == nil || time.Since(began) < lateLimit {
		t.Errorf("%p gave way, %t, after %v; want one, after %v", gaveWay, ok, time.Since(began), lateLimit)
	}
	for _, s := range all {
		c.end(s)
	}
	if c.open != 0 || c.unproved.Len() != 0 || len(c.places) != 0 {
		t.Errorf("%d open, %d unproved, %d places are left", c.open, c.unproved.Len(), len(c.places))
	}
}

// TestStageIsATurn: who has reached a stage gives way behind those that were there
// before it.
func TestStageIsATurn(t *testing.T) {
	p, _ := limited(t, func(s *Server) { s.MaxConnections = 2 })
	first, second := p.dial(t), p.dial(t)
	waitUntil(t, "both are there", func() bool { return p.conns.count() == 2 })
	first.send(h2.Preface)
	if _, err := io.ReadFull(first.in, make([]byte, 9)); err != nil { // of our SETTINGS
		t.Fatal(err)
	}
	p.dial(t)
	second.ends()
	p.dial(t)
	if _, err := io.Copy(io.Discard, first.in); err != nil {
		t.Errorf("first does not give way: %v", err)
	}
}
