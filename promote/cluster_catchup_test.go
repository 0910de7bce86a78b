package promote

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	"google.golang.org/grpc"

	"etcdops/discover"
)

const fakeLearner = 0xb9

// fakeJoiner is a new member on a socket that says it has applied one index
// after the other; the last one stays.
type fakeJoiner struct {
	pb.UnimplementedMaintenanceServer
	socket string

	mu      sync.Mutex
	applied []uint64
	id      uint64
	cluster uint64
}

func newFakeJoiner(t *testing.T, folder string) *fakeJoiner {
	t.Helper()
	f := &fakeJoiner{socket: filepath.Join(folder, "member.sock"), id: fakeLearner, cluster: fakeCluster}
	address := f.socket
	if len(address) > maxSocketPath {
		dir, err := os.Open(folder)
		if err != nil {
			t.Fatal(err)
		}
		defer dir.Close()
		address = fmt.Sprintf("/proc/self/fd/%d/member.sock", dir.Fd())
	}
	listener, err := net.Listen("unix", address)
	if err != nil {
		t.Fatal(err)
	}
	listener.(*net.UnixListener).SetUnlinkOnClose(false)
	server := grpc.NewServer()
	pb.RegisterMaintenanceServer(server, f)
	served := make(chan struct{})
	go func() {
		defer close(served)
		_ = server.Serve(listener)
	}()
	t.Cleanup(func() {
		server.Stop()
		<-served
	})
	return f
}

func (f *fakeJoiner) joiner() *Joiner {
	return &Joiner{Socket: f.socket, DataDir: filepath.Dir(f.socket)}
}

func (f *fakeJoiner) Status(context.Context, *pb.StatusRequest) (*pb.StatusResponse, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	applied := f.applied[0]
	if len(f.applied) > 1 {
		f.applied = f.applied[1:]
	}
	return &pb.StatusResponse{
		Header:           &pb.ResponseHeader{ClusterId: f.cluster, MemberId: f.id},
		RaftAppliedIndex: applied, IsLearner: true,
	}, nil
}

