package h2

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"

	"golang.org/x/net/http2/hpack"

	"etcdops/proxy/director"
	"etcdops/proxy/policy"
	"etcdops/proxy/stats"
)

// keepLimit is the size up to which a request is kept for another member, in
// bytes of data.
const keepLimit = 64 << 10

// gRPC status codes that we give ourselves (grpc.io, doc/statuscodes.md).
const (
	grpcFailedPrecondition = 9
	grpcResourceExhausted  = 8
	grpcUnimplemented      = 12
	grpcUnavailable        = 14

	grpcCancelled = "1" // as grpc-status has it
)

// safeToRetry is the text by which etcd's clientv3 knows that a write was not
// sent (client/v3/retry.go, isSafeRetryMutableRPC). It must be exact.
const safeToRetry = "there is no address available"

// stream is one request of a client.
type stream struct {
	client side
	path   string
	call   policy.Call
	toCome int64 // of the content-length, -1 where none is given; the client's reader's own
	read   bool  // changes nothing, so a second member may be asked
	plain  bool  // not gRPC: it goes by the bridge
	judged bool  // its content decides whether it passes

	// mu orders what goes up: the kept request, then what the client adds.
	mu        sync.Mutex
	member    *side // nil while no member has it
	first     side  // storage of the first member side
	mark      uint64
	answered  bool                // the member's HEADERS have been passed on
	cancelled bool                // the client left or reset it, or we answered ourselves
	keeping   bool                // head and data hold the whole request so far
	head      []hpack.HeaderField // other requests may have the same
	large     int                 // what the head takes of policy.Kept, in bytes
	data      []byte              // in buffer
	buffer    *[]byte             // of keptBuffers
	end       bool                // the client's END_STREAM has come
	passed    bool                // it was judged, and passes
	sentUp    int                 // bytes of data that were handed to a member side
	tried     []*director.Endpoint
	back      *director.Endpoint // of those, the one whose connection ended under it: another connection may do
	lastErr   error
	bridge    *bridge

	// see spent.go
	own      []hpack.HeaderField // storage of a head that no other request has
	long     bool                // its head is: it would keep much
	searched bool                // the client's reader's own
	settled  atomic.Bool         // the member's reader has let go of it
	owing    atomic.Int32        // credits that hold it
}

// place gives the request to a member connection. It says false if that
// connection takes no new stream; then nothing of the request was sent.
func (s *stream) place(m *memberConn, b *batch) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.cancelled {
		return true
	}
	up := &s.first
	if up.s != nil { // a connection of before may still hold it
		up = &side{}
	}
	cc := s.client.c
	m.mu.Lock()
	if !m.admit() {
		m.mu.Unlock()
		return false
	}
	up.start(s, m.conn, m.takeID())
	up.peer = &s.client
	up.skip = s.sentUp
	s.mark = m.appended
	up.began = true
	bare := s.end && len(s.data) == 0
	m.appendHeaders(up.id, s.head, bare)
	credit := 0
	if bare {
		up.ended, up.fin = true, true
	} else if len(s.data) > 0 || s.end {
		credit = up.unskipped(up.send(s.data, s.end))
	}
	m.mu.Unlock()
	s.member = up
	s.sentUp = len(s.data)
	b.add(m.conn)

	cc.mu.Lock()
	s.client.peer = up
	if credit > 0 && s.client.consumed(int64(credit), true) {
		b.add(cc)
	}
	cc.mu.Unlock()
	return true
}

// counts says whether n more bytes, and their end, agree with the content-length
// (RFC 9113 section 8.1.1).
func (s *stream) counts(n int, end bool) bool {
	if s.toCome < 0 {
		return true
	}
	s.toCome -= int64(n)
	return s.toCome >= 0 && (!end || s.toCome == 0)
}

