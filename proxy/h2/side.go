package h2

import (
	"sync/atomic"

	"golang.org/x/net/http2/hpack"
)

const (
	// streamWindow is what a new stream may send us before we give credit back.
	streamWindow = 65535
	// maxStreamWindow is the most that a stream is granted whose queue keeps
	// draining while its window is what holds it up: as much as grpc-go's clients
	// grant (internal/transport/bdp_estimator.go, bdpLimit).
	maxStreamWindow = 16 << 20
	// grantCap bounds all windows granted above streamWindow, in bytes.
	grantCap = 256 << 20
)

// granted is what all streams together were granted above streamWindow.
var granted atomic.Int64

// side is a stream's state on one of its two connections, under that
// connection's mu.
type side struct {
	s    *stream
	c    *conn
	peer *side // the other connection's side of the stream; nil while there is none
	id   uint32

	// towards the connection
	q        []byte // data that waits for a window
	off      int
	win      int64
	listed   bool // in c.ready
	began    bool // HEADERS were sent
	fin      bool // END_STREAM follows the queue
	trailing bool // trailers, with END_STREAM, follow the queue
	trailers []hpack.HeaderField
	reset    bool // RST_STREAM follows the queue
	code     errCode
	ended    bool // we sent END_STREAM or RST_STREAM
	skip     int  // bytes at the queue's head whose credit was given before

	// from the connection
	left   int64 // what the peer may still send
	owed   int64 // consumed, credit not yet given
	window int64 // granted size
	pace   pace
	over   bool // END_STREAM or RST_STREAM was received

	dead bool // no longer a stream of the connection
}

func (sd *side) start(s *stream, c *conn, id uint32) {
	*sd = side{
		s: s, c: c, id: id, q: sd.q[:0], trailers: sd.trailers[:0],
		win: c.initWin, left: streamWindow, window: streamWindow,
	}
	c.streams[id] = sd
}

func (sd *side) waiting() int { return len(sd.q) - sd.off }

// send queues or writes data, and END_STREAM behind it. It returns how many
// bytes need no room any more: written, or of no use. c.mu is held.
func (sd *side) send(p []byte, end bool) (done int) {
	c := sd.c
	if sd.dead || sd.ended || sd.fin || sd.reset || c.closed {
		return len(p)
	}
	sd.fin = end
	if sd.waiting() == 0 && len(c.ready) == 0 {
		for len(p) > 0 && len(c.out) < outTarget {
			n := sd.room(len(p))
			if n == 0 {
				break
			}
			sd.write(p[:n], end && n == len(p))
			p = p[n:]
			done += n
		}
		if len(p) == 0 {
			sd.conclude()
			return done
		}
	}
	if len(p) > 0 {
		sd.push(p)
	}
	sd.list()
	return done
}

// room is how many of n bytes the windows and the frame size let pass.
func (sd *side) room(n int) int {
	return int(max(0, min(int64(n), sd.win, sd.c.sendWin, int64(sd.c.frameSize), maxFrame)))
}

func (sd *side) write(p []byte, end bool) {
	flags := byte(0)
	if end {
		flags, sd.ended = flagEndStream, true
	}
	sd.c.appendFrame(frameData, flags, sd.id, p)
	sd.win -= int64(len(p))
	sd.c.sendWin -= int64(len(p))
	sd.c.taken += uint64(len(p))
}

func (sd *side) push(p []byte) {
	if sd.off > 0 && len(sd.q)+len(p) > cap(sd.q) {
		sd.q = sd.q[:copy(sd.q, sd.q[sd.off:])]
		sd.off = 0
	}
	sd.q = append(sd.q, p...)
	sd.c.queue(len(p))
}

// list puts the side in line if there is something that may be sent.
func (sd *side) list() {
	if sd.listed || sd.dead || sd.waiting() > 0 && sd.win <= 0 {
		return
	}
	if sd.waiting() > 0 || sd.fin && !sd.ended || sd.reset {
		sd.listed = true
		sd.c.ready = append(sd.c.ready, sd)
	}
}

