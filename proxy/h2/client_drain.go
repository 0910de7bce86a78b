package h2

import "time"

// drainPing marks the PING behind the first GOAWAY: its answer says that the
// client has seen it (RFC 9113 section 6.8).
var drainPing = []byte("etcdops\x00")

// drain tells the client to send no new requests here.
func (cc *clientConn) drain() {
	cc.mu.Lock()
	if !cc.draining && !cc.closed {
		cc.draining = true
		cc.appendRaw(goAway(maxStreamID, codeNo, ""))
		cc.appendFrame(framePing, 0, 0, drainPing)
	}
	cc.mu.Unlock()
	cc.onDrain()
}

// idleGrace is how long a client that is told to go may take.
const idleGrace = 10 * time.Second

// endIdle tells a client to go that has had no stream for longer than limit, and
// closes its connection if it does not. PINGs keep no connection.
func (cc *clientConn) endIdle(now time.Time, limit time.Duration) {
	cc.mu.Lock()
	if len(cc.streams) > 0 || cc.maxID != cc.busyID {
		cc.busyID, cc.busyAt = cc.maxID, now
	}
	cc.mu.Unlock()
	switch {
	case now.Sub(cc.busyAt) <= limit:
		cc.toldAt = time.Time{}
	case cc.toldAt.IsZero():
		cc.toldAt = now
		cc.drain()
	case now.Sub(cc.toldAt) > idleGrace:
		cc.close()
	}
}

func (cc *clientConn) onPong(p []byte) {
	if string(p) == string(drainPing) {
		cc.lastGoAway()
		cc.rd.b.add(cc.conn)
	}
}

// lastGoAway names the last stream that is served; with none open the
// connection ends.
func (cc *clientConn) lastGoAway() {
	cc.mu.Lock()
	defer cc.mu.Unlock()
	if !cc.draining || cc.final || cc.closed {
		return
	}
	cc.final = true
	cc.appendRaw(goAway(cc.lastID, codeNo, ""))
	cc.streamGone()
}

// streamGone ends a drained connection with its last stream; mu is held.
func (cc *clientConn) streamGone() {
	if cc.final && len(cc.streams) == 0 && !cc.closed {
		cc.r.tasks.Add(1)
		go func() {
			defer cc.r.tasks.Done()
			cc.finish()
		}()
	}
}

// cut ends every open stream with UNAVAILABLE and then the connection.
func (cc *clientConn) cut(message string) {
	cc.mu.Lock()
	open := cc.collect()
	cc.draining = true
	cc.mu.Unlock()
	var b batch
	for _, s := range open {
		s.cancel(&b)
		s.fail(grpcUnavailable, message, &b)
	}
	cc.lastGoAway()
	b.add(cc.conn)
	b.flush()
	cc.finish()
}
