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
	"os"
	"strings"
	"syscall"
	"testing"
	"time"

	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

func TestCause(t *testing.T) {
	dialed := func(err error) error {
		return &url.Error{Op: "Get", URL: "http://a:2380/members", Err: &net.OpError{Op: "dial", Net: "tcp", Err: err}}
	}
	for _, test := range []struct {
		name string
		err  error
		want string
	}{
		{"refused", dialed(os.NewSyscallError("connect", syscall.ECONNREFUSED)), "connection refused"},
		{"no route", dialed(os.NewSyscallError("connect", syscall.EHOSTUNREACH)), "no route to host"},
		{"unknown name", dialed(&net.DNSError{Name: "etcd.test", IsNotFound: true}), "no such host etcd.test"},
		{"silent name server", dialed(&net.DNSError{Name: "etcd.test", IsTimeout: true}), "name server gave no address of etcd.test in time"},
		{"broken name server", dialed(&net.DNSError{Name: "etcd.test", Err: "server misbehaving"}), "address of etcd.test: server misbehaving"},
		{"unknown authority", fmt.Errorf("x: %w", x509.UnknownAuthorityError{}), "certificate signed by unknown authority"},
		{"their alert", dialed(errors.New("remote error: tls: certificate required")), "it refused our TLS handshake: certificate required"},
		{"our alert", dialed(tls.AlertError(42)), "it refused our TLS handshake: bad certificate"},
		{"closed", dialed(io.EOF), "connection closed without an answer"},
		{"cancelled", dialed(context.Canceled), "cancelled"},
		{"not HTTP", errors.New(`net/http: malformed HTTP response "\x15\x03"`), "it does not speak HTTP/1.1: is its URL https?"},
		{"etcd's words", rpctypes.ErrAuthFailed, "authentication failed, invalid user ID or password"},
		{"words over gRPC", status.Error(codes.Unavailable, "etcdserver: no leader"), "no leader"},
		{"silence", &silenceError{"answer", 1003 * time.Millisecond}, "no answer within 1s"},
		{"several lines", errors.New("a\nb\x1b[31m \"c\""), `a b\x1b[31m "c"`},
		{"long", errors.New(strings.Repeat("é", 150)), strings.Repeat("é", 100) + "…"},
	} {
		t.Run(test.name, func(t *testing.T) {
			if got := cause(test.err); got != test.want {
				t.Errorf("got %q, want %q", got, test.want)
			}
		})
	}
}
