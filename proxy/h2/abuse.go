package h2

import (
	"sync/atomic"
	"time"
)

// What a client can do that costs us, or a member, more than itself (RFC 9113
// section 10.5), and what bounds it. "Cut off" is GOAWAY with ENHANCE_YOUR_CALM and
// the end of that connection; neighbours on the same member connection go on.
//
//	the client …                        | bound                         | beyond it
//	------------------------------------+-------------------------------+---------------------
//	sends a long header list            | Relay.HeaderLimit             | its request is refused
//	  a very long one                   | overLimit × HeaderLimit       | cut off
//	spreads one over many CONTINUATIONs | maxContinuations              | cut off
//	  (CVE-2024-27316)                  |                               |
//	  on many connections               | policy.KeptLimit              | cut off
//	sends one drop by drop              | Relay.HeadTimeout             | closed
//	opens more streams than it may      | Relay.MaxStreams              | REFUSED_STREAM, and
//	                                    |                               | as the next line
//	resets streams that we have not     | resetBurst × MaxStreams, and  | cut off
//	  answered (CVE-2023-44487), or     | MaxStreams a second           |
//	  makes us reset them               |                               |
//	  (CVE-2025-8671)                   |                               |
//	sends PING (CVE-2019-9512), SETTINGS| uselessBurst, uselessRate a   | cut off
//	  (9515, at settingsPrice),         | second, and what its requests |
//	  PRIORITY (9513), WINDOW_UPDATE    | and our answers earn          |
//	  (9511), frames without content    |                               |
//	  (9518), unknown ones              |                               |
//	does not read the replies to them   | outLimit, and one buffer      | nothing is read from
//	                                    |                               | it meanwhile
//	does not read answers, or keeps its | outLimit, and stallShare of   | cut off
//	  windows shut or nearly            | it in stallLimit              |
//	  (CVE-2019-9517)                   |                               |
//	  on many streams, or connections   | queueCap for all clients      | who holds most is
//	                                    |                               | cut off
//	leaves requests that look for a     | Relay.MaxStreams, those that  | UNAVAILABLE
//	  member                            | were reset too                |
//	leaves requests that go by HTTP/1.1 | the same                      | REFUSED_STREAM
//
// A client that behaves comes near none of them: calls whose time runs out after a
// second can't be more in a second than streams that may be open, and grpc-go's PING
// for each answer is earned by that answer.
const (
	// resetBurst is how many times MaxStreams of streams may end at once without an
	// answer; leastResets stands for a MaxStreams below it.
	resetBurst  = 2
	leastResets = 1000

	// uselessBurst is how many frames that bring nothing may come at once, uselessRate
	// how many a second.
	uselessBurst = 10000
	uselessRate  = 1000
	// settingsPrice is as how many of them SETTINGS count, which walk over all streams.
	settingsPrice = 100
	// requestEarns is how many of them a request allows; earnPiece, for how many bytes
	// that we send there may be one more; replySize is a reply's, which earns nothing.
	requestEarns = 4
	earnPiece    = 16
	replySize    = frameHead + 8

	// stallLimit is how long a client connection with more than outLimit queued
	// towards it may go without progress. Where data waits for windows, progress is
	// that one stallShare-th of it has left.
	stallLimit = 10 * time.Second
	stallShare = 256

	// queueCap bounds what waits for all clients together, in bytes, but for outLimit
	// each.
	queueCap = 256 << 20
)

// budget is what a client may yet make us do for nothing. What it has earned is
// counted when nothing is left: until then a frame costs one subtraction.
type budget struct {
	streams int // MaxStreams, or leastResets

	resets   int // streams that may end without an answer
	resetsAt time.Time

	frames   int // frames that may bring nothing
	counted  int // as many were they when what is earned was counted last
	framesAt time.Time
	opened   uint32 // maxID then
	appended uint64 // bytes of frames made for it until then
}

func newBudget(maxStreams int, now time.Time) budget {
	n := max(maxStreams, leastResets)
	return budget{streams: n, resets: resetBurst * n, resetsAt: now, frames: uselessBurst, counted: uselessBurst, framesAt: now}
}