// more takes data that the client adds. The bytes are the reader's own.
func (s *stream) more(p []byte, end bool, b *batch) {
	s.mu.Lock()
	s.end = s.end || end
	if s.cancelled {
		s.mu.Unlock()
		s.creditClient(len(p), b)
		return
	}
	if s.bridge != nil {
		s.mu.Unlock()
		if !s.bridge.body(p, end) {
			s.creditClient(len(p), b)
		}
		return
	}
	if s.keeping && !s.answered {
		// Before a member has it, keeping is how it waits: its window bounds it.
		if s.member == nil || len(s.data)+len(p) <= keepLimit && policy.Kept.Load() < policy.KeptLimit {
			s.keep(p)
		} else {
			s.forgetRequest()
		}
	}
	done := 0
	if m := s.member; m != nil {
		m.c.mu.Lock()
		done = m.send(p, end)
		m.c.mu.Unlock()
		s.sentUp += len(p)
		b.add(m.c)
	}
	s.mu.Unlock()
	s.credit(done, done == len(p), b)
}

// creditClient gives window back for bytes that are of no use any more.
func (s *stream) creditClient(n int, b *batch) { s.credit(n, false, b) }

// credit gives window back to the client; dry says that nothing of the stream
// is queued towards the member.
func (s *stream) credit(n int, dry bool, b *batch) {
	if n == 0 {
		return
	}
	c := s.client.c
	c.mu.Lock()
	defer c.mu.Unlock()
	if s.client.consumed(int64(n), dry) {
		b.add(c)
	}
}

// held is how many kept bytes wait for a member, so that the client's window
// still counts them. s.mu is held.
func (s *stream) held() int {
	if s.member != nil || !s.keeping {
		return 0
	}
	return len(s.data) - s.sentUp
}

// answer notes that the member's answer has begun. It says false if the frame
// is not the present member's.
func (s *stream) answer(from *side) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.member != from || s.cancelled {
		return false
	}
	if !s.answered {
		s.answered = true
		s.forgetRequest()
	}
	return true
}

// cancel ends the request because the client left or reset it: the member is
// told at once, and it is no failure of the member.
func (s *stream) cancel(b *batch) {
	s.mu.Lock()
	ours := s.cancelled // an answer of our own was counted
	s.cancelled = true
	held := s.held()
	s.forgetRequest()
	m, br := s.member, s.bridge
	s.mu.Unlock()
	s.creditClient(held, b)
	if br != nil {
		br.cancel()
	}
	if m != nil {
		m.c.mu.Lock()
		if !ours && !m.over {
			m.c.member.ep.Answers.GRPC(s.call, grpcCancelled)
		}
		m.rst(codeCancel)
		m.c.mu.Unlock()
		b.add(m.c)
	}
}

// lost decides what becomes of the request after its member connection, or the
// member's word, has made an end of it. sent says whether any byte of it was
// given to write; a member that refused it counts as not sent.
func (s *stream) lost(from *side, sent bool, cause error, b *batch) {
	// What never left the member side's queue is still owed to the client's window.
	owed := from.uncredited()
	s.mu.Lock()
	if s.member != from {
		s.mu.Unlock()
		return
	}
	if s.cancelled {
		s.mu.Unlock()
		s.creditClient(owed, b)
		return
	}
	ep := from.c.member.ep
	if errors.Is(cause, errAboveGoAway) && !slices.Contains(s.tried, ep) {
		s.back = ep
	}
	s.blame(ep, cause)
	if !s.answered && s.keeping && (!sent || s.read) {
		s.member = nil // what the client adds now waits with the rest
		s.sentUp -= owed
		s.mu.Unlock()
		why := stats.Unprocessed
		if sent {
			why = stats.Unanswered
		}
		s.client.c.r.Retries.Add(why)
		s.client.c.client.find(s)
		return
	}
	s.cancelled = true
	answered, looped := s.answered, errors.Is(s.lastErr, director.ErrLoop)
	s.forgetRequest()
	s.mu.Unlock()
	s.creditClient(owed, b)
	message := safeToRetry
	if answered || sent {
		message = fmt.Sprintf("etcdops: lost member %s during %s, outcome unknown: %v", ep, s.path, cause)
		if s.read {
			message = fmt.Sprintf("etcdops: lost member %s during %s: %v", ep, s.path, cause)
		}
	}
	r := s.client.c.r
	r.Stats.Failed.Add(1)
	ep.Answers.GRPC(s.call, "")
	if looped && !r.Director.AnyUsable() {
		s.fail(grpcFailedPrecondition, loopText, b)
		return
	}
	s.fail(grpcUnavailable, message, b)
}

