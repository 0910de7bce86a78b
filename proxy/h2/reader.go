package h2

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"sync/atomic"
	"time"

	"golang.org/x/net/http2/hpack"

	"etcdops/proxy/policy"
	"etcdops/proxy/socket"
)

// maxContinuations is how many frames a header block may be spread over.
const maxContinuations = 64

// handler is what differs between the two ends: who a header block, data, and
// the end of a stream belong to. The reader calls it without any
// lock held, but where a method says otherwise.
type handler interface {
	onHeaders(id uint32, fields []hpack.HeaderField, end, tooLarge bool) error
	onData(id uint32, p []byte, flow int64, end bool) error
	onReset(id uint32, code errCode) error
	onGoAway(last uint32, code errCode, debug string)
	onSetting(id uint16, v uint32) // a setting beyond the common ones; the connection's mu is held
	onSettled()                    // the end of a SETTINGS frame
	onPong(p []byte)
	known(id uint32) bool // not an idle stream
}

// reader takes a connection's frames apart.
type reader struct {
	c   *conn
	h   handler
	b   batch
	in  socket.Buffer
	one [1]byte
	dec *hpack.Decoder

	limit     int // of a header list, in bytes, as SETTINGS_MAX_HEADER_LIST_SIZE counts them
	fields    []hpack.HeaderField
	listSize  int
	tooLarge  bool
	typed     bool   // the list has a content-type
	blockID   uint32 // a header block is open
	blockEnd  bool
	blockRest int    // CONTINUATION frames that may still come
	partial   []byte // what has come of an open block; of policy.Kept

	settled bool // the first SETTINGS have come

	// late is when a header block, or another frame than DATA, began that is not
	// complete; unix milliseconds, 0 while there is none.
	late atomic.Int64
}

func newReader(c *conn, h handler, limit int) *reader {
	rd := &reader{c: c, h: h, limit: limit}
	rd.dec = hpack.NewDecoder(tableSize, rd.emit)
	rd.dec.SetMaxStringLength(overLimit * limit)
	return rd
}

// overLimit is of how many times its limit a header block is still decoded, so that
// only its own request is refused. What goes beyond ends the connection.
const overLimit = 4

// keptFields is the longest list whose memory is used again for the next.
const keptFields = 64

// emit takes a field. Of a list that is too long, what says which protocol is to
// be answered is kept.
func (rd *reader) emit(f hpack.HeaderField) {
	rd.listSize += int(f.Size())
	if rd.listSize > rd.limit {
		rd.tooLarge = true
		if f.Name != "content-type" || rd.typed || int(f.Size()) > rd.limit {
			return // one byte names an entry of the table: there may be very many
		}
	}
	rd.typed = rd.typed || f.Name == "content-type"
	rd.fields = append(rd.fields, f)
}

// run reads until the connection ends and returns why. io.EOF is the peer's
// orderly end.
func (rd *reader) run() error {
	defer rd.in.Drop()
	defer rd.dropPartial()
	for {
		for {
			f, n, ok, err := parseFrame(rd.in.Bytes())
			if err == nil && ok {
				err = rd.handle(&f)
				rd.in.Consume(n)
				rd.noteWhole()
			}
			if err != nil {
				if err = rd.refuse(err); err != nil {
					rd.b.flush()
					return err
				}
			}
			if !ok {
				break
			}
		}
		rd.b.flush()
		if rd.c.client != nil {
			rd.c.waitDrained()
			rd.noteLate()
		}
		if err := rd.fill(); err != nil {
			return err
		}
		now := time.Now().UnixMilli()
		rd.c.lastRead.Store(now)
		if m := rd.c.member; m != nil {
			m.ep.Heard(now)
		}
	}
}

// noteWhole notes that a frame has come whole: what follows has its own time. A
// header block of many frames has one time for all.
func (rd *reader) noteWhole() {
	if rd.blockID == 0 && rd.late.Load() != 0 {
		rd.late.Store(0)
	}
}

