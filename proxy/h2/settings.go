package h2

import "encoding/binary"

func (rd *reader) settings(f *frame) error {
	switch {
	case f.id != 0:
		return connError{codeProtocol, "SETTINGS on a stream"}
	case f.has(flagAck) && len(f.payload) > 0, len(f.payload)%6 != 0:
		return connError{codeFrameSize, "SETTINGS of a wrong size"}
	case f.has(flagAck):
		rd.c.mu.Lock()
		rd.c.path.acknowledged()
		rd.c.mu.Unlock()
		return nil
	}
	if err := rd.apply(f.payload); err != nil {
		return err
	}
	rd.b.add(rd.c)
	rd.h.onSettled()
	return nil
}

// apply applies the settings in their order. The walk over all streams that a window
// wants comes once, however often a frame names it: it has to be cheap.
func (rd *reader) apply(p []byte) error {
	c := rd.c
	c.mu.Lock()
	defer c.mu.Unlock()
	window := c.initWin
	for ; len(p) > 0; p = p[6:] {
		id, v := binary.BigEndian.Uint16(p), binary.BigEndian.Uint32(p[2:])
		if id == settingInitialWindowSize && v <= maxWindow {
			window = int64(v)
		} else if err := rd.setting(id, v); err != nil {
			return err
		}
	}
	if window != c.initWin {
		if err := c.resize(window); err != nil {
			return err
		}
	}
	c.appendFrame(frameSettings, flagAck, 0, nil)
	return nil
}

// resize moves the send windows of all streams, below 0 too (RFC 9113 section
// 6.9.2); c.mu is held.
func (c *conn) resize(window int64) error {
	delta := window - c.initWin
	c.initWin = window
	for _, sd := range c.streams {
		if sd.win += delta; sd.win > maxWindow {
			return connError{codeFlowControl, "a stream's window grew over 2^31-1"}
		}
		if sd.waiting() > 0 {
			sd.list()
		}
	}
	return nil
}

// setting takes one of them; the connection's mu is held.
func (rd *reader) setting(id uint16, v uint32) error {
	c := rd.c
	switch id {
	case settingHeaderTableSize:
		c.enc.limit(v)
	case settingEnablePush:
		if v > 1 {
			return connError{codeProtocol, "SETTINGS_ENABLE_PUSH is neither 0 nor 1"}
		}
	case settingInitialWindowSize:
		return connError{codeFlowControl, "SETTINGS_INITIAL_WINDOW_SIZE over 2^31-1"}
	case settingMaxFrameSize:
		if v < maxFrame || v > 1<<24-1 {
			return connError{codeProtocol, "SETTINGS_MAX_FRAME_SIZE out of range"}
		}
		c.frameSize = int(v)
	default:
		rd.h.onSetting(id, v)
	}
	return nil
}
