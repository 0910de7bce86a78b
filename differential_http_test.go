package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"slices"
	"strconv"
	"strings"
)

// wholeBody says that a body is sent in one piece.
const wholeBody = 0

// httpRequest is one request by HTTP/1.1, byte for byte.
type httpRequest struct {
	line     string // method and target
	fields   []string
	body     string
	chunk    int    // bytes in a chunk or a piece
	chunked  bool   // sent in chunks
	trailer  string // fields behind the chunks, each with its line end
	old      bool   // HTTP/1.0
	bare     bool   // the body has no length
	asks     bool   // waits for 100 before it sends its body
	pauses   bool   // between the pieces, of the answer too, somebody else is answered
	together bool   // the next request is sent at once
	until    string // where to stop reading
	when     string // once the answer has it …
	then     string // … this request is made: method, target, form
}

// newHTTPRequest reads how a request is sent; the words are explained in
// testdata/differential/http.shapes.
func newHTTPRequest(line string, fields []string, body string, how []string) (httpRequest, error) {
	r := httpRequest{line: line, fields: fields, body: body, chunk: wholeBody}
	for _, word := range how {
		var err error
		switch name, value, _ := strings.Cut(word, "="); name {
		case "chunked":
			r.chunked = true
			r.chunk, err = strconv.Atoi(value)
		case "pieces":
			r.chunk, err = strconv.Atoi(value)
		case "trailer":
			r.trailer += value + "\r\n"
		case "1.0":
			r.old = true
		case "bare":
			r.bare = true
		case "asks":
			r.asks = true
		case "pauses":
			r.pauses = true
		case "together":
			r.together = true
		case "until":
			r.until = value
		case "when":
			r.when = value
		case "then":
			r.then = value
		default:
			err = fmt.Errorf("unknown word %q", word)
		}
		if err != nil {
			return r, err
		}
	}
	return r, nil
}

// head is the request's head.
func (r *httpRequest) head() string {
	fields := slices.Clone(r.fields)
	switch {
	case r.chunked:
		fields = append(fields, "Transfer-Encoding: chunked")
	case r.body != "" && !r.bare:
		fields = append(fields, fmt.Sprintf("Content-Length: %d", len(r.body)))
	}
	text := request(r.line, "", fields...)
	if r.old {
		text = strings.Replace(text, " HTTP/1.1\r\n", " HTTP/1.0\r\n", 1)
	}
	return text
}

// pieces is the body as it is sent.
func (r *httpRequest) pieces() []string {
	var list []string
	for rest := r.body; rest != ""; {
		n := len(rest)
		if r.chunk != wholeBody {
			n = min(r.chunk, n)
		}
		piece := rest[:n]
		if r.chunked {
			piece = fmt.Sprintf("%x\r\n%s\r\n", n, piece)
		}
		list, rest = append(list, piece), rest[n:]
	}
	if r.chunked {
		list = append(list, "0\r\n"+r.trailer+"\r\n")
	}
	return list
}

// sendHTTP sends requests on one connection and reads the answers.
func (s *side) sendHTTP(ctx context.Context, requests []httpRequest) (answer, error) {
	c, err := s.dial(ctx, "http/1.1")
	if err != nil {
		return nil, err
	}
	defer c.Close()
	e := httpExchange{s: s, c: c, in: bufio.NewReader(c)}
	var waiting []*httpRequest
	var together strings.Builder
	for i := range requests {
		r := &requests[i]
		if waiting = append(waiting, r); r.together {
			together.WriteString(r.head() + strings.Join(r.pieces(), ""))
			continue
		}
		if _, err := io.WriteString(c, together.String()); err != nil {
			return e.got, err
		}
		together.Reset()
		if err := e.write(ctx, r); err != nil {
			return e.got, err
		}
		for _, r := range waiting {
			if err := e.read(ctx, r); err != nil {
				return e.got, err
			}
		}
		waiting = nil
	}
	return e.got, nil
}

// httpExchange is one connection.
type httpExchange struct {
	s   *side
	c   net.Conn
	in  *bufio.Reader
	got answer
}

