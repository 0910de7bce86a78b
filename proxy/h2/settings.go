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
	for p := f.payload; len(p) > 0; p = p[6:] {
		id, v := binary.BigEndian.Uint16(p), binary.BigEndian.Uint32(p[2:])
		if err := rd.setting(id, v); err != nil {
			return err
		}
	}
	rd.c.mu.Lock()
	rd.c.appendFrame(frameSettings, flagAck, 0, nil)
	rd.c.mu.Unlock()
	rd.b.add(rd.c)
	rd.h.onSettled()
	return nil
}

func (rd *reader) setting(id uint16, v uint32) error {
	c := rd.c
	c.mu.Lock()
	defer c.mu.Unlock()
	switch id {
	case settingHeaderTableSize:
		c.enc.limit(v)
	case settingEnablePush:
		if v > 1 {
			return connError{codeProtocol, "SETTINGS_ENABLE_PUSH is neither 0 nor 1"}
		}
	case settingInitialWindowSize:
		if v > maxWindow {
			return connError{codeFlowControl, "SETTINGS_INITIAL_WINDOW_SIZE over 2^31-1"}
		}
		delta := int64(v) - c.initWin
		c.initWin = int64(v)
		for _, sd := range c.streams {
			if sd.win += delta; sd.win > maxWindow {
				return connError{codeFlowControl, "a stream's window grew over 2^31-1"}
			}
			if sd.waiting() > 0 {
				sd.list()
			}
		}
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
