// Package socket wraps the TCP and unix connections of the data path: reads
// that hold no buffer while they wait, writes that never block their caller,
// and a watch for peers that have left.
package socket

import (
	"errors"
	"io"
	"net"
	"os"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// ErrNotASocket says that a connection has no file descriptor to work on.
var ErrNotASocket = errors.New("connection has no file descriptor")

// Conn is a stream connection with a file descriptor. Until NonBlocking is
// called it writes as any net.Conn does.
type Conn struct {
	net.Conn
	raw     syscall.RawConn
	watcher *Watcher

	// Count, if not nil, gets what is read and written. It must be set before the
	// connection is used.
	Count *Bytes

	mu       sync.Mutex
	deferred bool   // NonBlocking was called
	onDrain  func() // called after pending has emptied
	timeout  time.Duration
	pending  []byte // what the kernel did not take yet
	leaving  int    // how much the on-demand writer has in hand
	spare    []byte
	writing  bool // the on-demand writer runs
	err      error

	in, borrowed transfer
	taken        transfer // what the kernel takes of a write, under mu
	queue        sync.Mutex
	out          transfer // a write that waits, under queue
	buffer       *Buffer  // of borrowed
	look         look
}

// Bytes counts what many connections have read and written.
type Bytes struct{ Read, Written atomic.Int64 }

func (b *Bytes) read(n int) {
	if b != nil && n > 0 {
		b.Read.Add(int64(n))
	}
}

func (b *Bytes) written(n int) {
	if b != nil && n > 0 {
		b.Written.Add(int64(n))
	}
}

// New wraps c, which must be a *net.TCPConn or a *net.UnixConn. A nil watcher
// means that NotifyGone never reports.
func New(c net.Conn, watcher *Watcher) (*Conn, error) {
	sc, ok := c.(syscall.Conn)
	if !ok {
		return nil, ErrNotASocket
	}
	raw, err := sc.SyscallConn()
	if err != nil {
		return nil, err
	}
	s := &Conn{Conn: c, raw: raw, watcher: watcher}
	s.in.do = s.in.receive
	s.borrowed.do = s.borrow
	s.taken.do = func(fd uintptr) bool { s.taken.send(fd); return true }
	s.out.do = s.out.send
	s.look.do = s.look.at
	return s, nil
}

// Of finds the socket below a connection: c itself, or what a TLS connection
// stands on. It returns nil where there is none.
func Of(c net.Conn) *Conn {
	for {
		switch v := c.(type) {
		case *Conn:
			return v
		case interface{ NetConn() net.Conn }:
			c = v.NetConn()
		default:
			return nil
		}
	}
}

// NonBlocking makes every later Write return at once: what the kernel does not
// take is kept and written by a goroutine started on demand, which calls
// onDrain when all is out, or the connection has failed. The caller looks at Pending and stops producing
// while it is not zero; that is what bounds the memory. A write that makes no
// progress for timeout fails the connection; zero means no limit.
func (c *Conn) NonBlocking(timeout time.Duration, onDrain func()) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.deferred, c.onDrain, c.timeout = true, onDrain, timeout
}

// Pending is the number of bytes that were written but not yet taken by the
// kernel.
func (c *Conn) Pending() int {
	n, _ := c.State()
	return n
}

// State is Pending, and whether a write has failed: then no later one reaches the
// kernel.
func (c *Conn) State() (pending int, failed bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return len(c.pending) + c.leaving, c.err != nil
}

// Read implements net.Conn. There is one reader.
func (c *Conn) Read(p []byte) (int, error) {
	n, err := c.readWaiting(p)
	c.Count.read(n)
	return n, err
}

// Write implements net.Conn. After NonBlocking it takes all of p, always.
func (c *Conn) Write(p []byte) (int, error) {
	c.mu.Lock()
	if !c.deferred {
		c.mu.Unlock()
		return c.writeAll(p)
	}
	defer c.mu.Unlock()
	if c.err != nil {
		return 0, c.err
	}
	rest := p
	if !c.writing {
		n, err := c.writeNow(p)
		if err != nil {
			c.err = err
			return n, err
		}
		rest = p[n:]
	}
	if len(rest) > 0 {
		c.pending = append(c.pending, rest...)
		if !c.writing {
			c.writing = true
			go c.drain()
		}
	}
	return len(p), nil
}

// writeAll writes all of p.
func (c *Conn) writeAll(p []byte) (int, error) {
	n, err := c.writeWaiting(p)
	c.Count.written(n)
	return n, err
}

// writeNow writes what the kernel takes without waiting. c.mu is held, and no
// drain runs, so nobody else is inside the descriptor's write lock for long.
func (c *Conn) writeNow(p []byte) (int, error) {
	n, err := c.taken.run(c.raw.Write, p)
	c.Count.written(n)
	return n, err
}

