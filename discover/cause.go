package discover

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"net/url"
	"strings"
	"syscall"

	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	"google.golang.org/grpc/status"
)

// cause is what an operator must know of an error: what the system, the
// certificate or the member said, without the layers that carried it.
func cause(err error) string {
	for _, say := range []func(error) string{networkCause, TLSCause, protocolCause} {
		if text := say(err); text != "" {
			return text
		}
	}
	var inURL *url.Error
	if errors.As(err, &inURL) {
		err = inURL.Err
	}
	return oneLine(err.Error())
}

func networkCause(err error) string {
	var dns *net.DNSError
	if errors.As(err, &dns) {
		switch {
		case dns.IsNotFound:
			return "no such host " + dns.Name
		case dns.IsTimeout:
			return "name server gave no address of " + dns.Name + " in time"
		}
		return "address of " + dns.Name + ": " + dns.Err
	}
	for errno, text := range map[syscall.Errno]string{
		syscall.ECONNREFUSED: "connection refused",
		syscall.ECONNRESET:   "connection reset",
		syscall.EHOSTUNREACH: "no route to host",
		syscall.ENETUNREACH:  "network is unreachable",
		syscall.ENOENT:       "no such socket",
		syscall.EACCES:       "permission denied by the system",
	} {
		if errors.Is(err, errno) {
			return text
		}
	}
	return ""
}

// TLSCause is what an operator must know of an error of TLS towards a server; "" for
// other errors.
func TLSCause(err error) string {
	var authority x509.UnknownAuthorityError
	var hostname x509.HostnameError
	var invalid x509.CertificateInvalidError
	var record tls.RecordHeaderError
	var alert tls.AlertError
	switch {
	case errors.As(err, &authority):
		return "certificate signed by unknown authority"
	case errors.As(err, &hostname):
		return strings.TrimPrefix(hostname.Error(), "x509: ")
	case errors.As(err, &invalid):
		return strings.TrimPrefix(invalid.Error(), "x509: ")
	case errors.As(err, &record):
		return "it does not speak TLS: is its URL http?"
	case errors.As(err, &alert):
		return "it refused our TLS handshake: " + strings.TrimPrefix(alert.Error(), "tls: ")
	}
	// Alerts of the other side have no exported type (crypto/tls/alert.go).
	if _, text, found := strings.Cut(err.Error(), "remote error: tls: "); found {
		return "it refused our TLS handshake: " + oneLine(text)
	}
	return ""
}

func protocolCause(err error) string {
	var etcd rpctypes.EtcdError
	if errors.As(err, &etcd) {
		return strings.TrimPrefix(etcd.Error(), "etcdserver: ")
	}
	switch {
	case errors.Is(err, context.Canceled):
		return "cancelled"
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
		return "connection closed without an answer"
	case strings.Contains(err.Error(), "HTTP response to HTTPS client"):
		return "it does not speak TLS: is its URL http?"
	case strings.Contains(err.Error(), "malformed HTTP"):
		return "it does not speak HTTP/1.1: is its URL https?"
	}
	if carried, isStatus := status.FromError(err); isStatus && err != nil {
		return oneLine(strings.TrimPrefix(carried.Message(), "etcdserver: "))
	}
	return ""
}

// oneLine keeps texts of others short, and from breaking a table or a terminal.
func oneLine(text string) string {
	const limit = 200
	if len(text) > limit {
		text = strings.ToValidUTF8(text[:limit], "") + "…"
	}
	return printable(text)
}

// printable is oneLine for texts that must not be cut.
func printable(text string) string {
	quoted := fmt.Sprintf("%q", text)
	if quoted == `"`+text+`"` {
		return text
	}
	return strings.NewReplacer(`\n`, " ", `\t`, " ", `\"`, `"`, `\\`, `\`).Replace(quoted[1 : len(quoted)-1])
}
