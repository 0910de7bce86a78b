package h1

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"sync/atomic"
	"time"

	"etcdops/proxy/director"
)

// watchAfter is how long a member may be silent before the client is watched for
// leaving. Most answers are there long before.
const watchAfter = 100 * time.Millisecond

// attempt is one try of an exchange on one member connection.
type attempt struct {
	x   *exchange
	m   *member
	in  inbox         // what the member sends
	out *bufio.Writer // to the member

	head   answerHead // the last one read
	answer body       // of the final one

	sending    chan struct{} // closed when the body's goroutine has ended; nil without one
	taken      atomic.Bool   // the body was read from the client to its end
	bodyErr    error         // why it ended early
	begun      bool          // the final answer's head was given to the client
	untilClose bool          // only the connection's end ends the client's answer
	tunnel     bool
	unwatch    func() // set while the client is watched
}

// run sends the request and relays the answer. On an error the answer is not
// whole; failed in exchange.go decides what follows.
func (a *attempt) run() (after, error) {
	a.out = borrowWriter(a.m)
	a.in.open(a)
	next, clean, err := a.both()
	clean = a.stopBody() && clean && (err == nil || errors.Is(err, director.ErrLoop)) && a.in.buffered() == 0 && a.out.Buffered() == 0
	if a.unwatch != nil {
		a.unwatch()
	}
	a.in.giveBack()
	returnWriter(a.out)
	err = a.cause(err)
	a.x.release(a.m, clean)
	return next, err
}

// both is the sending and the answer. clean says that the member connection can
// be used again.
func (a *attempt) both() (next after, clean bool, err error) {
	sendErr := a.send()
	if errors.Is(sendErr, os.ErrDeadlineExceeded) {
		return 0, false, fmt.Errorf("send request: %w", sendErr)
	}
	// After any other error the member may have answered early and closed.
	if err := a.readAnswer(); err != nil {
		if sendErr != nil {
			err = fmt.Errorf("send request: %w", sendErr)
		}
		return 0, false, err
	}
	if a.head.status == http.StatusSwitchingProtocols {
		if !a.x.upgrade {
			return 0, false, errors.New("switched protocols unasked")
		}
		return cutOff, false, a.relayTunnel()
	}
	kept := sendErr == nil && !a.head.last
	if a.head.fields.has(proxyStatus) && a.x.r.Instance.Refused(a.head.fields.joined(proxyStatus, "")) {
		return 0, a.skipAnswer() && kept, director.ErrLoop
	}
	next, clean, err = a.relay()
	return next, clean && kept, err
}

// skipAnswer gets over an answer that nobody is given, and says whether the
// connection can be used again.
func (a *attempt) skipAnswer() bool {
	body := a.openAnswer()
	_, err := io.CopyN(io.Discard, body, keptLimit)
	return errors.Is(err, io.EOF)
}

// send writes the request. A body that was not kept is left to a goroutine of
// its own, because the answer may begin, and even end, before it.
func (a *attempt) send() error {
	x := a.x
	if err := x.writeRequest(a.out, a.m.ep); err != nil {
		return err
	}
	if !x.whole {
		x.streamed = true
		if err := x.cl.src.apply(); err != nil { // from here on the deadline is stopBody's
			return errClientLeft
		}
		a.sending = make(chan struct{})
		go a.sendBody()
		return nil
	}
	if _, err := a.out.Write(x.kept); err != nil {
		return err
	}
	return a.out.Flush()
}

// sendBody streams the request's body.
func (a *attempt) sendBody() {
	defer close(a.sending)
	x := a.x
	var readErr error
	_, _ = a.out.Write(x.kept) // where no more of it could be kept
	writeErr := a.out.Flush()  // the head does not wait for the body
	if writeErr == nil {
		readErr, writeErr = copyBody(a.out, (*takenBody)(a), x.head.chunked, true)
	}
	if readErr == nil && writeErr == nil {
		if x.head.chunked {
			writeErr = writeTrailer(a.out, &x.body.trailer)
		}
		if writeErr == nil {
			writeErr = a.out.Flush()
		}
	}
	switch {
	case readErr != nil:
		a.bodyErr = clientFault(readErr)
		a.m.sever(a.bodyErr)
	case writeErr != nil:
		// The member may have answered and closed: what it said is still to be
		// read. Only where it just does not read on is there nothing to wait for.
		a.bodyErr = fmt.Errorf("send request: %w", writeErr)
		if errors.Is(writeErr, os.ErrDeadlineExceeded) {
			a.m.sever(a.bodyErr)
		}
	}
}

// takenBody is the request's body, which notes its end before the last of it is sent:
// nobody can answer the whole request sooner.
type takenBody attempt

