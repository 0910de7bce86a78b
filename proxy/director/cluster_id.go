package director

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"go.etcd.io/etcd/api/v3/etcdserverpb"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/metadata"
)

const (
	// verifyTimeout is how long the question for the cluster's ID may take: as long as
	// the probe needs to find out that a member is stopped.
	verifyTimeout = 3 * time.Second
	// verifyPatience is how long it may while the probe finds the member alive and no
	// other endpoint is usable. The question stands there behind all connections that
	// came before it, and where they are thousands, they all are served in the end.
	verifyPatience = 12 * time.Second
	// verifyLook is the time between two looks at whether it still is so.
	verifyLook = 500 * time.Millisecond
)

// ForeignError says that the member of another cluster answers at a client URL.
type ForeignError struct{ Pinned, Seen uint64 }

// Error implements error.
func (e *ForeignError) Error() string {
	return fmt.Sprintf("a member of cluster %016x answers, but cluster %016x is followed", e.Seen, e.Pinned)
}

// verification is one question for the cluster's ID, which several may wait for.
type verification struct {
	began time.Time
	done  chan struct{}
	err   error
}

// verifier keeps the last question of an endpoint.
type verifier struct {
	mu   sync.Mutex
	last *verification
}

// verify makes sure that a connection which was made before since leads to a
// member of the pinned cluster. The question needs a connection of its own, which
// one listener gives to one process: if that process is another one than the
// first connection's, the first has gone.
func (e *Endpoint) verify(ctx context.Context, since time.Time) error {
	if e.ClusterID == 0 {
		return nil
	}
	for {
		v := e.question(since)
		select {
		case <-v.done:
		case <-ctx.Done():
			return ctx.Err()
		}
		if !v.began.Before(since) {
			return v.err
		}
	}
}

// question returns the one under way, or begins the one that since needs.
func (e *Endpoint) question(since time.Time) *verification {
	e.verifier.mu.Lock()
	defer e.verifier.mu.Unlock()
	if v := e.verifier.last; v != nil {
		select {
		case <-v.done:
			if !v.began.Before(since) {
				return v
			}
		default:
			return v
		}
	}
	v := &verification{began: time.Now(), done: make(chan struct{})}
	e.verifier.last = v
	ctx, end := context.WithCancelCause(e.d.ctx)
	e.d.probes.Go(func() { e.limit(ctx, end) })
	e.d.probes.Go(func() {
		defer close(v.done)
		defer end(nil)
		v.err = e.ask(ctx)
	})
	return v
}

// limit ends a question that takes too long, with the reason.
func (e *Endpoint) limit(ctx context.Context, end context.CancelCauseFunc) {
	began := time.Now()
	wait := time.NewTimer(verifyTimeout)
	defer wait.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-wait.C:
		}
		if took := time.Since(began); took >= verifyPatience || !e.d.onlyUsable(e) {
			end(fmt.Errorf("%w within %v", errSilent, took.Round(time.Second)))
			return
		}
		wait.Reset(verifyLook)
	}
}

// ask asks for the cluster's ID and keeps what the answer says of the endpoint.
func (e *Endpoint) ask(ctx context.Context) error {
	seen, err := e.clusterID(ctx)
	if errors.Is(err, ErrLoop) {
		e.LeadsBack()
		return err
	}
	if late := context.Cause(ctx); err != nil && errors.Is(late, errSilent) {
		return unknown(late)
	}
	var unmade *DialError
	if errors.As(err, &unmade) {
		return err // its text is about the connection, and the question has no part in it
	}
	if err != nil {
		return unknown(err)
	}
	if seen == e.ClusterID {
		if e.foreign.Swap(0) != 0 {
			e.d.Logger.Info("the cluster that is followed answers at the client url again", "endpoint", e.String())
			e.d.recount()
		}
		return nil
	}
	foreign := &ForeignError{Pinned: e.ClusterID, Seen: seen}
	if e.foreign.Swap(seen) != seen {
		e.d.Logger.Warn("another cluster answers at a client url, it gets no request", "endpoint", e.String(), "error", foreign)
		e.d.recount()
	}
	return foreign
}

func unknown(why error) error { return fmt.Errorf("which cluster it serves is not known: %w", why) }

// verifyLead is how long one way of asking is alone before the other is tried too.
const verifyLead = 250 * time.Millisecond

// clusterID asks who serves the client URL: by a watch of an empty range, which
// makes no watcher, is answered with the cluster's ID without a quorum and
// without rights (server/etcdserver/api/v3rpc/watch.go, 3.4 to 3.7), and by the
// JSON gateway where no gRPC is spoken (--listen-client-http-urls). The way that
// led to an answer is the first one the next time.
func (e *Endpoint) clusterID(ctx context.Context) (uint64, error) {
	ctx, cancel := context.WithCancel(ctx)
	type answer struct {
		id   uint64
		err  error
		json bool
	}
	answers := make(chan answer, 2)
	ask := func(json bool) {
		var a answer
		if a.json = json; json {
			a.id, a.err = e.clusterIDByJSON(ctx)
		} else {
			a.id, a.err = e.clusterIDByGRPC(ctx)
		}
		answers <- a
	}
	first, asked, busy := e.byJSON.Load(), 1, 1
	go ask(first)
	defer func() {
		cancel()
		for ; busy > 0; busy-- {
			<-answers
		}
	}()
	lead := time.NewTimer(verifyLead)
	defer lead.Stop()
	var failed error
	for busy > 0 || asked < 2 {
		select {
		case a := <-answers:
			busy--
			var de *DialError
			switch {
			case a.err == nil:
				e.byJSON.Store(a.json)
				return a.id, nil
			case errors.Is(a.err, ErrLoop), errors.As(a.err, &de) && !errors.Is(a.err, ErrNoHTTP2):
				return 0, a.err // we ourselves are there, or nobody
			case failed == nil:
				failed = a.err
			}
			lead.Reset(0)
		case <-lead.C:
			if asked == 1 {
				asked, busy = 2, busy+1
				go ask(!first)
			}
		}
	}
	return 0, failed
}

