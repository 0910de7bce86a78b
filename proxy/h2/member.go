package h2

import (
	"context"
	"errors"
	"fmt"
	"io"
	"sync/atomic"
	"time"

	"golang.org/x/net/http2/hpack"

	"etcdops/proxy/director"
)

// memberConn is the end towards a member.
type memberConn struct {
	*conn
	rd   *reader
	ep   *director.Endpoint
	pool *pool
	set  chan struct{} // closed when its first SETTINGS were read, or it failed

	open atomic.Bool // takes new streams

	// under conn.mu
	nextID     uint32
	maxStreams int64 // the member's MAX_CONCURRENT_STREAMS
	goaway     bool
	pingSent   time.Time
	pingOpen   bool

	err error // why it ended; set before set is closed or the streams are told
}

// dialMember connects and reads the member's SETTINGS: until then a stopped or
// not yet serving etcd looks like a live one.
func dialMember(ctx context.Context, p *pool) (*memberConn, error) {
	nc, err := p.ep.Dial(ctx, "h2")
	if err != nil {
		return nil, err
	}
	c := newConn(p.r, nc, memberWindow)
	m := &memberConn{conn: c, ep: p.ep, pool: p, set: make(chan struct{}), nextID: 1, maxStreams: maxWindow}
	c.member = m
	m.rd = newReader(c, m, DefaultHeaderLimit)
	c.sock.NonBlocking(p.r.WriteTimeout, c.onDrain)
	settings := appendSetting(nil, settingEnablePush, 0)
	settings = appendSetting(settings, settingMaxHeaderListSize, DefaultHeaderLimit)
	c.mu.Lock()
	c.appendRaw([]byte(Preface))
	c.appendFrame(frameSettings, 0, 0, settings)
	c.appendUint32(frameWindowUpdate, 0, memberWindow-initWindow)
	c.mu.Unlock()
	c.onDrain()

	p.r.tasks.Add(1)
	go m.serve()
	wait := p.r.settingsWait()
	t := time.NewTimer(wait)
	defer t.Stop()
	select {
	case <-m.set:
		if m.open.Load() {
			return m, nil
		}
		return nil, &director.DialError{URL: p.ep.URL, Step: "HTTP/2 set-up", Err: m.cause()}
	case <-t.C:
		err = fmt.Errorf("no SETTINGS within %v", wait)
	case <-ctx.Done():
		err = ctx.Err()
	}
	m.close()
	p.ep.Suspect()
	return nil, &director.DialError{URL: p.ep.URL, Step: "HTTP/2 set-up", Err: err}
}

// serve reads until the connection ends and then settles its streams.
func (m *memberConn) serve() {
	defer m.r.tasks.Done()
	err := m.rd.run()
	var ce connError
	told := errors.As(err, &ce) && m.sock.Pending() == 0 // by a GOAWAY that has left
	m.mu.Lock()
	m.err = endText(err)
	wasReady := m.rd.settled
	given := m.given
	m.goaway = true
	if told {
		m.shutWrite()
	} else {
		m.closeLocked()
	}
	var lost []*side
	for _, sd := range m.streams {
		sd.detach()
		lost = append(lost, sd)
	}
	m.announce()
	m.mu.Unlock()
	m.open.Store(false)
	m.pool.remove(m)
	if len(lost) > 0 || !wasReady {
		m.ep.Suspect()
	}
	for _, sd := range lost {
		sd.s.lost(sd, sd.s.mark < given, m.err, &m.rd.b)
	}
	m.rd.b.add(m.conn) // for the credits that it still has
	m.rd.b.flush()
	if told { // a close on unread bytes would destroy the GOAWAY
		_ = m.sock.SetReadDeadline(time.Now().Add(lingerTime))
		_, _ = io.Copy(io.Discard, m.sock.Conn)
		m.close()
	}
}

func (m *memberConn) cause() error {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.err
}

