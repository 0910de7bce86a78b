package h1

import (
	"bufio"
	"bytes"
	"net"
	"net/http"
	"slices"
	"strconv"

	"etcdops/proxy/director"
)

// writeRequest writes the request's head for e: the client's own lines but those
// that end here, then what is ours to say. Framing comes from what the raw check
// saw.
func (x *exchange) writeRequest(w *bufio.Writer, e *director.Endpoint) error {
	h := &x.head
	put(w, h.method, " ", h.target, " HTTP/1.1\r\nHost: ")
	if h.host != "" {
		put(w, h.host)
	} else {
		put(w, e.HostHeader())
	}
	put(w, "\r\n")
	for _, f := range h.fields.list {
		if x.goesOn(f) {
			_, _ = w.Write(h.fields.line(f))
		}
	}
	put(w, "Via: ", h.fields.joined(via, x.r.via[h.minor]), "\r\n")
	if from := h.fields.joined(forwardedFor, x.cl.address()); from != "" {
		put(w, "X-Forwarded-For: ", from, "\r\n")
	}
	if x.upgrade {
		put(w, "Connection: Upgrade\r\nUpgrade: websocket\r\n")
	}
	switch {
	case h.chunked:
		put(w, "Transfer-Encoding: chunked\r\n")
		announceTrailer(w, &h.fields)
	case h.length >= 0:
		put(w, "Content-Length: ", strconv.FormatInt(h.length, 10), "\r\n")
	}
	_, err := w.WriteString("\r\n")
	return err
}

// goesOn says whether a field of the request is the member's as it stands.
func (x *exchange) goesOn(f field) bool {
	switch f.kind {
	case host, via, forwardedFor:
		return false // written by us
	case expect:
		if !x.expect {
			return false
		}
	}
	return x.head.fields.goesOn(f)
}

// writeAnswer writes the head of a member's answer but for its framing, its
// Connection and the empty line.
func (x *exchange) writeAnswer(w *bufio.Writer, h *answerHead) {
	put(w, x.version())
	_, _ = w.Write(h.text)
	if len(h.text) == len("200") {
		put(w, " ") // stands even before an empty reason
	}
	put(w, "\r\n")
	for _, f := range h.fields.list {
		if owned := f.kind == allowField && x.r.CORS != nil; !owned && h.fields.goesOn(f) {
			_, _ = w.Write(h.fields.line(f))
		}
	}
	x.writeCORS(w)
}

// version begins the status line of an answer to the client.
func (x *exchange) version() string {
	if x.head.minor == 0 {
		return "HTTP/1.0 "
	}
	return "HTTP/1.1 "
}

// address is the client's address without the port, or empty where it has none.
func (cl *client) address() string {
	if !cl.addressed {
		cl.addressed, cl.ip = true, clientIP(cl.c)
	}
	return cl.ip
}

func clientIP(c net.Conn) string {
	addr := c.RemoteAddr()
	if addr == nil {
		return ""
	}
	host, _, err := net.SplitHostPort(addr.String())
	if err != nil {
		return ""
	}
	return host
}

// put writes strings; the writer remembers an error until its next call.
func put(w *bufio.Writer, parts ...string) {
	for _, s := range parts {
		_, _ = w.WriteString(s)
	}
}

// announceTrailer names the trailer fields to come, as the sender did.
func announceTrailer(w *bufio.Writer, fs *fields) {
	begun := false
	fs.hasElement(trailerField, func(name []byte) bool {
		if isToken(name) && mayTrail(kindOf(name)) {
			if begun {
				put(w, ", ")
			} else {
				put(w, "Trailer: ")
			}
			begun = true
			_, _ = w.Write(name)
		}
		return false
	})
	if begun {
		put(w, "\r\n")
	}
}

// mayTrail says whether a field may come after the body: those of one connection
// end here, and those that say where a message goes, or how long it is, come too
// late (RFC 9110 section 6.5.1).
func mayTrail(kind fieldKind) bool {
	switch kind {
	case host, via, forwardedFor, upgradeField, connection, trailerField, transferEncoding, contentLength, hopField:
		return false
	}
	return true
}

// writeTrailer writes the last chunk and those of the trailer fields that may
// come so late.
func writeTrailer(w *bufio.Writer, trailer *fields) error {
	put(w, "0\r\n")
	for _, f := range trailer.list {
		if mayTrail(f.kind) {
			_, _ = w.Write(trailer.line(f))
		}
	}
	_, err := w.WriteString("\r\n")
	return err
}

// allowed says which origin the Access-Control-Allow-Origin of an answer names.
func (r *Relay) allowed(origin string) string {
	switch {
	case slices.Contains(r.CORS, "*"):
		return "*"
	case slices.Contains(r.CORS, origin):
		return origin
	}
	return ""
}

// writeCORS writes our Access-Control-Allow fields, if they are ours to set. The
// values are those of etcd's proxy (etcd 3.5, embed/serve.go).
func (x *exchange) writeCORS(w *bufio.Writer) {
	if x.r.CORS == nil {
		return
	}
	if from := x.r.allowed(x.head.fields.joined(origin, "")); from != "" {
		put(w, "Access-Control-Allow-Methods: POST, GET, OPTIONS, PUT, DELETE\r\n",
			"Access-Control-Allow-Origin: ", from, "\r\n",
			"Access-Control-Allow-Headers: accept, content-type, authorization\r\n")
	}
}

// parsed is the request for a handler of ours.
func (h *requestHead) parsed() (*http.Request, error) {
	return http.ReadRequest(bufio.NewReader(bytes.NewReader(h.raw)))
}
