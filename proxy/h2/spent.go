package h2

import (
	"math/bits"
	"sync"

	"golang.org/x/net/http2/hpack"

	"etcdops/proxy/policy"
)

// A client's next request is given the memory of one of its last, so that calls in a
// steady flow allocate nothing. A stream that somebody still holds would mix two
// requests, so a stream is used again only by its client's reader, between two frames,
// and only where each of those who can hold one has let go of it:
//
//	who can hold it                       | has let go where
//	--------------------------------------|------------------------------------------------
//	the client connection's streams       | only what is forgotten there is spent
//	the client's reader, in a frame       | it is the one that uses it again
//	the member's reader, in a frame       | settled: set behind its last look, at the end
//	  and its connection's streams        |   of an answer in good order; never elsewhere
//	the queues in line to be sent         | neither side is listed
//	credit that is still to be applied    | owing is 0
//	a search for a member                 | none was begun
//	another member side of a second try   | settled is for the first alone
//	a bridge                              | what is not gRPC is never spent
//	who ends all streams of the client    | none has looked for them: collected
//
// All others are left to the garbage collector.
const (
	// spentLimit is how many spent streams a client connection keeps. Half of them go
	// each second, so that none stays with a connection that is idle.
	spentLimit = 64
	// spentQueue is the longest queue's memory that a side keeps, in bytes, and
	// spentTrailers, in fields, that of trailers, or of a head of its own.
	spentQueue    = 1 << 10
	spentTrailers = 16
)

// spend keeps a stream that its client connection has forgotten; mu is held.
func (cc *clientConn) spend(s *stream) {
	if !cc.collected && !s.plain && !s.long && len(cc.spent) < spentLimit {
		cc.spent = append(cc.spent, s)
	}
}

// blank gives the memory for a new stream; mu is held, by the connection's reader.
func (cc *clientConn) blank() *stream {
	last := len(cc.spent) - 1
	if last < 0 || cc.collected {
		return &stream{}
	}
	s := cc.spent[last]
	cc.spent[last] = nil
	cc.spent = cc.spent[:last]
	if !s.settled.Load() || s.owing.Load() != 0 || s.client.listed || s.searched {
		return &stream{}
	}
	own := s.own
	if cap(own) > spentTrailers {
		own = nil
	}
	*s = stream{own: own[:0], client: s.client.emptied(), first: s.first.emptied()}
	return s
}

// emptied is what a dead side leaves to the next: memory alone.
func (sd *side) emptied() side {
	var left side
	if cap(sd.q) <= spentQueue {
		left.q = sd.q
	}
	if cap(sd.trailers) <= spentTrailers {
		left.trailers = sd.trailers
	}
	return left
}

// halveSpent lets go of half of what is kept.
func (cc *clientConn) halveSpent() {
	cc.mu.Lock()
	defer cc.mu.Unlock()
	n := copy(cc.spent, cc.spent[(len(cc.spent)+1)/2:])
	clear(cc.spent[n:])
	if cc.spent = cc.spent[:n]; n == 0 {
		cc.spent = nil
	}
}

const (
	// leastBuffer is the smallest buffer for what is kept of a request; each class is
	// of twice the size of the one before, up to keepLimit. In bytes.
	leastBuffer   = 64
	bufferClasses = 11
)

// keptBuffers are buffers for the data of requests that are kept for another member.
var keptBuffers [bufferClasses]sync.Pool

// bufferClass is the class of the smallest buffer that holds n bytes; over
// bufferClasses where none does.
func bufferClass(n int) int { return bits.Len(uint((n - 1) / leastBuffer)) }

// keep keeps more of the request's data. s.mu is held.
func (s *stream) keep(p []byte) {
	policy.Kept.Add(int64(len(p)))
	n := len(s.data) + len(p)
	class := bufferClass(n)
	if n <= cap(s.data) {
		s.data = append(s.data, p...)
		return
	}
	if class >= bufferClasses {
		data := append(s.data, p...) // elsewhere: it is longer than any buffer
		s.giveBack()
		s.data = data
		return
	}
	buffer, _ := keptBuffers[class].Get().(*[]byte)
	if buffer == nil {
		b := make([]byte, 0, leastBuffer<<class)
		buffer = &b
	}
	data := append(append((*buffer)[:0], s.data...), p...)
	s.giveBack()
	s.data, s.buffer = data, buffer
}

// giveBack gives the buffer back; what was sent of it was copied. s.mu is held.
func (s *stream) giveBack() {
	if s.buffer != nil {
		keptBuffers[bufferClass(cap(*s.buffer))].Put(s.buffer)
	}
	s.data, s.buffer = nil, nil
}

// forgetRequest gives up what is kept. s.mu is held.
func (s *stream) forgetRequest() {
	s.keeping = false
	policy.Kept.Add(-int64(len(s.data) + s.large))
	s.giveBack()
	clear(s.own)
	s.head, s.own, s.large = nil, s.own[:0], 0
}

// sameCall says whether a header list is a known one, less our Via, but for the value
// of grpc-timeout, which is another with every call; and whether it is wholly the same.
func sameCall(known, fields []hpack.HeaderField) (same, wholly bool) {
	if len(known) != len(fields)+1 {
		return false, false
	}
	wholly = true
	for i, f := range fields {
		switch {
		case f == known[i]:
		case f.Name == "grpc-timeout" && known[i].Name == f.Name && validValue(f.Value):
			wholly = false
		default:
			return false, false
		}
	}
	return true, wholly
}
