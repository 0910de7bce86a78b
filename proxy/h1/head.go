package h1

import (
	"bytes"
	"net/http"
	"strconv"
	"strings"
)

// refusal is what a client is told about a request that we do not take.
type refusal struct {
	status int
	text   string
}

// Error implements error.
func (r *refusal) Error() string { return r.text }

func bad(text string) *refusal { return &refusal{http.StatusBadRequest, text} }

// requestHead is what the raw check learns, which no parser may judge
// differently.
type requestHead struct {
	minor        int   // HTTP/1.minor
	length       int64 // Content-Length, -1 where there is none
	chunked      bool
	cacheControl bool // the field is there
}

// checkHead looks at the raw bytes of a request's head, up to and with its empty
// line. http.ReadRequest lets pass what two parsers may read differently, and
// that is how requests are smuggled (RFC 9112 sections 2.2, 3, 5, 6 and 11.2);
// here it is refused.
func checkHead(raw []byte) (requestHead, *refusal) {
	h := requestHead{length: -1}
	if no := checkLines(raw); no != nil {
		return h, no
	}
	line, rest := cutLine(raw)
	if no := h.requestLine(line); no != nil {
		return h, no
	}
	hosts, encodings := 0, 0
	for {
		line, rest = cutLine(rest)
		if len(line) == 0 {
			break
		}
		name, value, no := cutField(line)
		if no != nil {
			return h, no
		}
		switch {
		case foldEqual(name, "host"):
			hosts++
			if !validHost(string(value)) {
				return h, bad("the Host field is not valid")
			}
		case foldEqual(name, "content-length"):
			if h.length >= 0 {
				return h, bad("more than one Content-Length")
			}
			if h.length = parseLength(value); h.length < 0 {
				return h, bad("the Content-Length is not valid")
			}
		case foldEqual(name, "transfer-encoding"):
			if encodings++; encodings > 1 || !foldEqual(value, "chunked") {
				return h, bad("a Transfer-Encoding other than chunked")
			}
			h.chunked = true
		case foldEqual(name, "cache-control"):
			h.cacheControl = true
		}
	}
	switch {
	case h.chunked && h.minor == 0:
		return h, bad("a Transfer-Encoding in HTTP/1.0")
	case h.chunked && h.length >= 0:
		return h, bad("both Content-Length and Transfer-Encoding")
	case hosts > 1, hosts == 0 && h.minor == 1:
		return h, bad("not exactly one Host field")
	}
	return h, nil
}

// checkLines demands that lines end in CRLF and hold no other control byte than
// the tab.
func checkLines(raw []byte) *refusal {
	for i, b := range raw {
		switch {
		case b == '\n' && (i == 0 || raw[i-1] != '\r'):
			return bad("a line ends without a carriage return")
		case b == '\r' && (i+1 == len(raw) || raw[i+1] != '\n'):
			return bad("a carriage return within a line")
		case (b < ' ' || b == 0x7f) && b != '\r' && b != '\n' && b != '\t':
			return bad("a control byte in the head")
		}
	}
	return nil
}

func cutLine(p []byte) (line, rest []byte) {
	line, rest, _ = bytes.Cut(p, []byte("\r\n"))
	return line, rest
}

// requestLine checks method SP target SP version (RFC 9112 section 3).
func (h *requestHead) requestLine(line []byte) *refusal {
	method, rest, ok1 := bytes.Cut(line, []byte(" "))
	target, version, ok2 := bytes.Cut(rest, []byte(" "))
	if !ok1 || !ok2 || !isToken(method) || len(target) == 0 || bytes.ContainsAny(rest, "\t") || bytes.ContainsAny(version, " ") {
		return bad("the request line is not valid")
	}
	switch v := string(version); {
	case v == "HTTP/1.1":
		h.minor = 1
	case v == "HTTP/1.0":
		h.minor = 0
	case len(v) == len("HTTP/x.y") && strings.HasPrefix(v, "HTTP/") && isDigit(v[5]) && v[6] == '.' && isDigit(v[7]):
		return &refusal{http.StatusHTTPVersionNotSupported, "only HTTP/1.1 and HTTP/1.0 are served here"}
	default:
		return bad("the request line is not valid")
	}
	if string(method) == http.MethodConnect {
		return &refusal{http.StatusMethodNotAllowed, "CONNECT is not served here"}
	}
	if _, ok := originForm(string(target)); !ok || string(target) == "*" && string(method) != http.MethodOptions {
		return bad("the request's target is not valid")
	}
	return nil
}

// originForm makes an absolute target one that a member takes (RFC 9112
// section 3.2.2), byte for byte.
func originForm(target string) (string, bool) {
	if target[0] == '/' || target == "*" {
		return target, true
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
		if !validHost(rest[:end]) || strings.Contains(rest[:end], "%") {
			return "", false
		}
		if rest = rest[end:]; !strings.HasPrefix(rest, "/") {
			rest = "/" + rest
		}
		return rest, true
	}
	return "", false
}

// cutField splits a field line (RFC 9112 section 5).
func cutField(line []byte) (name, value []byte, no *refusal) {
	if line[0] == ' ' || line[0] == '\t' {
		return nil, nil, bad("a folded field")
	}
	name, value, ok := bytes.Cut(line, []byte(":"))
	switch {
	case !ok:
		return nil, nil, bad("a field without a colon")
	case len(name) == 0:
		return nil, nil, bad("a field without a name")
	case name[len(name)-1] == ' ' || name[len(name)-1] == '\t':
		return nil, nil, bad("white space before a colon")
	case !isToken(name):
		return nil, nil, bad("a field name that is not valid")
	}
	return name, bytes.Trim(value, " \t"), nil
}

// parseLength reads a Content-Length: digits alone. -1 means not valid.
func parseLength(value []byte) int64 {
	for _, b := range value {
		if !isDigit(b) {
			return -1
		}
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

// isToken says whether p is a token (RFC 9110 section 5.6.2).
func isToken(p []byte) bool {
	for _, b := range p {
		if !isDigit(b) && !isLetter(b) && strings.IndexByte("!#$%&'*+-.^_`|~", b) < 0 {
			return false
		}
	}
	return len(p) > 0
}

func isDigit(b byte) bool { return '0' <= b && b <= '9' }

func isLetter(b byte) bool { return 'a' <= b|0x20 && b|0x20 <= 'z' }

// foldEqual compares with a lower-case ASCII word.
func foldEqual(p []byte, word string) bool {
	if len(p) != len(word) {
		return false
	}
	for i := range p {
		b := p[i]
		if 'A' <= b && b <= 'Z' {
			b |= 0x20
		}
		if b != word[i] {
			return false
		}
	}
	return true
}
