package h1

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"etcdops/proxy/director"
	"etcdops/proxy/socket"
	"etcdops/proxy/stats"
)

// lingerTime is how long a connection that we close is still read from, so that
// unread bytes do not make the kernel reset it before the client has our answer.
const lingerTime = 500 * time.Millisecond

// after says what becomes of a client connection when a request is done.
type after int

const (
	keepOpen after = iota
	closeGently
	cutOff
)

// client is one client connection.
type client struct {
	r       *Relay
	c       net.Conn
	src     source
	in      inbox
	out     *bufio.Writer
	session *director.Session
	waits   atomic.Bool // the request under way waits for something to happen
	proved  bool        // a request with a good head has come

	addressed bool // ip was looked at
	ip        string

	mu     sync.Mutex
	idle   bool    // waits for a request
	over   bool    // the client left, or we cut it
	member *member // the member connection it uses
}

func newClient(r *Relay, c net.Conn, first []byte) *client {
	cl := &client{r: r, c: c, session: r.Director.NewSession()}
	sock, _ := c.(*socket.Conn)
	cl.src = source{c: c, sock: sock, first: bytes.Clone(first), headTimeout: r.HeadTimeout}
	return cl
}

// serve answers one request after the other. It is the connection's only
// goroutine, but for the one that sends a streamed body.
func (cl *client) serve(ctx context.Context) {
	next := keepOpen
	for next == keepOpen {
		if !cl.await() {
			next = closeGently
			break
		}
		next = cl.once(ctx)
	}
	cl.session.Close()
	cl.in.giveBack()
	if next == closeGently {
		cl.linger()
	}
	cl.src.drop()
	cl.cut()
}

// await waits for the first byte of a request. Where none is there yet, it
// holds no buffer while it waits.
func (cl *client) await() bool {
	if cl.in.buffered() > 0 {
		return true
	}
	cl.in.giveBack()
	if !cl.rest() {
		return false
	}
	err := cl.c.SetReadDeadline(time.Now().Add(cl.r.IdleTimeout))
	if err == nil {
		err = cl.src.wait()
	}
	return cl.wake() && err == nil
}

// rest marks the connection idle; in a drain it says that it must close.
func (cl *client) rest() bool {
	cl.mu.Lock()
	defer cl.mu.Unlock()
	if cl.over || cl.r.draining.Load() && !cl.src.pending() {
		return false
	}
	cl.idle = true
	return true
}

func (cl *client) wake() bool {
	cl.mu.Lock()
	defer cl.mu.Unlock()
	cl.idle = false
	return !cl.over
}

// once reads one request and sees it to its end.
func (cl *client) once(ctx context.Context) after {
	cl.out = borrowWriter(cl.c)
	defer func() {
		returnWriter(cl.out)
		cl.out = nil
	}()
	cl.in.open(&cl.src)
	x := cl.newExchange()
	defer x.done()
	if err := cl.readHead(&x.head); err != nil {
		var no *refusal
		if !errors.As(err, &no) {
			return cutOff // the client left in the middle of a head
		}
		reason := stats.Malformed
		switch no.status {
		case http.StatusRequestHeaderFieldsTooLarge:
			reason = stats.HeaderTooLong
		case http.StatusRequestTimeout:
			reason = stats.HeaderTimeout
		}
		x.head.reset() // what was read of it means nothing
		x.streamed = true
		x.fault, _, _ = strings.Cut(no.text, ": ") // what follows may be the client's
		return x.refuse(reason, no.status, no.text)
	}
	if !cl.proved && cl.r.Proved != nil {
		cl.proved = true
		cl.r.Proved(cl.c)
	}
	cl.r.Stats.Requests.Add(1)
	cl.r.Stats.Inflight.Add(1)
	defer cl.r.Stats.Inflight.Add(-1)
	x.begin()
	if x.waits() {
		cl.waits.Store(true)
		defer cl.waits.Store(false)
	}
	return x.run(ctx)
}

