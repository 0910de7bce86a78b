package promote

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"time"

	"etcdops/discover"
)

// Defaults of a promotion's limits.
const (
	DefaultStopTimeout  = 30 * time.Second
	DefaultStallTimeout = 10 * time.Minute
)

// Proxy is the running proxy in the member's place, driven from outside.
type Proxy interface {
	// Find returns its process; found is false where none runs.
	Find(ctx context.Context) (process Process, found bool, err error)
	// Hold makes the proxy keep its memory to itself and the ports its own,
	// whoever binds them beside it. Holding twice is no error.
	Hold(ctx context.Context) error
	// Release undoes Hold.
	Release(ctx context.Context) error
	// HandOver makes new connections reach etcd. side names the unix sockets
	// that etcd listens on, by client URL. On an error they reach the proxy.
	HandOver(ctx context.Context, side map[string]string) error
	// Drain ends the proxy's connections; the process lives on, idle.
	Drain(ctx context.Context) (Drained, error)
}

// Drained is what a drain cost.
type Drained struct {
	Refused int `json:"refused"` // requests that were refused
	Cut     int `json:"cut"`     // requests still open at the drain limit
}

// Units are systemd's units; see Systemd.
type Units interface {
	StopUnit(ctx context.Context, unit string, grace time.Duration) error
	StartUnit(ctx context.Context, unit string) error
	DisableUnit(ctx context.Context, unit string) error
	EnableUnit(ctx context.Context, unit string) error
	// UnitRuns tells whether a unit runs, or is on its way up or down.
	UnitRuns(ctx context.Context, unit string) (bool, error)
}

// Promotion carries a plan out. Exported fields must be set before Run and
// Undo.
type Promotion struct {
	Journal    *Journal
	Cluster    *Cluster
	Joiner     *Joiner
	Supervisor Supervisor
	Proxy      Proxy
	// Units is for a proxy that is a unit's main process; it may be nil where
	// the plan names no unit.
	Units Units
	// Print gives the operator the new member's variables.
	Print func(v Variables, unset []string) error
	// Say tells what was done, one line each.
	Say func(text string)
	// Progress tells how the learner catches up.
	Progress func(Progress)
	// StopTimeout is how long the proxy may take to end before it is killed.
	StopTimeout time.Duration
	// StallTimeout is how long the learner may make no progress.
	StallTimeout time.Duration
	// StopAfter names a step to stop after; the promotion stays unfinished.
	StopAfter string

	ended   chan struct{} // closed when etcd's process has ended; nil before it started
	dark    time.Time     // when the port lost its listener; zero if it did not
	darkFor time.Duration
	took    time.Time
	steered bool // by this run
}

// Result is what a promotion has led to.
type Result struct {
	Name      string  `json:"name"`
	MemberID  string  `json:"member_id"` // 16 hex digits
	ClusterID string  `json:"cluster_id"`
	HandOver  bool    `json:"hand_over"`
	Drained   Drained `json:"drained"`
	DarkMs    int64   `json:"dark_ms"` // how long the client ports had no listener; 0 with hand-over
	TookMs    int64   `json:"took_ms"`
	LogPath   string  `json:"log,omitempty"`
	Unit      string  `json:"unit,omitempty"`
	Stopped   string  `json:"stopped_after,omitempty"` // the step, where it was asked to stop there
}

// HalfwayError says that a promotion stopped between its first and its last
// step. It can be continued, and undone while the member is a learner.
type HalfwayError struct {
	Step    string // that failed
	Done    []string
	NotDone []string
	Err     error
}

// Error implements error.
func (e *HalfwayError) Error() string { return fmt.Sprintf("step %s: %v", e.Step, e.Err) }

// Unwrap returns the cause.
func (e *HalfwayError) Unwrap() error { return e.Err }

// UndoneError says that a promotion failed and that everything is as it was
// before.
type UndoneError struct {
	Step  string // that failed
	Cause string // from etcd's log, may be empty
	Log   []string
	Err   error
}

// Error implements error.
func (e *UndoneError) Error() string {
	if e.Cause != "" {
		return fmt.Sprintf("step %s: %v: %s", e.Step, e.Err, e.Cause)
	}
	return fmt.Sprintf("step %s: %v", e.Step, e.Err)
}

