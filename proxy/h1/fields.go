package h1

import (
	"bytes"
	"net/http"
	"strconv"
	"strings"
)

// A head is never parsed into a map and printed again: its field lines are
// looked at where they lie, and those that go on do so byte for byte, in their
// order. (Measured, v2 GET: http.ReadRequest, http.ReadResponse and Header.Write
// were 30 % of the relay's CPU, and the garbage that they made another tenth.)

// field is one field line of a head (RFC 9112 section 5): where it begins, its
// colon, its value without the white space around it, and where it ends.
type field struct {
	start, colon, from, to, end uint32
	kind                        fieldKind
}

// fieldKind is what a relay does with a field. Those that it only passes on are
// of kind 0.
type fieldKind uint8

const (
	_ fieldKind = iota
	host
	expect
	via
	forwardedFor
	upgradeField
	connection
	trailerField
	transferEncoding
	contentLength
	hopField // any other that speaks of one connection only
	override
	contentEncoding
	origin
	userAgent
	proxyStatus
	allowField // one of the three of CORS that --cors owns
)

// kinds are the names with a meaning here, in lower case. Those of one connection
// are RFC 9110 section 7.6.1's and RFC 2616 section 13.5.1's.
var kinds = map[string]fieldKind{
	"host": host, "expect": expect, "via": via, "x-forwarded-for": forwardedFor,
	"upgrade": upgradeField, "connection": connection, "trailer": trailerField,
	"transfer-encoding": transferEncoding, "content-length": contentLength,
	"keep-alive": hopField, "proxy-connection": hopField, "proxy-authenticate": hopField,
	"proxy-authorization": hopField, "te": hopField,
	"x-http-method-override": override, "content-encoding": contentEncoding,
	"origin": origin, "user-agent": userAgent, "proxy-status": proxyStatus,
	"access-control-allow-origin": allowField, "access-control-allow-methods": allowField,
	"access-control-allow-headers": allowField,
}

// longestKind is the length of the longest name in kinds.
const longestKind = len("access-control-allow-methods")

// kindOf classifies a name.
func kindOf(name []byte) fieldKind {
	var lower [longestKind]byte
	if len(name) > len(lower) {
		return 0
	}
	for i, b := range name {
		if 'A' <= b && b <= 'Z' {
			b |= 0x20
		}
		lower[i] = b
	}
	return kinds[string(lower[:len(name)])]
}

// fields are the field lines of a head, in their order.
type fields struct {
	raw   []byte // what list points into
	list  []field
	seen  uint32          // a bit for each kind that is there
	named map[string]bool // what Connection names besides the usual, in lower case
}

const (
	// maxFields is how many field lines a head may have: each takes memory besides
	// its bytes. maxNamed is how many of them Connection may name.
	maxFields = 1000
	maxNamed  = 64
)

// keptFields is the longest list that is used again for the next head.
const keptFields = 64

// reset makes room for the next head.
func (fs *fields) reset() {
	if cap(fs.list) > keptFields {
		fs.list = nil
	}
	*fs = fields{list: fs.list[:0]}
}

func (fs *fields) line(f field) []byte  { return fs.raw[f.start:f.end] }
func (fs *fields) name(f field) []byte  { return fs.raw[f.start:f.colon] }
func (fs *fields) value(f field) []byte { return fs.raw[f.from:f.to] }

// scan takes the field lines of raw, up to and with its empty line. What two
// parsers may read differently is refused (RFC 9112 sections 2.2, 5 and 11.2).
func (fs *fields) scan(raw []byte) *refusal {
	fs.reset()
	fs.raw = raw
	for at := 0; ; {
		line, no := firstLine(raw[at:])
		if no != nil {
			return no
		}
		if len(line) == 0 {
			break
		}
		f, no := cutField(line)
		if no != nil {
			return no
		}
		f.start, f.colon, f.from, f.to = uint32(at), f.colon+uint32(at), f.from+uint32(at), f.to+uint32(at)
		at += len(line) + len("\r\n")
		f.end = uint32(at)
		if len(fs.list) == maxFields {
			return &refusal{http.StatusRequestHeaderFieldsTooLarge, "more than " + strconv.Itoa(maxFields) + " fields"}
		}
		fs.list = append(fs.list, f)
		fs.seen |= 1 << f.kind
	}
	tooMany := fs.hasElement(connection, func(name []byte) bool {
		if kind := kindOf(name); (kind < upgradeField || kind > hopField) && !foldEqual(name, "close") {
			if fs.named == nil {
				fs.named = map[string]bool{}
			}
			fs.named[strings.ToLower(string(name))] = true
		}
		return len(fs.named) > maxNamed
	})
	if tooMany {
		return bad("Connection names more than " + strconv.Itoa(maxNamed) + " fields")
	}
	return nil
}