// readHead reads and checks a head. The error is a *refusal where the client is to
// be told.
func (cl *client) readHead(h *requestHead) error {
	cl.src.next = limitHead
	raw, err := cl.in.head(cl.r.HeadLimit)
	cl.src.next = limitNothing
	switch {
	case errors.Is(err, errHeadTooLong):
		return &refusal{http.StatusRequestHeaderFieldsTooLarge, fmt.Sprintf("the request's head is longer than %d bytes", cl.r.HeadLimit)}
	case errors.Is(err, os.ErrDeadlineExceeded):
		return &refusal{http.StatusRequestTimeout, "the request's head took too long"}
	case err != nil:
		return err
	}
	if no := h.read(raw); no != nil {
		return no
	}
	_, err = cl.in.br.Discard(len(raw))
	return err
}

// cut ends the connection and what it waits for.
func (cl *client) cut() {
	_ = cl.c.Close()
	cl.depart()
}

// depart ends what the client waits for: it has left.
func (cl *client) depart() {
	cl.mu.Lock()
	defer cl.mu.Unlock()
	cl.over = true
	if cl.member != nil {
		cl.member.sever(errClientLeft)
	}
}

// closeIfIdle closes the connection if no request is under way.
func (cl *client) closeIfIdle() {
	cl.mu.Lock()
	defer cl.mu.Unlock()
	// What has just arrived will be answered, with Connection: close.
	if s := socket.Of(cl.c); cl.idle && (s == nil || !s.Ended()) {
		cl.over = true
		_ = cl.c.Close()
	}
}

// use makes m the member connection that ends when the client does; nil ends
// that.
func (cl *client) use(m *member) {
	cl.mu.Lock()
	defer cl.mu.Unlock()
	cl.member = m
	if m != nil && cl.over {
		m.sever(errClientLeft)
	}
}

func (cl *client) isOver() bool {
	cl.mu.Lock()
	defer cl.mu.Unlock()
	return cl.over
}

// notifyGone watches for the client's leaving.
func (cl *client) notifyGone() (stop func()) {
	if n, ok := cl.c.(interface {
		NotifyGone(f func()) (stop func())
	}); ok {
		return n.NotifyGone(cl.depart)
	}
	if s := socket.Of(cl.c); s != nil {
		return s.NotifyGone(cl.depart)
	}
	return func() {}
}

// watched calls wait, and watches for the client's leaving once that takes time.
func (cl *client) watched(wait func() error) error {
	var mu sync.Mutex
	stop, over := func() {}, false
	timer := time.AfterFunc(watchAfter, func() {
		mu.Lock()
		defer mu.Unlock()
		if !over {
			stop = cl.notifyGone()
		}
	})
	err := wait()
	timer.Stop()
	mu.Lock()
	defer mu.Unlock()
	over = true
	stop()
	return err
}

// linger closes our side, and then waits a little for the client to close its.
func (cl *client) linger() {
	if closeWrite(cl.c) == nil && cl.c.SetReadDeadline(time.Now().Add(lingerTime)) == nil {
		_, _ = io.Copy(io.Discard, cl.c)
	}
}

// errNoHalfClose says that a connection can only be closed as a whole.
var errNoHalfClose = errors.New("connection has no half-close")

// closeWrite sends the end of our side.
func closeWrite(c net.Conn) error {
	if s, ok := c.(*socket.Conn); ok {
		c = s.Conn
	}
	if h, ok := c.(interface{ CloseWrite() error }); ok {
		return h.CloseWrite()
	}
	return errNoHalfClose
}

// reset makes the coming close break the connection, where a mere end would be
// taken for the end of a whole answer.
func reset(c net.Conn) {
	if s := socket.Of(c); s != nil {
		if t, ok := s.Conn.(*net.TCPConn); ok {
			_ = t.SetLinger(0)
			_ = t.Close() // below TLS, whose Close would say a proper goodbye
		}
	}
}
