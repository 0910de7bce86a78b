package h2

import (
	"testing"

	"golang.org/x/net/http2/hpack"
)

func fieldsOf(kv ...string) (fields []hpack.HeaderField) {
	for i := 0; i < len(kv); i += 2 {
		fields = append(fields, hpack.HeaderField{Name: kv[i], Value: kv[i+1]})
	}
	return fields
}

func TestParseRequest(t *testing.T) {
	good := []string{":method", "POST", ":scheme", "http", ":path", "/a", ":authority", "x"}
	for _, tc := range []struct {
		name string
		add  []string
		ok   bool
	}{
		{"plain", nil, true},
		{"te trailers", []string{"te", "trailers"}, true},
		{"te other", []string{"te", "gzip"}, false},
		{"connection", []string{"connection", "close"}, false},
		{"transfer-encoding", []string{"transfer-encoding", "chunked"}, false},
		{"upper case name", []string{"Accept", "x"}, false},
		{"empty name", []string{"", "x"}, false},
		{"line break in value", []string{"x", "a\r\nb: c"}, false},
		{"repeated pseudo-header", []string{":path", "/b"}, false},
		{"response pseudo-header", []string{":status", "200"}, false},
		{"pseudo-header behind others", []string{"x", "y", ":path", "/b"}, false},
		{"content-length", []string{"content-length", "12"}, true},
		{"negative content-length", []string{"content-length", "-1"}, false},
		{"two content-lengths", []string{"content-length", "1", "content-length", "2"}, false},
	} {
		t.Run(tc.name, func(t *testing.T) {
			if _, ok := parseRequest(fieldsOf(append(good[:len(good):len(good)], tc.add...)...), ""); ok != tc.ok {
				t.Fatalf("ok is %v", ok)
			}
		})
	}
	for _, tc := range []struct {
		name   string
		fields []string
	}{
		{"no method", []string{":scheme", "http", ":path", "/"}},
		{"no path", []string{":method", "GET", ":scheme", "http"}},
		{"blank in path", []string{":method", "GET", ":scheme", "http", ":path", "/ HTTP/1.1"}},
		{"method is no token", []string{":method", "G ET", ":scheme", "http", ":path", "/"}},
		{"connect", []string{":method", "CONNECT", ":authority", "x"}},
		{"relative path", []string{":method", "GET", ":scheme", "http", ":path", "a"}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			if h, ok := parseRequest(fieldsOf(tc.fields...), ""); ok {
				t.Fatalf("accepted as %+v", h)
			}
		})
	}
}

func TestIsGRPC(t *testing.T) {
	for contentType, want := range map[string]bool{
		"application/grpc": true, "application/grpc+proto": true, "application/grpc;charset=x": true,
		"application/grpc-web": true, "application/grpcx": true, "text/x; application/grpc": true, "Application/gRPC": false, "application/json": false, "": false,
	} {
		h := requestHead{contentType: contentType}
		if h.grpc() != want {
			t.Errorf("%q: %v", contentType, !want)
		}
	}
}