// noteLate notes since when more bytes of a head are waited for.
func (rd *reader) noteLate() {
	rest := rd.in.Bytes()
	begun := rd.blockID != 0 || len(rest) > 0 && (len(rest) < frameHead || rest[3] != frameData)
	switch {
	case !begun:
		if rd.late.Load() != 0 {
			rd.late.Store(0)
		}
	case rd.late.Load() == 0:
		rd.late.Store(time.Now().UnixMilli())
	}
}

// lateSince is for how long a head has been incomplete.
func (rd *reader) lateSince(now time.Time) time.Duration {
	if at := rd.late.Load(); at != 0 {
		return now.Sub(time.UnixMilli(at))
	}
	return 0
}

func (rd *reader) fill() error {
	if rd.c.sock == rd.c.nc {
		_, err := rd.c.sock.ReadBorrowed(&rd.in)
		return err
	}
	// TLS wants its buffer before it waits: between two frames one byte will do.
	rd.in.Return()
	into := rd.one[:]
	if rd.in.Len() > 0 {
		into = rd.in.Space()
	}
	n, err := rd.c.nc.Read(into)
	if n > 0 {
		if rd.in.Len() > 0 {
			rd.in.Grew(n)
		} else {
			rd.in.Fill(into[:n])
		}
		return nil
	}
	if err == nil {
		err = io.ErrNoProgress
	}
	return err
}

// refuse turns a stream's error into RST_STREAM and a connection's into GOAWAY.
func (rd *reader) refuse(err error) error {
	c := rd.c
	var se streamError
	var ce connError
	switch {
	case errors.As(err, &se):
		c.mu.Lock()
		sd := c.streams[se.id]
		if sd == nil {
			c.appendUint32(frameRSTStream, se.id, uint32(se.code))
		} else {
			sd.rst(se.code)
		}
		c.mu.Unlock()
		rd.b.add(c)
		if sd != nil {
			sd.s.broken(sd, &rd.b)
		}
		if c.client == nil {
			return nil
		}
		if err = c.client.wasted(); err == nil {
			return nil
		}
		return rd.refuse(err)
	case errors.As(err, &ce):
		c.mu.Lock()
		last := uint32(0)
		if c.client != nil {
			last = c.client.lastID
		}
		c.appendRaw(goAway(last, ce.code, ce.reason))
		c.mu.Unlock()
		rd.b.add(c)
	}
	return err
}

func (rd *reader) handle(f *frame) error {
	if !rd.settled {
		if f.typ != frameSettings || f.has(flagAck) {
			return connError{codeProtocol, "the first frame is not SETTINGS"}
		}
		rd.settled = true
	}
	if rd.blockID != 0 && (f.typ != frameContinuation || f.id != rd.blockID) {
		return connError{codeProtocol, "a header block was interrupted"}
	}
	if cc := rd.c.client; cc != nil && f.useless() {
		if err := cc.useless(f.price()); err != nil {
			return err
		}
	}
	switch f.typ {
	case frameData:
		return rd.data(f)
	case frameHeaders:
		return rd.headers(f)
	case frameContinuation:
		if rd.blockID == 0 {
			return connError{codeProtocol, "CONTINUATION without HEADERS"}
		}
		if rd.blockRest--; rd.blockRest < 0 {
			return connError{codeEnhanceYourCalm, "header block in too many frames"}
		}
		return rd.block(f)
	case frameRSTStream:
		if len(f.payload) != 4 {
			return connError{codeFrameSize, "RST_STREAM of a wrong size"}
		}
		if f.id == 0 || !rd.h.known(f.id) {
			return connError{codeProtocol, "RST_STREAM of an idle stream"}
		}
		return rd.h.onReset(f.id, errCode(binary.BigEndian.Uint32(f.payload)))
	case frameSettings:
		return rd.settings(f)
	case framePing:
		return rd.ping(f)
	case frameGoAway:
		if f.id != 0 {
			return connError{codeProtocol, "GOAWAY on a stream"}
		}
		if len(f.payload) < 8 {
			return connError{codeFrameSize, "GOAWAY of a wrong size"}
		}
		rd.h.onGoAway(binary.BigEndian.Uint32(f.payload)&maxStreamID,
			errCode(binary.BigEndian.Uint32(f.payload[4:])), string(f.payload[8:]))
	case frameWindowUpdate:
		return rd.windowUpdate(f)
	case framePriority:
		return rd.priority(f)
	case framePushPromise:
		return connError{codeProtocol, "PUSH_PROMISE is not enabled"}
	}
	return nil // unknown types are ignored, RFC 9113 section 4.1
}

