package h2

import (
	"crypto/tls"
	"net"
	"runtime"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/net/http2/hpack"

	"etcdops/proxy/socket"
)

const (
	// outTarget is how many bytes of frames a connection gathers before queues
	// have to wait; one write takes about that much.
	outTarget = 64 << 10
	// gatherBelow is with how few bytes a flush to a member lets others add theirs.
	gatherBelow = 16 << 10
	// gatherStreams is with how few streams nobody else is waited for.
	gatherStreams = 8
	// gatherYields is how often a flush lets others go first, as long as they add some.
	gatherYields = 4
	// gatherPasses is how many flushes to a member leave without that at most.
	gatherPasses = 63
	// outLimit is how many bytes of frames may wait for a peer that does not
	// read: then we do not read from it either, or send no new stream there.
	outLimit = 1 << 20
	// clientWindow is the connection window that a client gets, less what is
	// queued from it.
	clientWindow = 1 << 20
	// memberWindow is the connection window that a member gets: a few of its streams'
	// largest. It is refilled on receipt: what bounds the memory is the streams'
	// windows.
	memberWindow = 1 << 26
	// tableSize is the HPACK table that we use at most.
	tableSize = 4096
)

// conn is one HTTP/2 connection, to a client or to a member.
type conn struct {
	r      *Relay
	nc     net.Conn
	sock   *socket.Conn
	client *clientConn // nil on a member connection
	member *memberConn // nil on a client connection

	lastRead atomic.Int64 // unix milliseconds

	mu       sync.Mutex
	out      []byte // frames not yet given to write
	spare    []byte
	flushing bool
	ending   bool       // nothing more is to be said: the connection ends when out has left
	closed   bool       // nothing more can be said
	drained  *sync.Cond // of mu: out has shrunk, or the connection has ended
	appended uint64     // bytes of frames ever made
	given    uint64     // bytes of frames ever given to write
	inVain   int        // flushes that pass after gathering nothing
	passes   int        // of them, those that still do
	enc      *encoder
	streams  map[uint32]*side
	ready    []*side // with something to send that its stream window allows
	queued   int     // bytes in the sides' queues
	taken    uint64  // bytes of data that ever left for the peer
	credits  []credit

	sendWin   int64 // what the peer lets us send on the connection
	initWin   int64 // what it lets us send on a new stream
	frameSize int
	recvLeft  int64 // what we let the peer send
	recvOwed  int64 // of that, consumed and not yet given back
	path      path

	moved   uint64 // given, or taken, at the last look of the stall watch
	movedAt time.Time
}

func newConn(r *Relay, nc net.Conn, window int64) *conn {
	c := &conn{
		r: r, nc: nc, sock: socket.Of(nc), streams: map[uint32]*side{},
		sendWin: initWindow, initWin: initWindow, frameSize: maxFrame, recvLeft: window,
	}
	c.drained = sync.NewCond(&c.mu)
	c.enc = newEncoder()
	c.lastRead.Store(time.Now().UnixMilli())
	c.movedAt = time.Now()
	c.path.told = time.Since(epoch)
	return c
}

// onDrain goes on with a flush that had to stop because the peer did not read.
func (c *conn) onDrain() {
	var b batch
	b.add(c)
	b.flush()
}

// appendRaw adds bytes that are frames already; c.mu is held.
func (c *conn) appendRaw(p []byte) {
	if !c.closed {
		c.out = append(c.out, p...)
		c.appended += uint64(len(p))
	}
}

// appendUint32 adds a frame of one number to the output; c.mu is held.
func (c *conn) appendUint32(typ byte, id, v uint32) {
	if !c.closed {
		c.out = appendUint32Frame(c.out, typ, id, v)
		c.appended += frameHead + 4
	}
}

// appendFrame adds a frame to the output; c.mu is held.
func (c *conn) appendFrame(typ, flags byte, id uint32, payload []byte) {
	if !c.closed {
		c.out = appendFrame(c.out, typ, flags, id, payload)
		c.appended += uint64(frameHead + len(payload))
	}
}

// appendHeaders encodes a header block and splits it where the peer's frame
// size wants it; c.mu is held from encoding to appending, because the order of
// blocks is the state of HPACK.
func (c *conn) appendHeaders(id uint32, fields []hpack.HeaderField, end bool) {
	if c.closed {
		return
	}
	block := c.enc.block(fields)
	defer c.enc.giveBack()
	typ, flags := byte(frameHeaders), byte(0)
	if end {
		flags = flagEndStream
	}
	for {
		part := block[:min(len(block), c.frameSize)]
		if block = block[len(part):]; len(block) == 0 {
			c.appendFrame(typ, flags|flagEndHeaders, id, part)
			return
		}
		c.appendFrame(typ, flags, id, part)
		typ, flags = frameContinuation, 0
	}
}

