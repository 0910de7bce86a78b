package h2

import (
	"fmt"
	"strconv"
	"strings"

	"golang.org/x/net/http2/hpack"

	"etcdops/proxy/director"
	"etcdops/proxy/policy"
)

// DefaultHeaderLimit is the largest header list that we take, as RFC 9113 section
// 6.5.2 counts it, in bytes.
const DefaultHeaderLimit = 256 << 10

// requestHead is what the relay needs to know of a request. It does not change
// any more once it is parsed.
type requestHead struct {
	fields                          []hpack.HeaderField // as a member gets them
	call                            policy.Call
	method, scheme, path, authority string
	contentType                     string
	via                             []string
	asksCluster                     bool  // another proxy asks for the cluster's ID
	length                          int64 // content-length; -1 where it is not given
}

// grpc says whether a member has to get the request by HTTP/2: it gives its gRPC
// server all whose type has this in it, to say 415 where it is another one (etcd
// server/v3, embed/serve.go, grpcHandlerFunc).
func (h *requestHead) grpc() bool {
	return strings.Contains(h.contentType, "application/grpc")
}

// parseRequest checks a request's header list by RFC 9113 sections 8.2 and 8.3.
// via is what we add to it.
func parseRequest(fields []hpack.HeaderField, via string) (h *requestHead, ok bool) {
	h = &requestHead{length: -1}
	h.fields = append(append(make([]hpack.HeaderField, 0, len(fields)+1), fields...), hpack.HeaderField{Name: "via", Value: via})
	regular := false
	for _, f := range fields {
		if !validValue(f.Value) {
			return h, false
		}
		if strings.HasPrefix(f.Name, ":") {
			into := h.pseudo(f.Name)
			if regular || into == nil || *into != "" {
				return h, false // behind the others, unknown, or repeated
			}
			*into = f.Value
			continue
		}
		regular = true
		if !validName(f.Name) || connectionSpecific(f.Name) {
			return h, false
		}
		switch f.Name {
		case "te":
			if f.Value != "trailers" {
				return h, false
			}
		case "content-type":
			h.contentType = f.Value
		case "content-length":
			n, err := strconv.ParseUint(f.Value, 10, 63)
			if err != nil || h.length >= 0 && h.length != int64(n) {
				return h, false
			}
			h.length = int64(n)
		case "via":
			h.via = append(h.via, f.Value)
		case director.ClusterIDField:
			h.asksCluster = true // if it is that call
		case "host":
			if h.authority == "" {
				h.authority = f.Value
			}
		}
	}
	h.call = policy.CallOf(h.path)
	h.asksCluster = h.asksCluster && h.path == director.ClusterIDCall
	ok = h.method != "" && h.method != "CONNECT" && validName(strings.ToLower(h.method)) &&
		h.scheme != "" && plainText(h.authority) && plainText(h.path) &&
		(strings.HasPrefix(h.path, "/") || h.path == "*" && h.method == "OPTIONS")
	return h, ok
}

// pseudo is where a pseudo-header field of a request belongs, nil for others.
func (h *requestHead) pseudo(name string) *string {
	switch name {
	case ":method":
		return &h.method
	case ":scheme":
		return &h.scheme
	case ":path":
		return &h.path
	case ":authority":
		return &h.authority
	}
	return nil
}

// validTrailers checks a client's trailers: no pseudo-header may be among them.
func validTrailers(fields []hpack.HeaderField) bool {
	for _, f := range fields {
		if !validName(f.Name) || !validValue(f.Value) || connectionSpecific(f.Name) {
			return false
		}
	}
	return true
}

// connectionSpecific names the fields that HTTP/2 forbids (RFC 9113 section 8.2.2).
func connectionSpecific(name string) bool {
	switch name {
	case "connection", "keep-alive", "proxy-connection", "transfer-encoding", "upgrade":
		return true
	}
	return false
}

// validName says whether a field name is a token without upper case.
func validName(s string) bool {
	if s == "" {
		return false
	}
	for i := range len(s) {
		switch c := s[i]; {
		case 'a' <= c && c <= 'z', '0' <= c && c <= '9':
		case strings.IndexByte("!#$%&'*+-.^_`|~", c) >= 0:
		default:
			return false
		}
	}
	return true
}

// validValue says whether a field value holds no byte that HTTP/1.1 would take
// for the end of the field.
func validValue(s string) bool {
	return !strings.ContainsAny(s, "\x00\r\n")
}

// plainText says whether s holds neither blanks nor control characters.
func plainText(s string) bool {
	for i := range len(s) {
		if s[i] <= ' ' || s[i] == 0x7f {
			return false
		}
	}
	return true
}

// valueOf is the value of the first field of a name, "" where there is none.
func valueOf(fields []hpack.HeaderField, name string) string {
	for _, f := range fields {
		if f.Name == name {
			return f.Value
		}
	}
	return ""
}

// percentEncode writes a status message as gRPC wants it (grpc.io,
// PROTOCOL-HTTP2.md, "Percent-Encoded").
func percentEncode(s string) string {
	var b strings.Builder
	for i := range len(s) {
		if c := s[i]; c < 0x20 || c > 0x7e || c == '%' {
			fmt.Fprintf(&b, "%%%02X", c)
		} else {
			b.WriteByte(c)
		}
	}
	return b.String()
}
