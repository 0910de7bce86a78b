package promote

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/zap"

	"etcdops/discover"
)

// lab is a real cluster on one loopback address: member i listens on
// 2379+100i for clients and 2380+100i for peers.
type lab struct {
	ip, dir string
	members []*Etcd // m1, m2 …; the first ones founded the cluster
	id      uint64
}

// newLab starts a cluster of n members. Each test has an address of its own.
func newLab(t *testing.T, address byte, n int) *lab {
	t.Helper()
	l := &lab{ip: loopback(address), dir: t.TempDir()}
	var initial []string
	for i := range n {
		initial = append(initial, fmt.Sprintf("m%d=%s", i+1, l.peerURL(i)))
	}
	for i := range n {
		l.start(t, i, "--initial-cluster="+strings.Join(initial, ","))
	}
	for i := range n {
		if err := l.members[i].WaitHealthy(t.Context(), l.clientURL(i), nil); err != nil {
			t.Fatal(err)
		}
	}
	status, err := l.client(t, 0, "").Status(t.Context(), l.clientURL(0))
	if err != nil {
		t.Fatal(err)
	}
	l.id = status.Header.ClusterId
	return l
}

func (l *lab) clientURL(i int) string { return fmt.Sprintf("http://%s:%d", l.ip, 2379+100*i) }
func (l *lab) peerURL(i int) string   { return fmt.Sprintf("http://%s:%d", l.ip, 2380+100*i) }

// start starts member i.
func (l *lab) start(t *testing.T, i int, flags ...string) *Etcd {
	t.Helper()
	name := fmt.Sprintf("m%d", i+1)
	e := newEtcd(l.ip, l.dir)
	e.Flags = append([]string{
		"--name=" + name, "--data-dir=" + filepath.Join(l.dir, name), "--unsafe-no-fsync", "--bcrypt-cost=4", "--log-level=error",
		"--advertise-client-urls=" + l.clientURL(i), "--listen-client-urls=" + l.clientURL(i),
		"--listen-peer-urls=" + l.peerURL(i), "--initial-advertise-peer-urls=" + l.peerURL(i),
	}, flags...)
	if err := e.Start(context.WithoutCancel(t.Context())); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = e.Kill() })
	l.members = append(l.members, e)
	return e
}

// cluster asks the first n members.
func (l *lab) cluster(n int) *Cluster {
	c := &Cluster{ID: l.id}
	for i := range n {
		c.Endpoints = append(c.Endpoints, l.clientURL(i))
	}
	return c
}

// join starts member i as what was added, with a socket of its own.
func (l *lab) join(t *testing.T, i int, added Added) (*Etcd, *Joiner) {
	t.Helper()
	initial, err := added.InitialCluster(fmt.Sprintf("m%d", i+1))
	if err != nil {
		t.Fatal(err)
	}
	j := l.joiner(i)
	e := l.start(t, i, "--initial-cluster="+initial, "--initial-cluster-state=existing",
		"--listen-client-urls="+l.clientURL(i)+",unix://"+j.Socket)
	return e, j
}

func (l *lab) joiner(i int) *Joiner {
	return &Joiner{Socket: filepath.Join(l.dir, fmt.Sprintf("m%d.sock", i+1)), DataDir: filepath.Join(l.dir, fmt.Sprintf("m%d", i+1))}
}

// client asks member i, as a user with the password "pw" if one is given.
func (l *lab) client(t *testing.T, i int, user string) *clientv3.Client {
	t.Helper()
	config := clientv3.Config{Endpoints: []string{l.clientURL(i)}, Logger: zap.NewNop(), DialTimeout: 10 * time.Second}
	if user != "" {
		config.Username, config.Password = user, "pw"
	}
	client, err := clientv3.New(config)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { client.Close() })
	return client
}

// leader is the index of the leader.
func (l *lab) leader(t *testing.T, n int) int {
	t.Helper()
	for i := range n {
		status, err := l.client(t, i, "").Status(t.Context(), l.clientURL(i))
		if err != nil {
			t.Fatal(err)
		}
		if status.Leader == status.Header.MemberId {
			return i
		}
	}
	t.Fatal("no leader")
	return 0
}