// Unwrap returns the cause.
func (e *UndoneError) Unwrap() error { return e.Err }

// Run takes the steps that are not done yet. A step that an earlier run began
// is taken again: each one finds out what is done of it.
//
// Errors are *HalfwayError or *UndoneError.
func (p *Promotion) Run(ctx context.Context) (*Result, error) {
	p.took = time.Now()
	plan := &p.Journal.Plan
	if p.Journal.Undoing() {
		return nil, p.halfway(stepUndo, errors.New("it is being undone"))
	}
	steps := map[string]func(context.Context) (*Facts, error){
		StepAdd: p.add, StepPrint: p.print, StepAside: p.aside, StepStopProxy: p.stopProxyFirst, StepStart: p.start,
		StepCatchUp: p.catchUp, StepServe: p.serve, StepHandOver: p.handOver, StepDrain: p.drain, StepFinish: p.finish,
	}
	for _, step := range plan.Steps {
		if p.Journal.has(step, eventDone) && step != StepPrint {
			continue
		}
		if err := p.take(ctx, step, steps[step]); err != nil {
			return nil, p.failed(ctx, step, err)
		}
		if step == p.StopAfter {
			return p.result(step), p.Journal.Close()
		}
	}
	if err := p.Journal.end("done"); err != nil {
		return nil, p.halfway(StepFinish, err)
	}
	return p.result(""), nil
}

// DoneElsewhere tells whether the member was started and made a voter by
// somebody else, who took the printed variables: then nothing is left to do, and
// the journal is ended.
//
// A *StartedElsewhereError says that it is still a learner.
func (p *Promotion) DoneElsewhere(ctx context.Context) (bool, error) {
	if p.memberID() == 0 || p.Journal.has(StepStart, eventBegin) {
		return false, nil
	}
	members, err := p.Cluster.Members(ctx)
	if err != nil {
		return false, fmt.Errorf("list the members: %w", err)
	}
	m, found := memberByID(members, p.memberID())
	switch {
	case !found || !m.Started():
		return false, nil
	case m.IsLearner:
		return false, &StartedElsewhereError{m}
	}
	return true, p.Journal.end("done")
}

// StartedElsewhereError says that the member was started, and not by this
// promotion.
type StartedElsewhereError struct{ Member discover.Member }

// Error implements error.
func (e *StartedElsewhereError) Error() string {
	return describe(e.Member) + " was started by somebody else and is still a learner"
}

// Serving says in words who serves clients now, as far as it can be seen from
// here, also when ctx has ended.
func (p *Promotion) Serving(ctx context.Context) string {
	_, runs, err := p.Proxy.Find(context.WithoutCancel(ctx))
	runs = runs && err == nil
	handed := p.Journal.has(StepHandOver, eventDone)
	classic := !p.Journal.Plan.HandOver
	switch {
	case handed && runs:
		return "new connections reach the new member; the proxy ends what it has"
	case handed, classic && p.Journal.has(StepServe, eventDone):
		return "clients are served by the new member"
	case classic && p.Journal.has(StepStopProxy, eventBegin) && !p.Journal.Undoing():
		return "nobody takes new connections on the client ports"
	case runs:
		return "clients are served by the proxy, as before"
	}
	return "no proxy runs here: nobody serves on its client ports until it is started again"
}

// take takes one step between its two entries.
func (p *Promotion) take(ctx context.Context, step string, run func(context.Context) (*Facts, error)) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	if !p.Journal.has(step, eventBegin) {
		if err := p.Journal.begin(step, p.known(step)); err != nil {
			return err
		}
	}
	facts, err := run(ctx)
	if err != nil {
		return err
	}
	return p.Journal.done(step, facts)
}

// known is what must be noted before a step, because it can't be learnt after.
func (p *Promotion) known(step string) *Facts {
	if step != StepStart {
		return nil
	}
	info, err := os.Stat(p.Journal.Plan.Service.LogPath)
	if err != nil {
		return nil // there is no log yet, or none of ours
	}
	return &Facts{LogFrom: info.Size()}
}

