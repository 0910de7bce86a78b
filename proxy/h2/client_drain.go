package h2

// drainPing marks the PING behind the first GOAWAY: its answer says that the
// client has seen it (RFC 9113 section 6.8).
var drainPing = []byte("etcdops\x00")

// drain tells the client to send no new requests here.
func (cc *clientConn) drain() {
	cc.mu.Lock()
	if !cc.draining && !cc.closed {
		cc.draining = true
		cc.appendRaw(appendGoAway(nil, maxStreamID, codeNo, ""))
		cc.appendFrame(framePing, 0, 0, drainPing)
	}
	cc.mu.Unlock()
	cc.onDrain()
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
	cc.appendRaw(appendGoAway(nil, cc.lastID, codeNo, ""))
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
	var open []*stream
	for _, sd := range cc.streams {
		open = append(open, sd.s)
	}
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
