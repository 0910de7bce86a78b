package proxy

import (
	"io"
	"net"
	"testing"
	"time"

	"etcdops/proxy/h2"
	"etcdops/proxy/socket"
)

// TestWhoGivesWay: the oldest connection does, but not while its client's bytes wait
// to be read or were read a moment ago; then the new one waits, for a time.
func TestWhoGivesWay(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	dial := func() (s *socket.Conn, client net.Conn) {
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
		if s, err = socket.New(nc, nil); err != nil {
			t.Fatal(err)
		}
		return s, client
	}
	speak := func(s *socket.Conn, client net.Conn) {
		if _, err := client.Write([]byte("P")); err != nil {
			t.Fatal(err)
		}
		waitUntil(t, "it has arrived", s.Ended)
	}
	c := &connections{max: 2}
	now := time.Now()
	taken := func(name string, s *socket.Conn, must bool, want *socket.Conn) {
		t.Helper()
		if gaveWay, ok, late := c.take(s, now, must); !ok || late || gaveWay != want {
			t.Fatalf("%s: %p gave way, %t, late %t; want %p", name, gaveWay, ok, late, want)
		}
	}
	late := func(name string, s *socket.Conn) {
		t.Helper()
		if gaveWay, ok, late := c.take(s, now, false); ok || !late || gaveWay != nil {
			t.Fatalf("%s: %p gave way, %t, late %t; want to wait", name, gaveWay, ok, late)
		}
	}
	first, client := dial()
	second, _ := dial()
	taken("room", first, false, nil)
	taken("room", second, false, nil)

	speak(first, client)
	third, _ := dial()
	late("unread", third)
	_, _ = first.Read(make([]byte, 1))
	late("read just now", third)
	now = now.Add(lateTurn)
	taken("read before", third, false, first)
	fourth, client := dial()
	taken("silent", fourth, false, second)

	_ = third.Close()
	c.end(third)
	fifth, _ := dial()
	taken("room again", fifth, false, nil)
	speak(fourth, client)
	sixth, _ := dial()
	late("unread", sixth)
	taken("unread for too long", sixth, true, fourth)

	for _, s := range []*socket.Conn{first, second, fourth, fifth, sixth} {
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