// failed decides what becomes of a promotion whose step failed. What would
// block the next member, or can never come to an end, is undone.
func (p *Promotion) failed(ctx context.Context, step string, err error) error {
	var unknownOutcome *UnknownOutcomeError
	if ctx.Err() != nil && !errors.As(err, &unknownOutcome) {
		err = context.Cause(ctx) // what was cut in the midst says nothing about the cluster
	}
	if ctx.Err() != nil || !hopeless(step, err) {
		return p.halfway(step, err)
	}
	undone := &UndoneError{Step: step, Err: err}
	if p.Journal.has(StepStart, eventBegin) {
		undone.Cause, undone.Log = p.Supervisor.Failed(ctx, p.service())
	}
	var stalled *StalledError
	if errors.As(err, &stalled) {
		undone.Cause = cmp.Or(p.peerTrouble(ctx), undone.Cause)
	}
	if undoErr := p.Undo(ctx); undoErr != nil {
		return p.halfway(step, fmt.Errorf("%w; and it could not be undone: %w", err, undoErr))
	}
	return undone
}

// peerTrouble says which advertised peer URL nobody listens on, for then the
// learner gets no snapshot; "" if somebody does on each.
func (p *Promotion) peerTrouble(ctx context.Context) string {
	for _, raw := range p.Journal.Plan.PeerURLs {
		e, err := parseEndpoint(raw)
		if err != nil {
			continue
		}
		dialer := net.Dialer{Timeout: beaconTimeout}
		conn, err := dialer.DialContext(ctx, "tcp", e.address())
		if err != nil {
			return fmt.Sprintf("nobody answers at its peer URL %s: %s", raw, dialCause(err))
		}
		_ = conn.Close()
	}
	return ""
}

// hopeless tells whether a step's failure is better undone at once than left to
// be continued. An add whose outcome is unknown is not: what would be undone?
func hopeless(step string, err error) bool {
	var (
		unknownOutcome *UnknownOutcomeError
		stalled        *StalledError
		ended          *EndedError
		gone           *GoneError
	)
	switch step {
	case StepAdd:
		return !errors.As(err, &unknownOutcome)
	case StepStart:
		return true
	}
	return errors.As(err, &stalled) || errors.As(err, &ended) || errors.As(err, &gone)
}

func (p *Promotion) halfway(step string, err error) error {
	h := &HalfwayError{Step: step, Err: err}
	h.Done, h.NotDone = p.Journal.Steps()
	_ = p.Journal.Close()
	return h
}

func (p *Promotion) result(stopped string) *Result {
	plan, facts := &p.Journal.Plan, &p.Journal.Facts
	r := &Result{
		Name: plan.Name, MemberID: facts.MemberID, ClusterID: plan.ClusterID, HandOver: plan.HandOver,
		DarkMs: p.darkFor.Milliseconds(), TookMs: time.Since(p.took).Milliseconds(),
		Stopped: stopped,
	}
	if facts.Drained != nil {
		r.Drained = *facts.Drained
	}
	if plan.Supervisor == SuperviseDetach {
		r.LogPath = plan.Service.LogPath
	} else {
		r.Unit = plan.Service.Unit
	}
	return r
}

// service is the etcd of the first run.
func (p *Promotion) service() Service {
	s := p.Journal.Plan.Service
	s.Variables, s.LogFrom = p.Journal.Plan.running(p.Journal.Facts.InitialCluster), p.Journal.Facts.LogFrom
	s.Known = p.Journal.Facts.Etcd
	if !s.Binary.takesSocketPaths() {
		s.Dir = filepath.Dir(p.Journal.Plan.Socket) // to bind it by its name
	}
	return s
}

// FinalService is the etcd as it runs from its next start on.
func (p *Promotion) FinalService() Service {
	s := p.Journal.Plan.Service
	s.Variables = p.Variables()
	return s
}

// Variables are those of the new member; nil before it is added.
func (p *Promotion) Variables() Variables { return p.Journal.Variables() }

// memberID is the new member's ID, 0 before it is known.
func (p *Promotion) memberID() uint64 {
	id, _ := strconv.ParseUint(p.Journal.Facts.MemberID, 16, 64)
	return id
}

func (p *Promotion) say(format string, args ...any) {
	if p.Say != nil {
		p.Say(fmt.Sprintf(format, args...))
	}
}

// watch closes p.ended when the process has ended.
func (p *Promotion) watch(ctx context.Context, process Process) {
	ended := make(chan struct{})
	p.ended = ended
	go func() {
		if process.Wait(ctx) == nil {
			close(ended)
		}
	}()
}
