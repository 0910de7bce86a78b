package h2

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"slices"
	"sync/atomic"
	"time"

	"golang.org/x/net/http2/hpack"

	"etcdops/proxy/director"
	"etcdops/proxy/policy"
	"etcdops/proxy/stats"
)

// DefaultMaxStreams is SETTINGS_MAX_CONCURRENT_STREAMS towards a client. etcd's
// own default is no limit; ours bounds the memory at 64 KiB a stream.
const DefaultMaxStreams = 10000

// clientConn is the end towards a client.
type clientConn struct {
	*conn
	rd      *reader
	session *director.Session
	up      *memberConn // the member connection of the last request; the reader's own
	ctx     context.Context

	searching atomic.Int64 // requests that look for a member
	bridges   atomic.Int64 // requests that go by HTTP/1.1
	proved    bool         // a request has come; the reader's own
	last      *requestHead // of the last request; the reader's own
	budget    budget       // of work for nothing; the reader's own

	// Relay.check's own
	busyID uint32    // maxID at its last look
	busyAt time.Time // when a stream was open, or had been opened since the look before
	toldAt time.Time // when the client was told to go because it was idle

	// under conn.mu
	lastID    uint32 // the last stream that is served
	maxID     uint32 // the last one that the client opened
	draining  bool   // the first GOAWAY was sent
	final     bool   // the second one too
	calmed    string // why it was cut off from outside its reader
	spent     []*stream
	collected bool // somebody ends all streams
	resets    [rememberedResets]uint32
	nResets   int
}

// rememberedResets is how many streams that we reset are remembered: what a
// client sent before it knew is ignored (RFC 9113 section 5.1).
const rememberedResets = 128

// noteReset remembers a stream that we reset; mu is held.
func (cc *clientConn) noteReset(id uint32) {
	cc.resets[cc.nResets%rememberedResets] = id
	cc.nResets++
}

// wasReset says whether we reset a stream not long ago; mu is held.
func (cc *clientConn) wasReset(id uint32) bool { return slices.Contains(cc.resets[:], id) }

func (r *Relay) newClient(ctx context.Context, nc net.Conn, first []byte) *clientConn {
	c := newConn(r, nc, clientWindow)
	cc := &clientConn{conn: c, session: r.Director.NewSession(), ctx: ctx, busyAt: time.Now()}
	c.client = cc
	cc.rd = newReader(c, cc, r.HeaderLimit)
	cc.budget = newBudget(r.MaxStreams, cc.busyAt)
	cc.rd.in.Fill(first)
	c.sock.NonBlocking(0, c.onDrain)
	var p []byte
	p = appendSetting(p, settingMaxConcurrentStreams, uint32(r.MaxStreams))
	p = appendSetting(p, settingMaxHeaderListSize, uint32(r.HeaderLimit))
	c.mu.Lock()
	c.appendFrame(frameSettings, 0, 0, p)
	c.appendUint32(frameWindowUpdate, 0, clientWindow-initWindow)
	c.mu.Unlock()
	return cc
}

// serve reads until the client is gone and then cancels what it left behind.
func (cc *clientConn) serve() error {
	var b batch
	cc.flush(&b)
	err := cc.rd.run()
	cc.mu.Lock()
	if cc.calmed != "" {
		err = connError{codeEnhanceYourCalm, cc.calmed}
	}
	cc.mu.Unlock()
	var ce connError
	if errors.As(err, &ce) {
		cc.finish() // with the GOAWAY that says why
	} else {
		cc.close()
	}
	cc.abandon(&b)
	b.flush()
	cc.session.Close()
	if ce.reason != "" {
		_ = cc.sock.SetReadDeadline(time.Now().Add(lingerTime))
		_, _ = io.Copy(io.Discard, cc.sock.Conn)
	}
	return err
}

// abandon cancels all that is under way for the client.
func (cc *clientConn) abandon(b *batch) {
	cc.mu.Lock()
	open := cc.collect()
	for _, s := range open {
		s.client.forget()
	}
	cc.mu.Unlock()
	for _, s := range open {
		s.cancel(b)
	}
}

// collect is all streams that are open; mu is held.
func (cc *clientConn) collect() (open []*stream) {
	cc.collected, cc.spent = true, nil
	for _, sd := range cc.streams {
		open = append(open, sd.s)
	}
	return open
}

// lingerTime is how long a client that broke the protocol may take to read why.
const lingerTime = time.Second

func (cc *clientConn) known(id uint32) bool {
	cc.mu.Lock()
	defer cc.mu.Unlock()
	return id%2 == 1 && id <= cc.maxID
}

