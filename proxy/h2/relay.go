package h2

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"etcdops/proxy/director"
	"etcdops/proxy/policy"
	"etcdops/proxy/stats"
)

// Stats counts what the relay did since its start.
type Stats struct {
	Requests    atomic.Int64 // streams opened by clients
	Late        atomic.Int64 // refused unprocessed behind the last GOAWAY of a drain
	Failed      atomic.Int64 // answered UNAVAILABLE by us
	Connections atomic.Int64 // client connections open now
}

// Relay relays the HTTP/2 connections of clients. Exported fields must be set
// before Run.
type Relay struct {
	Director *director.Director
	Instance policy.Instance
	// Readonly refuses what policy.ReadonlyGRPC does not pass, with UNIMPLEMENTED.
	Readonly bool
	// Refuse, if not nil, says why no request can be served now.
	Refuse func() error
	// ClusterID is what another proxy is told that asks which cluster we follow; 0
	// where we serve none. If nil, members are asked.
	ClusterID func() uint64
	// HTTP1 serves a request that is not gRPC as one HTTP/1.1 connection: a
	// member takes such requests by HTTP/2 under TLS only.
	HTTP1 func(ctx context.Context, c net.Conn)
	// DialTimeout also bounds the wait for a new connection's SETTINGS.
	DialTimeout time.Duration
	// WriteTimeout ends a member connection that takes no byte for so long;
	// ReadTimeout one that sends none while streams are open. Zero: no limit.
	WriteTimeout, ReadTimeout time.Duration
	// MaxStreams is SETTINGS_MAX_CONCURRENT_STREAMS towards a client, HeaderLimit
	// SETTINGS_MAX_HEADER_LIST_SIZE in bytes. If zero, DefaultMaxStreams and
	// DefaultHeaderLimit.
	MaxStreams  int
	HeaderLimit int
	// HeadTimeout is how long a client may take for a header block, or for any
	// other frame but DATA; IdleTimeout is how long its connection may stay without
	// a stream. Zero: no limit.
	HeadTimeout, IdleTimeout time.Duration
	// Proved, if not nil, is called with a connection when its first request has
	// come.
	Proved func(net.Conn)
	Stats  *Stats
	// Answers counts the answers that are our own, Refusals the refusals among
	// them, Retries the requests that went on to another member. Each may be nil.
	Answers  *stats.Answers
	Refusals *stats.Refusals
	Retries  *stats.Retries
	Logger   *slog.Logger

	ctx   context.Context
	via   string
	tasks sync.WaitGroup

	draining atomic.Bool
	bridged  atomic.Int64

	crowded chan struct{} // the queues towards clients hold more than queueCap

	mu      sync.Mutex
	clients map[*clientConn]bool
	pools   map[*director.Endpoint]*pool
}

// settingsWaitDefault bounds the wait for SETTINGS where the dial has no limit.
const settingsWaitDefault = 10 * time.Second

func (r *Relay) settingsWait() time.Duration {
	if r.DialTimeout > 0 {
		return r.DialTimeout
	}
	return settingsWaitDefault
}

// Run watches over the connections until ctx ends, then closes all and waits
// for their goroutines. Serve may be called once ready is closed.
func (r *Relay) Run(ctx context.Context, ready chan<- struct{}) {
	r.mu.Lock()
	r.ctx = ctx
	if r.MaxStreams == 0 {
		r.MaxStreams = DefaultMaxStreams
	}
	if r.HeaderLimit == 0 {
		r.HeaderLimit = DefaultHeaderLimit
	}
	r.via = r.Instance.Via("2")
	r.crowded = make(chan struct{}, 1)
	r.clients = map[*clientConn]bool{}
	r.pools = map[*director.Endpoint]*pool{}
	r.mu.Unlock()
	close(ready)
	t := time.NewTicker(time.Second)
	defer t.Stop()
	for {
		select {
		case <-ctx.Done():
			r.closeAll()
			r.tasks.Wait()
			return
		case now := <-t.C:
			r.check(now)
			r.sendAway()
		case <-r.crowded:
			r.relieve()
		}
	}
}

func (r *Relay) check(now time.Time) {
	for _, cc := range r.clientList() {
		cc.halveSpent()
		switch {
		case cc.stalled(now):
			r.Logger.Warn("client reads nothing, closed", "client", cc.nc.RemoteAddr().String())
			cc.calm("what was asked for is not taken")
		case r.HeadTimeout > 0 && cc.rd.lateSince(now) > r.HeadTimeout:
			r.Refusals.Refuse(stats.HeaderTimeout, "", cc.nc.RemoteAddr().String())
			cc.close()
		case r.IdleTimeout > 0:
			cc.endIdle(now, r.IdleTimeout)
		}
	}
	for _, p := range r.poolList() {
		conns := p.list()
		for _, m := range conns {
			m.check(now, r.ReadTimeout)
		}
		if p.ep.Left() && len(conns) == 0 {
			r.mu.Lock()
			delete(r.pools, p.ep)
			r.mu.Unlock()
		}
	}
}