// has says whether a kind is there.
func (fs *fields) has(kind fieldKind) bool { return fs.seen&(1<<kind) != 0 }

// joined is the list that all fields of a kind make (RFC 9110 section 5.3), with
// more behind it if that is not empty.
func (fs *fields) joined(kind fieldKind, more string) string {
	if !fs.has(kind) {
		return more
	}
	var list strings.Builder
	for i := range fs.list {
		if fs.list[i].kind != kind {
			continue
		}
		if list.Len() > 0 {
			list.WriteString(", ")
		}
		list.Write(fs.value(fs.list[i]))
	}
	if more != "" {
		list.WriteString(", ")
		list.WriteString(more)
	}
	return list.String()
}

// hasElement says whether the lists that the fields of a kind hold have an
// element for which is holds.
func (fs *fields) hasElement(kind fieldKind, is func(element []byte) bool) bool {
	if !fs.has(kind) {
		return false
	}
	for i := range fs.list {
		if fs.list[i].kind != kind {
			continue
		}
		for element := range bytes.SplitSeq(fs.value(fs.list[i]), []byte(",")) {
			if is(bytes.Trim(element, " \t")) {
				return true
			}
		}
	}
	return false
}

// hasToken says whether one of the elements of a kind is token, in lower case.
func (fs *fields) hasToken(kind fieldKind, token string) bool {
	return fs.hasElement(kind, func(element []byte) bool { return foldEqual(element, token) })
}

// goesOn says whether a field is for whoever the head is passed on to: it is not
// of this connection only, not written anew, and no Connection field takes it out
// (RFC 9110 section 7.6.1).
func (fs *fields) goesOn(f field) bool {
	if upgradeField <= f.kind && f.kind <= hopField {
		return false
	}
	return fs.named == nil || !fs.named[strings.ToLower(string(fs.name(f)))]
}

// firstLine is what stands before the first line feed, which must be the end of a
// CRLF. The line may hold no other control byte than the tab.
func firstLine(p []byte) ([]byte, *refusal) {
	end := bytes.IndexByte(p, '\n')
	if end < 1 || p[end-1] != '\r' {
		return nil, bad("a line ends without a carriage return")
	}
	line := p[:end-1]
	for _, b := range line {
		if (b < ' ' && b != '\t') || b == 0x7f {
			if b == '\r' {
				return nil, bad("a carriage return within a line")
			}
			return nil, bad("a control byte in the head")
		}
	}
	return line, nil
}

// cutField splits a field line (RFC 9112 section 5).
func cutField(line []byte) (field, *refusal) {
	if line[0] == ' ' || line[0] == '\t' {
		return field{}, bad("a folded field")
	}
	colon := bytes.IndexByte(line, ':')
	switch {
	case colon < 0:
		return field{}, bad("a field without a colon")
	case colon == 0:
		return field{}, bad("a field without a name")
	case line[colon-1] == ' ' || line[colon-1] == '\t':
		return field{}, bad("white space before a colon")
	case !isToken(line[:colon]):
		return field{}, bad("a field name that is not valid")
	}
	from, to := colon+1, len(line)
	for from < to && isBlank(line[from]) {
		from++
	}
	for from < to && isBlank(line[to-1]) {
		to--
	}
	return field{colon: uint32(colon), from: uint32(from), to: uint32(to), kind: kindOf(line[:colon])}, nil
}

// refusal is what a client is told about a request that we do not take.
type refusal struct {
	status int
	text   string
}

// Error implements error.
func (r *refusal) Error() string { return r.text }

func bad(text string) *refusal { return &refusal{http.StatusBadRequest, text} }

// tokenByte has the bytes of a token (RFC 9110 section 5.6.2).
var tokenByte = func() (is [256]bool) {
	for b := range is {
		is[b] = isDigit(byte(b)) || isLetter(byte(b)) || strings.IndexByte("!#$%&'*+-.^_`|~", byte(b)) >= 0
	}
	return is
}()

// isToken says whether p is a token.
func isToken(p []byte) bool {
	for _, b := range p {
		if !tokenByte[b] {
			return false
		}
	}
	return len(p) > 0
}

func isBlank(b byte) bool { return b == ' ' || b == '\t' }

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
