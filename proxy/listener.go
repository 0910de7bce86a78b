package proxy

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"net/url"
	"os"
	"slices"
	"strings"
	"syscall"
	"time"

	"etcdops/proxy/h2"
	"etcdops/proxy/socket"
	"etcdops/proxy/stats"
)

const (
	// acceptPause is the wait after a failed accept, as when descriptors run out,
	// and acceptLine the least time between two log lines of it.
	acceptPause = 50 * time.Millisecond
	acceptLine  = 10 * time.Second
)

// listener is one bound client URL.
type listener struct {
	net.Listener
	url    url.URL
	secure bool // TLS, else in the clear

	path   string      // of a unix socket
	socket os.FileInfo // of a unix socket: what tells it from another on its path

	// What follows is of a TCP port; see steering.go. The indexes change under
	// promotion.mu.
	unsteerable error // why new connections can't be steered; nil if they can
	own         int   // our index in the port's group, as last seen
	given       int   // etcd's, as last seen
}

// ListenError says that a client URL can't be listened on.
type ListenError struct {
	URL     string
	Setting string // the flag that has it
	Err     error
}

// Error implements error.
func (e *ListenError) Error() string { return fmt.Sprintf("listen on %s: %v", e.URL, e.Err) }

// Unwrap implements error unwrapping.
func (e *ListenError) Unwrap() error { return e.Err }

// InUse says whether another process has the address.
func (e *ListenError) InUse() bool { return errors.Is(e.Err, syscall.EADDRINUSE) }

// listen binds every URL, each address once.
func (s *Server) listen(ctx context.Context) error {
	var named []string
	for _, u := range s.ListenURLs {
		network, address := "tcp", u.Host
		if strings.HasPrefix(u.Scheme, "unix") {
			network, address = "unix", u.Host+u.Path
		}
		if slices.Contains(named, network+address) {
			continue
		}
		named = append(named, network+address)
		l, err := s.bind(ctx, network, address)
		if errors.Is(err, errBound) {
			continue
		}
		if err != nil {
			s.closeListeners()
			var op *net.OpError
			if errors.As(err, &op) {
				err = op.Err
			}
			return &ListenError{u.String(), "--listen-client-urls", err}
		}
		l.url = u
		if u.Scheme == "https" || u.Scheme == "unixs" {
			l.secure = true
		}
		s.listeners = append(s.listeners, l)
	}
	return nil
}

// bind listens on one address.
func (s *Server) bind(ctx context.Context, network, address string) (*listener, error) {
	if network == "unix" {
		l, err := listenUnix(ctx, address, s.BesideMember)
		if err != nil {
			return nil, err
		}
		b := &listener{Listener: l, path: address}
		if b.socket, err = os.Lstat(address); err != nil {
			return nil, errors.Join(err, l.Close())
		}
		return b, nil
	}
	var bound []netip.AddrPort
	for _, l := range s.listeners {
		if l.path == "" {
			at := l.Addr().(*net.TCPAddr).AddrPort()
			bound = append(bound, netip.AddrPortFrom(at.Addr().Unmap(), at.Port()))
		}
	}
	l, joined, err := listenTCP(ctx, address, bound, s.BesideMember)
	if err != nil {
		return nil, err
	}
	if joined {
		s.Logger.Info("port joined, its holder shares it", "address", l.Addr().String())
	}
	// Always, and not only while a promotion is under way: what else joins the
	// port gets none of our clients, from its first moment on.
	return &listener{Listener: l, unsteerable: attach(l, 0)}, nil
}

// removeStale removes a unix socket that nobody listens on any more.
func removeStale(ctx context.Context, path string) error {
	info, err := os.Lstat(path)
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	if info.Mode().Type() != os.ModeSocket {
		return fmt.Errorf("%s exists and is not a socket", path)
	}
	c, err := dialUnix(ctx, path)
	if err == nil {
		_ = c.Close()
		return syscall.EADDRINUSE
	}
	return os.Remove(path)
}

func (s *Server) closeListeners() {
	for _, l := range s.listeners {
		_ = l.Close()
	}
}

