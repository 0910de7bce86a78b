package discover

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"time"
)

// headerLimit bounds the head of an answer, in bytes.
const headerLimit = 64 << 10

// target is where a peer or client URL leads.
type target struct {
	network string // tcp or unix
	address string // host:port or path
	host    string // the name that its certificate must have
	secure  bool
}

// parseTarget reads a URL as etcd writes client URLs: http, https, unix or
// unixs, with a port (types.NewURLs).
func parseTarget(raw string) (target, error) {
	u, err := url.Parse(raw)
	if err != nil {
		return target{}, fmt.Errorf("not a URL: %.60q", raw)
	}
	switch u.Scheme {
	case "http", "https":
		if u.Hostname() == "" || u.Port() == "" {
			return target{}, fmt.Errorf("not of the form %s://host:port: %.60q", u.Scheme, raw)
		}
		return target{"tcp", u.Host, u.Hostname(), u.Scheme == "https"}, nil
	case "unix", "unixs":
		// etcd's form of a relative path has its first part where a URL has
		// the host.
		path := u.Host + u.Path
		if path == "" {
			return target{}, fmt.Errorf("no path of a socket: %.60q", raw)
		}
		return target{"unix", path, "localhost", u.Scheme == "unixs"}, nil
	}
	return target{}, fmt.Errorf("not an http, https, unix or unixs URL: %.60q", raw)
}

// Dial makes a connection to a member: network is tcp or unix, and secure says that
// TLS will be spoken on it.
type Dial func(ctx context.Context, network, address string, secure bool) (net.Conn, error)

// dialer connects to members, through HTTP_PROXY only where its way is told so: what
// stands there captures the traffic of a cluster by mistake.
type dialer struct {
	way     Dial // nil: straight
	tls     *tls.Config
	timeout time.Duration // of the TCP and TLS connect together; 0 = none

	serverName string        // that certificates must have; "" = the host
	resolver   *net.Resolver // nil: net.DefaultResolver

	// verified hears the certificate of who is connected to, also where the other
	// side then refuses ours. If nil, nobody does.
	verified func(*x509.Certificate)
}

// connectError says that there was no connection, so that nothing was asked.
type connectError struct{ err error }

func (e *connectError) Error() string { return e.err.Error() }
func (e *connectError) Unwrap() error { return e.err }

// silenceError says that a time ran out, and what was waited for.
type silenceError struct {
	awaited string
	after   time.Duration
}

func (e *silenceError) Error() string {
	return fmt.Sprintf("no %s within %s", e.awaited, roughly(e.after))
}

func (d dialer) dial(ctx context.Context, to target) (net.Conn, error) {
	start := time.Now()
	if d.timeout > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, d.timeout)
		defer cancel()
	}
	way := d.way
	if way == nil {
		way = func(ctx context.Context, network, address string, _ bool) (net.Conn, error) {
			return (&net.Dialer{Resolver: d.resolver}).DialContext(ctx, network, address)
		}
	}
	conn, err := way(ctx, to.network, to.address, to.secure)
	if err != nil {
		return nil, d.failed(err, "connection", start)
	}
	if !to.secure {
		return conn, nil
	}
	config := &tls.Config{}
	if d.tls != nil {
		config = d.tls.Clone()
	}
	switch {
	case config.ServerName != "": // an operator's word beats what DNS says
	case d.serverName != "":
		config.ServerName = d.serverName
	default:
		config.ServerName = to.host
	}
	if d.verified != nil {
		config.VerifyConnection = func(state tls.ConnectionState) error {
			if len(state.PeerCertificates) > 0 {
				d.verified(state.PeerCertificates[0])
			}
			return nil
		}
	}
	secured := tls.Client(conn, config)
	if err := secured.HandshakeContext(ctx); err != nil {
		_ = conn.Close()
		if errors.Is(err, io.EOF) {
			err = errors.New("connection closed in the TLS handshake: is its URL http?")
		}
		return nil, d.failed(err, "TLS handshake", start)
	}
	return secured, nil
}

func (d dialer) failed(err error, awaited string, start time.Time) error {
	err = silence(err, awaited, start)
	var silent *silenceError
	if errors.As(err, &silent) && d.timeout > 0 {
		silent.after = min(silent.after, d.timeout)
	}
	return &connectError{err}
}

// reply is an HTTP answer, read to its end.
type reply struct {
	status int
	header http.Header
	body   []byte
}

// get asks once, over a connection of its own: redirects are not followed, and
// an answer over limit bytes is an error.
func (d dialer) get(ctx context.Context, to target, path string, limit int64) (*reply, error) {
	start := time.Now()
	transport := &http.Transport{
		DialContext:            func(ctx context.Context, _, _ string) (net.Conn, error) { return d.dial(ctx, to) },
		DialTLSContext:         func(ctx context.Context, _, _ string) (net.Conn, error) { return d.dial(ctx, to) },
		DisableKeepAlives:      true,
		DisableCompression:     true,
		MaxResponseHeaderBytes: headerLimit,
	}
	defer transport.CloseIdleConnections()
	client := &http.Client{Transport: transport, CheckRedirect: stayHere}

	request, err := http.NewRequestWithContext(ctx, http.MethodGet, requestURL(to, path), http.NoBody)
	if err != nil {
		return nil, err
	}
	response, err := client.Do(request)
	switch {
	case errors.Is(err, io.EOF) && !to.secure:
		// That is how an etcd with TLS meets a request in the clear.
		return nil, errors.New("connection closed without an answer: does it speak TLS?")
	case err != nil:
		return nil, silence(err, "answer", start)
	}
	defer response.Body.Close()
	body, err := io.ReadAll(io.LimitReader(response.Body, limit+1))
	switch {
	case errors.Is(err, io.ErrUnexpectedEOF):
		return nil, errors.New("answer is cut short")
	case err != nil:
		return nil, silence(err, "end of the answer", start)
	case int64(len(body)) > limit:
		return nil, fmt.Errorf("answer is larger than %d bytes", limit)
	}
	return &reply{status: response.StatusCode, header: response.Header, body: body}, nil
}

func requestURL(to target, path string) string {
	u := url.URL{Scheme: "http", Host: to.address, Path: path}
	if to.secure {
		u.Scheme = "https"
	}
	if to.network == "unix" {
		u.Host = to.host
	}
	return u.String()
}

func stayHere(*http.Request, []*http.Request) error {
	return http.ErrUseLastResponse
}

// silence replaces an error that only says that a deadline passed by one that
// says what was missing.
func silence(err error, awaited string, start time.Time) error {
	var connect *connectError
	if errors.As(err, &connect) {
		return connect
	}
	var dns *net.DNSError
	if errors.As(err, &dns) {
		return err
	}
	var timeout interface{ Timeout() bool }
	if errors.Is(err, context.DeadlineExceeded) || errors.As(err, &timeout) && timeout.Timeout() {
		return &silenceError{awaited, time.Since(start)}
	}
	return err
}

func roughly(d time.Duration) time.Duration {
	if d < time.Second {
		return d.Round(10 * time.Millisecond)
	}
	return d.Round(100 * time.Millisecond)
}
