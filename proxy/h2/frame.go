package h2

import "encoding/binary"

// Frame types, RFC 9113 section 6.
const (
	frameData         = 0x0
	frameHeaders      = 0x1
	framePriority     = 0x2
	frameRSTStream    = 0x3
	frameSettings     = 0x4
	framePushPromise  = 0x5
	framePing         = 0x6
	frameGoAway       = 0x7
	frameWindowUpdate = 0x8
	frameContinuation = 0x9
)

// Frame flags.
const (
	flagEndStream  = 0x1
	flagAck        = 0x1
	flagEndHeaders = 0x4
	flagPadded     = 0x8
	flagPriority   = 0x20
)

// Settings, RFC 9113 section 6.5.2.
const (
	settingHeaderTableSize      = 0x1
	settingEnablePush           = 0x2
	settingMaxConcurrentStreams = 0x3
	settingInitialWindowSize    = 0x4
	settingMaxFrameSize         = 0x5
	settingMaxHeaderListSize    = 0x6
)

// errCode is an error code of RFC 9113 section 7.
type errCode uint32

const (
	codeNo              errCode = 0x0
	codeProtocol        errCode = 0x1
	codeInternal        errCode = 0x2
	codeFlowControl     errCode = 0x3
	codeStreamClosed    errCode = 0x5
	codeFrameSize       errCode = 0x6
	codeRefusedStream   errCode = 0x7
	codeCancel          errCode = 0x8
	codeCompression     errCode = 0x9
	codeEnhanceYourCalm errCode = 0xb
)

const (
	// Preface opens every client connection (RFC 9113 section 3.4).
	Preface = "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"

	frameHead   = 9
	maxFrame    = 16384 // SETTINGS_MAX_FRAME_SIZE: we never ask for more
	initWindow  = 65535 // windows before any SETTINGS
	maxWindow   = 1<<31 - 1
	maxStreamID = 1<<31 - 1
)

// frame is one frame in the read buffer; its payload is valid until the next one.
type frame struct {
	typ, flags byte
	id         uint32
	payload    []byte
}

func (f *frame) has(flag byte) bool { return f.flags&flag != 0 }

// parseFrame reads the first frame of b. ok is false while it is incomplete; a
// frame over maxFrame is a FRAME_SIZE_ERROR.
func parseFrame(b []byte) (f frame, n int, ok bool, err error) {
	if len(b) < frameHead {
		return f, 0, false, nil
	}
	size := int(b[0])<<16 | int(b[1])<<8 | int(b[2])
	if size > maxFrame {
		return f, 0, false, connError{codeFrameSize, "frame larger than SETTINGS_MAX_FRAME_SIZE"}
	}
	if len(b) < frameHead+size {
		return f, 0, false, nil
	}
	f.typ, f.flags = b[3], b[4]
	f.id = binary.BigEndian.Uint32(b[5:]) & maxStreamID
	f.payload = b[frameHead : frameHead+size : frameHead+size]
	return f, frameHead + size, true, nil
}

// unpad removes padding and, from HEADERS, the priority fields.
func (f *frame) unpad() error {
	if f.has(flagPadded) {
		if len(f.payload) == 0 || int(f.payload[0]) >= len(f.payload) {
			return connError{codeProtocol, "padding as long as the frame"}
		}
		f.payload = f.payload[1 : len(f.payload)-int(f.payload[0])]
	}
	if f.typ == frameHeaders && f.has(flagPriority) {
		if len(f.payload) < 5 {
			return connError{codeFrameSize, "HEADERS too short for its priority"}
		}
		if binary.BigEndian.Uint32(f.payload)&maxStreamID == f.id {
			return connError{codeProtocol, "a stream depends on itself"}
		}
		f.payload = f.payload[5:]
	}
	return nil
}

func appendFrame(b []byte, typ, flags byte, id uint32, payload []byte) []byte {
	n := len(payload)
	b = append(b, byte(n>>16), byte(n>>8), byte(n), typ, flags)
	b = binary.BigEndian.AppendUint32(b, id)
	return append(b, payload...)
}

func appendUint32Frame(b []byte, typ byte, id, v uint32) []byte {
	b = append(b, 0, 0, 4, typ, 0)
	b = binary.BigEndian.AppendUint32(b, id)
	return binary.BigEndian.AppendUint32(b, v)
}

func appendSetting(b []byte, id uint16, v uint32) []byte {
	return binary.BigEndian.AppendUint32(binary.BigEndian.AppendUint16(b, id), v)
}

// goAway is a GOAWAY frame.
func goAway(last uint32, code errCode, debug string) []byte {
	p := binary.BigEndian.AppendUint32(nil, last)
	p = binary.BigEndian.AppendUint32(p, uint32(code))
	return appendFrame(nil, frameGoAway, 0, 0, append(p, debug...))
}

// connError ends the connection with a GOAWAY of its code.
type connError struct {
	code   errCode
	reason string
}

// Error implements error.
func (e connError) Error() string { return e.reason }

// streamError ends one stream with RST_STREAM.
type streamError struct {
	id   uint32
	code errCode
}

// Error implements error.
func (e streamError) Error() string { return "stream error" }