// conclude sends what follows an empty queue, and forgets the stream when both
// directions are over. A client whose answer is complete is told that the rest of its
// request is not wanted (RFC 9113 section 8.1), as grpc-go's and Go's servers tell it:
// grpc-go's client, for one, drops its END_STREAM where the answer overtakes it.
func (sd *side) conclude() {
	if sd.waiting() > 0 {
		return
	}
	if sd.fin && !sd.ended {
		sd.ended = true
		if sd.trailing {
			sd.c.appendHeaders(sd.id, sd.trailers, true)
			sd.dropTrailers()
		} else {
			sd.c.appendFrame(frameData, flagEndStream, sd.id, nil)
		}
	}
	if sd.reset {
		sd.rst(sd.code)
		return
	}
	switch {
	case !sd.ended:
	case sd.over:
		sd.forget()
	case sd.c.client != nil:
		sd.rst(codeNo)
	}
}

// answered forgets a member's stream whose answer is complete. What has not been sent of
// its request is of no use any more, and the member has no reason to give a window for
// it: it is told, which needs a flush.
func (sd *side) answered() (told bool) {
	switch {
	case sd.dead:
	case sd.ended:
		sd.conclude()
	default:
		sd.rst(codeCancel)
		return true
	}
	return false
}

// dropTrailers lets go of what was said, or has nobody to hear it.
func (sd *side) dropTrailers() {
	clear(sd.trailers)
	sd.trailers = sd.trailers[:0]
}

// headers sends a header block behind all data: the response's head, or
// trailers where end is set.
func (sd *side) headers(fields []hpack.HeaderField, end bool) {
	if sd.dead || sd.ended || sd.fin || sd.reset {
		return
	}
	if sd.waiting() > 0 {
		if end { // only trailers can come behind data
			sd.fin, sd.trailing, sd.trailers = true, true, append(sd.trailers[:0], fields...)
		}
		return
	}
	sd.began = true
	sd.c.appendHeaders(sd.id, fields, end)
	if end {
		sd.ended, sd.fin = true, true
		sd.conclude()
	}
}

// resetBehind sends RST_STREAM after what is queued, as the member sent it.
func (sd *side) resetBehind(code errCode) {
	if sd.dead || sd.reset {
		return
	}
	sd.reset, sd.code = true, code
	if sd.waiting() == 0 {
		sd.conclude()
	} else {
		sd.list()
	}
}

// rst sends RST_STREAM now and forgets the stream.
func (sd *side) rst(code errCode) {
	if sd.dead {
		return
	}
	if cc := sd.c.client; cc != nil && !sd.over {
		cc.noteReset(sd.id)
	}
	sd.c.appendUint32(frameRSTStream, sd.id, uint32(code))
	sd.ended = true
	sd.forget()
}

// detach takes the stream off its connection. What was queued stays to be
// looked at by its caller.
func (sd *side) detach() {
	sd.dead = true
	delete(sd.c.streams, sd.id)
	sd.c.queue(-sd.waiting())
	if extra := sd.window - streamWindow; extra > 0 {
		granted.Add(-extra)
	}
	sd.window = streamWindow
}

// forget detaches the stream and gives up what was queued.
func (sd *side) forget() {
	if sd.dead {
		return
	}
	sd.detach()
	if n := sd.waiting(); n > 0 {
		if sd.c.member != nil { // the client's window still counts them
			sd.owe(sd.unskipped(n), true)
		}
	}
	if sd.q, sd.off = sd.q[:0], 0; cap(sd.q) > spentQueue {
		sd.q = nil
	}
	sd.dropTrailers()
	if sd.c.member != nil {
		sd.c.member.streamGone()
	} else {
		sd.c.client.spend(sd.s)
		sd.c.client.streamGone()
	}
}

