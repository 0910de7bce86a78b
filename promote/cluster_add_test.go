package promote

import (
	"context"
	"errors"
	"net"
	"slices"
	"strings"
	"testing"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"etcdops/discover"
)

var ourURLs = []string{"http://192.0.2.4:2380", "http://192.0.2.5:2380"}

// TestAddAnswers goes through the answers of the table at Cluster that a real
// etcd can't be made to give on time.
func TestAddAnswers(t *testing.T) {
	silence := status.Error(codes.DeadlineExceeded, "context deadline exceeded")
	timeout := rpctypes.ErrGRPCTimeout
	learner := &pb.Member{ID: 0xe1, Name: "other", PeerURLs: []string{"http://192.0.2.9:2380"}, IsLearner: true}
	for name, test := range map[string]struct {
		answers   []step
		lists     []error
		members   []*pb.Member // beside m1
		voter     bool
		patience  time.Duration // 0 = 3 s
		wantAsked int
		before    bool
		want      func(error) bool // nil = no error
	}{
		"added":                            {wantAsked: 1},
		"added as voter":                   {voter: true, wantAsked: 1},
		"unhealthy for a while":            {answers: []step{{err: rpctypes.ErrGRPCUnhealthy}, {err: rpctypes.ErrGRPCUnhealthy}}, wantAsked: 3},
		"unhealthy for ever":               {answers: slices.Repeat([]step{{err: rpctypes.ErrGRPCUnhealthy}}, 99), patience: time.Nanosecond, wantAsked: 1, want: as[*GaveUpError]},
		"too many requests":                {answers: []step{{err: rpctypes.ErrGRPCRequestTooManyRequests}}, wantAsked: 2},
		"token of another time":            {answers: []step{{err: rpctypes.ErrGRPCInvalidAuthToken}, {err: rpctypes.ErrGRPCAuthOldRevision}}, wantAsked: 3},
		"not found right after a remove":   {answers: []step{{err: rpctypes.ErrGRPCMemberNotFound}}, wantAsked: 2},
		"not found twice":                  {answers: []step{{err: rpctypes.ErrGRPCMemberNotFound}, {err: rpctypes.ErrGRPCMemberNotFound}}, wantAsked: 2, want: as[*RefusedError]},
		"ID exists and is ours":            {answers: []step{{err: rpctypes.ErrGRPCMemberExist, apply: true}}, wantAsked: 1, before: true},
		"URLs exist and are ours":          {answers: []step{{err: rpctypes.ErrGRPCPeerURLExist, apply: true}}, wantAsked: 1, before: true},
		"exists and is in no list":         {answers: []step{{err: rpctypes.ErrGRPCMemberExist}}, wantAsked: 2},
		"too many learners":                {answers: []step{{err: rpctypes.ErrGRPCTooManyLearners}}, members: []*pb.Member{learner}, wantAsked: 1, want: as[*OtherLearnerError]},
		"a learner allowed beside another": {members: []*pb.Member{learner}, wantAsked: 1},
		"not enough started":               {answers: []step{{err: rpctypes.ErrGRPCMemberNotEnoughStarted}}, wantAsked: 1, want: as[*RefusedError]},
		"not enough started, code unknown": {answers: []step{{err: status.Error(codes.Unknown, "etcdserver: re-configuration failed due to not enough started members")}}, wantAsked: 1, want: as[*RefusedError]},
		"no such method":                   {answers: []step{{err: status.Error(codes.Unimplemented, "unknown method")}}, wantAsked: 1, want: as[*RefusedError]},
		"needs a user":                     {answers: []step{{err: rpctypes.ErrGRPCUserEmpty}}, wantAsked: 1, want: is(discover.ErrNeedsUser)},
		"wrong password":                   {answers: []step{{err: rpctypes.ErrGRPCAuthFailed}}, wantAsked: 1, want: is(ErrWrongPassword)},
		"user without the role root":       {answers: []step{{err: rpctypes.ErrGRPCPermissionDenied}}, wantAsked: 1, want: is(ErrNeedsRoot)},
		"answer lost, added":               {answers: []step{{cut: true, apply: true}}, wantAsked: 1},
		"answer lost, not added":           {answers: []step{{cut: true}}, wantAsked: 2},
		"answer lost, added, list comes later than our patience": {
			answers: []step{{cut: true, apply: true}}, lists: []error{nil, timeout, timeout, timeout}, patience: time.Nanosecond, wantAsked: 1,
		},
		"answer lost, not added, no patience": {answers: []step{{cut: true}}, patience: time.Nanosecond, wantAsked: 1, want: as[*UnknownOutcomeError]},
		"answer lost, then refused":           {answers: []step{{cut: true}, {err: rpctypes.ErrGRPCMemberNotEnoughStarted}}, wantAsked: 2, want: as[*UnknownOutcomeError]},
		"deadline, added":                     {answers: []step{{err: silence, apply: true}}, wantAsked: 1},
		"deadline, not added":                 {answers: []step{{err: silence}}, wantAsked: 2},
		"etcd's timeout, added":               {answers: []step{{err: timeout, apply: true}}, wantAsked: 1},
		"leader lost, not added":              {answers: []step{{err: rpctypes.ErrGRPCTimeoutDueToLeaderFail}}, wantAsked: 2},
		"no list at first":                    {lists: []error{timeout}, wantAsked: 1},
		"never a list":                        {lists: slices.Repeat([]error{timeout}, 99), patience: time.Nanosecond, want: as[*GaveUpError]},
		"needs a user for the list":           {lists: []error{rpctypes.ErrGRPCUserEmpty}, want: is(discover.ErrNeedsUser)},
		"added, list not readable again":      {lists: []error{nil, rpctypes.ErrGRPCUserEmpty}, wantAsked: 1, want: is(discover.ErrNeedsUser)},
		"there before":                        {members: []*pb.Member{{ID: 0xb9, PeerURLs: ourURLs, IsLearner: true}}, before: true},
		"there before, URLs in another order": {members: []*pb.Member{{ID: 0xb9, PeerURLs: []string{ourURLs[1], ourURLs[0]}, IsLearner: true}}, before: true},
		"there before as voter":               {members: []*pb.Member{{ID: 0xb9, PeerURLs: ourURLs}}, voter: true, before: true},
		"there in the other role":             {members: []*pb.Member{{ID: 0xb9, PeerURLs: ourURLs}}, want: as[*TakenError]},
		"there and started":                   {members: []*pb.Member{{ID: 0xb9, Name: "m4", PeerURLs: ourURLs, IsLearner: true}}, want: as[*TakenError]},
		"name taken":                          {members: []*pb.Member{{ID: 0xb9, Name: "m4", PeerURLs: []string{"http://192.0.2.9:2380"}}}, want: as[*TakenError]},
		"one URL taken":                       {members: []*pb.Member{{ID: 0xb9, Name: "m9", PeerURLs: ourURLs[1:]}}, want: as[*TakenError]},
		"another learner never started":       {members: []*pb.Member{{ID: 0xb9, PeerURLs: []string{"http://192.0.2.9:2380"}, IsLearner: true}}, want: as[*OtherLearnerError]},
		"a voter never started":               {members: []*pb.Member{{ID: 0xb9, PeerURLs: []string{"http://192.0.2.9:2380"}}}, want: as[*UnstartedError]},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f := newFakeVoter(t)
			f.answers, f.lists = test.answers, test.lists
			f.members = append(f.members, test.members...)
			c := &Cluster{ID: fakeCluster, Endpoints: []string{f.url}, Patience: test.patience}
			if c.Patience == 0 {
				c.Patience = 3 * time.Second
			}
			added, err := c.Add(t.Context(), "m4", ourURLs, test.voter)
			if asked := f.asked(); asked != test.wantAsked {
				t.Errorf("asked %d times, want %d", asked, test.wantAsked)
			}
			if test.want != nil {
				if err == nil || !test.want(err) {
					t.Errorf("got %T %v", err, err)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			if added.Before != test.before || added.ClusterID != fakeCluster || len(added.Members) != 2+len(test.members)-count(test.before && test.wantAsked == 0) {
				t.Errorf("got %+v", added)
			}
			if m, found := memberByID(added.Members, added.ID); !found || !sameURLs(m.PeerURLs, ourURLs) || m.IsLearner == test.voter {
				t.Errorf("it is not in the list: %+v", added)
			}
		})
	}
}

