package h1

import (
	"bytes"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
)

// requestHead is a request's head, and what it says of how the request goes on,
// which no second parser may judge differently. It is used again for the next
// request.
type requestHead struct {
	raw     []byte // a copy, which outlives the reading of the body
	fields  fields
	method  string
	target  string // in origin form
	host    string // of the target or the Host field; only HTTP/1.0 may do without
	minor   int    // HTTP/1.minor
	length  int64  // Content-Length, -1 where there is none
	chunked bool
}

// keptHead is the largest buffer, in bytes, that a requestHead is used again with.
const keptHead = 4 << 10

// reset makes room for the next request.
func (h *requestHead) reset() {
	raw, fs := h.raw[:0], h.fields
	if fs.reset(); cap(raw) > keptHead {
		raw = nil
	}
	*h = requestHead{raw: raw, fields: fs, minor: 1, length: -1}
}

// read takes a head, up to and with its empty line. What two parsers may read
// differently is how requests are smuggled (RFC 9112 sections 2.2, 3, 5, 6 and
// 11.2); it is refused.
func (h *requestHead) read(raw []byte) *refusal {
	h.reset()
	h.raw = append(h.raw, raw...)
	line, no := firstLine(h.raw)
	if no != nil {
		return no
	}
	if no := h.requestLine(line); no != nil {
		return no
	}
	if no := h.fields.scan(h.raw[len(line)+len("\r\n"):]); no != nil {
		return no
	}
	hosts, encodings := 0, 0
	for _, f := range h.fields.list {
		switch value := h.fields.value(f); f.kind {
		case host:
			hosts++
			if !validHost(string(value)) {
				return bad("the Host field is not valid")
			}
			if h.host == "" {
				h.host = string(value)
			}
		case contentLength:
			if h.length >= 0 {
				return bad("more than one Content-Length")
			}
			if h.length = parseLength(value); h.length < 0 {
				return bad("the Content-Length is not valid")
			}
		case transferEncoding:
			if encodings++; encodings > 1 || !foldEqual(value, "chunked") {
				return bad("a Transfer-Encoding other than chunked")
			}
			h.chunked = true
		}
	}
	switch {
	case h.chunked && h.minor == 0:
		return bad("a Transfer-Encoding in HTTP/1.0")
	case h.chunked && h.length >= 0:
		return bad("both Content-Length and Transfer-Encoding")
	case hosts > 1, hosts == 0 && h.minor == 1:
		return bad("not exactly one Host field")
	}
	return nil
}

// bodyless says that nothing follows the head.
func (h *requestHead) bodyless() bool { return !h.chunked && h.length <= 0 }

// requestLine checks method SP target SP version (RFC 9112 section 3).
func (h *requestHead) requestLine(line []byte) *refusal {
	method, rest, ok1 := bytes.Cut(line, []byte(" "))
	target, version, ok2 := bytes.Cut(rest, []byte(" "))
	if !ok1 || !ok2 || !isToken(method) || len(target) == 0 || bytes.IndexByte(rest, '\t') >= 0 || bytes.IndexByte(version, ' ') >= 0 {
		return bad("the request line is not valid")
	}
	switch v := version; {
	case string(v) == "HTTP/1.1":
		h.minor = 1
	case string(v) == "HTTP/1.0":
		h.minor = 0
	case len(v) == len("HTTP/x.y") && bytes.HasPrefix(v, []byte("HTTP/")) && isDigit(v[5]) && v[6] == '.' && isDigit(v[7]):
		return &refusal{http.StatusHTTPVersionNotSupported, "only HTTP/1.1 and HTTP/1.0 are served here"}
	default:
		return bad("the request line is not valid")
	}
	h.method = methodName(method)
	if h.method == http.MethodConnect {
		return &refusal{http.StatusMethodNotAllowed, "CONNECT is not served here"}
	}
	var ok bool
	if h.target, h.host, ok = originForm(string(target)); !ok || h.target == "*" && h.method != http.MethodOptions {
		return bad("the request's target is not valid")
	}
	if path, _, _ := strings.Cut(h.target, "?"); strings.Contains(path, "%") {
		if _, err := url.PathUnescape(path); err != nil {
			return bad("the request's target is not valid: " + err.Error())
		}
	}
	return nil
}

// methods are those of RFC 9110 section 9.3 that clients of etcd use.
var methods = []string{http.MethodGet, http.MethodPut, http.MethodPost, http.MethodDelete, http.MethodHead, http.MethodOptions}

// methodName is the string of a method; the usual ones cost no memory.
func methodName(p []byte) string {
	for _, m := range methods {
		if string(p) == m {
			return m
		}
	}
	return string(p)
}

// originForm makes an absolute target one that a member takes, byte for byte,
// and says what host it names: that counts, whatever the Host field says (RFC
// 9112 section 3.2.2).
func originForm(target string) (origin, host string, ok bool) {
	if target[0] == '/' || target == "*" {
		return target, "", true
	}
	for _, scheme := range []string{"http://", "https://"} {
		if len(target) < len(scheme) || !strings.EqualFold(target[:len(scheme)], scheme) {
			continue
		}
		rest := target[len(scheme):]
		end := strings.IndexAny(rest, "/?")
		if end < 0 {
			end = len(rest)
		}
		// An escape would be decoded on the way to the Host field.
		if host = rest[:end]; !validHost(host) || strings.Contains(host, "%") {
			return "", "", false
		}
		if rest = rest[end:]; !strings.HasPrefix(rest, "/") {
			rest = "/" + rest
		}
		return rest, host, true
	}
	return "", "", false
}

// wantsClose says whether the client's next answer is to be its last one. An
// HTTP/1.0 client gets one answer a connection.
func (h *requestHead) wantsClose() bool {
	return h.minor == 0 || h.fields.hasToken(connection, "close")
}

// wantsWebSocket says whether a request without a body asks to switch to
// WebSocket (RFC 6455 section 4.1).
func (h *requestHead) wantsWebSocket() bool {
	return h.bodyless() && h.method == http.MethodGet && h.minor == 1 &&
		h.fields.hasToken(connection, "upgrade") && h.fields.hasToken(upgradeField, "websocket")
}

// parseLength reads a Content-Length: digits alone. -1 means not valid.
func parseLength(value []byte) int64 {
	if slices.ContainsFunc(value, func(b byte) bool { return !isDigit(b) }) {
		return -1
	}
	n, err := strconv.ParseInt(string(value), 10, 64)
	if err != nil {
		return -1
	}
	return n
}

// validHost says whether host is a name or address with or without a port
// (RFC 3986 section 3.2.2), and only one: a comma would be two in one field.
func validHost(host string) bool {
	name, port, _ := strings.Cut(host, ":")
	marks := "-._~!$&'()*+;=%"
	if literal, ok := strings.CutPrefix(host, "["); ok {
		var rest string
		if name, rest, ok = strings.Cut(literal, "]"); !ok {
			return false
		}
		if port, ok = strings.CutPrefix(rest, ":"); !ok && rest != "" {
			return false
		}
		marks = ":.%-_~"
	}
	for _, b := range []byte(name) {
		if !isDigit(b) && !isLetter(b) && strings.IndexByte(marks, b) < 0 {
			return false
		}
	}
	return name != "" && strings.Trim(port, "0123456789") == ""
}