// produce moves queued data into the output, a frame a stream in turn, as far
// as the windows and outTarget go; c.mu is held.
func (c *conn) produce() {
	i := 0
	for ; i < len(c.ready) && len(c.out) < outTarget; i++ {
		sd := c.ready[i]
		if sd.dead {
			sd.listed = false
			continue
		}
		if sd.waiting() > 0 {
			n := sd.room(sd.waiting())
			if n == 0 && sd.win > 0 {
				break // the connection's window: this side stays first in line
			}
			if n > 0 {
				last := n == sd.waiting()
				sd.write(sd.q[sd.off:sd.off+n], last && sd.fin && !sd.trailing)
				sd.off += n
				c.queue(-n)
				sd.owe(sd.unskipped(n), last)
				if last {
					sd.empty()
				}
			}
		}
		sd.listed = false
		if sd.waiting() == 0 {
			sd.conclude()
		} else if sd.win > 0 {
			sd.listed = true
			c.ready = append(c.ready, sd)
		}
	}
	n := copy(c.ready, c.ready[i:])
	clear(c.ready[n:]) // what has gone must not be kept alive
	c.ready = c.ready[:n]
}

// unskipped is how many of n bytes that leave the queue are to be credited.
func (sd *side) unskipped(n int) int {
	k := min(n, sd.skip)
	sd.skip -= k
	return n - k
}

// uncredited is how many of the waiting bytes the client's window still counts.
func (sd *side) uncredited() int { return sd.waiting() - min(sd.skip, sd.waiting()) }

// empty resets an emptied queue and keeps only a small buffer.
func (sd *side) empty() {
	if cap(sd.q) > streamWindow+1 {
		sd.q = nil
	}
	sd.q, sd.off = sd.q[:0], 0
}

// credit says that n bytes that came from a side are gone from the queue they
// waited in; dry, that this queue is empty now.
type credit struct {
	from *side
	s    *stream
	n    int
	dry  bool
}

// owe notes the credit of n bytes that have left the queue.
func (sd *side) owe(n int, dry bool) {
	sd.s.owing.Add(1)
	sd.c.credits = append(sd.c.credits, credit{sd.peer, sd.s, n, dry})
}

// apply gives the credit back to the connection that the bytes came from. No
// connection's mu is held.
func (cr credit) apply(b *batch) {
	defer cr.s.owing.Add(-1)
	if cr.from == nil {
		cr.s.bridgeCredit(cr.n)
		return
	}
	c := cr.from.c
	c.mu.Lock()
	if cr.from.consumed(int64(cr.n), cr.dry) {
		b.add(c)
	}
	c.mu.Unlock()
}

// consumed counts n bytes as done with and gives windows back in batches of
// half their size. It says whether a frame was made. c.mu is held.
func (sd *side) consumed(n int64, dry bool) (wrote bool) {
	c := sd.c
	if c.closed {
		return false
	}
	if c.client != nil {
		wrote = c.refill(n)
	}
	if sd.dead || sd.over {
		return wrote
	}
	sd.owed += n
	if !sd.enough() {
		return wrote
	}
	give := sd.owed + sd.grow(dry)
	sd.owed = 0
	sd.left += give
	c.appendUint32(frameWindowUpdate, sd.id, uint32(give))
	return true
}

// refill gives n bytes of the connection's window back.
func (c *conn) refill(n int64) (wrote bool) {
	window := int64(memberWindow)
	if c.client != nil {
		window = clientWindow
	}
	c.recvOwed += n
	if c.recvOwed < window/2 {
		return false
	}
	c.appendUint32(frameWindowUpdate, 0, uint32(c.recvOwed))
	c.recvLeft += c.recvOwed
	c.recvOwed = 0
	return true
}

// received takes a DATA frame's flow-controlled length out of the windows.
func (sd *side) received(n int64) error {
	sd.left -= n
	if sd.left < 0 {
		return streamError{sd.id, codeFlowControl}
	}
	sd.c.path.used(&sd.pace, n)
	return nil
}