// what names the request in logs.
func (s *stream) what() string {
	path, _, _ := strings.Cut(s.path, "?")
	return path
}

// unplaced ends a request that no member took; nothing of it was sent.
func (s *stream) unplaced(cause error, b *batch) {
	s.mu.Lock()
	if s.cancelled {
		s.mu.Unlock()
		return
	}
	s.cancelled = true
	held := s.held()
	status, message := grpcUnavailable, safeToRetry
	switch {
	case errors.Is(s.lastErr, director.ErrLoop):
		status, message = grpcFailedPrecondition, loopText
	case len(s.tried) > 0 && s.lastErr != nil && s.read:
		message = fmt.Sprintf("etcdops: no member answered %s: %v", s.path, s.lastErr)
	}
	s.forgetRequest()
	s.mu.Unlock()
	s.creditClient(held, b)
	r := s.client.c.r
	r.Stats.Failed.Add(1)
	if !errors.Is(cause, context.Canceled) {
		r.Logger.Debug("request not placed", "call", s.what(), "error", cause)
	}
	s.count(status)
	s.fail(status, message, b)
}

// count counts an answer of our own.
func (s *stream) count(status int) {
	if !s.plain {
		s.client.c.r.Answers.GRPC(s.call, strconv.Itoa(status))
	}
}

// broken ends a stream one of whose sides broke the protocol.
func (s *stream) broken(sd *side, b *batch) {
	if sd == &s.client {
		s.cancel(b)
		return
	}
	s.lost(sd, true, errProtocol, b)
}

var errProtocol = errors.New("the member broke the HTTP/2 protocol")

// fail answers the client with a gRPC status: a trailers-only response, or
// trailers where the response has begun.
func (s *stream) fail(status int, message string, b *batch) {
	c := s.client.c
	c.mu.Lock()
	defer c.mu.Unlock()
	b.add(c)
	sd := &s.client
	if s.plain {
		sd.failPlain(status, message)
		return
	}
	fields := []hpack.HeaderField{
		{Name: "grpc-status", Value: strconv.Itoa(status)},
		{Name: "grpc-message", Value: percentEncode(message)},
	}
	if message == loopText {
		fields = append(fields, hpack.HeaderField{Name: "proxy-status", Value: c.r.Instance.Refusal()})
	}
	if !sd.began {
		fields = append([]hpack.HeaderField{
			{Name: ":status", Value: "200"},
			{Name: "content-type", Value: "application/grpc"},
		}, fields...)
	}
	sd.headers(fields, true)
}

// newStream makes the stream of a checked request head. own is the header list where
// it differs from the head's. large is how many bytes of policy.Kept the head takes, 0
// where it is short. mu is held.
func (cc *clientConn) newStream(id uint32, h *requestHead, own []hpack.HeaderField, large int, end bool) *stream {
	policy.Kept.Add(int64(large))
	s := cc.blank()
	s.path, s.call, s.toCome, s.read, s.plain = h.path, h.call, h.length, h.call.ChangesNothing(), !h.grpc()
	s.keeping, s.end, s.head, s.large = true, end, h.fields, large
	s.long = large > 0
	if own != nil {
		s.own = append(s.own, h.fields...)
		for i, f := range own {
			if f.Name == "grpc-timeout" { // the others have the same strings, held already
				s.own[i] = f
			}
		}
		s.head = s.own
	}
	s.client.start(s, cc.conn, id)
	s.client.over = end
	return s
}
