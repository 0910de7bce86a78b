package proxy

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"syscall"
	"time"

	"etcdops/proxy/socket"
	"etcdops/proxy/stats"
)

// farewellTime is how long a connection is still read from that we close, so that the
// client can read why; farewellBytes is how much.
const (
	farewellTime  = 500 * time.Millisecond
	farewellBytes = 64 << 10
)

// recordHandshake is the first byte of a client that speaks TLS (RFC 8446 section 5.1).
const recordHandshake = 22

// What ListenTLS.VerifyConnection says of a client's certificate, beside its signature.
var (
	ErrRevoked     = errors.New("the client certificate is revoked")
	ErrAllowedName = errors.New("the client certificate has none of the allowed names")
)

// handshake makes TLS of a client's connection. What fails is counted and logged by
// its kind, with nothing of the client's in it, but for a client that just left, as
// one that only looks whether the port is open.
func (s *Server) handshake(ctx context.Context, c net.Conn) (net.Conn, error) {
	t := tls.Server(c, s.listenTLS.Load())
	ctx, cancel := context.WithTimeout(ctx, s.HeaderTimeout)
	defer cancel()
	err := t.HandshakeContext(ctx)
	var record tls.RecordHeaderError
	switch {
	case err == nil:
		return t, nil
	case errors.Is(err, context.DeadlineExceeded):
		s.refusals.Refuse(stats.HeaderTimeout, "TLS handshake", c.RemoteAddr().String())
		return nil, err
	case errors.Is(err, context.Canceled), errors.Is(err, io.EOF), errors.Is(err, syscall.ECONNRESET), errors.Is(err, syscall.EPIPE):
		return nil, err
	}
	s.refusals.Refuse(stats.TLSHandshake, "TLS handshake: "+handshakeFailure(err), c.RemoteAddr().String())
	if errors.As(err, &record) && record.Conn != nil && isHTTP(record.RecordHeader) {
		farewell(record.Conn, "Client sent an HTTP request to an HTTPS server.")
	}
	return nil, err
}

// farewell tells a client in the clear why its connection ends. TLS clients say then
// that this is no TLS, and HTTP clients show the text: net/http's, where it has one
// (net/http/server.go, serve).
func farewell(c net.Conn, text string) {
	_, err := fmt.Fprintf(c, "HTTP/1.1 400 Bad Request\r\nContent-Type: text/plain; charset=utf-8\r\nConnection: close\r\n\r\n%s\n", text)
	w, can := socket.Of(c).Conn.(interface{ CloseWrite() error })
	if err != nil || !can || w.CloseWrite() != nil || c.SetReadDeadline(time.Now().Add(farewellTime)) != nil {
		return
	}
	_, _ = io.CopyN(io.Discard, c, farewellBytes)
}

// isHTTP knows the beginning of a request (net/http/server.go, tlsRecordHeaderLooksLikeHTTP).
func isHTTP(first [5]byte) bool {
	switch string(first[:]) {
	case "GET /", "HEAD ", "POST ", "PUT /", "OPTIO", "DELET", "PATCH":
		return true
	}
	return false
}

// handshakeFailures are what a failed handshake with a client is called, by a part of
// Go's error where it has no type (crypto/tls).
var handshakeFailures = []struct{ part, say string }{
	{"didn't provide a certificate", "client showed no certificate: it has none, or none of a CA in --trusted-ca-file"},
	{"unsupported versions", "client speaks no version of TLS from --tls-min-version to --tls-max-version"},
	{"no cipher suite", "client has no cipher suite in common with us"},
	{"application protocol", "client wants neither h2 nor http/1.1"},
	{"remote error: tls: unknown certificate authority", "client does not know the CA of our certificate, --cert-file"},
	{"remote error: tls: expired certificate", "client says that our certificate has expired, --cert-file"},
	{"remote error: tls: bad certificate", "client refused our certificate, --cert-file: its CA, its names or its dates"},
	{"remote error: tls: unknown certificate", "client refused our certificate, --cert-file"},
	{"remote error: tls: protocol version", "client speaks no version of TLS up to --tls-max-version"},
	{"remote error: tls: ", "client ended it by an alert"},
}

func handshakeFailure(err error) string {
	var record tls.RecordHeaderError
	var authority x509.UnknownAuthorityError
	var invalid x509.CertificateInvalidError
	var unverified *tls.CertificateVerificationError
	switch {
	case errors.As(err, &record) && isHTTP(record.RecordHeader):
		return "HTTP without TLS on an https URL"
	case errors.As(err, &record) && string(record.RecordHeader[:]) == "PRI *":
		return "HTTP/2 without TLS on an https URL, as of a gRPC client with an http endpoint"
	case errors.As(err, &record):
		return "client does not speak TLS"
	case errors.As(err, &authority):
		return "client certificate is signed by an authority that is not in --trusted-ca-file"
	case errors.As(err, &invalid) && invalid.Reason == x509.Expired:
		return "client certificate has expired, or is not valid yet"
	case errors.As(err, &invalid) && invalid.Reason == x509.IncompatibleUsage:
		return "client certificate may not be used by a client"
	case errors.Is(err, ErrRevoked):
		return "client certificate is revoked by --client-crl-file"
	case errors.Is(err, ErrAllowedName):
		return "client certificate has none of the names in --client-cert-allowed-hostname"
	case errors.As(err, &unverified):
		return "client certificate can't be verified"
	}
	for _, known := range handshakeFailures {
		if strings.Contains(err.Error(), known.part) {
			return known.say
		}
	}
	return "broken"
}
