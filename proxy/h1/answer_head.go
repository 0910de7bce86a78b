package h1

import (
	"bytes"
	"net/http"
)

// answerHead is the head of a member's answer, in the bytes of the inbox: it is
// good until the next read from the member.
type answerHead struct {
	fields   fields
	size     int // in bytes
	status   int
	text     []byte // what follows the version: code and reason
	length   int64  // of the body; -1 where the head does not say
	declared []byte // the value of Content-Length, nil where there is none
	chunked  bool
	last     bool // the member closes behind it
}

// read takes a head, up to and with its empty line. Where it is not exactly HTTP,
// or says two things about the body's length, its error is errBadAnswer: what the
// member said is not quoted, as it may be a value.
func (h *answerHead) read(raw []byte) error {
	*h = answerHead{fields: h.fields, size: len(raw), length: -1}
	line, no := firstLine(raw)
	if no != nil {
		return errBadAnswer
	}
	minor := 0
	switch {
	case bytes.HasPrefix(line, []byte("HTTP/1.1 ")):
		minor = 1
	case bytes.HasPrefix(line, []byte("HTTP/1.0 ")):
	default:
		return errBadAnswer
	}
	h.text = line[len("HTTP/1.x "):]
	if len(h.text) < 3 || len(h.text) > 3 && h.text[3] != ' ' {
		return errBadAnswer
	}
	for _, b := range h.text[:3] {
		if !isDigit(b) {
			return errBadAnswer
		}
		h.status = h.status*10 + int(b-'0')
	}
	if h.status < 100 {
		return errBadAnswer
	}
	if h.fields.scan(raw[len(line)+len("\r\n"):]) != nil {
		return errBadAnswer
	}
	for _, f := range h.fields.list {
		switch value := h.fields.value(f); f.kind {
		case contentLength:
			if h.declared != nil || parseLength(value) < 0 {
				return errBadAnswer
			}
			h.declared = value
			h.length = parseLength(value)
		case transferEncoding:
			if h.chunked || minor == 0 || !foldEqual(value, "chunked") {
				return errBadAnswer
			}
			h.chunked = true
		}
	}
	if h.chunked && h.declared != nil {
		return errBadAnswer
	}
	h.last = h.fields.hasToken(connection, "close") || minor == 0 && !h.fields.hasToken(connection, "keep-alive")
	return nil
}

// final says that no other head follows for the same request.
func (h *answerHead) final() bool {
	return h.status >= 200 || h.status == http.StatusSwitchingProtocols
}

// bare says that no body follows the head, whatever it says (RFC 9112 section
// 6.3).
func (h *answerHead) bare(method string) bool {
	return method == http.MethodHead || h.status == http.StatusNoContent || h.status == http.StatusNotModified
}