func (cc *clientConn) onHeaders(id uint32, fields []hpack.HeaderField, end, tooLarge bool) error {
	cc.mu.Lock()
	sd, streams := cc.streams[id], len(cc.streams)
	var err error
	switch {
	case sd != nil:
		cc.mu.Unlock()
		return cc.onTrailers(sd, fields, end)
	case id%2 == 0:
		err = connError{codeProtocol, "a client's stream id must be odd"}
	case id <= cc.maxID && cc.wasReset(id):
		cc.mu.Unlock()
		return nil // it was on its way
	case id <= cc.maxID:
		err = connError{codeStreamClosed, "HEADERS on a closed stream"}
	case cc.final || cc.closed:
		err = streamError{id, codeRefusedStream} // above our last id: not processed
		cc.maxID = id
		cc.noteReset(id)
		cc.r.Stats.Late.Add(1)
		cc.r.Refusals.Refuse(stats.Draining, "", cc.nc.RemoteAddr().String())
	case max(streams, int(cc.bridges.Load())) >= cc.r.MaxStreams: // requests by HTTP/1.1 that were reset, until they end
		cc.r.Refusals.Refuse(stats.Streams, "", cc.nc.RemoteAddr().String())
		err = streamError{id, codeRefusedStream} // nothing of it was sent anywhere
		cc.noteReset(id)
		fallthrough
	default:
		cc.lastID, cc.maxID = id, id
	}
	tell := cc.r.draining.Load() && !cc.draining
	cc.mu.Unlock()
	if err != nil {
		return err
	}
	if tell { // it came while we drain, and this request is served
		defer cc.drain()
	}
	h, own, ok := cc.request(fields)
	if !tooLarge && (!ok || end && h.length > 0) {
		return streamError{id, codeProtocol}
	}
	large := 0
	if cc.rd.listSize > lastLimit { // then it is not shared
		large = cc.rd.listSize
	}
	full := large > 0 && policy.Kept.Load() > policy.KeptLimit
	cc.mu.Lock()
	s := cc.newStream(id, h, own, large, end)
	cc.mu.Unlock()
	cc.r.Stats.Requests.Add(1)
	if !cc.proved {
		cc.proved = true
		if cc.r.Proved != nil {
			cc.r.Proved(cc.nc)
		}
	}
	if tooLarge {
		cc.refuse(s, stats.HeaderTooLong, grpcResourceExhausted, fmt.Sprintf("etcdops: header list over %d bytes", cc.r.HeaderLimit))
		return nil
	}
	if full {
		cc.refuse(s, stats.Memory, grpcResourceExhausted, "etcdops: too many requests with long header lists wait for an answer")
		return nil
	}
	if s.plain {
		cc.r.openBridge(cc, s, h)
		return nil
	}
	cc.route(s, h, streams == 0)
	return nil
}

// lastLimit is the longest header list that is remembered for the next request, in
// bytes.
const lastLimit = 4 << 10

// request is what a header list says. The next request of a client is often the
// same but for its data, or its deadline: then it is known. own is the list where its
// deadline is not the known one's.
func (cc *clientConn) request(fields []hpack.HeaderField) (h *requestHead, own []hpack.HeaderField, ok bool) {
	if cc.last != nil && cc.rd.listSize <= lastLimit {
		switch same, wholly := sameCall(cc.last.fields, fields); {
		case wholly:
			return cc.last, nil, true
		case same && cc.last.grpc():
			return cc.last, fields, true
		}
	}
	if h, ok = parseRequest(fields, cc.r.via); ok && cc.rd.listSize <= lastLimit {
		cc.last = h
	}
	return h, nil, ok
}

func (cc *clientConn) onTrailers(sd *side, fields []hpack.HeaderField, end bool) error {
	cc.mu.Lock()
	over := sd.over
	if end {
		sd.over = true
	}
	cc.mu.Unlock()
	switch {
	case over:
		return streamError{sd.id, codeStreamClosed}
	case !end || !validTrailers(fields) || !sd.s.counts(0, true):
		return streamError{sd.id, codeProtocol}
	}
	// gRPC clients have no trailers; what else sends some loses nothing that
	// etcd reads.
	cc.more(sd.s, nil, true)
	return nil
}

// more takes data of a request, and its end.
func (cc *clientConn) more(s *stream, p []byte, end bool) {
	if cc.r.Readonly && s.judging() {
		cc.judge(s, p, end)
		return
	}
	s.more(p, end, &cc.rd.b)
}

func (cc *clientConn) onData(id uint32, p []byte, flow int64, end bool) error {
	cc.mu.Lock()
	sd := cc.streams[id]
	if sd == nil || sd.over {
		if cc.refill(flow) {
			cc.rd.b.add(cc.conn)
		}
		ours := sd == nil && cc.wasReset(id)
		cc.mu.Unlock()
		if ours {
			return nil // it was on its way
		}
		return streamError{id, codeStreamClosed}
	}
	err := sd.received(flow)
	sd.over = end
	back := flow - int64(len(p)) // padding is consumed at once
	if err == nil && !sd.s.counts(len(p), end) {
		err = streamError{id, codeProtocol}
	}
	if err != nil {
		back = flow
	}
	if back > 0 && sd.consumed(back, false) {
		cc.rd.b.add(cc.conn)
	}
	cc.mu.Unlock()
	if err != nil {
		return err
	}
	cc.more(sd.s, p, end)
	return nil
}

func (cc *clientConn) onReset(id uint32, _ errCode) error {
	cc.mu.Lock()
	sd := cc.streams[id]
	early := false
	if sd != nil {
		early = !sd.began
		sd.over, sd.ended = true, true
		sd.forget()
	}
	cc.mu.Unlock()
	if sd == nil {
		return nil
	}
	sd.s.cancel(&cc.rd.b)
	if early {
		return cc.wasted()
	}
	return nil
}

// onGoAway needs nothing: a client that goes away closes when its streams end.
func (cc *clientConn) onGoAway(uint32, errCode, string) {}

func (cc *clientConn) onSetting(uint16, uint32) {}

func (cc *clientConn) onSettled() {}