// accept takes connections until the listener is closed.
func (s *Server) accept(ctx context.Context, l *listener) {
	var said time.Time
	for {
		nc, err := l.Accept()
		if err != nil {
			if errors.Is(err, net.ErrClosed) || ctx.Err() != nil {
				return
			}
			if time.Since(said) >= acceptLine {
				said = time.Now()
				s.Logger.Warn("accept failed", "url", l.url.String(), "error", err)
			}
			select {
			case <-ctx.Done():
				return
			case <-time.After(acceptPause):
			}
			continue
		}
		if s.promotion.probes.arrived(nc.RemoteAddr()) {
			_ = nc.Close()
			continue
		}
		c, err := socket.New(nc, s.watcher)
		if err != nil {
			s.Logger.Debug("connection refused", "client", nc.RemoteAddr().String(), "error", err)
			_ = nc.Close()
			continue
		}
		c.Count = &s.clientBytes
		gaveWay, ok := s.conns.begin(c)
		switch {
		case !ok:
			s.refusals.Refuse(stats.Connections, l.url.String(), nc.RemoteAddr().String())
			_ = nc.Close()
			continue
		case gaveWay != nil:
			s.refusals.Refuse(stats.Silent, l.url.String(), gaveWay.RemoteAddr().String())
		}
		go func() {
			defer s.conns.end(c)
			defer nc.Close()
			if err := s.serve(ctx, l, c); err != nil {
				s.Logger.Debug("connection refused", "client", nc.RemoteAddr().String(), "error", err)
			}
		}()
	}
}

// serve finds out which protocol a connection speaks and hands it to its relay.
func (s *Server) serve(ctx context.Context, l *listener, c *socket.Conn) error {
	var conn net.Conn = c
	stop := context.AfterFunc(ctx, func() { _ = c.Close() })
	if l.secure {
		secure, err := s.handshake(ctx, c)
		if err != nil {
			stop()
			return fmt.Errorf("TLS handshake: %w", err)
		}
		conn = secure
		s.conns.reached(c)
	}
	spoken := s.conns.silent(conn, s.IdleTimeout)
	first, two, err := sniff(conn, s.HeaderTimeout)
	spoken()
	stop()
	s.conns.reached(c)
	switch {
	case err != nil && errors.Is(err, io.EOF):
		return nil
	case err != nil && len(first) > 0 && errors.Is(err, os.ErrDeadlineExceeded):
		s.refusals.Refuse(stats.HeaderTimeout, "preface", c.RemoteAddr().String())
		return err
	case err != nil:
		return err
	case first[0] == recordHandshake && !l.secure:
		s.refusals.Refuse(stats.TLSHandshake, "TLS on an http URL", c.RemoteAddr().String())
		farewell(conn, "Client sent a TLS handshake to an HTTP server.")
	case two:
		s.h2.Serve(ctx, conn, first)
	case negotiated(conn) == "h2": // RFC 9113 section 3.4: what is no preface is no HTTP/1.1 either
		s.refusals.Refuse(stats.Malformed, "preface", c.RemoteAddr().String())
		_ = conn.Close() // with TLS's own end
	default:
		s.h1.Serve(ctx, conn, first)
	}
	return nil
}

// negotiated is the protocol that ALPN has chosen, "" where none was.
func negotiated(c net.Conn) string {
	if t, ok := c.(*tls.Conn); ok {
		return t.ConnectionState().NegotiatedProtocol
	}
	return ""
}

// sniff reads until the first bytes are, or can no longer become, the preface of
// HTTP/2 (RFC 9113 section 3.4). c has a read deadline for the first of them.
func sniff(c net.Conn, limit time.Duration) (first []byte, two bool, err error) {
	first = make([]byte, 0, len(h2.Preface))
	for {
		n, err := c.Read(first[len(first):cap(first)])
		if n > 0 && len(first) == 0 {
			_ = c.SetReadDeadline(time.Now().Add(limit))
		}
		first = first[:len(first)+n]
		if !strings.HasPrefix(h2.Preface, string(first)) {
			return first, false, nil
		}
		if len(first) == len(h2.Preface) {
			return first, true, nil
		}
		if err != nil {
			return first, false, err
		}
	}
}
