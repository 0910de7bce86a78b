package h2

import "encoding/binary"

func (rd *reader) ping(f *frame) error {
	if f.id != 0 {
		return connError{codeProtocol, "PING on a stream"}
	}
	if len(f.payload) != 8 {
		return connError{codeFrameSize, "PING of a wrong size"}
	}
	if f.has(flagAck) {
		rd.h.onPong(f.payload)
		return nil
	}
	rd.c.mu.Lock()
	rd.c.appendFrame(framePing, flagAck, 0, f.payload)
	rd.c.mu.Unlock()
	rd.b.add(rd.c)
	return nil
}

func (rd *reader) windowUpdate(f *frame) error {
	if len(f.payload) != 4 {
		return connError{codeFrameSize, "WINDOW_UPDATE of a wrong size"}
	}
	n := int64(binary.BigEndian.Uint32(f.payload) & maxWindow)
	c := rd.c
	if f.id != 0 && !rd.h.known(f.id) {
		return connError{codeProtocol, "WINDOW_UPDATE of an idle stream"}
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if f.id == 0 {
		if n == 0 {
			return connError{codeProtocol, "WINDOW_UPDATE of 0"}
		}
		if c.sendWin += n; c.sendWin > maxWindow {
			return connError{codeFlowControl, "connection window over 2^31-1"}
		}
		if len(c.ready) > 0 {
			rd.b.add(c)
		}
		return nil
	}
	sd := c.streams[f.id]
	if sd == nil {
		return nil // closed a moment ago
	}
	if n == 0 {
		return streamError{f.id, codeProtocol}
	}
	if sd.win += n; sd.win > maxWindow {
		return streamError{f.id, codeFlowControl}
	}
	if sd.waiting() > 0 {
		sd.list()
		rd.b.add(c)
	}
	return nil
}

func (rd *reader) priority(f *frame) error {
	if f.id == 0 {
		return connError{codeProtocol, "PRIORITY on stream 0"}
	}
	if len(f.payload) != 5 {
		return streamError{f.id, codeFrameSize}
	}
	if binary.BigEndian.Uint32(f.payload)&maxStreamID == f.id {
		return streamError{f.id, codeProtocol}
	}
	return nil
}
