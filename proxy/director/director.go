package director

import (
	"context"
	"crypto/tls"
	"errors"
	"log/slog"
	"math/rand/v2"
	"net"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"etcdops/proxy/socket"
	"etcdops/proxy/stats"
)

// Defaults of etcd's proxy (etcd 3.5, embed/config.go).
const (
	DefaultFailureWait = 5 * time.Second
	DefaultDialTimeout = time.Second
)

// ErrNoEndpoints says that no member's client URL is known, or that the request
// has been to all of them.
var ErrNoEndpoints = errors.New("no member left to try")

// Director keeps the endpoints. Exported fields must be set before Run.
type Director struct {
	// TLS tells how members are reached by https, for each new connection anew. If
	// it is nil or tells nil, the system's roots are trusted.
	TLS func() *tls.Config
	// Explain words an error of TLS for an operator, and is "" for others. If nil, all
	// errors keep their own words.
	Explain func(err error) string
	// DialMember makes a connection to a member: network is tcp or unix, secure says
	// that TLS will be spoken on it. If nil, it goes straight on.
	DialMember func(ctx context.Context, network, address string, secure bool) (net.Conn, error)
	// DialTimeout bounds the connection to a member; zero means no limit.
	DialTimeout time.Duration
	// FailureWait is how long a condemned member stays out at least; then the
	// first good probe brings it back.
	FailureWait time.Duration
	// OnDown is called when the probe has condemned an endpoint and another is
	// usable, OnLeft when an endpoint leaves the list. Both may be nil and must
	// not block.
	OnDown, OnLeft func(*Endpoint)
	// Via marks our own calls, so that one that comes back to us is refused, and
	// LedBack knows that refusal by its Proxy-Status. Without them such calls find no
	// loop.
	Via     string
	LedBack func(proxyStatus string) bool
	// Logger must be set.
	Logger *slog.Logger

	mu      sync.RWMutex
	ctx     context.Context // owns the probes, set once by Run
	order   []*Endpoint     // shuffled at each update
	turn    atomic.Uint64   // breaks ties among equally loaded endpoints
	shuffle atomic.Uint64   // counts updates: sessions re-choose when it moved
	probes  sync.WaitGroup
	foreign atomic.Pointer[ForeignError] // see Foreign
}

// Run owns the probes until ctx ends and they have stopped. Update must not be
// called before it or after it.
func (d *Director) Run(ctx context.Context, ready chan<- struct{}) {
	d.mu.Lock()
	d.ctx = ctx
	d.mu.Unlock()
	close(ready)
	<-ctx.Done()
	d.probes.Wait()
}

// Update makes the members' client URLs the list and shuffles it. What is
// already there keeps its health and its connections; what is gone gets no
// new request.
func (d *Director) Update(members []Member) {
	d.mu.Lock()
	have := map[string]*Endpoint{}
	for _, e := range d.order {
		have[e.URL] = e
	}
	var list, added, gone []*Endpoint
	seen := map[string]bool{}
	for _, m := range members {
		for _, raw := range m.ClientURLs {
			if seen[raw] {
				continue
			}
			seen[raw] = true
			e := have[raw]
			if e == nil || e.ClusterID != m.ClusterID || e.MemberID != m.ID || e.MemberName != m.Name {
				fresh, err := parseEndpoint(raw)
				if err != nil {
					d.Logger.Warn("client url not usable", "member", m.Name, "url", raw, "error", err)
					continue
				}
				fresh.ClusterID, fresh.MemberID, fresh.MemberName = m.ClusterID, m.ID, m.Name
				fresh.countWith(slices.Concat(d.order, list))
				e = fresh
				added = append(added, e)
			}
			list = append(list, e)
		}
	}
	for _, e := range d.order {
		if !slices.Contains(list, e) {
			gone = append(gone, e)
		}
	}
	rand.Shuffle(len(list), func(i, j int) { list[i], list[j] = list[j], list[i] })
	d.order = list
	for _, e := range added {
		d.watch(e)
	}
	d.shuffle.Add(1)
	d.mu.Unlock()
	d.recount()

	for _, e := range gone {
		e.left.Store(true)
		e.endProbe()
		d.Logger.Info("endpoint left", "endpoint", e.String())
		if d.OnLeft != nil {
			d.OnLeft(e)
		}
	}
	for _, e := range added {
		d.Logger.Info("endpoint found", "endpoint", e.String())
	}
}

