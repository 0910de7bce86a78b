// Package director knows the members' client URLs, which of them are healthy,
// and which one a client connection talks to.
package director

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/url"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"etcdops/proxy/socket"
	"etcdops/proxy/stats"
)

const (
	// handshakeTimeout bounds the TLS handshake with a member, as etcd's proxy did.
	handshakeTimeout = 10 * time.Second
	// keepAlive is the TCP keep-alive interval of member connections, as etcd's proxy had.
	keepAlive = 30 * time.Second
)

// Member is a member of the cluster that serves clients.
type Member struct {
	ClusterID  uint64 // that it has to belong to; 0: it is not asked
	ID         uint64
	Name       string
	ClientURLs []string
}

// Endpoint is one client URL of one member.
type Endpoint struct {
	URL        string // as the member advertises it
	MemberID   uint64
	MemberName string
	ClusterID  uint64 // see Member
	Network    string // "tcp" or "unix"
	Address    string // host:port or path
	Host       string // what a TLS certificate must be valid for
	TLS        bool

	// Answers counts the answers of its member, Bytes what goes over the connections
	// to it: all endpoints of a member have the same. Each may be nil.
	Answers *stats.Answers
	Bytes   *socket.Bytes

	d        *Director
	load     atomic.Int64  // client connections that stick to it
	left     atomic.Bool   // no longer a client URL of the cluster
	down     atomic.Bool   // condemned by the probe
	foreign  atomic.Uint64 // the cluster that answers there, if it is another one
	verifier verifier
	byJSON   atomic.Bool  // its cluster is asked for by the JSON gateway first
	heard    atomic.Int64 // when it last said something, unix milliseconds
	cut      bool         // OnDown was called; the probe's own
	state    probeState
	suspect  chan struct{} // asks for a probe now
	stopped  chan struct{} // the probe has ended
	endProbe context.CancelFunc
}

// parseEndpoint reads a client URL. The path of an http URL is not used, as in
// etcd's proxy.
func parseEndpoint(raw string) (*Endpoint, error) {
	u, err := url.Parse(raw)
	if err != nil {
		return nil, fmt.Errorf("parse client URL: %w", err)
	}
	e := &Endpoint{URL: raw, Network: "tcp", Host: u.Hostname()}
	switch u.Scheme {
	case "http", "https":
		e.TLS = u.Scheme == "https"
		port := u.Port()
		if port == "" {
			port = map[bool]string{false: "80", true: "443"}[e.TLS]
		}
		if _, err := strconv.ParseUint(port, 10, 16); err != nil || e.Host == "" {
			return nil, fmt.Errorf("client URL %q has no usable host and port", raw)
		}
		e.Address = net.JoinHostPort(e.Host, port)
	case "unix", "unixs":
		e.Network, e.Address, e.TLS = "unix", u.Host+u.Path, u.Scheme == "unixs"
	default:
		return nil, fmt.Errorf("client URL %q has none of the schemes http, https, unix and unixs", raw)
	}
	return e, nil
}

// DialError says that no connection to a member could be made, so that nothing
// was sent. Its text begins with the step that failed.
type DialError struct {
	URL  string
	Step string // "dial", "TLS handshake" or "verify"
	Err  error
}

// Error implements error.
func (e *DialError) Error() string { return fmt.Sprintf("%s %s: %v", e.Step, e.URL, e.Err) }

// Unwrap implements error unwrapping.
func (e *DialError) Unwrap() error { return e.Err }

// ErrNoHTTP2 says that a member's TLS listener did not choose HTTP/2.
var ErrNoHTTP2 = errors.New("the member's listener did not agree on HTTP/2")

// Dial connects to the endpoint for an application protocol, "h2" or
// "http/1.1", and makes sure that it is one of the cluster's members who answers.
// Every error is a *DialError, and then nothing was sent; with a *ForeignError in
// it, it was another cluster's. A failed dial asks the probe to look at the member.
func (e *Endpoint) Dial(ctx context.Context, proto string) (net.Conn, error) {
	c, err := e.dial(ctx, proto, e.d.DialTimeout)
	if err == nil {
		if unsure := e.verify(ctx, time.Now()); unsure != nil {
			_ = c.Close()
			var refused *DialError
			if c = nil; !errors.As(unsure, &refused) {
				refused = &DialError{e.URL, "verify", unsure}
			}
			err = refused
		}
	}
	if err != nil && ctx.Err() == nil {
		e.Suspect()
	}
	return c, err
}

