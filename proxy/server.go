// Package proxy runs the proxy: listeners, the two relays, the membership that
// they follow, the control socket, and the orderly end.
package proxy

import (
	"cmp"
	"context"
	"crypto/tls"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/url"
	"runtime"
	"sync"
	"sync/atomic"
	"time"

	"etcdops/proxy/director"
	"etcdops/proxy/h1"
	"etcdops/proxy/h2"
	"etcdops/proxy/policy"
	"etcdops/proxy/socket"
	"etcdops/proxy/stats"
)

// Defaults; those that etcd's proxy had are etcd's (etcd 3.5, embed/config.go).
const (
	DefaultRefreshInterval = 30 * time.Second
	DefaultDrainTimeout    = 5 * time.Second
	DefaultHeaderTimeout   = h1.DefaultHeadTimeout
	DefaultIdleTimeout     = h1.DefaultIdleTimeout
	// controlTimeout bounds the head of a request to the control socket.
	controlTimeout = 10 * time.Second
	// retryInterval is the refresh interval while no list is there.
	retryInterval = time.Second
)

// Member is one member of the cluster as the cluster itself lists it.
type Member struct {
	ID         uint64
	Name       string // empty: unstarted
	ClientURLs []string
	Learner    bool
}

// View is the cluster at one moment.
type View struct {
	ClusterID uint64 // that members are asked for on each new connection; 0: they are not
	Members   []Member
	PeerURLs  []string
	At        time.Time // when the list was got
}

// Server is one proxy. Exported fields must be set before Run.
type Server struct {
	// DataDir holds our lock and control socket in etcdops/, and the cluster
	// file in proxy/.
	DataDir string
	// WALDir is where a member would have its WAL; empty means DataDir/member/wal.
	WALDir string
	// ListenURLs are the client URLs to listen on: http, https, unix, unixs.
	ListenURLs []url.URL
	// MetricsURLs are the URLs of /livez, /readyz and /metrics: http, https.
	MetricsURLs []url.URL
	// ListenTLS serves the https URLs; it may be nil where there are none.
	ListenTLS *tls.Config
	// MemberTLS is how https members are reached; nil means the system's roots.
	MemberTLS *tls.Config
	// PeerTLS is how Members asks peers: it is looked at for its certificates
	// alone. It may be nil.
	PeerTLS *tls.Config
	// DialMember is the way to members, see director.Director; nil means straight on.
	DialMember func(ctx context.Context, network, address string, secure bool) (net.Conn, error)
	// ExplainMember words an error of a TLS connection to a member, see
	// director.Director.
	ExplainMember func(err error) string
	// Readonly refuses what is not a read.
	Readonly bool
	// CORS lists the origins of --cors; nil leaves CORS to the members.
	CORS []string
	// Members asks for the cluster's present members. Its error has a
	// *WrongClusterError in it where all that answer belong to another one.
	Members func(ctx context.Context) (View, error)
	// Accept makes another cluster the one whose members Members tells, if it
	// answers. If nil, none is accepted.
	Accept func(ctx context.Context, clusterID uint64) error
	// RefreshInterval is the time between two askings; 0 means the default.
	RefreshInterval time.Duration
	// FailureWait, DialTimeout, WriteTimeout and ReadTimeout are etcd's
	// --proxy-failure-wait, --proxy-dial-timeout, --proxy-write-timeout and
	// --proxy-read-timeout; 0 means none.
	FailureWait, DialTimeout, WriteTimeout, ReadTimeout time.Duration
	// MaxConnections is how many client connections there may be; 0: no limit. At
	// the limit those without a request give way to new ones.
	MaxConnections int
	// MaxStreams is how many streams a client may have open on one HTTP/2
	// connection, HeaderLimit how long a request's head may be in bytes; 0 means
	// the relays' defaults.
	MaxStreams, HeaderLimit int
	// HeaderTimeout is how long a client may take for a request's head, or for its
	// TLS handshake; IdleTimeout how long its connection may stay without a
	// request. 0 means DefaultHeaderTimeout and DefaultIdleTimeout.
	HeaderTimeout, IdleTimeout time.Duration
	// DrainTimeout bounds how long requests under way may go on after the end
	// of Run's context.
	DrainTimeout time.Duration
	// RunDir is where the proxy registers itself; empty means nowhere.
	RunDir string
	// BesideMember says that a promotion is under way in the data directory: the
	// proxy serves in spite of a member's log there, joins the ports that etcd
	// may hold already, and keeps them until it is told to hand them over.
	BesideMember bool
	// Hold and Release are called when a promotion begins to hold the ports and
	// when it gives them back unused. They may be nil.
	Hold, Release func()
	// Control are further paths of the control socket.
	Control map[string]http.HandlerFunc
	// Version is what the status names.
	Version string
	// Notify tells the service manager our state, as sd_notify(3) words it. If
	// nil, nobody is told.
	Notify func(state string)
	// Logger must be set.
	Logger *slog.Logger

	listenTLS atomic.Pointer[tls.Config] // see SetTLS
	memberTLS atomic.Pointer[tls.Config]
	peerTLS   atomic.Pointer[tls.Config]
	tlsLoads  struct {
		sync.Mutex
		list []TLSLoad // by Use
	}
	director  *director.Director
	h1        *h1.Relay
	h1stats   h1.Stats
	answers   stats.Answers // the proxy's own
	refusals  stats.Refusals
	retries   stats.Retries
	h2        *h2.Relay
	watcher   *socket.Watcher
	instance  policy.Instance
	started   time.Time
	listeners []*listener
	view      atomic.Pointer[state]
	conns     connections
	ending    atomic.Bool // a drain has begun
	// clientBytes counts what goes over the clients' connections.
	clientBytes socket.Bytes
	promotion   promotion
	saidOwn     map[string]bool // which members advertise addresses of ours; follow's own
	refreshes   chan refreshCall

	refreshed, refreshFailed atomic.Int64 // looks at the member list

	accepting sync.WaitGroup
	cutConns  context.CancelFunc
}