func TestPromotionOfOneToTwo(t *testing.T) {
	t.Parallel()
	l := newLab(t, 41, 1)
	c := l.cluster(1)
	if _, err := c.Add(t.Context(), "m1", []string{l.peerURL(1)}, false); !as[*TakenError](err) {
		t.Errorf("a name that is taken: %v", err)
	}
	if _, err := c.Add(t.Context(), "m2", []string{l.peerURL(0)}, false); !as[*TakenError](err) {
		t.Errorf("a peer URL that is taken: %v", err)
	}
	if _, err := c.Add(t.Context(), "m2", []string{"nonsense"}, false); !as[*RefusedError](err) {
		t.Errorf("a peer URL that is none: %v", err)
	}
	added, err := c.Add(t.Context(), "m2", []string{l.peerURL(1)}, false)
	if err != nil || added.Before || len(added.Members) != 2 {
		t.Fatalf("got %+v, %v", added, err)
	}
	again, err := c.Add(t.Context(), "m2", []string{l.peerURL(1)}, false)
	if err != nil || !again.Before || again.ID != added.ID {
		t.Errorf("the replay: %+v, %v", again, err)
	}
	if _, err := c.Add(t.Context(), "m3", []string{l.peerURL(2)}, false); !as[*OtherLearnerError](err) {
		t.Errorf("a second learner: %v", err)
	}

	ended := make(chan struct{})
	etcd, j := l.join(t, 1, added)
	var looks []Progress
	err = c.CatchUp(t.Context(), added.ID, j, 30*time.Second, ended, func(p Progress) { looks = append(looks, p) })
	if err != nil {
		t.Fatal(err)
	}
	if last := looks[len(looks)-1]; last.Unknown || !last.Learner || last.Behind > readyBehind {
		t.Errorf("the last look: %+v", last)
	}
	if err := j.Serves(t.Context(), added.ID, ended, time.Minute, nil); err != nil {
		t.Fatal(err)
	}
	if err := c.CatchUp(t.Context(), added.ID, j, time.Second, ended, nil); err != nil {
		t.Errorf("of a voter: %v", err)
	}
	if err := c.Remove(t.Context(), added.ID); !as[*VoterError](err) {
		t.Errorf("Remove of a voter: %v", err)
	}
	if err := j.Serves(t.Context(), added.ID+1, ended, time.Minute, nil); !as[*WrongMemberError](err) {
		t.Errorf("another member on the socket: %v", err)
	}

	// Two voters, one dead: a linearizable list must not be answered.
	if err := etcd.Kill(); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Second)
	defer cancel()
	if members, err := c.Members(ctx); err == nil {
		t.Errorf("Members without a quorum: %v", members)
	}
	close(ended)
	if err := j.Serves(t.Context(), added.ID, ended, time.Minute, nil); !as[*EndedError](err) {
		t.Errorf("Serves of an etcd that ended: %v", err)
	}
}