// ClusterIDField asks whoever proxies for the ID, and bears it in the answer, 16
// hex digits: another proxy tells its own at once. It makes sure of its members
// itself; two that lead to each other would else wait for each other's question.
const ClusterIDField = "etcdops-cluster-id"

// ClusterIDCall is the call by which the question is put; on no other one does the
// field mean anything.
const ClusterIDCall = "/etcdserverpb.Watch/Watch"

var emptyWatch = &etcdserverpb.WatchRequest{RequestUnion: &etcdserverpb.WatchRequest_CreateRequest{
	CreateRequest: &etcdserverpb.WatchCreateRequest{Key: []byte("b"), RangeEnd: []byte("a")},
}}

func (e *Endpoint) clusterIDByGRPC(ctx context.Context) (uint64, error) {
	// Connected first, so that its error is seen as it is and nothing is tried again.
	c, err := e.dial(ctx, "h2", 0)
	if err != nil {
		return 0, err
	}
	defer c.Close()
	q := &questionConn{Conn: c}
	var given atomic.Bool
	once := func(context.Context, string) (net.Conn, error) {
		if given.Swap(true) {
			return nil, errors.New("the connection ended")
		}
		return q, nil
	}
	cc, err := grpc.NewClient("passthrough:///"+e.HostHeader(), grpc.WithContextDialer(once),
		grpc.WithTransportCredentials(insecure.NewCredentials()), grpc.WithDisableRetry(), grpc.WithDisableServiceConfig())
	if err != nil {
		return 0, err
	}
	defer cc.Close()
	if e.d.Via != "" {
		ctx = metadata.AppendToOutgoingContext(ctx, "via", e.d.Via)
	}
	ctx = metadata.AppendToOutgoingContext(ctx, ClusterIDField, "?")
	w, err := etcdserverpb.NewWatchClient(cc).Watch(ctx)
	if err != nil {
		return 0, e.unanswered(ctx, q, err)
	}
	if err := w.Send(emptyWatch); err != nil && !errors.Is(err, io.EOF) {
		return 0, e.unanswered(ctx, q, err)
	}
	res, err := w.Recv()
	if err == nil {
		return known(res.GetHeader().GetClusterId())
	}
	told := w.Trailer()
	if e.ledBack(told.Get("proxy-status")) {
		return 0, ErrLoop
	}
	for _, id := range told.Get(ClusterIDField) {
		if id, err := strconv.ParseUint(id, 16, 64); err == nil {
			return known(id)
		}
	}
	return 0, e.unanswered(ctx, q, err)
}

// emptyWatchJSON is emptyWatch for the JSON gateway.
const emptyWatchJSON = `{"create_request":{"key":"Yg==","range_end":"YQ=="}}`

func (e *Endpoint) clusterIDByJSON(ctx context.Context) (uint64, error) {
	c, err := e.dial(ctx, "http/1.1", 0)
	if err != nil {
		return 0, err
	}
	defer c.Close()
	stop := context.AfterFunc(ctx, func() { _ = c.Close() })
	defer stop()
	q := &questionConn{Conn: c}
	head := "POST /v3/watch HTTP/1.1\r\nHost: %s\r\nUser-Agent: " + ProbeAgent + "\r\n%sContent-Length: %d\r\n\r\n%s"
	if _, err := fmt.Fprintf(q, head, e.HostHeader(), e.d.viaField(), len(emptyWatchJSON), emptyWatchJSON); err != nil {
		return 0, e.unanswered(ctx, q, err)
	}
	res, err := http.ReadResponse(bufio.NewReader(q), nil)
	if err != nil {
		return 0, e.unanswered(ctx, q, err)
	}
	defer func() {
		_ = c.Close() // first: a watch's body does not end
		_ = res.Body.Close()
	}()
	if e.ledBack(res.Header["Proxy-Status"]) {
		return 0, ErrLoop
	}
	var answer struct {
		Result struct {
			Header struct {
				ClusterID uint64 `json:"cluster_id,string"`
			}
		}
	}
	if err := json.NewDecoder(io.LimitReader(res.Body, 64<<10)).Decode(&answer); err != nil {
		return 0, err
	}
	return known(answer.Result.Header.ClusterID)
}

func known(id uint64) (uint64, error) {
	if id == 0 {
		return 0, errors.New("the answer has no cluster ID")
	}
	return id, nil
}