// countWith makes the endpoint count where another one of the same member does, so
// that no count falls while the member stays.
func (e *Endpoint) countWith(others []*Endpoint) {
	for _, o := range others {
		if o.ClusterID == e.ClusterID && o.MemberID == e.MemberID && o.MemberName == e.MemberName {
			e.Answers, e.Bytes = o.Answers, o.Bytes
			return
		}
	}
	e.Answers, e.Bytes = &stats.Answers{}, &socket.Bytes{}
}

// watch starts the endpoint's probe; d.mu is held.
func (d *Director) watch(e *Endpoint) {
	e.d = d
	e.suspect = make(chan struct{}, 1)
	e.stopped = make(chan struct{})
	ctx, cancel := context.WithCancel(d.ctx)
	e.endProbe = cancel
	d.probes.Add(1)
	go func() {
		defer d.probes.Done()
		defer close(e.stopped)
		e.probe(ctx)
	}()
}

// Size is the number of endpoints in the list.
func (d *Director) Size() int {
	d.mu.RLock()
	defer d.mu.RUnlock()
	return len(d.order)
}

// Available lists the healthy endpoints' URLs in their present order, all of
// them if none is healthy.
func (d *Director) Available() []string {
	d.mu.RLock()
	defer d.mu.RUnlock()
	var up, all []string
	for _, e := range d.order {
		all = append(all, e.URL)
		if e.Usable() {
			up = append(up, e.URL)
		}
	}
	if len(up) > 0 {
		return up
	}
	return all
}

// State is what the director knows of one endpoint.
type State struct {
	*Endpoint
	Healthy     bool
	Reason      string    // why it is not healthy
	Foreign     uint64    // the cluster that answers there, if it is another one
	Since       time.Time // of the present health
	Connections int64     // client connections that stick to it
}

// States lists all endpoints in their present order.
func (d *Director) States() []State {
	d.mu.RLock()
	defer d.mu.RUnlock()
	out := make([]State, 0, len(d.order))
	for _, e := range d.order {
		reason, since := e.state.get()
		seen := e.foreign.Load()
		if seen != 0 {
			reason = (&ForeignError{Pinned: e.ClusterID, Seen: seen}).Error()
		}
		out = append(out, State{e, e.healthy(), reason, seen, since, e.load.Load()})
	}
	return out
}

// choose picks the least loaded healthy endpoint that is not in tried. If none
// is healthy, health is ignored.
func (d *Director) choose(tried []*Endpoint) (*Endpoint, error) {
	d.mu.RLock()
	defer d.mu.RUnlock()
	n := uint64(len(d.order))
	if n == 0 {
		return nil, ErrNoEndpoints
	}
	start := d.turn.Add(1)
	for _, wantHealthy := range []bool{true, false} {
		var best *Endpoint
		var least int64
		for i := range n {
			e := d.order[(start+i)%n]
			if wantHealthy && !e.healthy() || slices.Contains(tried, e) {
				continue
			}
			if l := e.load.Load(); best == nil || l < least {
				best, least = e, l
			}
		}
		if best != nil {
			return best, nil
		}
	}
	return nil, ErrNoEndpoints
}

// AnyUsable says whether some endpoint is healthy.
func (d *Director) AnyUsable() bool {
	d.mu.RLock()
	defer d.mu.RUnlock()
	return slices.ContainsFunc(d.order, (*Endpoint).Usable)
}

// onlyUsable says whether the endpoint is healthy and no other one is.
func (d *Director) onlyUsable(e *Endpoint) bool {
	d.mu.RLock()
	defer d.mu.RUnlock()
	return e.Usable() && !slices.ContainsFunc(d.order, func(o *Endpoint) bool { return o != e && o.Usable() })
}

// Foreign says that another cluster answers at some client URL and that no
// endpoint is usable; nil where it is not so.
func (d *Director) Foreign() *ForeignError { return d.foreign.Load() }

// recount finds out what Foreign says, after anything that bears on it changed.
func (d *Director) recount() {
	d.mu.RLock()
	defer d.mu.RUnlock()
	var found *ForeignError
	for _, e := range d.order {
		if e.Usable() {
			found = nil
			break
		}
		if seen := e.foreign.Load(); seen != 0 {
			found = &ForeignError{Pinned: e.ClusterID, Seen: seen}
		}
	}
	d.foreign.Store(found)
}

// Recheck asks every endpoint now which cluster it serves.
func (d *Director) Recheck() {
	d.mu.RLock()
	defer d.mu.RUnlock()
	for _, e := range d.order {
		if e.ClusterID != 0 {
			e.question(time.Now())
		}
	}
}