// Run listens at once and serves until ctx ends; then it drains and returns
// nil. The end of kill ends it without draining. Errors before it listens are
// *ListenError, *LockedError, *MemberDataError, or name the file.
func (s *Server) Run(ctx, kill context.Context) error {
	s.started = time.Now()
	if s.listenTLS.Load() == nil && s.memberTLS.Load() == nil {
		s.SetTLS(s.ListenTLS, s.MemberTLS, s.PeerTLS)
	}
	s.instance = policy.NewInstance()
	s.HeaderTimeout = cmp.Or(s.HeaderTimeout, DefaultHeaderTimeout)
	s.IdleTimeout = cmp.Or(s.IdleTimeout, DefaultIdleTimeout)
	s.RefreshInterval = cmp.Or(s.RefreshInterval, DefaultRefreshInterval)
	s.conns.max, s.refusals.Logger = s.MaxConnections, s.Logger
	if err := s.checkDataDir(); err != nil {
		return err
	}
	if err := s.listen(ctx); err != nil {
		return err
	}
	defer s.closeListeners()
	metrics, err := s.listenMetrics(ctx)
	if err != nil {
		return err
	}
	defer closeAll(metrics)
	lock, err := takeLock(s.DataDir)
	if err != nil {
		return err
	}
	defer lock.release()
	if s.watcher, err = socket.NewWatcher(); err != nil {
		return fmt.Errorf("watch connections: %w", err)
	}
	s.build()

	// Everything below lives in runCtx, which ends after the drain.
	runCtx, stop := context.WithCancel(context.WithoutCancel(ctx))
	var tasks sync.WaitGroup
	defer tasks.Wait()
	defer stop()
	tasks.Go(func() { s.watcher.Run(runCtx) })
	for _, run := range []func(context.Context, chan<- struct{}){s.director.Run, s.h2.Run} {
		ready := make(chan struct{})
		tasks.Go(func() { run(runCtx, ready) })
		<-ready
	}
	s.promotion.wake, s.promotion.drains = make(chan struct{}, 1), make(chan drainCall)
	s.promotion.over = make(chan struct{})
	s.refreshes = make(chan refreshCall)
	s.promotion.mu.Lock() // whoever asks for something waits until we accept
	control, err := s.openControl(runCtx)
	if err != nil {
		return err
	}
	defer control.close()
	if s.RunDir != "" {
		unregister, err := s.register(control.path)
		if err != nil {
			s.Logger.Warn("not registered, give --data-dir to the other commands", "error", err)
		} else {
			defer unregister()
		}
	}
	if len(metrics) > 0 {
		defer s.observe(runCtx, metrics)()
	}
	follow, stopFollow := context.WithCancel(ctx)
	var following sync.WaitGroup
	following.Go(func() { s.follow(follow) })
	defer following.Wait() // before the director ends
	defer stopFollow()

	following.Go(func() { s.guard(follow) })

	connCtx, cutConns := context.WithCancel(runCtx)
	defer cutConns()
	s.cutConns = cutConns
	for _, l := range s.listeners {
		s.Logger.Info("listening", "url", l.url.String(), "address", l.Addr().String())
		s.accepting.Go(func() { s.accept(connCtx, l) })
	}
	if s.BesideMember {
		s.joinPorts(runCtx)
	}
	s.promotion.mu.Unlock()
	if runtime.GOOS != "linux" {
		s.Logger.Info("not on linux: that a client left is seen later, and an idle client with unread requests is not seen", "os", runtime.GOOS)
	}
	s.notify("READY=1\nSTATUS=looking for the cluster")
	s.untilEnd(ctx, kill)
	stopFollow()
	if kill.Err() == nil {
		cutConns()
		s.conns.wait(kill)
	}
	return nil
}