func TestAddAcknowledgedGivesItsID(t *testing.T) {
	f := newFakeVoter(t)
	f.lists = []error{nil, rpctypes.ErrGRPCUserEmpty}
	c := &Cluster{ID: fakeCluster, Endpoints: []string{f.url}}
	added, err := c.Add(t.Context(), "m4", ourURLs, false)
	if err == nil || added.ID == 0 {
		t.Errorf("got %+v, %v", added, err)
	}
}

func TestAddInterrupted(t *testing.T) {
	for name, test := range map[string]struct {
		step step
		want func(error) bool // nil = no error
	}{
		"before it was heard": {step{err: rpctypes.ErrGRPCUnhealthy}, is(context.Canceled)},
		"in flight, added":    {step{cut: true, apply: true}, nil},
		"in flight, nobody knows": {
			step{cut: true},
			func(err error) bool { return as[*UnknownOutcomeError](err) && errors.Is(err, context.Canceled) },
		},
	} {
		t.Run(name, func(t *testing.T) {
			f := newFakeVoter(t)
			ctx, cancel := context.WithCancel(t.Context())
			test.step.then = cancel
			f.answers = []step{test.step}
			c := &Cluster{ID: fakeCluster, Endpoints: []string{f.url}}
			added, err := c.Add(ctx, "m4", ourURLs, false)
			switch {
			case test.want == nil && (err != nil || added.ID == 0):
				t.Errorf("got %+v, %v", added, err)
			case test.want != nil && (err == nil || !test.want(err)):
				t.Errorf("got %v", err)
			}
			if f.asked() != 1 {
				t.Errorf("asked %d times", f.asked())
			}
		})
	}
}

