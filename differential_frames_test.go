package main

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"slices"
	"strings"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/dynamicpb"
)

// h2Wire is one connection of a client that does all by itself, frame by frame.
type h2Wire struct {
	s        *side
	c        net.Conn
	framer   *http2.Framer
	block    bytes.Buffer
	encoder  *hpack.Encoder
	streams  map[uint32]*h2Stream
	next     uint32
	granted  int // what the peer grants: the connection …
	initial  int // … and each stream
	maxFrame int
	window   int // what we grant each stream
}

// h2Stream is one request and its answer.
type h2Stream struct {
	r       *h2Request
	id      uint32
	granted int
	heads   [][]hpack.HeaderField
	frames  []string
	body    bytes.Buffer
	ended   bool
}

// maxFrameSize is the least that a peer may allow (RFC 9113 section 4.2).
const maxFrameSize = 16 << 10

func (s *side) dialH2(ctx context.Context, window int) (*h2Wire, error) {
	c, err := s.dial(ctx, "h2")
	if err != nil {
		return nil, err
	}
	w := &h2Wire{
		s: s, c: c, framer: http2.NewFramer(c, c), streams: map[uint32]*h2Stream{}, next: 1,
		granted: defaultWindow, initial: defaultWindow, maxFrame: maxFrameSize, window: window,
	}
	w.framer.AllowIllegalWrites = true
	w.framer.ReadMetaHeaders = hpack.NewDecoder(4096, nil)
	w.encoder = hpack.NewEncoder(&w.block)
	if _, err := c.Write([]byte(http2.ClientPreface)); err != nil {
		return nil, err
	}
	return w, w.framer.WriteSettings(http2.Setting{ID: http2.SettingInitialWindowSize, Val: uint32(window)})
}

func (w *h2Wire) open(r *h2Request) *h2Stream {
	st := &h2Stream{r: r, id: w.next, granted: w.initial}
	w.streams[st.id] = st
	w.next += 2
	return st
}

// headers sends a header block, in as many frames as the request has it.
func (w *h2Wire) headers(st *h2Stream, fields []string, end bool) error {
	w.block.Reset()
	for field := range slices.Chunk(fields, 2) {
		if err := w.encoder.WriteField(hpack.HeaderField{Name: field[0], Value: field[1]}); err != nil {
			return err
		}
	}
	block := w.block.Bytes()
	size := len(block)
	if st.r.continuation > 0 {
		size = min(st.r.continuation, size)
	}
	err := w.framer.WriteHeaders(http2.HeadersFrameParam{
		StreamID: st.id, BlockFragment: block[:size], EndStream: end, EndHeaders: size == len(block), PadLength: uint8(st.r.padding),
	})
	for block = block[size:]; len(block) > 0 && err == nil; block = block[size:] {
		size = min(size, len(block))
		err = w.framer.WriteContinuation(st.id, size == len(block), block[:size])
	}
	return err
}

// body sends bytes of the body as the windows allow; an answer that has ended
// stops it.
func (w *h2Wire) body(ctx context.Context, st *h2Stream, text string, end bool) error {
	rest := []byte(text)
	for len(rest) > 0 {
		size := min(len(rest), w.maxFrame)
		if st.r.pieces != wholeBody {
			size = min(size, st.r.pieces)
		}
		whole := size
		if st.r.padding > 0 {
			whole += 1 + st.r.padding
		}
		if err := w.until(func() bool { return st.ended || min(st.granted, w.granted) >= whole }); err != nil || st.ended {
			return err
		}
		if st.r.pauses {
			if err := w.s.pause(ctx); err != nil {
				return err
			}
		}
		if st.r.hollow {
			if err := w.framer.WriteData(st.id, false, nil); err != nil {
				return err
			}
		}
		var padding []byte
		if st.r.padding > 0 {
			padding = make([]byte, st.r.padding)
		}
		if err := w.framer.WriteDataPadded(st.id, end && size == len(rest), rest[:size], padding); err != nil {
			return err
		}
		st.granted, w.granted, rest = st.granted-whole, w.granted-whole, rest[size:]
	}
	return nil
}

// until reads frames until it is so.
func (w *h2Wire) until(so func() bool) error {
	for !so() {
		if err := w.step(); err != nil {
			return err
		}
	}
	return nil
}