// announce closes set once; mu is held.
func (m *memberConn) announce() {
	select {
	case <-m.set:
	default:
		close(m.set)
	}
}

// usable says whether the connection may take a new stream, without its lock.
func (m *memberConn) usable() bool { return m.open.Load() }

// admit says whether a stream slot is free; mu is held.
func (m *memberConn) admit() bool {
	return !m.closed && !m.goaway && int64(len(m.streams)) < m.maxStreams && len(m.out) < outLimit
}

// offersStreams says whether the member lets us open streams at all.
func (m *memberConn) offersStreams() bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.maxStreams > 0
}

// takeID gives the next stream id; mu is held.
func (m *memberConn) takeID() uint32 {
	id := m.nextID
	m.nextID += 2
	if m.nextID > maxStreamID-2 {
		m.goaway = true // the ids are used up: no new streams, the old ones end in peace
		m.open.Store(false)
	}
	return id
}

// streamGone closes a connection that takes no new streams with its last one;
// mu is held.
func (m *memberConn) streamGone() {
	if m.goaway && len(m.streams) == 0 {
		m.closeLocked()
	}
}

// retire lets the connection take no new streams and end with its last one.
func (m *memberConn) retire() {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.goaway = true
	m.open.Store(false)
	if len(m.streams) == 0 {
		m.closeLocked()
	}
}

func (m *memberConn) known(id uint32) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	return id%2 == 1 && id < m.nextID
}

func (m *memberConn) onHeaders(id uint32, fields []hpack.HeaderField, end, tooLarge bool) error {
	m.mu.Lock()
	sd := m.streams[id]
	known := id%2 == 1 && id < m.nextID
	if sd != nil && end {
		sd.over = true
	}
	m.mu.Unlock()
	switch {
	case sd == nil && !known:
		return connError{codeProtocol, "HEADERS on an idle stream"}
	case sd == nil:
		return nil // reset by the client a moment ago
	case tooLarge:
		return streamError{id, codeEnhanceYourCalm}
	}
	s := sd.s
	if end && m.refusedByUs(fields) {
		m.cameBack(sd)
		return nil
	}
	if !s.answer(sd) {
		return nil
	}
	c := s.client.c
	c.mu.Lock()
	bad := s.client.began && !end || !s.client.began && valueOf(fields, ":status") == ""
	if !bad {
		s.client.headers(fields, end)
		if !end && informational(fields) {
			s.client.began = false // the final response is still to come
		}
	}
	c.mu.Unlock()
	if bad {
		return streamError{id, codeProtocol}
	}
	m.rd.b.add(c)
	if end {
		m.ep.Answers.GRPC(s.call, valueOf(fields, "grpc-status"))
		if m.closeHalf(sd) && sd == &s.first {
			s.settled.Store(true) // the last that is done with it here
		}
	}
	return nil
}

func informational(fields []hpack.HeaderField) bool {
	status := valueOf(fields, ":status")
	return len(status) == 3 && status[0] == '1'
}

// closeHalf ends a stream whose answer is complete. It says whether nothing of the
// connection holds it any more.
func (m *memberConn) closeHalf(sd *side) (gone bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if sd.answered() {
		m.rd.b.add(m.conn)
	}
	return sd.dead && !sd.listed
}

func (m *memberConn) onData(id uint32, p []byte, flow int64, end bool) error {
	m.mu.Lock()
	sd := m.streams[id]
	wrote := m.refill(flow) // whatever becomes of the bytes
	var err error
	if sd != nil {
		if sd.over {
			err = streamError{id, codeStreamClosed}
		} else {
			err = sd.received(flow)
		}
		sd.over = sd.over || end
		if pad := flow - int64(len(p)); pad > 0 && sd.consumed(pad, false) {
			wrote = true
		}
	}
	m.mu.Unlock()
	if wrote {
		m.rd.b.add(m.conn)
	}
	if sd == nil || err != nil {
		return err
	}
	c := sd.s.client.c
	c.mu.Lock()
	if !sd.s.client.began {
		c.mu.Unlock()
		return streamError{id, codeProtocol}
	}
	done := sd.s.client.send(p, end)
	c.mu.Unlock()
	m.rd.b.add(c)
	m.mu.Lock()
	if done > 0 && sd.consumed(int64(done), done == len(p)) {
		m.rd.b.add(m.conn)
	}
	if end && sd.answered() {
		m.rd.b.add(m.conn)
	}
	m.mu.Unlock()
	return nil
}