func (e *httpExchange) write(ctx context.Context, r *httpRequest) error {
	pieces := r.pieces()
	if r.chunk == wholeBody && !r.asks {
		_, err := io.WriteString(e.c, r.head()+strings.Join(pieces, ""))
		return err
	}
	if _, err := io.WriteString(e.c, r.head()); err != nil {
		return err
	}
	if r.asks {
		res, err := e.readHead(r)
		if err != nil {
			return err
		}
		if res.StatusCode != http.StatusContinue {
			return fmt.Errorf("asked for the body, and got %s", res.Status)
		}
	}
	for _, piece := range pieces {
		if r.pauses {
			if err := e.s.pause(ctx); err != nil {
				return err
			}
		}
		if _, err := io.WriteString(e.c, piece); err != nil {
			return err
		}
	}
	return nil
}

// readHead reads the head of one answer, 1xx too.
func (e *httpExchange) readHead(r *httpRequest) (*http.Response, error) {
	method, _, _ := strings.Cut(r.line, " ")
	res, err := http.ReadResponse(e.in, &http.Request{Method: method})
	if err != nil {
		return nil, err
	}
	e.got = append(e.got, answerPart{"status", res.Proto + " " + res.Status})
	e.got.add("field", res.Header)
	return res, nil
}

// read reads the final answer to r.
func (e *httpExchange) read(ctx context.Context, r *httpRequest) error {
	res, err := e.readHead(r)
	for err == nil && res.StatusCode < 200 && res.StatusCode != http.StatusSwitchingProtocols {
		res, err = e.readHead(r)
	}
	if err != nil {
		return fmt.Errorf("read answer: %w", err)
	}
	var in io.Reader = res.Body
	var text strings.Builder
	if r.then != "" {
		before, err := readUntilSeen(in, r.when)
		if err != nil {
			return err
		}
		text.WriteString(before)
		if err := e.s.meanwhile(ctx, r.then); err != nil {
			return err
		}
	}
	if r.pauses {
		in = &pausingReader{in: in, pause: func() error { return e.s.pause(ctx) }}
	}
	if r.until == "" {
		_, err = io.Copy(&text, in)
	} else {
		err = readOnUntil(&text, in, r.until)
	}
	body, _, _ := strings.Cut(text.String(), r.until)
	if r.until == "" {
		body = text.String()
	}
	e.got = append(e.got, answerPart{"body", body})
	switch {
	case errors.Is(err, io.ErrUnexpectedEOF):
		e.got = append(e.got, answerPart{"end", "cut"})
		err = nil
	case err == nil && r.until == "":
		e.got.add("trailer", res.Trailer)
	}
	return err
}

// readUntilSeen reads nothing where the text is empty: the head is enough.
func readUntilSeen(in io.Reader, text string) (string, error) {
	if text == "" {
		return "", nil
	}
	return readUntil(in, text)
}

// readOnUntil goes on with what was read until it has the text.
func readOnUntil(into *strings.Builder, in io.Reader, has string) error {
	if strings.Contains(into.String(), has) {
		return nil
	}
	text, err := readUntil(in, has)
	into.WriteString(text)
	return err
}

// meanwhile makes a request on a connection of its own: method, target, form.
func (s *side) meanwhile(ctx context.Context, words string) error {
	r := httpRequest{chunk: wholeBody, fields: []string{bypassForm}}
	r.line = words
	if list := strings.SplitN(words, " ", 3); len(list) == 3 {
		r.line, r.body = list[0]+" "+list[1], list[2]
	}
	_, err := s.sendHTTP(ctx, []httpRequest{r})
	return err
}

// pausingBytes is how much a slow reader takes before it waits.
const pausingBytes = 256 << 10

// pausingReader waits again and again, while what it does not take piles up.
type pausingReader struct {
	in    io.Reader
	pause func() error
	taken int
}

// Read implements io.Reader.
func (r *pausingReader) Read(p []byte) (int, error) {
	if r.taken >= pausingBytes {
		r.taken = 0
		if err := r.pause(); err != nil {
			return 0, err
		}
	}
	n, err := r.in.Read(p)
	r.taken += n
	return n, err
}