// step reads one frame.
func (w *h2Wire) step() error {
	frame, err := w.framer.ReadFrame()
	if err != nil {
		return fmt.Errorf("read frame: %w", err)
	}
	st := w.streams[frame.Header().StreamID]
	switch f := frame.(type) {
	case *http2.SettingsFrame:
		return w.settings(f)
	case *http2.PingFrame:
		if !f.IsAck() {
			return w.framer.WritePing(true, f.Data)
		}
	case *http2.WindowUpdateFrame:
		if f.StreamID == 0 {
			w.granted += int(f.Increment)
		} else if st != nil {
			st.granted += int(f.Increment)
		}
	case *http2.GoAwayFrame:
		for _, st := range w.streams {
			if f.LastStreamID < st.id || f.ErrCode != http2.ErrCodeNo {
				st.end("GOAWAY " + f.ErrCode.String())
			}
		}
	case *http2.RSTStreamFrame:
		if st != nil {
			st.end("RST_STREAM " + f.ErrCode.String())
		}
	case *http2.MetaHeadersFrame:
		if st == nil {
			return errors.New("HEADERS for nobody")
		}
		st.heads = append(st.heads, f.Fields)
		st.note("HEADERS", f.StreamEnded())
	case *http2.DataFrame:
		if st == nil {
			return errors.New("DATA for nobody")
		}
		st.body.Write(f.Data())
		st.note("DATA", f.StreamEnded())
		return w.grant(st, int(f.Length))
	}
	return nil
}

func (w *h2Wire) settings(f *http2.SettingsFrame) error {
	if f.IsAck() {
		return nil
	}
	if size, ok := f.Value(http2.SettingInitialWindowSize); ok {
		for _, st := range w.streams {
			st.granted += int(size) - w.initial
		}
		w.initial = int(size)
	}
	return w.framer.WriteSettingsAck()
}

// grant gives back what was taken.
func (w *h2Wire) grant(st *h2Stream, n int) error {
	if n == 0 {
		return nil
	}
	err := w.framer.WriteWindowUpdate(0, uint32(n))
	if !st.ended {
		err = errors.Join(err, w.framer.WriteWindowUpdate(st.id, uint32(n)))
	}
	return err
}

// note remembers in which frames an answer came: how many DATA frames, and where
// an empty one is, is each hop's own; but where it ends is not.
func (st *h2Stream) note(kind string, end bool) {
	if st.ended = end; end && kind == "HEADERS" {
		kind += " END_STREAM"
	}
	if n := len(st.frames); kind != "DATA" || n == 0 || st.frames[n-1] != "DATA" {
		st.frames = append(st.frames, kind)
	}
}

// end is an end that is not an answer's.
func (st *h2Stream) end(how string) {
	if !st.ended {
		st.frames, st.ended = append(st.frames, how), true
	}
}

// enough tells whether the client has what it wants.
func (st *h2Stream) enough() bool {
	switch r := st.r; {
	case r.reset > 0:
		return st.body.Len() >= r.reset
	case r.answers > 0:
		return len(messagesIn(st.body.Bytes())) >= r.answers
	}
	return false
}

// messagesIn are the whole messages of a gRPC body, with their prefixes.
func messagesIn(body []byte) [][]byte {
	var list [][]byte
	for len(body) >= 5 {
		end := 5 + int(binary.BigEndian.Uint32(body[1:]))
		if len(body) < end {
			break
		}
		list, body = append(list, body[:end]), body[end:]
	}
	return list
}

// answer is what is compared: in which frames it came, its fields, and its bytes.
func (st *h2Stream) answer() answer {
	a := answer{{"frames", strings.Join(st.frames, ", ")}}
	for i, head := range st.heads {
		label := "field"
		if i > 0 || len(st.heads) == 1 && st.frames[0] != "HEADERS" {
			label = "trailer"
		}
		var lines answer
		for _, f := range head {
			if line, ok := fieldLine(f.Name, f.Value); ok {
				lines = append(lines, answerPart{label, line})
			}
		}
		if !st.r.isGRPC() { // by HTTP/1.1 between us and the member, where the order says nothing
			slices.SortFunc(lines, func(a, b answerPart) int { return strings.Compare(a.text, b.text) })
		}
		a = append(a, lines...)
	}
	body := st.body.Bytes()
	switch r := st.r; {
	case r.reset > 0:
		body = body[:min(r.reset, len(body))]
	case r.answers > 0:
		list := messagesIn(body)
		body = slices.Concat(list[:min(r.answers, len(list))]...)
	}
	return append(a, answerPart{"body", st.read(body)})
}

// read is the body, as JSON where it has to be.
func (st *h2Stream) read(body []byte) string {
	if !st.r.decode || st.r.method == nil {
		return string(body)
	}
	var text strings.Builder
	for _, message := range messagesIn(body) {
		out := dynamicpb.NewMessage(st.r.method.Output())
		if err := proto.Unmarshal(message[5:], out); err != nil {
			return string(body)
		}
		line, err := protojson.Marshal(out)
		if err != nil {
			return string(body)
		}
		text.Write(append(line, '\n'))
	}
	return text.String()
}