// Read implements io.Reader.
func (b *takenBody) Read(p []byte) (int, error) {
	n, err := b.x.body.Read(p)
	if errors.Is(err, io.EOF) {
		b.taken.Store(true)
	}
	return n, err
}

// clientFault tells a client that left from one that sends nonsense.
func clientFault(err error) error {
	var ne net.Error
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) || errors.As(err, &ne) || errors.Is(err, net.ErrClosed) {
		return errClientLeft
	}
	return bad("the request's body is not valid: " + err.Error())
}

// stopBody waits for the body's goroutine, which it interrupts if it is still at
// work, and says whether the request was sent whole.
func (a *attempt) stopBody() bool {
	if a.sending == nil {
		return true
	}
	a.x.whole = a.bodySent()
	if !a.x.whole {
		a.m.sever(errClosed)
		_ = a.x.cl.c.SetReadDeadline(time.Unix(1, 0))
		<-a.sending
	}
	return a.x.whole
}

// bodySent says whether the request has been read from the client, and sent, to
// its end.
func (a *attempt) bodySent() bool {
	if a.sending == nil {
		return true
	}
	select {
	case <-a.sending:
		return a.bodyErr == nil
	default:
		return false
	}
}

// Who answers a whole request can do so before the goroutine that has sent it is told.
// An answer waits for that, so that the connections need not be closed behind it:
const (
	// bodyGrace is for a body that the client may still be sending.
	bodyGrace = 5 * time.Millisecond
	// takenGrace is for one that has been read to its end. Only a busy machine or a
	// member that answers what it does not read takes that long.
	takenGrace = time.Second
)

// bodyEnds says whether the request was sent to its end, now or in a moment.
func (a *attempt) bodyEnds() bool {
	if a.sending == nil || a.bodySent() {
		return true
	}
	grace := bodyGrace
	if a.taken.Load() {
		grace = takenGrace
	}
	t := time.NewTimer(grace)
	defer t.Stop()
	select {
	case <-a.sending:
	case <-t.C:
	}
	return a.bodySent()
}

// cause finds what really broke the attempt behind what was noticed first. The
// body's goroutine has ended.
func (a *attempt) cause(err error) error {
	if err == nil || errors.Is(err, errClientLeft) || errors.Is(err, director.ErrLoop) {
		return err
	}
	if why := a.m.severed(); why != nil && !errors.Is(why, errClosed) {
		return why
	}
	if a.bodyErr != nil && !errors.Is(a.bodyErr, errClientLeft) {
		return a.bodyErr
	}
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		return errors.New("the connection ended")
	}
	var op *net.OpError
	if errors.As(err, &op) {
		return op.Err
	}
	var no *refusal
	if errors.As(err, &no) {
		return errBadAnswer // its trailers
	}
	return err
}

var errBadAnswer = errors.New("its answer is not HTTP")

// readAnswer reads heads until a final one, and relays the others.
func (a *attempt) readAnswer() error {
	for {
		raw, err := a.in.head(headLimit)
		if err != nil {
			return err
		}
		if err := a.head.read(raw); err != nil {
			return err
		}
		if a.head.final() {
			return nil
		}
		if err := a.x.relayInterim(&a.head); err != nil {
			return err
		}
		if _, err := a.in.br.Discard(len(raw)); err != nil {
			return err
		}
	}
}

// Read implements io.Reader for what the member sends. Every wait for the member
// passes here, so here the client gets all that there is for it, and after a
// while of silence is watched for leaving.
func (a *attempt) Read(p []byte) (int, error) {
	n, err := a.read(p)
	if n > 0 {
		a.m.ep.Heard(time.Now().UnixMilli())
	}
	return n, err
}

func (a *attempt) read(p []byte) (int, error) {
	if err := a.x.cl.out.Flush(); err != nil {
		return 0, errClientLeft
	}
	if a.tunnel {
		return a.m.c.Read(p)
	}
	limit := a.x.r.ReadTimeout
	if a.unwatch == nil {
		first, slack := watchAfter, watchAfter/2
		if limit > 0 && limit <= watchAfter {
			first, slack = limit, 0
		}
		if err := a.m.readWithin(first, slack); err != nil {
			return 0, err
		}
		n, err := a.m.c.Read(p)
		if n > 0 || !errors.Is(err, os.ErrDeadlineExceeded) || first == limit {
			return n, err
		}
		a.unwatch = a.x.cl.notifyGone()
		limit -= min(limit, watchAfter)
	}
	if err := a.m.readWithin(limit, 0); err != nil {
		return 0, err
	}
	return a.m.c.Read(p)
}