// TestCatchUpAnswers goes through the rows of the table at Cluster. The fake
// voter is at index 10,000.
func TestCatchUpAnswers(t *testing.T) {
	near, far := uint64(9000), uint64(8999)
	asVoter := func(f *fakeVoter) { f.members[1].IsLearner = false }
	removed := func(f *fakeVoter) { f.members = f.members[:1] }
	for name, test := range map[string]struct {
		applied   []uint64
		answers   []step
		meanwhile func(*fakeVoter) // at the first answer
		cluster   uint64           // of the joiner; 0 = the right one
		id        uint64           // of the joiner; 0 = the right one
		wantAsked int
		wantLooks int // 0 = any number
		want      func(error) bool
	}{
		"near at once":                    {applied: []uint64{near}, wantAsked: 1, wantLooks: 2},
		"one entry too far":               {applied: []uint64{far}, want: as[*StalledError]},
		"near, far, near, near":           {applied: []uint64{near, far, near, near}, wantAsked: 1, wantLooks: 4},
		"not in sync at first":            {applied: []uint64{near}, answers: []step{{err: rpctypes.ErrGRPCLearnerNotReady}, {err: rpctypes.ErrGRPCLearnerNotReady}}, wantAsked: 3},
		"never in sync":                   {applied: []uint64{near}, answers: slices.Repeat([]step{{err: rpctypes.ErrGRPCLearnerNotReady}}, 99), wantAsked: -1, want: as[*StalledError]},
		"not enough started at first":     {applied: []uint64{near}, answers: []step{{err: rpctypes.ErrGRPCMemberNotEnoughStarted}}, wantAsked: 2},
		"unhealthy at first":              {applied: []uint64{near}, answers: []step{{err: rpctypes.ErrGRPCUnhealthy}}, wantAsked: 2},
		"answer lost, not promoted":       {applied: []uint64{near}, answers: []step{{cut: true}}, wantAsked: 2},
		"answer lost, promoted":           {applied: []uint64{near}, answers: []step{{cut: true, apply: true}, {err: rpctypes.ErrGRPCMemberNotLearner}}, wantAsked: 2},
		"a voter since":                   {applied: []uint64{near}, answers: []step{{err: rpctypes.ErrGRPCMemberNotLearner}}, meanwhile: asVoter, wantAsked: 1},
		"a learner in the list still":     {applied: []uint64{near}, answers: []step{{err: rpctypes.ErrGRPCMemberNotLearner}}, wantAsked: 2},
		"removed":                         {applied: []uint64{near}, answers: []step{{err: rpctypes.ErrGRPCMemberNotFound}}, meanwhile: removed, wantAsked: 1, want: as[*GoneError]},
		"not found and in the list":       {applied: []uint64{near}, answers: []step{{err: rpctypes.ErrGRPCMemberNotFound}}, wantAsked: 2},
		"user may not":                    {applied: []uint64{near}, answers: []step{{err: rpctypes.ErrGRPCPermissionDenied}}, wantAsked: 1, want: is(ErrNeedsRoot)},
		"needs a user":                    {applied: []uint64{near}, answers: []step{{err: rpctypes.ErrGRPCUserEmpty}}, wantAsked: 1, want: is(discover.ErrNeedsUser)},
		"a member of another cluster":     {applied: []uint64{near}, cluster: 0xdd, want: as[*WrongClusterError]},
		"another member's socket":         {applied: []uint64{near}, id: 0xdd, want: as[*WrongMemberError]},
		"slow, but moving all the time":   {applied: []uint64{1, 2, 3, 4, 5, 6, 7, 8, 9, near}, wantAsked: 1, wantLooks: 11},
		"standing still where it was":     {applied: []uint64{1, 2, 3}, want: as[*StalledError]},
		"ahead of what the voters answer": {applied: []uint64{20000}, wantAsked: 1, wantLooks: 2},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			voter := newFakeVoter(t)
			voter.index = 10000
			voter.members = append(voter.members, &pb.Member{ID: fakeLearner, PeerURLs: ourURLs, IsLearner: true})
			voter.answers = test.answers
			if test.meanwhile != nil {
				voter.answers[0].then = func() { test.meanwhile(voter) }
			}
			joiner := newFakeJoiner(t, t.TempDir())
			joiner.applied = test.applied
			if test.cluster != 0 {
				joiner.cluster = test.cluster
			}
			if test.id != 0 {
				joiner.id = test.id
			}
			c := &Cluster{ID: fakeCluster, Endpoints: []string{voter.url}}
			looks, stall := 0, time.Minute
			if test.want != nil && test.want(&StalledError{}) {
				stall = 1500 * time.Millisecond
			}
			err := c.CatchUp(t.Context(), fakeLearner, joiner.joiner(), stall, nil, func(Progress) { looks++ })
			switch {
			case test.want == nil && err != nil:
				t.Error(err)
			case test.want != nil && (err == nil || !test.want(err)):
				t.Errorf("got %T %v", err, err)
			}
			if test.wantAsked >= 0 && voter.asked() != test.wantAsked {
				t.Errorf("asked %d times, want %d", voter.asked(), test.wantAsked)
			}
			if test.wantLooks != 0 && looks != test.wantLooks {
				t.Errorf("looked %d times, want %d", looks, test.wantLooks)
			}
		})
	}
}

func TestCatchUpInterruptedInFlight(t *testing.T) {
	voter := newFakeVoter(t)
	voter.index = 100
	voter.members = append(voter.members, &pb.Member{ID: fakeLearner, PeerURLs: ourURLs, IsLearner: true})
	ctx, cancel := context.WithCancel(t.Context())
	voter.answers = []step{{cut: true, then: cancel}}
	joiner := newFakeJoiner(t, t.TempDir())
	joiner.applied = []uint64{100}
	c := &Cluster{ID: fakeCluster, Endpoints: []string{voter.url}}
	err := c.CatchUp(ctx, fakeLearner, joiner.joiner(), time.Minute, nil, nil)
	if !as[*UnknownOutcomeError](err) || !is(context.Canceled)(err) {
		t.Errorf("got %v", err)
	}
}

