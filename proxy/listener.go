package proxy

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/url"
	"os"
	"slices"
	"strings"
	"syscall"
	"time"

	"etcdops/proxy/h1"
	"etcdops/proxy/h2"
	"etcdops/proxy/socket"
)

const (
	// handshakeTimeout bounds a client's TLS handshake, and the time from the
	// first byte of a connection until we know which protocol it speaks.
	handshakeTimeout = 10 * time.Second
	// acceptPause is the wait after a failed accept, as when descriptors run out.
	acceptPause = 50 * time.Millisecond
)

// listener is one bound client URL.
type listener struct {
	net.Listener
	url url.URL
	tls *tls.Config // nil: in the clear
}

// ListenError says that a client URL can't be listened on.
type ListenError struct {
	URL string
	Err error
}

// Error implements error.
func (e *ListenError) Error() string { return fmt.Sprintf("listen on %s: %v", e.URL, e.Err) }

// Unwrap implements error unwrapping.
func (e *ListenError) Unwrap() error { return e.Err }

// InUse says whether another process has the address.
func (e *ListenError) InUse() bool { return errors.Is(e.Err, syscall.EADDRINUSE) }

// listen binds every URL, each address once.
func (s *Server) listen(ctx context.Context) error {
	var lc net.ListenConfig
	lc.SetMultipathTCP(false) // promotion hands the port over by a program that MPTCP refuses
	var bound []string
	for _, u := range s.ListenURLs {
		network, address := "tcp", u.Host
		if strings.HasPrefix(u.Scheme, "unix") {
			network, address = "unix", u.Host+u.Path
		}
		if slices.Contains(bound, network+address) {
			continue
		}
		bound = append(bound, network+address)
		if network == "unix" {
			if err := removeStale(ctx, address); err != nil {
				s.closeListeners()
				return &ListenError{u.String(), err}
			}
		}
		l, err := lc.Listen(ctx, network, address)
		if err != nil {
			s.closeListeners()
			var op *net.OpError
			if errors.As(err, &op) {
				err = op.Err
			}
			return &ListenError{u.String(), err}
		}
		b := &listener{Listener: l, url: u}
		if u.Scheme == "https" || u.Scheme == "unixs" {
			b.tls = s.ListenTLS.Clone()
			b.tls.NextProtos = []string{"h2", "http/1.1"}
		}
		s.listeners = append(s.listeners, b)
	}
	return nil
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
	var d net.Dialer
	c, err := d.DialContext(ctx, "unix", path)
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
	for {
		nc, err := l.Accept()
		if err != nil {
			if errors.Is(err, net.ErrClosed) || ctx.Err() != nil {
				return
			}
			s.Logger.Warn("accept failed", "url", l.url.String(), "error", err)
			select {
			case <-ctx.Done():
				return
			case <-time.After(acceptPause):
			}
			continue
		}
		s.conns.Add(1)
		go func() {
			defer s.conns.Done()
			defer nc.Close()
			if err := s.serve(ctx, l, nc); err != nil {
				s.Logger.Debug("connection refused", "client", nc.RemoteAddr().String(), "error", err)
			}
		}()
	}
}

// serve finds out which protocol a connection speaks and hands it to its relay.
func (s *Server) serve(ctx context.Context, l *listener, nc net.Conn) error {
	c, err := socket.New(nc, s.watcher)
	if err != nil {
		return err
	}
	var conn net.Conn = c
	stop := context.AfterFunc(ctx, func() { _ = nc.Close() })
	if l.tls != nil {
		t := tls.Server(c, l.tls)
		hctx, cancel := context.WithTimeout(ctx, handshakeTimeout)
		err := t.HandshakeContext(hctx)
		cancel()
		if err != nil {
			stop()
			return fmt.Errorf("TLS handshake: %w", err)
		}
		conn = t
	}
	first, two, err := sniff(conn)
	stop()
	switch {
	case err != nil && errors.Is(err, io.EOF):
		return nil
	case err != nil:
		return err
	case two:
		s.h2.Serve(ctx, conn, first)
	default:
		s.h1.Serve(ctx, conn, first)
	}
	return nil
}

// sniff reads until the first bytes are, or can no longer become, the preface of
// HTTP/2 (RFC 9113 section 3.4).
func sniff(c net.Conn) (first []byte, two bool, err error) {
	first = make([]byte, 0, len(h2.Preface))
	if err := c.SetReadDeadline(time.Now().Add(h1.DefaultIdleTimeout)); err != nil {
		return nil, false, err
	}
	for {
		n, err := c.Read(first[len(first):cap(first)])
		if n > 0 && len(first) == 0 {
			_ = c.SetReadDeadline(time.Now().Add(handshakeTimeout))
		}
		first = first[:len(first)+n]
		if !strings.HasPrefix(h2.Preface, string(first)) {
			return first, false, c.SetReadDeadline(time.Time{})
		}
		if len(first) == len(h2.Preface) {
			return first, true, c.SetReadDeadline(time.Time{})
		}
		if err != nil {
			return nil, false, err
		}
	}
}