// Serve relays one client connection until it ends. first is what was already
// read of it. The end of ctx closes it at once.
func (r *Relay) Serve(ctx context.Context, nc net.Conn, first []byte) {
	defer nc.Close()
	cc := r.newClient(ctx, nc, first[len(Preface):])
	stop := context.AfterFunc(ctx, cc.close)
	defer stop()
	r.mu.Lock()
	r.clients[cc] = true
	r.mu.Unlock()
	r.Stats.Connections.Add(1)
	err := cc.serve()
	r.mu.Lock()
	delete(r.clients, cc)
	r.mu.Unlock()
	r.Stats.Connections.Add(-1)
	var ce connError
	if errors.As(err, &ce) {
		reason := stats.Malformed
		if ce.code == codeEnhanceYourCalm {
			reason = stats.Abuse
		}
		r.Refusals.Refuse(reason, ce.reason, nc.RemoteAddr().String())
		r.Logger.Debug("client broke the protocol", "client", nc.RemoteAddr().String(), "reason", ce.reason)
	} else if err != nil && !errors.Is(err, io.EOF) {
		r.Logger.Debug("client connection lost", "client", nc.RemoteAddr().String(), "error", err)
	}
}

// Drain tells every client to send its new requests elsewhere; who still comes
// is told behind its first request, or within a second. Requests under way go
// on.
func (r *Relay) Drain() {
	r.draining.Store(true)
	r.sendAway()
}

// sendAway tells those who were not told yet, if we drain.
func (r *Relay) sendAway() {
	if !r.draining.Load() {
		return
	}
	for _, cc := range r.clientList() {
		cc.drain()
	}
}

// Cuts counts the gRPC requests that a cut has ended.
type Cuts struct {
	Requests int
	Streams  int // of those, watches and other streams, which clients open again
	Waits    int // of those, Lock and Campaign, whose clients lose their place
}

// streamCalls and waitCalls are the calls of etcd's gRPC services that are open
// for long (etcd api/v3, etcdserverpb/rpc.proto; server/v3, etcdserver/api).
var (
	streamCalls = map[string]bool{
		"/etcdserverpb.Watch/Watch":          true,
		"/etcdserverpb.Lease/LeaseKeepAlive": true,
		"/etcdserverpb.Maintenance/Snapshot": true,
		"/etcdserverpb.KV/RangeStream":       true,
		"/v3electionpb.Election/Observe":     true,
		"/grpc.health.v1.Health/Watch":       true,
	}
	waitCalls = map[string]bool{
		"/v3lockpb.Lock/Lock":             true,
		"/v3electionpb.Election/Campaign": true,
	}
)

// Open counts the gRPC requests under way by kind: watch, lease_keepalive, wait for
// those that wait for others, stream for other streams, and unary.
func (r *Relay) Open(f func(kind string, n int64)) {
	kinds := []string{"unary", "stream", "watch", "lease_keepalive", "wait"}
	count := map[string]int64{}
	for _, cc := range r.clientList() {
		cc.mu.Lock()
		for _, sd := range cc.streams {
			switch path := sd.s.path; {
			case sd.s.plain:
			case path == "/etcdserverpb.Watch/Watch":
				count["watch"]++
			case path == "/etcdserverpb.Lease/LeaseKeepAlive":
				count["lease_keepalive"]++
			case streamCalls[path]:
				count["stream"]++
			case waitCalls[path]:
				count["wait"]++
			default:
				count["unary"]++
			}
		}
		cc.mu.Unlock()
	}
	for _, kind := range kinds {
		f(kind, count[kind])
	}
}

// Bridged counts the requests that go by the HTTP/1.1 relay.
func (r *Relay) Bridged() int64 { return r.bridged.Load() }

// MemberConnections counts the connections to each endpoint.
func (r *Relay) MemberConnections() map[*director.Endpoint]int {
	count := map[*director.Endpoint]int{}
	for _, p := range r.poolList() {
		count[p.ep] = len(p.list())
	}
	return count
}

// Cut ends all requests under way with UNAVAILABLE and closes the connections.
// Requests that are not gRPC end too, but are the HTTP/1.1 relay's to count.
func (r *Relay) Cut(message string) (cut Cuts) {
	for _, cc := range r.clientList() {
		cc.mu.Lock()
		for _, sd := range cc.streams {
			switch {
			case sd.s.plain:
				continue
			case streamCalls[sd.s.path]:
				cut.Streams++
			case waitCalls[sd.s.path]:
				cut.Waits++
			}
			cut.Requests++
		}
		cc.mu.Unlock()
		cc.cut(message)
	}
	return cut
}

// EndpointDown closes the connections to a member that the probe condemned.
func (r *Relay) EndpointDown(e *director.Endpoint) {
	for _, m := range r.pool(e).list() {
		m.open.Store(false)
		m.close()
	}
}

// EndpointLeft lets the connections to a member that left end with their last
// streams.
func (r *Relay) EndpointLeft(e *director.Endpoint) {
	r.pool(e).leave()
}

func (r *Relay) closeAll() {
	for _, cc := range r.clientList() {
		cc.close()
	}
	for _, p := range r.poolList() {
		p.leave()
		for _, m := range p.list() {
			m.close()
		}
	}
}

func (r *Relay) pool(e *director.Endpoint) *pool {
	r.mu.Lock()
	defer r.mu.Unlock()
	p := r.pools[e]
	if p == nil {
		p = &pool{r: r, ep: e, left: e.Left()}
		if !p.left {
			r.pools[e] = p
		}
	}
	return p
}

func (r *Relay) clientList() []*clientConn {
	r.mu.Lock()
	defer r.mu.Unlock()
	out := make([]*clientConn, 0, len(r.clients))
	for cc := range r.clients {
		out = append(out, cc)
	}
	return out
}

func (r *Relay) poolList() []*pool {
	r.mu.Lock()
	defer r.mu.Unlock()
	out := make([]*pool, 0, len(r.pools))
	for _, p := range r.pools {
		out = append(out, p)
	}
	return out
}
