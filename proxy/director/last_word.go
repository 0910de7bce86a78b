package director

import (
	"context"
	"errors"
	"io"
	"net"
	"os"
	"sync/atomic"
	"syscall"
	"time"
)

// lastWordWait is how long a connection that has failed is still read from. What its
// member said before it closed has come by then: it is what made our writing fail.
const lastWordWait = 100 * time.Millisecond

// questionConn is the connection of one question. gRPC's Close leaves it open, so that
// a last word can be read.
type questionConn struct {
	net.Conn
	heard atomic.Bool // the member has sent something
}

// Read implements io.Reader.
func (c *questionConn) Read(p []byte) (int, error) {
	n, err := c.Conn.Read(p)
	if n > 0 {
		c.heard.Store(true)
	}
	return n, err
}

// Close ends what reads and writes are under way.
func (c *questionConn) Close() error { return c.SetDeadline(time.Unix(1, 0)) }

var errUnanswered = errors.New("connection closed without an answer")

// unanswered finds out why a question failed on a connection over which nothing came.
// Under TLS 1.3 a member refuses our certificate behind the handshake (RFC 8446 section
// 4.4.2.4), and who writes at that moment is told of a broken pipe alone. What TLS says
// is a *DialError: nothing was asked.
func (e *Endpoint) unanswered(ctx context.Context, c *questionConn, err error) error {
	if c.heard.Load() || ctx.Err() != nil {
		return err
	}
	last := os.ErrDeadlineExceeded
	for limit := time.Now().Add(lastWordWait); errors.Is(last, os.ErrDeadlineExceeded) && time.Now().Before(limit); {
		_ = c.SetReadDeadline(limit) // gRPC's Close may still come in between
		_, last = c.Read(make([]byte, 1))
	}
	var alert *tlsError
	switch {
	case errors.As(e.explain(last), &alert):
		return &DialError{e.URL, "TLS handshake", alert}
	case errors.Is(last, io.EOF), errors.Is(last, syscall.ECONNRESET), errors.Is(last, syscall.EPIPE):
		return errUnanswered
	}
	return err
}