// batch is the set of connections that a goroutine has written to.
type batch struct{ dirty []*conn }

func (b *batch) add(c *conn) {
	for _, x := range b.dirty {
		if x == c {
			return
		}
	}
	b.dirty = append(b.dirty, c)
}

func (b *batch) flush() {
	for len(b.dirty) > 0 {
		c := b.dirty[len(b.dirty)-1]
		b.dirty[len(b.dirty)-1] = nil
		b.dirty = b.dirty[:len(b.dirty)-1]
		c.flush(b)
	}
}

// flush writes what is there without waiting. One goroutine at a time writes;
// what others add meanwhile goes out in its next round. When the kernel takes no
// more, the socket calls onDrain later.
func (c *conn) flush(b *batch) {
	c.mu.Lock()
	if c.flushing {
		c.mu.Unlock()
		return
	}
	c.flushing = true
	if c.member != nil {
		c.gather()
	}
	for !c.closed {
		c.produce()
		if len(c.out) == 0 {
			break
		}
		pending, failed := c.sock.State()
		if failed { // what is left was never given to write
			c.closeLocked()
		}
		if failed || pending > 0 {
			break
		}
		had := c.appended
		c.writeOut(b)
		if c.appended > had {
			c.inVain, c.passes = 0, 0
		}
	}
	c.flushing = false
	if c.ending && !c.closed && len(c.out) == 0 && c.sock.Pending() == 0 {
		c.shutWrite()
	}
	var late []credit
	if c.closed { // bytes that will never be written are of no use any more
		late, c.credits = c.credits, nil
	}
	c.mu.Unlock()
	for _, cr := range late {
		cr.apply(b)
	}
}

// gather lets the goroutines go first that are about to run: what their clients have
// for the member leaves in the same write, and is one read for it. Those go first again
// whom the last ones have woken, while there are any. The longer there was
// nobody to wait for, the more flushes pass before it is tried again: to yield wakes
// another thread. mu is held, but not meanwhile.
func (c *conn) gather() {
	if len(c.out) >= gatherBelow || len(c.streams) < gatherStreams {
		return
	}
	if c.passes > 0 {
		c.passes--
		return
	}
	began := c.appended
	for range gatherYields {
		had := c.appended
		c.mu.Unlock()
		runtime.Gosched()
		c.mu.Lock()
		if c.appended == had || len(c.out) >= gatherBelow {
			break
		}
	}
	if c.inVain = min(2*c.inVain+1, gatherPasses); c.appended > began {
		c.inVain = 0
	}
	c.passes = c.inVain
}

// writeOut gives the output to write and then the credit of what was in it. mu
// is held, but not meanwhile.
func (c *conn) writeOut(b *batch) {
	out, credits := c.out, c.credits
	c.out, c.spare, c.credits = c.spare[:0], nil, nil
	c.given += uint64(len(out))
	c.drained.Broadcast()
	c.mu.Unlock()

	_, err := c.nc.Write(out)
	for _, cr := range credits {
		cr.apply(b)
	}

	c.mu.Lock()
	if cap(out) <= 2*outTarget {
		c.spare = out[:0]
	}
	if c.credits == nil {
		c.credits = credits[:0]
	}
	if err != nil {
		c.closeLocked()
	}
}

// close ends the connection at once. Its reader notices and cleans up.
func (c *conn) close() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.closeLocked()
}

func (c *conn) closeLocked() {
	c.closed = true
	c.drained.Broadcast()
	_ = c.nc.Close()
}

// finish ends the connection after what was written has left. It closes our
// side only: the reader goes on until the peer has closed its own, because
// closing on bytes of the peer's that are unread or under way would destroy
// what it has not read yet.
func (c *conn) finish() {
	c.mu.Lock()
	if !c.ending {
		c.ending, c.movedAt = true, time.Now()
		c.drained.Broadcast()
	}
	c.mu.Unlock()
	c.onDrain()
}

// shutWrite closes our side; all that was written is with the kernel. mu is held.
func (c *conn) shutWrite() {
	c.closed = true
	c.drained.Broadcast()
	if t, ok := c.nc.(*tls.Conn); ok {
		_ = t.CloseWrite()
	}
	if w, ok := c.sock.Conn.(interface{ CloseWrite() error }); !ok || w.CloseWrite() != nil {
		_ = c.nc.Close()
	}
}

// waitDrained holds the connection's own reader while its peer leaves too many
// of our frames unread.
func (c *conn) waitDrained() {
	c.mu.Lock()
	defer c.mu.Unlock()
	for len(c.out) > outLimit && !c.closed && !c.ending {
		c.drained.Wait()
	}
}