func (m *memberConn) onReset(id uint32, code errCode) error {
	m.mu.Lock()
	sd := m.streams[id]
	if sd != nil {
		sd.over, sd.ended = true, true
		sd.detach()
		m.streamGone()
	}
	m.mu.Unlock()
	if sd == nil {
		return nil
	}
	if code == codeRefusedStream {
		sd.s.lost(sd, false, errors.New("stream refused"), &m.rd.b)
		return nil
	}
	sd.s.creditClient(sd.uncredited(), &m.rd.b)
	s := sd.s
	if !s.answer(sd) {
		return nil
	}
	c := s.client.c
	c.mu.Lock()
	s.client.resetBehind(code)
	c.mu.Unlock()
	m.rd.b.add(c)
	return nil
}

// errAboveGoAway is the end of a stream that a member's GOAWAY gives back: nothing is
// wrong with the member, only with the connection.
var errAboveGoAway = errors.New("stream not processed")

// onGoAway stops new streams. grpc-go's first GOAWAY names 2^31-1 and says
// nothing about what was processed; the streams above a lower one were not.
func (m *memberConn) onGoAway(last uint32, code errCode, debug string) {
	m.mu.Lock()
	m.goaway = true
	m.open.Store(false) // it stays in the pool, so that it is watched to its end
	var above []*side
	if last < maxStreamID {
		for id, sd := range m.streams {
			if id > last {
				sd.detach()
				above = append(above, sd)
			}
		}
	}
	if len(m.streams) == 0 {
		m.closeLocked()
	}
	m.mu.Unlock()
	if code != codeNo {
		m.r.Logger.Warn("member closes connection", "endpoint", m.ep.String(), "code", uint32(code), "reason", debug)
	}
	for _, sd := range above {
		sd.s.lost(sd, false, errAboveGoAway, &m.rd.b)
	}
}

func (m *memberConn) onSetting(id uint16, v uint32) {
	if id == settingMaxConcurrentStreams {
		m.maxStreams = int64(v)
	}
}

func (m *memberConn) onSettled() {
	m.mu.Lock()
	defer m.mu.Unlock()
	if !m.goaway && !m.closed {
		m.open.Store(true)
	}
	m.announce()
}

func (m *memberConn) onPong([]byte) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.pingOpen = false
}

const (
	// pingInterval is the least time between two PINGs to a member. etcd answers
	// more with ENHANCE_YOUR_CALM (grpc-go keepalive.EnforcementPolicy, MinTime).
	pingInterval = 10 * time.Second
	// pingWait is how long a PING may stay without any sign of life.
	pingWait = 10 * time.Second
)

// check finds a connection that has gone dark while its member lives: PING while
// a stream is open, and close when nothing at all comes back.
func (m *memberConn) check(now time.Time, readTimeout time.Duration) {
	quiet := now.Sub(time.UnixMilli(m.lastRead.Load()))
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.closed || len(m.streams) == 0 {
		return
	}
	switch {
	case readTimeout > 0 && quiet > readTimeout:
		m.closeLocked()
	case m.pingOpen && quiet > pingWait && now.Sub(m.pingSent) > pingWait:
		m.closeLocked()
	case !m.pingOpen && quiet >= pingInterval && now.Sub(m.pingSent) >= pingInterval:
		m.pingOpen, m.pingSent = true, now
		m.appendFrame(framePing, 0, 0, []byte("liveness"))
		go m.onDrain()
	}
}
