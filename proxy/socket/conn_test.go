package socket

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"os"
	"path/filepath"
	"sync/atomic"
	"syscall"
	"testing"
	"time"
)

// patience bounds every wait of the tests.
const patience = 10 * time.Second

// pair is a wrapped connection and its bare other end.
func pair(t *testing.T, network string, w *Watcher) (*Conn, net.Conn) {
	t.Helper()
	addr := "127.0.0.1:0"
	if network == "unix" {
		addr = filepath.Join(t.TempDir(), "s")
	}
	l, err := net.Listen(network, addr)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	far, err := net.Dial(network, l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	near, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	c, err := New(near, w)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = far.Close()
		_ = c.Close()
	})
	return c, far
}

func waitFor[T any](t *testing.T, what string, c <-chan T) (v T) {
	t.Helper()
	select {
	case v = <-c:
	case <-time.After(patience):
		t.Fatalf("never: %s", what)
	}
	return v
}

func TestReadBorrowed(t *testing.T) {
	for _, network := range []string{"tcp", "unix"} {
		t.Run(network, func(t *testing.T) {
			c, far := pair(t, network, nil)
			var b Buffer
			if err := c.SetReadDeadline(time.Now().Add(10 * time.Millisecond)); err != nil {
				t.Fatal(err)
			}
			if _, err := c.ReadBorrowed(&b); !errors.Is(err, os.ErrDeadlineExceeded) || b.mem != nil {
				t.Errorf("%v, holds memory: %v", err, b.mem != nil)
			}
			_ = c.SetReadDeadline(time.Time{})
			if _, err := far.Write([]byte("hello")); err != nil {
				t.Fatal(err)
			}
			if n, err := c.ReadBorrowed(&b); n != 5 || err != nil || string(b.Bytes()) != "hello" {
				t.Errorf("%d %v %q", n, err, b.Bytes())
			}
			_ = far.Close()
			if n, err := c.ReadBorrowed(&b); n != 0 || err != io.EOF || b.Len() != 5 {
				t.Errorf("%d %v", n, err)
			}
			b.Fill(make([]byte, BufferSize))
			if _, err := c.ReadBorrowed(&b); err != io.ErrShortBuffer {
				t.Errorf("full buffer: %v", err)
			}
			b.Drop()
			_ = c.Close()
			if _, err := c.ReadBorrowed(&b); !errors.Is(err, net.ErrClosed) || b.mem != nil {
				t.Errorf("%v", err)
			}
		})
	}
}

func TestBuffer(t *testing.T) {
	var b Buffer
	b.Consume(0)
	b.Return()
	if b.Len() != 0 || b.Bytes() != nil {
		t.Error("not empty")
	}
	if n := b.Fill(bytes.Repeat([]byte("x"), BufferSize+1)); n != BufferSize || b.Len() != n {
		t.Errorf("took %d", n)
	}
	b.Consume(BufferSize - 3)
	if n := copy(b.Space(), "abc"); n != 3 {
		t.Error("no space, though most is consumed")
	}
	b.Grew(3)
	if string(b.Bytes()) != "xxxabc" {
		t.Errorf("%q", b.Bytes())
	}
	if b.Return(); b.mem == nil {
		t.Error("memory given back with unread bytes")
	}
	b.Consume(6)
	if b.Return(); b.mem != nil {
		t.Error("memory kept")
	}
}

func TestNonBlockingWrite(t *testing.T) {
	c, far := pair(t, "tcp", nil)
	drained := make(chan struct{}, 10)
	c.NonBlocking(0, func() { drained <- struct{}{} })
	big := bytes.Repeat([]byte("0123456789"), 3<<20)
	for part := range 3 { // nobody reads, and no write waits
		if n, err := c.Write(big[part*10<<20 : (part+1)*10<<20]); n != 10<<20 || err != nil {
			t.Fatal(n, err)
		}
	}
	if c.Pending() == 0 {
		t.Fatal("the kernel took 30 MiB")
	}
	got := make([]byte, len(big))
	if _, err := io.ReadFull(far, got); err != nil || !bytes.Equal(got, big) {
		t.Fatal("bytes changed", err)
	}
	waitFor(t, "drained", drained)
	if c.Pending() != 0 {
		t.Error(c.Pending())
	}
	if n, err := c.Write([]byte("more")); n != 4 || err != nil || c.Pending() != 0 {
		t.Error(n, err)
	}
	if len(c.spare) != 0 || cap(c.spare) > maxSpare {
		t.Errorf("keeps %d bytes", cap(c.spare))
	}
}