// drain writes pending out in blocking writes and then ends.
func (c *Conn) drain() {
	c.mu.Lock()
	for c.err == nil {
		if len(c.pending) == 0 {
			if c.timeout > 0 { // an old deadline would fail the next direct write
				c.err = c.Conn.SetWriteDeadline(time.Time{})
			}
			break
		}
		out := c.pending
		c.pending, c.spare = c.spare[:0], nil
		c.leaving = len(out)
		timeout := c.timeout
		c.mu.Unlock()
		err := c.writeOut(out, timeout)
		c.mu.Lock()
		c.leaving = 0
		if cap(out) <= maxSpare {
			c.spare = out[:0]
		}
		if err != nil {
			c.err = err
			c.pending = nil
		}
	}
	c.writing = false
	failed, onDrain := c.err != nil, c.onDrain
	c.mu.Unlock()
	if failed {
		_ = c.Conn.Close() // wakes the reader, which ends the connection's owner
	}
	if onDrain != nil {
		onDrain()
	}
}

// maxSpare is the largest write buffer that an idle connection keeps, in bytes.
const maxSpare = 64 << 10

// writePiece is how much is written at once, in bytes: the steps in which Pending
// falls.
const writePiece = 64 << 10

// writeOut writes p; the limit counts from the last progress, not from the start.
func (c *Conn) writeOut(p []byte, timeout time.Duration) error {
	for len(p) > 0 {
		if timeout > 0 {
			if err := c.Conn.SetWriteDeadline(time.Now().Add(timeout)); err != nil {
				return err
			}
		}
		n, err := c.writeAll(p[:min(len(p), writePiece)])
		p = p[n:]
		c.mu.Lock()
		c.leaving -= n
		c.mu.Unlock()
		if err != nil && (n == 0 || !errors.Is(err, errTimeout)) {
			return err
		}
	}
	return nil
}

// ReadBorrowed reads once into b, which gets its memory from a shared pool only
// when there is something to read, and gives it back while b is empty and the
// wait goes on. An idle connection thus holds no buffer. It returns io.EOF at
// the end of the stream and io.ErrShortBuffer where b is full.
func (c *Conn) ReadBorrowed(b *Buffer) (int, error) {
	c.buffer = b
	n, err := c.borrowed.run(c.raw.Read, nil)
	c.buffer = nil
	b.grow(n)
	c.Count.read(n)
	return n, err
}

// borrow is a read whose buffer is there only while there is something to read.
func (c *Conn) borrow(fd uintptr) bool {
	c.buffer.borrow()
	if c.borrowed.p = c.buffer.free(); len(c.borrowed.p) == 0 {
		c.borrowed.err = io.ErrShortBuffer // a read of nothing would look like the end
		return true
	}
	done := c.borrowed.receive(fd)
	if c.borrowed.p = nil; !done { // the memory is another's now
		c.buffer.Return()
	}
	return done
}

// named says of an error of the kernel what failed, as package net does.
func (c *Conn) named(op string, err error) error {
	if err == nil {
		return nil // before errno, which is on the heap
	}
	var errno unix.Errno
	if !errors.As(err, &errno) {
		return err
	}
	return &net.OpError{Op: op, Net: c.LocalAddr().Network(), Source: c.LocalAddr(), Addr: c.RemoteAddr(), Err: os.NewSyscallError(op, errno)}
}

// Ended looks, without waiting, whether the peer has closed its side or broken
// the connection. Unread bytes count as ended too where none are expected:
// between two exchanges a peer has nothing to say. It works beside a blocked
// Read and behind a deadline that has passed.
func (c *Conn) Ended() bool {
	c.look.Lock()
	defer c.look.Unlock()
	err := c.raw.Control(c.look.do)
	return c.look.ended || err != nil
}

// look is a look at what there is, without taking it.
type look struct {
	sync.Mutex
	do    func(fd uintptr) // made once, so that no look allocates
	one   [1]byte
	ended bool
}

func (l *look) at(fd uintptr) {
	_, err := peekNow(int(fd), l.one[:])
	for errors.Is(err, unix.EINTR) {
		_, err = peekNow(int(fd), l.one[:])
	}
	l.ended = !errors.Is(err, unix.EAGAIN)
}

// NotifyGone calls f once, from another goroutine, when the peer has closed its
// side of the connection (a FIN counts) or broken it. The returned function
// ends the watch and must be called.
func (c *Conn) NotifyGone(f func()) (stop func()) {
	if c.watcher == nil {
		return func() {}
	}
	return c.watcher.watch(c.raw, f)
}