func TestLearnerThatNeverStarts(t *testing.T) {
	t.Parallel()
	l := newLab(t, 42, 1)
	c := l.cluster(1)
	added, err := c.Add(t.Context(), "m2", []string{l.peerURL(1)}, false)
	if err != nil {
		t.Fatal(err)
	}
	err = c.CatchUp(t.Context(), added.ID, l.joiner(1), 500*time.Millisecond, nil, nil)
	var stalled *StalledError
	if !errors.As(err, &stalled) || !stalled.Last.Unknown || stalled.For < 500*time.Millisecond || !strings.Contains(err.Error(), "does not answer yet") {
		t.Errorf("got %v, %+v", err, stalled)
	}
	ended := make(chan struct{})
	close(ended)
	if err := c.CatchUp(t.Context(), added.ID, l.joiner(1), time.Minute, ended, nil); !as[*EndedError](err) {
		t.Errorf("ended: %v", err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
	defer cancel()
	if err := c.CatchUp(ctx, added.ID, l.joiner(1), time.Minute, nil, nil); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("interrupted: %v", err)
	}
	for range 2 {
		if err := c.Remove(t.Context(), added.ID); err != nil {
			t.Error(err)
		}
	}
	members, err := c.Members(t.Context())
	if err != nil || len(members) != 1 {
		t.Errorf("got %v, %v", members, err)
	}
	if err := c.CatchUp(t.Context(), added.ID, l.joiner(1), time.Minute, nil, nil); !as[*GoneError](err) {
		t.Errorf("removed: %v", err)
	}
	// At once, its ID is that of the removed one for the rest of the second.
	if _, err := c.Add(t.Context(), "m2", []string{l.peerURL(1)}, false); err != nil {
		t.Errorf("added again: %v", err)
	}
}

// TestLeaderKilledDuringCatchUp also shows "unhealthy cluster" asked again:
// the add comes less than five seconds after the start.
func TestLeaderKilledDuringCatchUp(t *testing.T) {
	t.Parallel()
	l := newLab(t, 43, 3)
	c := l.cluster(3)
	added, err := c.Add(t.Context(), "m4", []string{l.peerURL(3)}, false)
	if err != nil {
		t.Fatal(err)
	}
	leader := l.leader(t, 3)
	looked := make(chan struct{})
	caughtUp := make(chan error, 1)
	go func() {
		looks := 0
		caughtUp <- c.CatchUp(t.Context(), added.ID, l.joiner(3), time.Minute, nil, func(Progress) {
			if looks++; looks == 1 {
				close(looked)
			}
		})
	}()
	<-looked
	if err := l.members[leader].Kill(); err != nil {
		t.Fatal(err)
	}
	_, j := l.join(t, 3, added)
	if err := <-caughtUp; err != nil {
		t.Fatal(err)
	}
	if err := j.Serves(t.Context(), added.ID, nil, time.Minute, nil); err != nil {
		t.Fatal(err)
	}
	members, err := c.Members(t.Context())
	if m, _ := memberByID(members, added.ID); err != nil || m.IsLearner {
		t.Errorf("got %v, %v", members, err)
	}
}

// TestPromotionWithAuth asks three members, so that the promotion must go to
// the leader: a follower would forward it without its user.
func TestPromotionWithAuth(t *testing.T) {
	t.Parallel()
	l := newLab(t, 44, 3)
	admin := l.client(t, 0, "")
	for _, step := range []func() error{
		func() error { _, err := admin.UserAdd(t.Context(), "root", "pw"); return err },
		func() error { _, err := admin.UserGrantRole(t.Context(), "root", "root"); return err },
		func() error { _, err := admin.UserAdd(t.Context(), "guest", "pw"); return err },
	} {
		if err := step(); err != nil {
			t.Fatal(err)
		}
	}
	leader := l.leader(t, 3)
	if _, err := admin.AuthEnable(t.Context()); err != nil {
		t.Fatal(err)
	}
	peerURLs := []string{l.peerURL(3)}
	for name, test := range map[string]struct {
		user, password string
		want           error
	}{
		"no user":        {"", "", discover.ErrNeedsUser},
		"no password":    {"root", "", discover.ErrNeedsUser},
		"wrong password": {"root", "no", ErrWrongPassword},
		"no such user":   {"nobody", "pw", ErrWrongPassword},
		"not root":       {"guest", "pw", ErrNeedsRoot},
	} {
		c := l.cluster(3)
		c.Username, c.Password = test.user, test.password
		if refused := c.CheckUser(t.Context()); len(refused) != 1 || !strings.Contains(refused[0].Hint, "--user NAME") {
			t.Errorf("%s: preflight finds %v", name, refused)
		}
		if _, err := c.Add(t.Context(), "m4", peerURLs, false); !errors.Is(err, test.want) {
			t.Errorf("%s: %v", name, err)
		}
	}
	c := l.cluster(3)
	c.Username, c.Password = "root", "pw"
	if refused := c.CheckUser(t.Context()); len(refused) != 0 {
		t.Errorf("preflight refuses root: %v", refused)
	}
	// The leader comes last.
	c.Endpoints = append(slices.Delete(c.Endpoints, leader, leader+1), l.clientURL(leader))
	added, err := c.Add(t.Context(), "m4", peerURLs, false)
	if err != nil {
		t.Fatal(err)
	}
	_, j := l.join(t, 3, added)
	known := false
	if err := c.CatchUp(t.Context(), added.ID, j, time.Minute, nil, func(p Progress) { known = known || !p.Unknown }); err != nil {
		t.Fatal(err)
	}
	if !known {
		t.Error("it was never known how far the learner is")
	}
	if err := j.Serves(t.Context(), added.ID, nil, time.Minute, nil); err != nil {
		t.Fatal(err)
	}
}