func TestWriteWithoutProgressFails(t *testing.T) {
	c, _ := pair(t, "tcp", nil)
	c.NonBlocking(50*time.Millisecond, nil)
	if _, err := c.Write(make([]byte, 30<<20)); err != nil {
		t.Fatal(err)
	}
	// The failure closes the connection, which wakes its reader.
	if _, err := c.Read(make([]byte, 1)); !errors.Is(err, net.ErrClosed) {
		t.Error(err)
	}
	if _, err := c.Write([]byte("x")); !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Error(err)
	}
	if c.Pending() != 0 {
		t.Error("still holds", c.Pending())
	}
}

func TestEnded(t *testing.T) {
	for name, c := range map[string]struct {
		do   func(c *Conn, far net.Conn)
		want bool
	}{
		"open":                  {func(*Conn, net.Conn) {}, false},
		"unread bytes":          {func(_ *Conn, far net.Conn) { _, _ = far.Write([]byte("x")) }, true},
		"peer closed":           {func(_ *Conn, far net.Conn) { _ = far.Close() }, true},
		"peer half-closed":      {func(_ *Conn, far net.Conn) { _ = far.(*net.TCPConn).CloseWrite() }, true},
		"closed here":           {func(c *Conn, _ net.Conn) { _ = c.Close() }, true},
		"deadline passed":       {func(c *Conn, _ net.Conn) { _ = c.SetReadDeadline(time.Unix(1, 0)) }, false},
		"beside a blocked read": {func(c *Conn, _ net.Conn) { go c.Read(make([]byte, 1)) }, false},
	} {
		t.Run(name, func(t *testing.T) {
			conn, far := pair(t, "tcp", nil)
			c.do(conn, far)
			if got := conn.Ended(); got != c.want {
				t.Errorf("Ended is %v", got)
			}
		})
	}
}

func newWatcher(t *testing.T) *Watcher {
	t.Helper()
	w, err := NewWatcher()
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() {
		defer close(done)
		w.Run(ctx)
	}()
	t.Cleanup(func() {
		cancel()
		waitFor(t, "the watcher ends", done)
	})
	return w
}

func TestNotifyGone(t *testing.T) {
	w := newWatcher(t)
	for name, network := range map[string]string{"tcp": "tcp", "unix": "unix"} {
		t.Run(name, func(t *testing.T) {
			c, far := pair(t, network, w)
			gone := make(chan struct{}, 2)
			stop := c.NotifyGone(func() { gone <- struct{}{} })
			if _, err := far.Write([]byte("unread")); err != nil { // is not leaving, and does not hide it
				t.Fatal(err)
			}
			if err := far.(interface{ CloseWrite() error }).CloseWrite(); err != nil {
				t.Fatal(err)
			}
			waitFor(t, "a FIN is seen", gone)
			stop()
			// A second watch on the same connection tells at once.
			stop = c.NotifyGone(func() { gone <- struct{}{} })
			waitFor(t, "it is seen again", gone)
			stop()
		})
	}
	t.Run("not after stop", func(t *testing.T) {
		c, far := pair(t, "tcp", w)
		var calls atomic.Int64
		c.NotifyGone(func() { calls.Add(1) })()
		other, otherFar := pair(t, "tcp", w)
		gone := make(chan struct{})
		defer other.NotifyGone(func() { close(gone) })()
		_ = far.Close()
		_ = otherFar.Close()
		waitFor(t, "the other one is seen", gone)
		if calls.Load() != 0 {
			t.Error("told after stop")
		}
	})
	t.Run("closed connection", func(t *testing.T) {
		c, _ := pair(t, "tcp", w)
		_ = c.Close()
		c.NotifyGone(func() { t.Error("told about a connection of our own") })()
	})
	t.Run("without a watcher", func(t *testing.T) {
		c, _ := pair(t, "tcp", nil)
		c.NotifyGone(nil)()
	})
	w.mu.Lock()
	defer w.mu.Unlock()
	if len(w.calls) != 0 {
		t.Errorf("%d watches are left", len(w.calls))
	}
}

