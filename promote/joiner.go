package promote

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"time"

	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/zap"
	"google.golang.org/grpc"
)

const (
	// joinerURL names the new member where its socket is dialled: etcd answers
	// localhost whatever its --host-whitelist.
	joinerURL = "http://localhost"
	// joinerTimeout bounds one question to the new member. What takes longer
	// is asked again.
	joinerTimeout = 2 * time.Second
	// serveReport is the time between two reports that it does not serve yet.
	serveReport = 5 * time.Second

	appliedMetric = "etcd_server_proposals_applied_total" // an index, in spite of its name
	learnerMetric = "etcd_server_is_learner"
	// metricsLimit is far above the 100 kB that etcd answers.
	metricsLimit = 4 << 20
)

// Joiner is the new member itself, asked in the clear on a unix socket of its
// own. It needs no user: what etcd tells only users is taken from /metrics, and
// a refused read has passed the quorum.
type Joiner struct {
	Socket  string
	DataDir string // where the bytes of its snapshot are counted
	WALDir  string // where those of its log are; "" = inside DataDir
}

// Serves waits until the new member itself answers /health and a read through
// the quorum. That can be seven seconds after its promotion: where a snapshot
// holds its own publish request, etcd waits that long for an answer which can't
// come (publishV3, server/etcdserver/server.go). ended is closed when its
// process ends. report, if not nil, is called every five seconds with the time
// waited and the last answer.
//
// Errors are *ServeTimeoutError after the time stall, *EndedError,
// *WrongMemberError and the context's.
func (j *Joiner) Serves(ctx context.Context, id uint64, ended <-chan struct{}, stall time.Duration, report func(waited time.Duration, last error)) error {
	client := j.http()
	ticker := time.NewTicker(healthInterval)
	defer ticker.Stop()
	began := time.Now()
	reported := began
	for {
		err := askHealth(ctx, client, joinerURL+"/health")
		if err == nil {
			err = j.read(ctx, id)
		}
		var wrong *WrongMemberError
		switch {
		case err == nil:
			return nil
		case errors.As(err, &wrong):
			return err
		}
		// Its end says more than that it does not answer.
		waited := time.Since(began)
		if waited >= stall && !isClosed(ended) {
			return &ServeTimeoutError{For: waited, Err: err}
		}
		if report != nil && time.Since(reported) >= serveReport {
			report(waited, err)
			reported = time.Now()
		}
		select {
		case <-ended:
			return &EndedError{err}
		case <-ctx.Done():
			return fmt.Errorf("wait for member %016x to serve: %w: last answer: %w", id, context.Cause(ctx), err)
		case <-ticker.C:
		}
	}
}

// read reads a key through the quorum.
func (j *Joiner) read(ctx context.Context, id uint64) error {
	ctx, cancel := context.WithTimeout(ctx, joinerTimeout)
	defer cancel()
	etcd, err := j.connect(ctx)
	if err != nil {
		return err
	}
	defer etcd.Close()
	answer, err := etcd.Get(ctx, probeKey, clientv3.WithCountOnly())
	switch {
	case errors.Is(err, rpctypes.ErrPermissionDenied), errors.Is(err, rpctypes.ErrUserEmpty):
		// The permission is judged after the read has passed the quorum
		// (server/etcdserver/v3_server.go, Range).
		return nil
	case err != nil:
		return err
	case answer.Header.GetMemberId() != id:
		return &WrongMemberError{Want: id, Got: answer.Header.GetMemberId()}
	}
	return nil
}

// standing is what the new member says of itself. What it does not tell is 0.
type standing struct {
	clusterID, memberID uint64
	applied             uint64 // index of the last applied entry
	learner             bool
}

// check refuses what answers on the socket and is not our member.
func (s standing) check(clusterID, id uint64) error {
	switch {
	case s.clusterID != 0 && s.clusterID != clusterID:
		return &WrongClusterError{Endpoint: "the new member", Want: clusterID, Got: s.clusterID}
	case s.memberID != 0 && s.memberID != id:
		return &WrongMemberError{Want: id, Got: s.memberID}
	}
	return nil
}

// standing asks the new member for its status; where that is for users only,
// for its metrics. A learner lets nobody log in
// (isRPCSupportedForLearner, server/etcdserver/api/v3rpc/util.go).
func (j *Joiner) standing(ctx context.Context) (standing, error) {
	ctx, cancel := context.WithTimeout(ctx, joinerTimeout)
	defer cancel()
	etcd, err := j.connect(ctx)
	if err != nil {
		return standing{}, err
	}
	defer etcd.Close()
	status, err := etcd.Status(ctx, joinerURL)
	switch {
	case authProblem(err) != nil:
		return j.metrics(ctx)
	case err != nil:
		return standing{}, err
	}
	return standing{
		clusterID: status.Header.GetClusterId(), memberID: status.Header.GetMemberId(),
		applied: status.RaftAppliedIndex, learner: status.IsLearner,
	}, nil
}

// metrics reads two gauges (server/etcdserver/metrics.go).
func (j *Joiner) metrics(ctx context.Context) (standing, error) {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, joinerURL+"/metrics", http.NoBody)
	if err != nil {
		return standing{}, err
	}
	answer, err := j.http().Do(request)
	if err != nil {
		return standing{}, err
	}
	defer answer.Body.Close()
	found := map[string]float64{}
	lines := bufio.NewScanner(io.LimitReader(answer.Body, metricsLimit))
	for lines.Scan() {
		name, value, _ := strings.Cut(lines.Text(), " ")
		if name != appliedMetric && name != learnerMetric {
			continue
		}
		if found[name], err = strconv.ParseFloat(value, 64); err != nil {
			return standing{}, fmt.Errorf("metric %s: %w", name, err)
		}
	}
	if err := lines.Err(); err != nil {
		return standing{}, err
	}
	if len(found) != 2 {
		return standing{}, fmt.Errorf("the new member tells its status to users only, and %s/metrics lacks it (status %d)", joinerURL, answer.StatusCode)
	}
	return standing{applied: uint64(found[appliedMetric]), learner: found[learnerMetric] == 1}, nil
}

func (j *Joiner) http() *http.Client {
	return &http.Client{
		Transport: &http.Transport{
			DialContext:       func(ctx context.Context, _, _ string) (net.Conn, error) { return j.dial(ctx) },
			DisableKeepAlives: true,
		},
		Timeout: joinerTimeout,
	}
}

// connect makes a client. It is for one question: a client that has met no
// socket would wait longer and longer before it looks again.
func (j *Joiner) connect(ctx context.Context) (*clientv3.Client, error) {
	return clientv3.New(clientv3.Config{
		Endpoints:       []string{joinerURL},
		Context:         ctx,
		Logger:          zap.NewNop(),
		MaxUnaryRetries: 1,
		DialOptions: []grpc.DialOption{
			grpc.WithNoProxy(), failFast,
			grpc.WithContextDialer(func(ctx context.Context, _ string) (net.Conn, error) { return j.dial(ctx) }),
		},
	})
}

// dial connects to the socket. On Linux the path may be of any length: it is
// reached through its opened folder.
func (j *Joiner) dial(ctx context.Context) (net.Conn, error) {
	path := j.Socket
	if len(path) > maxSocketPath && runtime.GOOS == "linux" {
		folder, err := os.Open(filepath.Dir(path))
		if err != nil {
			return nil, err
		}
		defer folder.Close()
		path = fmt.Sprintf("/proc/self/fd/%d/%s", folder.Fd(), filepath.Base(path))
	}
	return new(net.Dialer).DialContext(ctx, "unix", path)
}
