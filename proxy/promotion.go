package proxy

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"sync"
	"sync/atomic"
	"time"
)

// Paths of the control socket by which a promotion drives the proxy, all with
// POST and JSON. Each may be asked again. What can't be done is answered with
// 409 and {"error": "…"}.
const (
	// HoldPath keeps the ports ours, whoever binds them beside us.
	HoldPath = "/v1/promotion/hold"
	// ReleasePath undoes a hold, and a hand-over if there was one.
	ReleasePath = "/v1/promotion/release"
	// HandOverPath makes new connections reach etcd. Where that can't be seen to
	// work for every listener, all stay ours.
	HandOverPath = "/v1/promotion/hand-over"
	// DrainPath ends the connections that we have; the process lives on, idle.
	DrainPath = "/v1/promotion/drain"
)

// ListenerStatus is one bound client URL and whether it can be handed over.
type ListenerStatus struct {
	URL      string `json:"url"`
	Network  string `json:"network"` // "tcp" or "unix"
	Address  string `json:"address"` // as bound, "[::]:2379" or a path
	HandOver bool   `json:"hand_over"`
	Why      string `json:"why,omitempty"` // why not
}

// HoldAnswer is the answer to HoldPath.
type HoldAnswer struct {
	Listeners []ListenerStatus `json:"listeners"`
}

// HandOverRequest is the body for HandOverPath.
type HandOverRequest struct {
	// Unix names the path that etcd listens on for each of our unix URLs: etcd
	// removes what it finds on its own path, so it can't share ours.
	Unix map[string]string `json:"unix,omitempty"`
}

// DrainRequest is the body for DrainPath.
type DrainRequest struct {
	// Timeout is the drain limit, as "5s"; empty means the proxy's own.
	Timeout string `json:"timeout,omitempty"`
}

// DrainAnswer says what a drain cost.
type DrainAnswer struct {
	Refused    int   `json:"refused"`     // requests refused unprocessed; gRPC clients send them again
	Cut        int   `json:"cut"`         // requests still open at the drain limit
	CutStreams int   `json:"cut_streams"` // of those, watches and other streams, which clients open again
	CutWaits   int   `json:"cut_waits"`   // of those, Lock, Campaign and long polls
	TookMS     int64 `json:"took_ms"`
}

// The stages of a promotion as the status names them.
const (
	stageNone       = ""
	stageHeld       = "held"
	stageHandedOver = "handed over"
	stageDrained    = "drained"
)

// promotion is what a proxy knows of a promotion under way.
type promotion struct {
	probes probes
	stage  atomic.Value  // string, for readers that can't wait
	wake   chan struct{} // the guard has something to guard
	drains chan drainCall
	over   chan struct{} // Run takes no more calls

	mu       sync.Mutex // held during each operation
	guarding bool
	draining bool      // from the moment a drain was asked for
	handed   time.Time // when the ports were handed over
}

// drainCall asks Run to drain.
type drainCall struct {
	timeout time.Duration
	done    chan DrainAnswer
}

func (p *promotion) is() string {
	stage, _ := p.stage.Load().(string)
	return stage
}

// errDrained says that nothing is left to be steered, or soon nothing will be:
// what a drain has begun to close is not opened again.
var errDrained = errors.New("this proxy is drained: stop it, or start it again")

// promotionPaths adds what a promotion asks for.
func (s *Server) promotionPaths(mux *http.ServeMux) {
	mux.HandleFunc("POST "+HoldPath, answer(func(ctx context.Context, _ struct{}) (HoldAnswer, error) { return s.hold(ctx) }))
	mux.HandleFunc("POST "+ReleasePath, answer(func(ctx context.Context, _ struct{}) (struct{}, error) { return struct{}{}, s.release(ctx) }))
	mux.HandleFunc("POST "+HandOverPath, answer(func(ctx context.Context, r HandOverRequest) (struct{}, error) { return struct{}{}, s.handOver(ctx, r) }))
	mux.HandleFunc("POST "+DrainPath, answer(s.drainByRequest))
}

// answer makes a handler of an operation. The operation goes on to its end
// where the one who asked has left: half of one helps nobody.
func answer[Q, A any](do func(context.Context, Q) (A, error)) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		var asked Q
		w.Header().Set("Content-Type", "application/json")
		if err := json.NewDecoder(r.Body).Decode(&asked); err != nil && !errors.Is(err, io.EOF) {
			w.WriteHeader(http.StatusBadRequest)
			_ = json.NewEncoder(w).Encode(map[string]string{"error": err.Error()})
			return
		}
		got, err := do(context.WithoutCancel(r.Context()), asked)
		if err != nil {
			w.WriteHeader(http.StatusConflict)
			_ = json.NewEncoder(w).Encode(map[string]string{"error": err.Error()})
			return
		}
		_ = json.NewEncoder(w).Encode(got)
	}
}

// hold makes the ports ours and keeps them so.
func (s *Server) hold(ctx context.Context) (HoldAnswer, error) {
	p := &s.promotion
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.draining {
		return HoldAnswer{}, errDrained
	}
	if s.Hold != nil {
		s.Hold()
	}
	if err := s.takeBack(ctx); err != nil {
		return HoldAnswer{}, err
	}
	s.guardPorts()
	s.Logger.Info("ports held for a promotion")
	return HoldAnswer{s.listenerStates()}, nil
}

// guardPorts starts the guard; mu is held.
func (s *Server) guardPorts() {
	s.promotion.guarding = true
	s.promotion.stage.Store(stageHeld)
	select {
	case s.promotion.wake <- struct{}{}:
	default: // it is awake, or about to be
	}
}