func TestOf(t *testing.T) {
	c, far := pair(t, "tcp", nil)
	if Of(c) != c || Of(tls.Server(c, &tls.Config{})) != c {
		t.Error("not found")
	}
	if Of(far) != nil {
		t.Error("found in a bare connection")
	}
	near, _ := net.Pipe()
	if _, err := New(near, nil); !errors.Is(err, ErrNotASocket) {
		t.Error(err)
	}
}

// A Conn that waits reads, writes and fails as the connection below it does.
func TestConnIsANetConn(t *testing.T) {
	for _, network := range []string{"tcp", "unix"} {
		t.Run(network, func(t *testing.T) {
			c, far := pair(t, network, nil)
			c.Count = new(Bytes)
			if n, err := c.Read(nil); n != 0 || err != nil {
				t.Errorf("read of nothing: %d %v", n, err)
			}
			if n, err := c.Write(nil); n != 0 || err != nil {
				t.Errorf("write of nothing: %d %v", n, err)
			}
			sent := bytes.Repeat([]byte("0123456789"), 1<<20)
			wrote := make(chan error, 1)
			go func() {
				n, err := c.Write(sent)
				if err == nil && n != len(sent) {
					err = io.ErrShortWrite
				}
				wrote <- err
			}()
			got := make([]byte, len(sent))
			if _, err := io.ReadFull(far, got); err != nil || !bytes.Equal(got, sent) {
				t.Errorf("%v, the same: %v", err, bytes.Equal(got, sent))
			}
			if err := waitFor(t, "the write", wrote); err != nil {
				t.Error(err)
			}
			if n := c.Count.Written.Load(); n != int64(len(sent)) {
				t.Errorf("counted %d", n)
			}

			_ = c.SetDeadline(time.Now().Add(10 * time.Millisecond))
			if n, err := c.Write(sent); n <= 0 || n >= len(sent) || !errors.Is(err, os.ErrDeadlineExceeded) {
				t.Errorf("write to a peer that does not read: %d %v", n, err)
			}
			if _, err := c.Read(got); !errors.Is(err, os.ErrDeadlineExceeded) {
				t.Errorf("read of nothing to come: %v", err)
			}
			_ = c.SetDeadline(time.Time{})

			_ = far.Close() // with bytes unread: a reset, where there is such a thing
			_, _ = io.Copy(io.Discard, c)
			_, err := c.Write(sent)
			var op *net.OpError
			if !errors.As(err, &op) || op.Op != "write" || op.Addr == nil || !errors.Is(err, syscall.EPIPE) && !errors.Is(err, syscall.ECONNRESET) {
				t.Errorf("write to nobody: %v", err)
			}
			_ = c.Close()
			if _, err := c.Read(got); !errors.Is(err, net.ErrClosed) {
				t.Errorf("read of a closed connection: %v", err)
			}
			if _, err := c.Write(sent); !errors.Is(err, net.ErrClosed) {
				t.Errorf("write to a closed connection: %v", err)
			}
		})
	}
}

// A connection that waits points at no memory that others use meanwhile.
func TestWaitingReadHoldsNothing(t *testing.T) {
	c, _ := pair(t, "tcp", nil)
	var b Buffer
	b.borrow()
	c.buffer = &b
	err := c.raw.Control(func(fd uintptr) {
		if c.borrow(fd) {
			t.Error("there was something to read")
		}
	})
	if err != nil || b.mem != nil || c.borrowed.p != nil {
		t.Errorf("%v, buffer held: %v, %d bytes pointed at", err, b.mem != nil, len(c.borrowed.p))
	}
}