// wasted counts a stream that has ended without an answer. Its error cuts the client
// off.
func (cc *clientConn) wasted() error {
	b := &cc.budget
	if b.resets--; b.resets >= 0 {
		return nil
	}
	now := time.Now()
	b.resets += earned(now.Sub(b.resetsAt), b.streams, resetBurst*b.streams)
	b.resetsAt = now
	if b.resets < 0 {
		return connError{codeEnhanceYourCalm, "too many streams were reset"}
	}
	return nil
}

// useless counts a frame that brings nothing, at its price. Its error cuts the client
// off.
func (cc *clientConn) useless(price int) error {
	b := &cc.budget
	if b.frames -= price; b.frames >= 0 {
		return nil
	}
	cc.mu.Lock()
	opened, appended := cc.maxID, cc.appended
	cc.mu.Unlock()
	now := time.Now()
	sent := int(appended-b.appended) - replySize*(b.counted-b.frames)
	b.frames += min(uselessBurst, earned(now.Sub(b.framesAt), uselessRate, uselessBurst)+
		int(opened-b.opened)/2*requestEarns+max(0, sent)/earnPiece)
	b.counted, b.framesAt, b.opened, b.appended = b.frames, now, opened, appended
	if b.frames < 0 {
		return connError{codeEnhanceYourCalm, "too many frames that bring nothing"}
	}
	return nil
}

// earned is how many come in a time, at so many a second, up to most.
func earned(in time.Duration, rate, most int) int {
	return int(min(in.Seconds()*float64(rate), float64(most)))
}

// useless says whether a client's frame brings nothing by itself: all but a request,
// its content and its end.
func (f *frame) useless() bool {
	switch f.typ {
	case frameHeaders, frameContinuation:
		return false
	case frameData:
		content := len(f.payload)
		if f.has(flagPadded) && content > 0 {
			content -= 1 + int(f.payload[0])
		}
		return content <= 0 && !f.has(flagEndStream)
	}
	return true
}

// price is as how many frames that bring nothing it counts.
func (f *frame) price() int {
	if f.typ == frameSettings {
		return settingsPrice
	}
	return 1
}

// stalled says whether more than outLimit waits for the peer, or the connection is to
// end, and too little has moved for stallLimit.
func (c *conn) stalled(now time.Time) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	pending := c.sock.Pending()
	gone, least := c.given-min(uint64(pending), c.given), uint64(1)
	if c.queued > outLimit/2 && !c.ending { // then replies to PING are no progress
		gone, least = c.taken, uint64(c.queued/stallShare)
	}
	idle := !c.ending && c.queued+len(c.out)+pending <= outLimit
	if idle || gone < c.moved || gone-c.moved >= least {
		c.moved, c.movedAt = gone, now
		return false
	}
	return now.Sub(c.movedAt) >= stallLimit
}

// queuedToClients is what waits in the queues towards all clients, in bytes.
var queuedToClients atomic.Int64

// queue counts n bytes more in the sides' queues; c.mu is held.
func (c *conn) queue(n int) {
	c.queued += n
	if c.client == nil {
		return
	}
	if queuedToClients.Add(int64(n)) > queueCap && n > 0 && c.queued > outLimit {
		select {
		case c.r.crowded <- struct{}{}:
		default: // it is known
		}
	}
}

// relieve cuts off who holds most, until the queues are below queueCap.
func (r *Relay) relieve() {
	for queuedToClients.Load() > queueCap {
		var most *clientConn
		held := outLimit
		for _, cc := range r.clientList() {
			cc.mu.Lock()
			if cc.queued > held {
				most, held = cc, cc.queued
			}
			cc.mu.Unlock()
		}
		if most == nil {
			return
		}
		r.Logger.Warn("client holds too much, closed", "client", most.nc.RemoteAddr().String(), "bytes", held)
		most.calm("too much of what was asked for is not taken")
	}
}

// calm cuts the client off from outside its reader.
func (cc *clientConn) calm(reason string) {
	cc.mu.Lock()
	again := cc.ending
	if !again {
		cc.calmed, cc.draining, cc.final = reason, true, true
		cc.appendRaw(goAway(cc.lastID, codeEnhanceYourCalm, reason))
	}
	cc.mu.Unlock()
	if again { // it had its time
		cc.close()
		return
	}
	var b batch
	cc.abandon(&b)
	cc.finish()
	b.flush()
	_ = cc.sock.SetReadDeadline(time.Now()) // wakes the reader
}