// release ends what hold began.
func (s *Server) release(ctx context.Context) error {
	p := &s.promotion
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.draining {
		return errDrained
	}
	if p.is() != stageNone {
		if err := s.takeBack(ctx); err != nil {
			return err
		}
	}
	p.guarding = false
	p.stage.Store(stageNone)
	if s.Release != nil {
		s.Release()
	}
	s.Logger.Info("ports released from a promotion")
	return nil
}

// joinPorts takes the ports for a proxy that starts into a promotion: a program
// that an earlier one left may send everything to a member that does not serve.
// mu is held.
func (s *Server) joinPorts(ctx context.Context) {
	if err := s.takeBack(ctx); err != nil {
		s.Logger.Warn("ports not taken yet", "error", err) // the guard goes on
	}
	s.guardPorts()
}

// takeBack makes new connections reach us at every listener; mu is held.
func (s *Server) takeBack(ctx context.Context) error {
	var failed []error
	for _, l := range s.listeners {
		switch {
		case l.path != "":
			if err := l.takePath(); err != nil {
				failed = append(failed, fmt.Errorf("steer %s: %w", l.url.String(), err))
			}
		case l.unsteerable == nil:
			failed = append(failed, s.promotion.probes.claim(ctx, l))
		}
	}
	return errors.Join(failed...)
}

// handOver makes new connections reach etcd at every listener, or at none.
func (s *Server) handOver(ctx context.Context, r HandOverRequest) error {
	p := &s.promotion
	p.mu.Lock()
	defer p.mu.Unlock()
	switch {
	case p.draining:
		if p.handed.IsZero() {
			return errDrained
		}
		return nil
	case p.is() == stageNone:
		return errors.New("nothing is held: ask for " + HoldPath + " first")
	}
	if err := s.canHandOver(ctx, r); err != nil {
		return err
	}
	for _, l := range s.listeners {
		err := s.handOne(ctx, l, r)
		if err == nil {
			continue
		}
		if back := s.takeBack(ctx); back != nil {
			s.Logger.Error("ports not taken back", "error", back)
			err = fmt.Errorf("%w; and then: %w", err, back)
		}
		s.guardPorts()
		return err
	}
	p.guarding = false
	p.handed = time.Now()
	p.stage.Store(stageHandedOver)
	s.Logger.Info("ports handed over to etcd")
	return nil
}

// canHandOver finds out what can be found out without touching anything.
func (s *Server) canHandOver(ctx context.Context, r HandOverRequest) error {
	unknown := map[string]bool{}
	for raw := range r.Unix {
		unknown[raw] = true
	}
	for _, l := range s.listeners {
		raw := l.url.String()
		delete(unknown, raw)
		if l.path == "" {
			if l.unsteerable != nil {
				return fmt.Errorf("hand %s over: %w", raw, l.unsteerable)
			}
			continue
		}
		side := r.Unix[raw]
		if side == "" {
			return fmt.Errorf("hand %s over: the path that etcd listens on is not named", raw)
		}
		if err := unixAnswers(ctx, side, l.secure); err != nil {
			return fmt.Errorf("hand %s over: %s does not serve: %w", raw, side, err)
		}
	}
	for raw := range unknown {
		return fmt.Errorf("hand %s over: this proxy does not listen there", raw)
	}
	return nil
}

func unixAnswers(ctx context.Context, path string, secure bool) error {
	ctx, cancel := context.WithTimeout(ctx, answerTimeout)
	defer cancel()
	c, err := dialUnix(ctx, path)
	if err != nil {
		return err
	}
	defer c.Close()
	return answers(ctx, c, secure)
}

func dialUnix(ctx context.Context, path string) (net.Conn, error) {
	short, done, err := shortPath(path)
	if err != nil {
		return nil, err
	}
	defer done()
	var d net.Dialer
	return d.DialContext(ctx, "unix", short)
}

func (s *Server) handOne(ctx context.Context, l *listener, r HandOverRequest) error {
	if l.path == "" {
		return s.promotion.probes.give(ctx, l)
	}
	if err := l.givePath(r.Unix[l.url.String()]); err != nil {
		return fmt.Errorf("hand %s over: %w", l.url.String(), err)
	}
	return nil
}

// drainByRequest drains by Run, once: who asks again gets the same answer.
func (s *Server) drainByRequest(ctx context.Context, r DrainRequest) (DrainAnswer, error) {
	timeout := s.DrainTimeout
	if r.Timeout != "" {
		var err error
		if timeout, err = time.ParseDuration(r.Timeout); err != nil || timeout < 0 {
			return DrainAnswer{}, fmt.Errorf("%q is no drain limit: write it as 5s", r.Timeout)
		}
	}
	s.promotion.mu.Lock()
	s.promotion.guarding, s.promotion.draining = false, true // the listeners are about to be closed
	s.promotion.mu.Unlock()
	call := drainCall{timeout, make(chan DrainAnswer, 1)}
	select {
	case s.promotion.drains <- call:
	case <-s.promotion.over:
		return DrainAnswer{}, errors.New("this proxy is stopping")
	}
	select {
	case a := <-call.done:
		return a, nil
	case <-s.promotion.over:
		return DrainAnswer{}, errors.New("this proxy is stopping")
	}
}

// listenerStates lists the listeners.
func (s *Server) listenerStates() []ListenerStatus {
	var out []ListenerStatus
	for _, l := range s.listeners {
		st := ListenerStatus{URL: l.url.String(), Network: "tcp", HandOver: true}
		if l.path != "" {
			st.Network, st.Address = "unix", l.path
		} else {
			st.Address = l.Addr().String()
		}
		if l.unsteerable != nil {
			st.HandOver, st.Why = false, l.unsteerable.Error()
		}
		out = append(out, st)
	}
	return out
}

// underWay says whether a promotion is.
func (s *Server) underWay() bool { return s.promotion.is() != stageNone }
