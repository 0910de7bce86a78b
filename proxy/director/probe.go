package director

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"sync"
	"time"
)

// The probe finds a stopped member within 3 seconds: it starts at most
// probeInterval after the stop, waits probeAnswer on its standing connection,
// and then gives a new connection probeSecond, so that a broken connection or a
// pause of our own is not held against the member.
const (
	probeInterval = time.Second
	probeAnswer   = 1200 * time.Millisecond
	probeSecond   = 700 * time.Millisecond
)

// probeBody bounds what is read of an answer, in bytes.
const probeBody = 64 << 10

// probeRequest asks for what every etcd answers without a quorum and without
// rights. Any answer but a 5xx proves the process alive.
const probeRequest = "GET /version HTTP/1.1\r\nHost: %s\r\nUser-Agent: " + ProbeAgent + "\r\n%s\r\n"

// ProbeAgent is the User-Agent of calls of our own.
const ProbeAgent = "etcdops-probe"

// probeState is the reason and the beginning of an endpoint's present health.
type probeState struct {
	mu     sync.Mutex
	reason string
	since  time.Time
	loop   bool // it leads back to us
	told   bool // that it does, once

	renewed time.Time // when a new reason was logged
}

// reasonLine is the least time between two log lines of why a member is still down.
const reasonLine = 10 * time.Second

func (s *probeState) set(reason string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.reason, s.since = reason, time.Now()
}

// renew replaces the reason of a member that is still down, and says whether it is
// to be logged: a new one, and not each second.
func (s *probeState) renew(reason string) (told bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.loop { // that it leads back matters more
		return false
	}
	told = s.reason != reason && time.Since(s.renewed) >= reasonLine
	if s.reason = reason; told {
		s.renewed = time.Now()
	}
	return told
}

func (s *probeState) get() (string, time.Time) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.reason, s.since
}

// probe looks at the member until ctx ends.
func (e *Endpoint) probe(ctx context.Context) {
	e.state.set("")
	var p prober
	defer p.close()
	t := time.NewTimer(probeInterval)
	defer t.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-t.C:
		case <-e.suspect:
		}
		began := time.Now()
		err := p.ask(ctx, e, probeAnswer)
		if err != nil && !errors.Is(err, ErrLoop) && ctx.Err() == nil {
			p.close()
			err = p.ask(ctx, e, probeSecond)
		}
		if ctx.Err() != nil {
			return
		}
		e.judge(err, began)
		if err == nil && (p.fresh || e.foreign.Load() != 0) {
			// Who listens may be another one than before. Only an answer counts.
			now := time.Now()
			e.d.probes.Go(func() { _ = e.verify(ctx, now) }) // which takes longer than we may
		}
		t.Reset(probeInterval)
	}
}

// judge turns a probe's result into health. began is when the probe did: a
// member that has said anything since is alive, however busy. A condemned one
// comes back with the first good probe after the failure wait.
func (e *Endpoint) judge(err error, began time.Time) {
	switch {
	case errors.Is(err, ErrLoop):
		e.LeadsBack()
		return
	case errors.Is(err, errSilent) && e.heard.Load() > began.UnixMilli():
		err = nil
	}
	down := e.down.Load()
	switch {
	case err != nil && !down:
		e.state.set(err.Error())
		e.down.Store(true)
		e.d.Logger.Warn("endpoint down", "endpoint", e.String(), "error", err)
		e.d.recount()
	case err != nil && e.state.renew(err.Error()):
		e.d.Logger.Warn("endpoint still down", "endpoint", e.String(), "error", err)
	case err == nil && down:
		if e.release() {
			e.cut = false
			if e.foreign.Load() == 0 {
				e.d.Logger.Info("endpoint up again", "endpoint", e.String())
			}
			e.d.recount()
		}
		return
	}
	// What is under way there is cut only if it has somewhere else to go.
	if err != nil && !e.cut && e.d.AnyUsable() {
		e.cut = true
		if e.d.OnDown != nil {
			e.d.OnDown(e)
		}
	}
}

// prober holds the standing connection of one probe.
type prober struct {
	c     net.Conn
	br    *bufio.Reader
	fresh bool // the last question was the connection's first
}

// errSilent says that a member took the question and did not answer in time.
var errSilent = errors.New("no answer")

// errSpeaksTLS says that a member closed a connection in the clear without a word, as
// a listener with TLS does.
var errSpeaksTLS = errors.New("it speaks TLS, or closes connections: is its URL https?")

func (p *prober) ask(ctx context.Context, e *Endpoint, wait time.Duration) error {
	limit := time.Now().Add(wait)
	p.fresh = p.c == nil
	if p.fresh {
		dctx, cancel := context.WithDeadline(ctx, limit)
		c, err := e.dial(dctx, "http/1.1", e.d.DialTimeout)
		cancel()
		if err != nil {
			var de *DialError
			if errors.As(err, &de) && errors.Is(err, context.DeadlineExceeded) {
				return fmt.Errorf("%s: %w within %v", de.Step, errSilent, wait)
			}
			return err
		}
		p.c, p.br = c, bufio.NewReaderSize(c, 1024)
	}
	if err := p.c.SetDeadline(limit); err != nil {
		return err
	}
	if _, err := fmt.Fprintf(p.c, probeRequest, e.HostHeader(), e.d.viaField()); err != nil {
		return fmt.Errorf("write probe: %w", err)
	}
	if _, err := p.br.Peek(1); err != nil {
		var ne net.Error
		if errors.As(err, &ne) && ne.Timeout() {
			return fmt.Errorf("%w to GET /version within %v", errSilent, wait)
		}
		if errors.Is(err, io.EOF) && !e.TLS {
			return errSpeaksTLS
		}
		return fmt.Errorf("read probe: %w", e.explain(err))
	}
	// The process lives. What it said decides only whether the connection can
	// be asked again: a listener for gRPC alone answers with HTTP/2 frames.
	// But our own refusal says that we have asked ourselves.
	res, err := http.ReadResponse(p.br, nil)
	if err != nil {
		p.close()
		return nil
	}
	body, err := io.ReadAll(io.LimitReader(res.Body, probeBody))
	_ = res.Body.Close()
	if err != nil || len(body) == probeBody || res.Close {
		p.close()
	}
	switch {
	case res.StatusCode == http.StatusBadRequest && !e.TLS && bytes.Contains(body, []byte("HTTPS server")):
		return errSpeaksTLS // net/http says so in the clear

	case e.ledBack(res.Header["Proxy-Status"]):
		return ErrLoop
	case res.StatusCode >= http.StatusInternalServerError: // no etcd says so: a proxy that reaches none does
		return fmt.Errorf("GET /version was answered %s", res.Status)
	}
	return nil
}

func (p *prober) close() {
	if p.c != nil {
		_ = p.c.Close()
		p.c, p.br = nil, nil
	}
}
