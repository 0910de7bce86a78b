package h1

import (
	"bufio"
	"bytes"
	"net"
	"net/http"
	"net/textproto"
	"slices"
	"strconv"
	"strings"

	"etcdops/proxy/director"
)

// hopByHop are the fields that speak of one connection only (RFC 9110 section
// 7.6.1, and those of RFC 2616 section 13.5.1).
var hopByHop = []string{
	"Connection", "Keep-Alive", "Proxy-Connection", "Proxy-Authenticate",
	"Proxy-Authorization", "Te", "Trailer", "Transfer-Encoding", "Upgrade",
}

// notInTrailers are fields that must not come late (RFC 9110 section 6.5.1).
var notInTrailers = []string{"Content-Length", "Host", "Via", "X-Forwarded-For"}

// dropHopByHop removes what ends here, also what Connection names.
func dropHopByHop(h http.Header) {
	for _, v := range h["Connection"] {
		for name := range strings.SplitSeq(v, ",") {
			h.Del(textproto.TrimString(name))
		}
	}
	for _, name := range hopByHop {
		delete(h, name)
	}
}

// wantsWebSocket says whether a request without a body asks to switch to
// WebSocket (RFC 6455 section 4.1).
func wantsWebSocket(req *http.Request, head requestHead) bool {
	return req.Method == http.MethodGet && head.minor == 1 &&
		hasToken(req.Header["Connection"], "upgrade") && hasToken(req.Header["Upgrade"], "websocket")
}

func hasToken(values []string, token string) bool {
	return slices.ContainsFunc(values, func(v string) bool {
		for part := range strings.SplitSeq(v, ",") {
			if strings.EqualFold(textproto.TrimString(part), token) {
				return true
			}
		}
		return false
	})
}

// hasField looks for a field in a raw head; name is in lower case.
func hasField(raw []byte, name string) bool {
	for line := range bytes.SplitSeq(raw, []byte("\n")) {
		if field, _, ok := bytes.Cut(line, []byte(":")); ok && foldEqual(field, name) {
			return true
		}
	}
	return false
}

// prepareHeader makes the client's fields the member's. Framing is written by
// writeHead, from what the raw check saw.
func (x *exchange) prepareHeader() {
	h := x.req.Header
	dropHopByHop(h)
	delete(h, "Content-Length")
	h["Via"] = joined(h["Via"], x.r.Instance.Via("1."+strconv.Itoa(x.head.minor)))
	if ip := clientIP(x.cl.c); ip != "" {
		h["X-Forwarded-For"] = joined(h["X-Forwarded-For"], ip)
	}
	if x.upgrade {
		h["Connection"], h["Upgrade"] = []string{"Upgrade"}, []string{"websocket"}
	}
}

func joined(values []string, more string) []string {
	return []string{strings.Join(append(slices.Clip(values), more), ", ")}
}

// clientIP is the client's address without the port, or empty where it has none.
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

// writeHead writes the request's head for e.
func (x *exchange) writeHead(w *bufio.Writer, e *director.Endpoint) error {
	host := x.req.Host
	if host == "" { // HTTP/1.0 may do without
		host = e.HostHeader()
	}
	put(w, x.req.Method, " ", x.target, " HTTP/1.1\r\nHost: ", host, "\r\n")
	if err := x.req.Header.Write(w); err != nil {
		return err
	}
	switch {
	case x.head.chunked:
		put(w, "Transfer-Encoding: chunked\r\n")
		announceTrailer(w, x.req.Trailer)
	case x.head.length >= 0:
		put(w, "Content-Length: ", strconv.FormatInt(x.head.length, 10), "\r\n")
	}
	_, err := w.WriteString("\r\n")
	return err
}

// put writes strings; the writer remembers an error until its next call.
func put(w *bufio.Writer, parts ...string) {
	for _, s := range parts {
		_, _ = w.WriteString(s)
	}
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

// ownCORS replaces the Access-Control-Allow fields by ours, if they are ours to
// set. The values are those of etcd's proxy (etcd 3.5, embed/serve.go).
func (x *exchange) ownCORS(h http.Header) {
	if x.r.CORS == nil {
		return
	}
	h.Del("Access-Control-Allow-Origin")
	h.Del("Access-Control-Allow-Methods")
	h.Del("Access-Control-Allow-Headers")
	if origin := x.r.allowed(x.req.Header.Get("Origin")); origin != "" {
		h.Set("Access-Control-Allow-Methods", "POST, GET, OPTIONS, PUT, DELETE")
		h.Set("Access-Control-Allow-Origin", origin)
		h.Set("Access-Control-Allow-Headers", "accept, content-type, authorization")
	}
}
