package main

import (
	"context"
	"encoding/hex"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/net/http2"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/reflect/protoregistry"
	"google.golang.org/protobuf/types/dynamicpb"
)

// defaultWindow is what a client grants where nothing else is said: a stream's
// and, as RFC 9113 section 6.9.2 has it, a connection's.
const defaultWindow = 65535

// h2Request is one request by HTTP/2, on a stream of its own.
type h2Request struct {
	fields   []string // name and value by turns
	messages []h2Message
	method   protoreflect.MethodDescriptor
	decode   bool // the body is compared as what the messages say

	pieces       int      // bytes in a DATA frame
	padding      int      // bytes behind each
	hollow       bool     // an empty DATA frame before each other one
	continuation int      // bytes in a piece of the header block
	trailer      []string // name and value by turns
	window       int      // what the client grants the answer
	answers      int      // with so many messages the client has enough
	reset        int      // with so many bytes it has enough, and is not polite
	open         bool     // the client never says that it has sent all
	late         bool     // it says so in a frame of its own, when an answer is there
	early        bool     // it says so in its HEADERS
	pauses       bool     // between the frames, also of the answer, somebody else is answered
	together     bool     // the next request is sent at once
}

// h2Message is a part of a body, as it is sent; or a call that is made on a
// stream of its own before the next one.
type h2Message struct {
	text string
	call *h2Request
}

// newH2Request reads how a request is sent; the words are explained in
// testdata/differential/grpc.shapes.
func newH2Request(target string, fields []string, body string, how []string) (h2Request, error) {
	r := h2Request{pieces: wholeBody, window: defaultWindow}
	if method, path, ok := strings.Cut(target, " "); ok {
		r.fields = fieldsOf(method, path, "")
		if body != "" {
			r.messages = []h2Message{{text: body}}
		}
	} else {
		r.fields = asGRPC(target)
		if err := r.takeMessages(target, parts(body)); err != nil {
			return r, err
		}
	}
	for _, field := range fields {
		if name, ok := strings.CutPrefix(field, "-"); ok {
			i := slices.Index(r.fields, name)
			if i < 0 {
				return r, fmt.Errorf("%s is not there", name)
			}
			r.fields = slices.Delete(r.fields, i, i+2)
			continue
		}
		name, value, _ := strings.Cut(field, ": ")
		r.fields = with(r.fields, name, value)
	}
	for _, word := range how {
		if err := r.take(word); err != nil {
			return r, err
		}
	}
	return r, nil
}

func (r *h2Request) take(word string) error {
	var err error
	name, value, _ := strings.Cut(word, "=")
	switch name {
	case "pieces":
		r.pieces, err = strconv.Atoi(value)
	case "padding":
		r.padding, err = strconv.Atoi(value)
	case "continuation":
		r.continuation, err = strconv.Atoi(value)
	case "window":
		r.window, err = strconv.Atoi(value)
	case "answers":
		r.answers, err = strconv.Atoi(value)
	case "reset":
		r.reset, err = strconv.Atoi(value)
	case "trailer":
		field, text, _ := strings.Cut(value, ": ")
		r.trailer = append(r.trailer, field, text)
	case "hollow":
		r.hollow = true
	case "open":
		r.open = true
	case "late":
		r.late = true
	case "early":
		r.early = true
	case "pauses":
		r.pauses = true
	case "together":
		r.together = true
	default:
		err = fmt.Errorf("unknown word %q", word)
	}
	return err
}

// takeMessages reads what the client sends: JSON of the method's message, after
// gzip: compressed; raw: and hex as it stands, after flag: and hex behind a
// prefix with that flag.
func (r *h2Request) takeMessages(path string, texts []string) error {
	service, name, _ := strings.Cut(strings.TrimPrefix(path, "/"), "/")
	if found, err := protoregistry.GlobalFiles.FindDescriptorByName(protoreflect.FullName(service)); err == nil {
		r.method = found.(protoreflect.ServiceDescriptor).Methods().ByName(protoreflect.Name(name))
	}
	for _, text := range texts {
		if other, message, ok := strings.Cut(text, " "); ok && strings.HasPrefix(other, "/") {
			call, err := newH2Request(other, nil, message, nil)
			if err != nil {
				return err
			}
			r.messages = append(r.messages, h2Message{call: &call})
			continue
		}
		message, err := r.takeMessage(path, text)
		if err != nil {
			return err
		}
		r.messages = append(r.messages, h2Message{text: message})
	}
	return nil
}

