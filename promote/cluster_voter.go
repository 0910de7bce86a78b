package promote

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"time"

	"go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/zap"
	"google.golang.org/grpc"

	"etcdops/discover"
)

const (
	// loginTimeout is long because etcd takes its time over passwords, as long
	// as its --bcrypt-cost wants.
	loginTimeout = 10 * time.Second
	// readTimeout bounds a read at one voter. Without a quorum etcd itself
	// answers after seven seconds.
	readTimeout = 5 * time.Second
	// changeTimeout bounds a change. etcd's own limit where it forwards one to
	// the leader is seven seconds (ReqTimeout, server/config/config.go).
	changeTimeout = 10 * time.Second
	// probeKey is read to pass the quorum; it need not exist.
	probeKey = "health"

	firstPause = 250 * time.Millisecond
	longPause  = 2 * time.Second
	// sayInterval is the least time between two lines about what is waited for.
	sayInterval = 5 * time.Second
)

// failFast makes a call fail, with the cause, where its connection does. By
// itself clientv3 lets it wait until its deadline (defaultWaitForReady).
var failFast = grpc.WithChainUnaryInterceptor(
	func(ctx context.Context, method string, request, reply any, conn *grpc.ClientConn, invoke grpc.UnaryInvoker, options ...grpc.CallOption) error {
		return invoke(ctx, method, request, reply, conn, append(options, grpc.WaitForReady(false))...)
	})

// voter is a connection to one voter.
type voter struct {
	url     string
	etcd    *clientv3.Client
	cluster *Cluster
}

// open connects to a voter and logs in, where there is a user. The connection
// lives until it is closed or ctx ends.
func (c *Cluster) open(ctx context.Context, endpoint string) (*voter, error) {
	etcd, err := clientv3.New(clientv3.Config{
		Endpoints:   []string{endpoint},
		TLS:         c.TLS,
		Username:    c.Username,
		Password:    c.Password,
		Context:     ctx,
		DialTimeout: loginTimeout, // of the login; connecting waits for the first question
		Logger:      zap.NewNop(),
		// Asking again is our own decision.
		MaxUnaryRetries: 1,
		DialOptions:     append(discover.ServerNameOptions(c.TLS), grpc.WithNoProxy(), failFast),
	})
	if err != nil {
		if problem := authProblem(err); problem != nil {
			return nil, problem
		}
		return nil, err
	}
	return &voter{url: endpoint, etcd: etcd, cluster: c}, nil
}

func (v *voter) close() {
	// It only ends connections; there is nothing to lose.
	_ = v.etcd.Close()
}

// check refuses answers of another cluster.
func (v *voter) check(header *etcdserverpb.ResponseHeader) error {
	if got := header.GetClusterId(); got != v.cluster.ID {
		return &WrongClusterError{Endpoint: v.url, Want: v.cluster.ID, Got: got}
	}
	return nil
}

// members lists the members as they are at some time after the call. The read
// of a key comes first because etcd 3.4 answers a list without asking the
// quorum; what it has applied since the read is in the list.
func (v *voter) members(ctx context.Context) ([]discover.Member, error) {
	ctx, cancel := context.WithTimeout(ctx, readTimeout)
	defer cancel()
	read, err := v.etcd.Get(ctx, probeKey, clientv3.WithCountOnly())
	switch {
	case errors.Is(err, rpctypes.ErrPermissionDenied), errors.Is(err, rpctypes.ErrUserEmpty):
		// It has passed the quorum all the same, and the list may be told.
	case err != nil:
		return nil, err
	default:
		if err := v.check(read.Header); err != nil {
			return nil, err
		}
	}
	list, err := v.etcd.MemberList(ctx)
	if err != nil {
		if problem := authProblem(err); problem != nil {
			return nil, problem
		}
		return nil, err
	}
	if err := v.check(list.Header); err != nil {
		return nil, err
	}
	return membersOf(list.Members), nil
}

func membersOf(list []*etcdserverpb.Member) []discover.Member {
	members := make([]discover.Member, len(list))
	for i, m := range list {
		members[i] = discover.Member{
			ID: m.ID, Name: m.Name, PeerURLs: m.PeerURLs, ClientURLs: m.ClientURLs, IsLearner: m.IsLearner,
		}
	}
	return members
}

// reach finds a voter that lists the members, beginning with the first-th
// endpoint. The voter is open and must be closed.
func (c *Cluster) reach(ctx context.Context, first int) (*voter, []discover.Member, error) {
	if len(c.Endpoints) == 0 {
		return nil, nil, errors.New("no voter's client URL is known")
	}
	var causes []error
	for i := range c.Endpoints {
		endpoint := c.Endpoints[(first+i)%len(c.Endpoints)]
		v, err := c.open(ctx, endpoint)
		var members []discover.Member
		if err == nil {
			if members, err = v.members(ctx); err == nil {
				return v, members, nil
			}
			v.close()
		}
		if isFinal(err) {
			return nil, nil, err
		}
		if ctx.Err() != nil {
			return nil, nil, context.Cause(ctx)
		}
		causes = append(causes, fmt.Errorf("%s: %s", endpoint, plain(err)))
	}
	return nil, nil, errors.Join(causes...)
}

// tries paces what is asked again, and ends it.
type tries struct {
	began    time.Time
	patience time.Duration
	pause    time.Duration
	count    int       // also the endpoint to begin with
	said     time.Time // when the last line was, zero if there was none
	say      func(text string)
}

func (c *Cluster) newTries() *tries {
	return &tries{began: time.Now(), patience: cmp.Or(c.Patience, DefaultPatience), pause: firstPause, say: c.say}
}

// over tells whether the patience is used up.
func (t *tries) over() bool { return time.Since(t.began) >= t.patience }

// again waits, at least as long as is told, before the next try, and says now
// and then what for. The error is the context's.
func (t *tries) again(ctx context.Context, atLeast time.Duration, what string, cause error) error {
	wait := max(t.pause, atLeast)
	if ctx.Err() == nil && (t.said.IsZero() || time.Since(t.said) >= sayInterval) {
		t.say(what + ": " + plain(cause))
		t.said = time.Now()
	}
	t.pause = min(2*t.pause, longPause)
	t.count++
	timer := time.NewTimer(wait)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return context.Cause(ctx)
	case <-timer.C:
		return nil
	}
}