func TestAddAsksNoOtherCluster(t *testing.T) {
	f := newFakeVoter(t)
	c := &Cluster{ID: fakeCluster + 1, Endpoints: []string{f.url}}
	_, err := c.Add(t.Context(), "m4", ourURLs, false)
	if !as[*WrongClusterError](err) || f.asked() != 0 {
		t.Errorf("got %v, asked %d times", err, f.asked())
	}
	if err := c.Remove(t.Context(), fakeMember); !as[*WrongClusterError](err) || f.asked() != 0 {
		t.Errorf("Remove: %v, asked %d times", err, f.asked())
	}
}

// TestAddUnknownOutcomeHasALimit holds that an add without an answer, in a
// cluster that lists nobody any more, ends, and says meanwhile what it waits for.
func TestAddUnknownOutcomeHasALimit(t *testing.T) {
	f := newFakeVoter(t)
	f.answers = []step{{cut: true}}
	f.lists = append([]error{nil}, slices.Repeat([]error{rpctypes.ErrGRPCTimeout}, 99)...)
	var said []string
	c := &Cluster{ID: fakeCluster, Endpoints: []string{f.url}, Say: func(text string) { said = append(said, text) }, doubtPatience: 100 * time.Millisecond}
	_, err := c.Add(t.Context(), "m4", ourURLs, false)
	if !as[*UnknownOutcomeError](err) || !strings.Contains(err.Error(), "request timed out") || f.asked() != 1 {
		t.Errorf("got %v, asked %d times", err, f.asked())
	}
	if len(said) != 1 || !strings.HasPrefix(said[0], "no answer to the add: ") || strings.Contains(said[0], "\n") {
		t.Errorf("said %q", said)
	}
}

// TestAddGoesOnWithTheNextVoter covers a voter that is not there, and one that
// refuses for now.
func TestAddGoesOnWithTheNextVoter(t *testing.T) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	gone := "http://" + listener.Addr().String()
	listener.Close()
	first, second := newFakeVoter(t), newFakeVoter(t)
	first.answers = slices.Repeat([]step{{err: rpctypes.ErrGRPCUnhealthy}}, 99)
	// Both are of one cluster: what the second has added, it alone lists.
	c := &Cluster{ID: fakeCluster, Endpoints: []string{gone, first.url, second.url}, Patience: 5 * time.Second}
	_, err = c.Add(t.Context(), "m4", ourURLs, false)
	if err != nil || second.asked() != 1 {
		t.Errorf("got %v, asked the second %d times", err, second.asked())
	}
}

func TestInitialCluster(t *testing.T) {
	ours := discover.Member{ID: 4, PeerURLs: []string{"http://d:1", "http://d:2"}, IsLearner: true}
	first := discover.Member{ID: 1, Name: "a", PeerURLs: []string{"http://a:1"}}
	for name, test := range map[string]struct {
		members []discover.Member
		name    string
		want    string
		err     string
	}{
		"ours comes last":           {[]discover.Member{ours, first}, "d", "a=http://a:1,d=http://d:1,d=http://d:2", ""},
		"started under the name":    {[]discover.Member{{ID: 4, Name: "d", PeerURLs: ours.PeerURLs}}, "d", "d=http://d:1,d=http://d:2", ""},
		"not in the list":           {[]discover.Member{first}, "d", "", "not in the list"},
		"another without a name":    {[]discover.Member{ours, {ID: 2, PeerURLs: []string{"http://b:1"}}}, "d", "", "never started"},
		"our name twice":            {[]discover.Member{first, ours}, "a", "", "two members have the name a"},
		"started under another":     {[]discover.Member{{ID: 4, Name: "x", PeerURLs: ours.PeerURLs}}, "d", "", "is x already"},
		"a name that breaks it":     {[]discover.Member{ours}, "d=e", "", "can't be the name"},
		"no name":                   {[]discover.Member{ours}, "", "", "can't be the name"},
		"a member without peer URL": {[]discover.Member{ours, {ID: 2, Name: "b"}}, "d", "", "no peer URL"},
	} {
		t.Run(name, func(t *testing.T) {
			list := slices.Clone(test.members)
			got, err := Added{ID: 4, Members: test.members}.InitialCluster(test.name)
			if got != test.want || (err == nil) != (test.err == "") || err != nil && !strings.Contains(err.Error(), test.err) {
				t.Errorf("got %q, %v", got, err)
			}
			if test.members[0].Name != list[0].Name {
				t.Error("the list was changed")
			}
		})
	}
}

func as[T error](err error) bool {
	var target T
	return errors.As(err, &target)
}

func is(target error) func(error) bool {
	return func(err error) bool { return errors.Is(err, target) }
}

func count(yes bool) int {
	if yes {
		return 1
	}
	return 0
}