// untilEnd serves until ctx ends, and then drains, unless that was done before.
func (s *Server) untilEnd(ctx, kill context.Context) {
	defer close(s.promotion.over)
	var drained *DrainAnswer
	for {
		select {
		case <-ctx.Done():
			if drained == nil {
				s.notify("STOPPING=1\nSTATUS=draining")
				s.drain(kill, s.DrainTimeout, s.promotion.is() == stageHandedOver)
			}
			return
		case <-kill.Done():
			return
		case call := <-s.promotion.drains:
			if drained == nil {
				s.notify("STATUS=draining")
				a := s.drain(kill, call.timeout, true)
				drained = &a
				s.promotion.stage.Store(stageDrained)
				s.notify("STATUS=drained, to be stopped")
			}
			call.done <- *drained
		}
	}
}

// build wires the parts of the data path.
func (s *Server) build() {
	s.director = &director.Director{
		TLS: s.memberTLS.Load, Explain: s.ExplainMember, DialMember: s.DialMember, DialTimeout: s.DialTimeout, FailureWait: s.FailureWait,
		Via: s.instance.Via("2"), LedBack: s.instance.Refused, Logger: s.Logger,
	}
	s.h1 = &h1.Relay{
		Director: s.director, Instance: s.instance, Readonly: s.Readonly, CORS: s.CORS, Refuse: s.refuse,
		Local:        map[string]http.HandlerFunc{"/v2/config/local/proxy": s.localEndpoints},
		WriteTimeout: s.WriteTimeout, ReadTimeout: s.ReadTimeout,
		HeadTimeout: s.HeaderTimeout, IdleTimeout: s.IdleTimeout, HeadLimit: s.HeaderLimit, Proved: s.conns.proved,
		Stats: &s.h1stats, Answers: &s.answers, Refusals: &s.refusals, Retries: &s.retries, Logger: s.Logger,
	}
	s.h2 = &h2.Relay{
		Director: s.director, Instance: s.instance, Readonly: s.Readonly, Refuse: s.refuse, ClusterID: s.servedCluster,
		HTTP1:       func(ctx context.Context, c net.Conn) { s.h1.Serve(ctx, c, nil) },
		DialTimeout: s.DialTimeout, WriteTimeout: s.WriteTimeout, ReadTimeout: s.ReadTimeout,
		MaxStreams: s.MaxStreams, HeaderLimit: s.HeaderLimit,
		HeadTimeout: s.HeaderTimeout, IdleTimeout: s.IdleTimeout, Proved: s.conns.proved,
		Stats: &h2.Stats{}, Answers: &s.answers, Refusals: &s.refusals, Retries: &s.retries, Logger: s.Logger,
	}
	s.director.OnDown = func(e *director.Endpoint) { s.h1.EndpointDown(e); s.h2.EndpointDown(e) }
	s.director.OnLeft = func(e *director.Endpoint) { s.h1.EndpointLeft(e); s.h2.EndpointLeft(e) }
}

func (s *Server) notify(state string) {
	if s.Notify != nil {
		s.Notify(state)
	}
}