func (rd *reader) data(f *frame) error {
	if f.id == 0 {
		return connError{codeProtocol, "DATA on stream 0"}
	}
	flow := int64(len(f.payload))
	if err := f.unpad(); err != nil {
		return err
	}
	c := rd.c
	c.mu.Lock()
	c.recvLeft -= flow
	over := c.recvLeft < 0
	c.mu.Unlock()
	if over {
		return connError{codeFlowControl, "connection window exceeded"}
	}
	if !rd.h.known(f.id) {
		return connError{codeProtocol, "DATA on an idle stream"}
	}
	return rd.h.onData(f.id, f.payload, flow, f.has(flagEndStream))
}

func (rd *reader) headers(f *frame) error {
	if f.id == 0 {
		return connError{codeProtocol, "HEADERS on stream 0"}
	}
	if err := f.unpad(); err != nil {
		return err
	}
	rd.fields, rd.listSize, rd.tooLarge, rd.typed = rd.fields[:0], 0, false, false
	rd.blockID, rd.blockEnd, rd.blockRest = f.id, f.has(flagEndStream), maxContinuations
	return rd.block(f)
}

// block takes a frame of a header block, which is decoded when it is whole: hpack's
// decoder never gives the room back in which it gathers the parts of a long field.
func (rd *reader) block(f *frame) error {
	if !f.has(flagEndHeaders) {
		return rd.gather(f.payload)
	}
	rd.blockID = 0
	whole := f.payload
	if len(rd.partial) > 0 {
		if err := rd.gather(f.payload); err != nil {
			return err
		}
		whole = rd.partial
	}
	if _, err := rd.dec.Write(whole); err != nil {
		return connError{codeCompression, "header block can't be decoded"}
	}
	if err := rd.dec.Close(); err != nil {
		return connError{codeCompression, "header block is incomplete"}
	}
	rd.dropPartial()
	err := rd.h.onHeaders(f.id, rd.fields, rd.blockEnd, rd.tooLarge)
	if cap(rd.fields) > keptFields || rd.listSize > lastLimit {
		rd.fields = nil
	}
	return err
}

// gather keeps a part of a header block. Encoded it is shorter than as a list.
func (rd *reader) gather(p []byte) error {
	if len(rd.partial)+len(p) > overLimit*rd.limit {
		return connError{codeEnhanceYourCalm, "header list too large"}
	}
	if len(rd.partial) > 0 && rd.c.client != nil && policy.Kept.Load() > policy.KeptLimit {
		return connError{codeEnhanceYourCalm, "too many long header blocks at a time"}
	}
	policy.Kept.Add(int64(len(p)))
	rd.partial = append(rd.partial, p...)
	return nil
}

func (rd *reader) dropPartial() {
	policy.Kept.Add(-int64(len(rd.partial)))
	rd.partial = nil
}

// endText words why a connection ended, for logs and status messages.
func endText(err error) error {
	if errors.Is(err, io.EOF) {
		return errors.New("connection closed by the member")
	}
	return fmt.Errorf("connection lost: %w", err)
}