// TestCatchUpInterruptedAfterALostAnswer is the moment after the one above: the
// answer is known to be lost before the context ends.
func TestCatchUpInterruptedAfterALostAnswer(t *testing.T) {
	voter := newFakeVoter(t)
	voter.index = 100
	voter.members = append(voter.members, &pb.Member{ID: fakeLearner, PeerURLs: ourURLs, IsLearner: true})
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	voter.answers = []step{{cut: true}}
	joiner := newFakeJoiner(t, t.TempDir())
	joiner.applied = []uint64{100}
	var said []string
	c := &Cluster{ID: fakeCluster, Endpoints: []string{voter.url}, Say: func(text string) { said = append(said, text) }}
	err := c.CatchUp(ctx, fakeLearner, joiner.joiner(), time.Minute, nil, func(Progress) {
		if voter.asked() > 0 {
			cancel()
		}
	})
	if !as[*UnknownOutcomeError](err) || !is(context.Canceled)(err) || voter.asked() != 1 {
		t.Errorf("got %v, asked %d times", err, voter.asked())
	}
	if len(said) != 1 || !strings.HasPrefix(said[0], "not made a voter yet: ") {
		t.Errorf("said %q", said)
	}
}

func TestRemoveAnswers(t *testing.T) {
	for name, test := range map[string]struct {
		answers   []step
		lists     []error
		patience  time.Duration // 0 = 3 s
		voter     bool
		gone      bool
		wantAsked int
		want      func(error) bool
	}{
		"removed":                  {wantAsked: 1},
		"gone before":              {gone: true},
		"a voter":                  {voter: true, want: as[*VoterError]},
		"unhealthy at first":       {answers: []step{{err: rpctypes.ErrGRPCUnhealthy}}, wantAsked: 2},
		"answer lost, removed":     {answers: []step{{cut: true, apply: true}}, wantAsked: 1},
		"answer lost, not removed": {answers: []step{{cut: true}}, wantAsked: 2},
		"not found, then gone":     {answers: []step{{err: rpctypes.ErrGRPCMemberNotFound, apply: true}}, wantAsked: 1},
		"refused":                  {answers: []step{{err: rpctypes.ErrGRPCMemberNotEnoughStarted}}, wantAsked: 1, want: as[*RefusedError]},
		"user may not":             {answers: []step{{err: rpctypes.ErrGRPCPermissionDenied}}, wantAsked: 1, want: is(ErrNeedsRoot)},
		"no list at first":         {lists: []error{rpctypes.ErrGRPCTimeout}, wantAsked: 1},
		"never a list":             {lists: slices.Repeat([]error{rpctypes.ErrGRPCTimeout}, 99), patience: time.Nanosecond, want: as[*GaveUpError]},
		"never an answer":          {answers: slices.Repeat([]step{{cut: true}}, 99), patience: time.Nanosecond, wantAsked: 1, want: as[*UnknownOutcomeError]},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f := newFakeVoter(t)
			if !test.gone {
				f.members = append(f.members, &pb.Member{ID: fakeLearner, PeerURLs: ourURLs, IsLearner: !test.voter})
			}
			f.answers, f.lists = test.answers, test.lists
			c := &Cluster{ID: fakeCluster, Endpoints: []string{f.url}, Patience: test.patience}
			if c.Patience == 0 {
				c.Patience = 3 * time.Second
			}
			err := c.Remove(t.Context(), fakeLearner)
			if test.want == nil && err != nil || test.want != nil && (err == nil || !test.want(err)) {
				t.Errorf("got %T %v", err, err)
			}
			if f.asked() != test.wantAsked {
				t.Errorf("asked %d times, want %d", f.asked(), test.wantAsked)
			}
		})
	}
}

func TestJoinerMetrics(t *testing.T) {
	for name, test := range map[string]struct {
		page string
		want standing
		ok   bool
	}{
		"a learner far ahead": {"# HELP x\netcd_server_is_learner 1\netcd_server_proposals_applied_total 1.234567e+06\n", standing{applied: 1234567, learner: true}, true},
		"a voter":             {"etcd_server_is_learner 0\netcd_server_proposals_applied_total 12\n", standing{applied: 12}, true},
		"not there":           {"404 page not found\n", standing{}, false},
		"not a number":        {"etcd_server_is_learner x\n", standing{}, false},
	} {
		t.Run(name, func(t *testing.T) {
			listener, err := net.Listen("unix", filepath.Join(t.TempDir(), "s"))
			if err != nil {
				t.Fatal(err)
			}
			server := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				if r.URL.Path == "/metrics" {
					_, _ = io.WriteString(w, test.page)
				}
			}))
			server.Listener.Close()
			server.Listener = listener
			server.Start()
			defer server.Close()
			got, err := (&Joiner{Socket: listener.Addr().String()}).metrics(t.Context())
			if got != test.want || (err == nil) != test.ok {
				t.Errorf("got %+v, %v", got, err)
			}
		})
	}
}
