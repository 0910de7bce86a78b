// Package h1 relays HTTP/1.1 between clients and the members of a cluster, on
// raw connections: etcd's v2 API, its JSON gateway, /health and /version.
//
// The way of a request: relay.go takes the connection, client.go waits for the
// next head, head.go checks it, exchange.go decides what becomes of it and to
// which members it may go, attempt.go is one try on one member, answer.go
// brings the answer back.
package h1

import (
	"context"
	"log/slog"
	"net"
	"net/http"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"etcdops/proxy/director"
	"etcdops/proxy/policy"
	"etcdops/proxy/stats"
)

// Defaults of the client side. Nothing bounds the wait for a member's answer,
// nor the time a body takes.
const (
	DefaultHeadTimeout = 10 * time.Second
	DefaultIdleTimeout = 5 * time.Minute
	DefaultHeadLimit   = 64 << 10 // bytes
)

// Relay serves client connections. Exported fields must be set before Serve.
type Relay struct {
	// Director chooses the members.
	Director *director.Director
	// Instance marks our requests in Via; one that bears it is a loop.
	Instance policy.Instance
	// Readonly refuses what policy.ReadonlyHTTP does not pass.
	Readonly bool
	// CORS lists the origins of --cors, "*" for all; the proxy then owns the
	// Access-Control-Allow headers and answers OPTIONS. If nil, both are the
	// members' business.
	CORS []string
	// Refuse is asked before each request that is for the cluster; its error is
	// answered with 503. If nil, nothing is refused.
	Refuse func() error
	// Local are the exact paths that we answer ourselves.
	Local map[string]http.HandlerFunc
	// WriteTimeout and ReadTimeout bound one write and one read on a member
	// connection (etcd's --proxy-write-timeout, --proxy-read-timeout); zero
	// means no limit.
	WriteTimeout, ReadTimeout time.Duration
	// HeadTimeout is how long a request's head may take from its first byte on.
	// If zero, DefaultHeadTimeout.
	HeadTimeout time.Duration
	// IdleTimeout is how long a client connection may stay without a request.
	// If zero, DefaultIdleTimeout.
	IdleTimeout time.Duration
	// HeadLimit is the longest head of a request, in bytes. If zero,
	// DefaultHeadLimit.
	HeadLimit int
	// Proved, if not nil, is called with a connection when its first request with a
	// good head has come.
	Proved func(net.Conn)
	// Stats counts. If nil, nobody reads the figures.
	Stats *Stats
	// Answers counts the answers that are our own, Refusals the refusals among
	// them, Retries the requests that went on to another member. Each may be nil.
	Answers  *stats.Answers
	Refusals *stats.Refusals
	Retries  *stats.Retries
	// Logger may be nil for silence.
	Logger *slog.Logger

	setUp    sync.Once
	via      [2]string // what we add to Via, by the minor version received
	members  pool
	downs    atomic.Uint64 // counts EndpointDown
	draining atomic.Bool

	mu      sync.Mutex
	clients map[*client]struct{}
	closed  bool
}

// Stats are the relay's counters since its start, safe to read at any time.
type Stats struct {
	Connections atomic.Int64 // client connections open now
	Requests    atomic.Int64 // requests with a good head
	Inflight    atomic.Int64 // requests under way now
	Failed      atomic.Int64 // requests without a member's whole answer
	Left        atomic.Int64 // requests whose client left first
}

// Serve serves one client connection until it ends, and closes it. c is a
// *socket.Conn, a *tls.Conn above one, or any net.Conn that has a method
// NotifyGone like socket.Conn's. first are bytes that were already read from it.
// When ctx ends, the connection is cut.
func (r *Relay) Serve(ctx context.Context, c net.Conn, first []byte) {
	r.setUp.Do(r.defaults)
	cl := newClient(r, c, first)
	if !r.enter(cl) {
		_ = c.Close()
		return
	}
	defer r.leave(cl)
	stop := context.AfterFunc(ctx, cl.cut)
	defer stop()
	cl.serve(ctx)
}

func (r *Relay) defaults() {
	if r.HeadTimeout == 0 {
		r.HeadTimeout = DefaultHeadTimeout
	}
	if r.IdleTimeout == 0 {
		r.IdleTimeout = DefaultIdleTimeout
	}
	if r.HeadLimit == 0 {
		r.HeadLimit = DefaultHeadLimit
	}
	for minor := range r.via {
		r.via[minor] = r.Instance.Via("1." + strconv.Itoa(minor))
	}
	if r.Stats == nil {
		r.Stats = &Stats{}
	}
	if r.Logger == nil {
		r.Logger = slog.New(slog.DiscardHandler)
	}
}

func (r *Relay) enter(cl *client) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.closed {
		return false
	}
	if r.clients == nil {
		r.clients = map[*client]struct{}{}
	}
	r.clients[cl] = struct{}{}
	r.Stats.Connections.Add(1)
	return true
}

func (r *Relay) leave(cl *client) {
	r.mu.Lock()
	defer r.mu.Unlock()
	delete(r.clients, cl)
	r.Stats.Connections.Add(-1)
}

// Drain makes every answer from now on the last one of its client connection
// and closes the idle ones. What is in flight goes on.
func (r *Relay) Drain() {
	r.draining.Store(true)
	for _, cl := range r.present() {
		cl.closeIfIdle()
	}
}

// EndpointDown breaks all connections to a member that the probe has condemned.
// Reads that it has not answered go to another member.
func (r *Relay) EndpointDown(e *director.Endpoint) {
	r.downs.Add(1)
	r.members.condemn(e)
}

// EndpointLeft closes the idle connections to a member's former client URL.
// What is in flight there goes on.
func (r *Relay) EndpointLeft(e *director.Endpoint) { r.members.forget(e) }

// Close cuts all client and member connections. Serve returns at once from then
// on.
func (r *Relay) Close() {
	r.mu.Lock()
	r.closed = true
	r.mu.Unlock()
	for _, cl := range r.present() {
		cl.cut()
	}
	r.members.close()
}

// Underway counts the requests that are under way, and those of them that wait
// for something to happen: long polls, watches, locks and elections.
func (r *Relay) Underway() (all, waits int) {
	for _, cl := range r.present() {
		if cl.waits.Load() {
			waits++
		}
	}
	return int(r.Stats.Inflight.Load()), waits
}

// MemberConnections counts the connections to each endpoint.
func (r *Relay) MemberConnections() map[*director.Endpoint]int {
	r.members.mu.Lock()
	defer r.members.mu.Unlock()
	count := map[*director.Endpoint]int{}
	for e, s := range r.members.shelves {
		count[e] = len(s.idle) + len(s.busy)
	}
	return count
}

func (r *Relay) present() []*client {
	r.mu.Lock()
	defer r.mu.Unlock()
	list := make([]*client, 0, len(r.clients))
	for cl := range r.clients {
		list = append(list, cl)
	}
	return list
}