func (r *h2Request) takeMessage(path, text string) (string, error) {
	kind, rest, _ := strings.Cut(text, ":")
	raw, err := hex.DecodeString(rest)
	switch kind {
	case "raw":
		return string(raw), err
	case "flag":
		return grpcPrefixed(raw[0], string(raw[1:])), err
	case "prefixed":
		return grpcMessage(string(raw)), err
	case "gzip":
		text = rest
	}
	if r.method == nil {
		return "", fmt.Errorf("%s is not described", path)
	}
	in := dynamicpb.NewMessage(r.method.Input())
	if err := protojson.Unmarshal([]byte(text), in); err != nil {
		return "", fmt.Errorf("%s: %w", path, err)
	}
	if kind == "gzip" {
		return grpcCompressed(wire(in)), nil
	}
	return grpcMessage(wire(in)), nil
}

// isGRPC tells whether an answer has messages in it, and fields in an order.
func (r *h2Request) isGRPC() bool {
	return strings.HasPrefix(valueIn(r.fields, "content-type"), "application/grpc")
}

func valueIn(fields []string, name string) string {
	for field := range slices.Chunk(fields, 2) {
		if field[0] == name {
			return field[1]
		}
	}
	return ""
}

// sendH2 sends requests on one connection and reads the answers.
func (s *side) sendH2(ctx context.Context, requests []h2Request) (answer, error) {
	w, err := s.dialH2(ctx, requests[0].window)
	if err != nil {
		return nil, err
	}
	defer w.c.Close()
	var got answer
	var waiting []*h2Stream
	for i := range requests {
		st, err := w.begin(ctx, &requests[i])
		if err != nil {
			return got, err
		}
		if waiting = append(waiting, st); st.r.together {
			continue
		}
		for _, st := range waiting {
			if err := w.finish(ctx, st); err != nil {
				return append(got, st.answer()...), err
			}
			got = append(got, st.answer()...)
		}
		waiting = nil
	}
	return got, nil
}

// begin sends a request: all of it, or message by message where answers are to
// come between them.
func (w *h2Wire) begin(ctx context.Context, r *h2Request) (*h2Stream, error) {
	st := w.open(r)
	bare := r.early || len(r.messages) == 0 && !r.open && !r.late && r.trailer == nil
	if err := w.headers(st, r.fields, bare); err != nil {
		return nil, err
	}
	if bare {
		return st, nil
	}
	sent := 0
	for i, message := range r.messages {
		if message.call != nil {
			if err := w.meanwhile(ctx, message.call); err != nil {
				return nil, err
			}
			continue
		}
		last := i == len(r.messages)-1 && !r.open && !r.late && r.trailer == nil
		if err := w.body(ctx, st, message.text, last); err != nil {
			return nil, err
		}
		if sent++; r.open && i < len(r.messages)-1 { // one by one, each with its answer
			if err := w.until(func() bool { return st.ended || len(messagesIn(st.body.Bytes())) >= sent }); err != nil {
				return nil, err
			}
		}
	}
	if r.late && sent > 0 {
		if err := w.until(func() bool { return st.ended || len(messagesIn(st.body.Bytes())) >= max(r.answers, 1) }); err != nil {
			return nil, err
		}
	}
	switch {
	case r.open || st.ended || !r.late && r.trailer == nil:
		return st, nil
	case r.trailer != nil:
		return st, w.headers(st, r.trailer, true)
	}
	return st, w.framer.WriteData(st.id, true, nil)
}

func (w *h2Wire) meanwhile(ctx context.Context, r *h2Request) error {
	st, err := w.begin(ctx, r)
	if err != nil {
		return err
	}
	return w.finish(ctx, st)
}

// finish reads until the client has enough.
func (w *h2Wire) finish(ctx context.Context, st *h2Stream) error {
	r := st.r
	for !st.ended && !st.enough() {
		if r.pauses {
			if err := w.s.pause(ctx); err != nil {
				return err
			}
		}
		if err := w.step(); err != nil {
			return err
		}
	}
	if st.ended {
		return nil
	}
	return w.framer.WriteRSTStream(st.id, http2.ErrCodeCancel)
}