// dial makes a connection within limit, 0 for none but ctx's; TLS has its own.
func (e *Endpoint) dial(ctx context.Context, proto string, limit time.Duration) (net.Conn, error) {
	nc, err := e.connect(ctx, limit)
	if err != nil {
		return nil, &DialError{e.URL, "dial", plain(err)}
	}
	c, err := socket.New(nc, nil)
	if err != nil {
		_ = nc.Close()
		return nil, &DialError{e.URL, "dial", err}
	}
	c.Count = e.Bytes
	if !e.TLS {
		return c, nil
	}
	var conf *tls.Config
	if e.d.TLS != nil {
		conf = e.d.TLS().Clone()
	}
	if conf == nil {
		conf = &tls.Config{MinVersion: tls.VersionTLS12}
	}
	if conf.ServerName == "" {
		conf.ServerName = e.Host
	}
	conf.NextProtos = []string{proto}
	t := tls.Client(c, conf)
	hctx, cancel := context.WithTimeout(ctx, handshakeTimeout)
	defer cancel()
	if err := t.HandshakeContext(hctx); err != nil {
		_ = nc.Close()
		switch {
		case errors.Is(err, io.EOF):
			err = errClosedInHandshake
		case errors.Is(err, context.DeadlineExceeded) && ctx.Err() == nil:
			err = fmt.Errorf("%w within %v", errSilent, handshakeTimeout)
		}
		return nil, &DialError{e.URL, "TLS handshake", e.explain(err)}
	}
	if proto == "h2" && t.ConnectionState().NegotiatedProtocol != proto {
		_ = nc.Close()
		return nil, &DialError{e.URL, "TLS handshake", ErrNoHTTP2}
	}
	return t, nil
}

func (e *Endpoint) connect(ctx context.Context, limit time.Duration) (net.Conn, error) {
	if e.d.DialMember != nil {
		if limit > 0 {
			var cancel context.CancelFunc
			ctx, cancel = context.WithTimeout(ctx, limit)
			defer cancel()
		}
		return e.d.DialMember(ctx, e.Network, e.Address, e.TLS)
	}
	nd := net.Dialer{Timeout: limit, KeepAlive: keepAlive}
	nd.SetMultipathTCP(false)
	return nd.DialContext(ctx, e.Network, e.Address)
}

// errClosedInHandshake is how most servers in the clear meet TLS.
var errClosedInHandshake = errors.New("it closed the connection: is its URL http?")

// tlsError is an error of TLS in an operator's words.
type tlsError struct {
	text string
	err  error
}

func (e *tlsError) Error() string { return e.text }
func (e *tlsError) Unwrap() error { return e.err }

// explain words an error of TLS. With TLS 1.3 the other side may refuse our certificate
// when the handshake is over for us, so that what is read then is one.
func (e *Endpoint) explain(err error) error {
	if e.d.Explain == nil {
		return err
	}
	if text := e.d.Explain(err); text != "" {
		return &tlsError{text, err}
	}
	return err
}

// plain drops what the caller of Dial says itself: the operation and address.
func plain(err error) error {
	var op *net.OpError
	if errors.As(err, &op) {
		return op.Err
	}
	return err
}

// HostHeader is what we name the member in requests of our own.
func (e *Endpoint) HostHeader() string {
	if e.Network == "unix" {
		return "localhost"
	}
	return e.Address
}

// Suspect asks the probe to look at the member now instead of at its next turn.
// It never condemns by itself.
func (e *Endpoint) Suspect() {
	select {
	case e.suspect <- struct{}{}:
	default:
	}
}

// Heard notes that the member has sent bytes, at a time in unix milliseconds: it
// lives, and the probe believes that even where it got no answer itself.
func (e *Endpoint) Heard(at int64) { e.heard.Store(at) }

// Usable says whether new requests may go there: it is in the list and healthy.
func (e *Endpoint) Usable() bool { return !e.left.Load() && e.healthy() }

// healthy says that the probe has not condemned it, and no other cluster answers
// there.
func (e *Endpoint) healthy() bool { return !e.down.Load() && e.foreign.Load() == 0 }

// Left says whether the member took this URL back or left the cluster.
func (e *Endpoint) Left() bool { return e.left.Load() }

// String names the endpoint in logs.
func (e *Endpoint) String() string {
	return strings.TrimSpace(e.MemberName + " " + e.URL)
}
