package discover

import (
	"crypto/tls"
	"errors"
	"fmt"
	"net/url"
	"os"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/version"
	clientv3 "go.etcd.io/etcd/client/v3"
	"go.etcd.io/etcd/server/v3/embed"
	"go.uber.org/zap"
)

// etcds counts the members started, each of which has a loopback address of
// its own, so that fixed ports never collide.
var etcds atomic.Int32

// startEtcd starts a real member of a cluster of one, with client URLs of the
// scheme: http, or https with a certificate that the member signs itself.
func startEtcd(t *testing.T, scheme string) *embed.Etcd {
	t.Helper()
	config := etcdConfig(t, "m1", scheme)
	config.InitialCluster = config.InitialClusterFromName(config.Name)
	return runEtcd(t, config)
}

// startLearner adds a real member to the one of first, as a learner.
func startLearner(t *testing.T, first *embed.Etcd) *embed.Etcd {
	t.Helper()
	config := etcdConfig(t, "m2", "http")
	peerURL := config.AdvertisePeerUrls[0].String()
	if _, err := etcdClient(t, first).MemberAddAsLearner(t.Context(), []string{peerURL}); err != nil {
		t.Fatal(err)
	}
	config.InitialCluster = "m1=" + first.Config().AdvertisePeerUrls[0].String() + ",m2=" + peerURL
	config.ClusterState = embed.ClusterStateFlagExisting
	return runEtcd(t, config)
}

func etcdConfig(t *testing.T, name, scheme string) *embed.Config {
	t.Helper()
	ip := fmt.Sprintf("127.%d.77.%d", 1+os.Getpid()%250, etcds.Add(1))
	peerURL := url.URL{Scheme: "http", Host: ip + ":2380"}
	clientURL := url.URL{Scheme: scheme, Host: ip + ":2379"}
	config := embed.NewConfig()
	config.Name = name
	config.Dir = t.TempDir()
	config.ListenPeerUrls, config.AdvertisePeerUrls = []url.URL{peerURL}, []url.URL{peerURL}
	config.ListenClientUrls, config.AdvertiseClientUrls = []url.URL{clientURL}, []url.URL{clientURL}
	config.ClientAutoTLS, config.SelfSignedCertValidity = scheme == "https", 1
	config.ZapLoggerBuilder = embed.NewZapLoggerBuilder(zap.NewNop())
	// What is slow is of no use here: syncing, strong password hashes, and a
	// second until a lost quorum is noticed.
	config.UnsafeNoFsync = true
	config.BcryptCost = 4
	config.TickMs, config.ElectionMs = 10, 100
	return config
}

func runEtcd(t *testing.T, config *embed.Config) *embed.Etcd {
	t.Helper()
	etcd, err := embed.StartEtcd(config)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(etcd.Close)
	select {
	case <-etcd.Server.ReadyNotify():
	case <-t.Context().Done():
		t.Fatal("etcd did not get ready")
	}
	return etcd
}

func etcdClient(t *testing.T, etcd *embed.Etcd) *clientv3.Client {
	t.Helper()
	c, err := clientv3.New(clientv3.Config{Endpoints: []string{clientURLOf(etcd)}, Logger: zap.NewNop()})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	return c
}

func clientURLOf(etcd *embed.Etcd) string {
	return etcd.Config().AdvertiseClientUrls[0].String()
}

// membersOf asks the peer port, as the proxy does.
func membersOf(t *testing.T, etcd *embed.Etcd) []Member {
	t.Helper()
	resolution, err := New(Config{InitialCluster: "m1=" + etcd.Config().AdvertisePeerUrls[0].String()}).Resolve(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return resolution.Members
}

// patient waits as long as a busy machine needs for what is bound to come.
func patient() *Inspector {
	return &Inspector{Timeout: 30 * time.Second, DialTimeout: 15 * time.Second}
}

func TestInspectRealMember(t *testing.T) {
	etcd := startEtcd(t, "http")
	members := membersOf(t, etcd)
	row := patient().Inspect(t.Context(), members)[0]
	if row.Status != MemberHealthy || !row.Leader || row.Role != RoleVoter || row.Version != version.Version ||
		row.DBSize <= 0 || row.RaftTerm == 0 || row.RaftIndex == 0 || !row.Used || row.Reason != "" || row.NeedsUser {
		t.Errorf("got %+v", row)
	}
	if row.ID != fmt.Sprintf("%016x", uint64(etcd.Server.MemberID())) {
		t.Errorf("got ID %s", row.ID)
	}

	t.Run("list from its client port", func(t *testing.T) {
		endpoints := []string{refusingURL(t), hostOf(t, clientURLOf(etcd))}
		clusterID, listed, err := patient().List(t.Context(), endpoints)
		if err != nil || clusterID != uint64(etcd.Server.Cluster().ID()) || len(listed) != 1 || listed[0].ID != members[0].ID {
			t.Errorf("got %x, %+v, %v", clusterID, listed, err)
		}
	})
	t.Run("the second of its client URLs answers", func(t *testing.T) {
		m := members[0]
		m.ClientURLs = []string{refusingURL(t), m.ClientURLs[0]}
		if row := patient().Inspect(t.Context(), []Member{m})[0]; row.Status != MemberHealthy {
			t.Errorf("got %+v", row)
		}
	})
	t.Run("another member answers at its client URL", func(t *testing.T) {
		m := members[0]
		m.ID++
		row := patient().Inspect(t.Context(), []Member{m})[0]
		if row.Status != MemberUnreachable || !strings.Contains(row.Reason, "advertise-client-urls") || row.Leader {
			t.Errorf("got %+v", row)
		}
	})
}

func TestInspectAlarm(t *testing.T) {
	etcd := startEtcd(t, "http")
	id := uint64(etcd.Server.MemberID())
	if row := patient().Inspect(t.Context(), membersOf(t, etcd))[0]; len(row.Alarms) > 0 || row.RaftAppliedIndex == 0 {
		t.Errorf("got %+v", row)
	}
	if _, err := etcd.Server.Alarm(t.Context(), &pb.AlarmRequest{
		Action: pb.AlarmRequest_ACTIVATE, MemberID: id, Alarm: pb.AlarmType_NOSPACE,
	}); err != nil {
		t.Fatal(err)
	}
	row := patient().Inspect(t.Context(), membersOf(t, etcd))[0]
	if want := fmt.Sprintf("NOSPACE %016x", id); !slices.Equal(row.Alarms, []string{want}) || row.Status != MemberUnhealthy {
		t.Errorf("got %+v, want the alarm %s", row, want)
	}
}

func TestAlarmsInTheirTextForms(t *testing.T) {
	problems := []string{
		"etcdserver: no leader",
		"memberID:10501334649042878790 alarm:NOSPACE ", // 3.5
		"memberID:10501334649042878790  alarm:CORRUPT", // 3.7, whose blanks vary
		"alarm:NOSPACE",
	}
	want := []string{"NOSPACE 91bc3c398fb3c146", "CORRUPT 91bc3c398fb3c146", "NOSPACE"}
	if got := alarms(problems); !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
}

func TestInspectLearner(t *testing.T) {
	etcd := startEtcd(t, "http")
	startLearner(t, etcd)
	var rows []MemberStatus
	until(t, func() bool {
		rows = patient().Inspect(t.Context(), membersOf(t, etcd))
		healthy, _ := AllHealthy(rows)
		return healthy
	})
	learner := statusOf(rows, "m2")
	if learner.Role != RoleLearner || learner.Leader || learner.Used || !strings.Contains(learner.Why, "learner") || learner.DBSize <= 0 {
		t.Errorf("got %+v", learner)
	}
}

func TestInspectOverTLS(t *testing.T) {
	etcd := startEtcd(t, "https")
	members := membersOf(t, etcd)
	inTheClear := members[0]
	inTheClear.ClientURLs = []string{"http://" + hostOf(t, clientURLOf(etcd))}
	trusting := patient()
	trusting.TLS = &tls.Config{InsecureSkipVerify: true}
	for _, test := range []struct {
		name      string
		inspector *Inspector
		member    Member
		status    string
		reason    string
	}{
		{"trusted", trusting, members[0], MemberHealthy, ""},
		{"unknown authority", patient(), members[0], MemberUnreachable, "certificate signed by unknown authority"},
		{"http to the TLS port", &Inspector{TLS: trusting.TLS, Timeout: time.Second}, inTheClear, MemberUnreachable, "TLS"},
	} {
		t.Run(test.name, func(t *testing.T) {
			row := test.inspector.Inspect(t.Context(), []Member{test.member})[0]
			if row.Status != test.status || !strings.Contains(row.Reason, test.reason) {
				t.Errorf("got %s, %q", row.Status, row.Reason)
			}
		})
	}
	if _, listed, err := trusting.List(t.Context(), []string{hostOf(t, clientURLOf(etcd))}); err != nil || len(listed) != 1 {
		t.Errorf("listed %+v, %v", listed, err)
	}
}

func TestInspectWithoutQuorum(t *testing.T) {
	etcd := startEtcd(t, "http")
	client := etcdClient(t, etcd)
	// A second voter that never starts takes the quorum away.
	if _, err := client.MemberAdd(t.Context(), []string{refusingURL(t)}); err != nil {
		t.Fatal(err)
	}
	var rows []MemberStatus
	inspector := &Inspector{Timeout: time.Second}
	until(t, func() bool {
		rows = inspector.Inspect(t.Context(), membersOf(t, etcd))
		return len(rows) == 2 && statusOf(rows, "m1").Status == MemberUnhealthy
	})
	started, added := statusOf(rows, "m1"), statusOf(rows, "unstarted")
	if started.DBSize <= 0 || !strings.Contains(started.Reason, "quorum") || strings.Contains(started.Reason, "deadline") {
		t.Errorf("started member: %+v", started)
	}
	if added.Status != MemberUnstarted || added.Used || added.Why != "unstarted" {
		t.Errorf("added member: %+v", added)
	}
	if healthy, _ := AllHealthy(rows); healthy {
		t.Error("a cluster without quorum is healthy")
	}
	if _, listed, err := patient().List(t.Context(), []string{clientURLOf(etcd)}); err != nil || len(listed) != 2 {
		t.Errorf("listed %+v, %v", listed, err)
	}
}

func TestInspectWithAuthOn(t *testing.T) {
	etcd := startEtcd(t, "http")
	client := etcdClient(t, etcd)
	for user, password := range map[string]string{"root": "secret", "alice": "wonder"} {
		if _, err := client.UserAdd(t.Context(), user, password); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := client.UserGrantRole(t.Context(), "root", "root"); err != nil {
		t.Fatal(err)
	}
	if _, err := client.AuthEnable(t.Context()); err != nil {
		t.Fatal(err)
	}
	members := membersOf(t, etcd)

	for _, test := range []struct {
		name      string
		inspector Inspector
		needsUser bool
		reason    string
	}{
		{"nobody", Inspector{}, true, ErrNeedsUser.Error()},
		{"root", Inspector{Username: "root", Password: "secret"}, false, ""},
		{"a user without rights", Inspector{Username: "alice", Password: "wonder"}, false, ""},
		{"wrong password", Inspector{Username: "root", Password: "guess"}, true, "authentication failed"},
	} {
		t.Run(test.name, func(t *testing.T) {
			test.inspector.Timeout, test.inspector.DialTimeout = patient().Timeout, patient().DialTimeout
			rows := test.inspector.Inspect(t.Context(), members)
			row := rows[0]
			if row.Status != MemberHealthy || row.NeedsUser != test.needsUser || !strings.Contains(row.Reason, test.reason) {
				t.Errorf("got %+v", row)
			}
			if known := row.DBSize != DBSizeUnknown; known == test.needsUser || row.Leader == test.needsUser {
				t.Errorf("columns: %+v", row)
			}
			if row.Version != version.Version {
				t.Errorf("version %q", row.Version)
			}
			if healthy, problem := AllHealthy(rows); !healthy {
				t.Error(problem)
			}
			_, listed, err := test.inspector.List(t.Context(), []string{clientURLOf(etcd)})
			switch {
			case !test.needsUser && (err != nil || len(listed) != 1):
				t.Errorf("listed %+v, %v", listed, err)
			case test.needsUser && (err == nil || !strings.Contains(err.Error(), test.reason)):
				t.Errorf("list error %v", err)
			case test.inspector.Username == "" && !errors.Is(err, ErrNeedsUser):
				t.Errorf("list error %v is not ErrNeedsUser", err)
			}
		})
	}
}

func TestInspectMembersThatDoNotAnswer(t *testing.T) {
	peer := newPeer(t, clusterA)
	for _, test := range []struct {
		name   string
		member Member
		status string
		reason string
	}{
		{"down", Member{ID: 1, Name: "m", ClientURLs: []string{refusingURL(t)}}, MemberUnreachable, "connection refused"},
		{"hung", Member{ID: 1, Name: "m", ClientURLs: []string{hungURL(t)}}, MemberUnreachable, "accepts connections, but gave no answer within"},
		{"no etcd", Member{ID: 1, Name: "m", ClientURLs: []string{peer.URL}}, MemberUnreachable, "not etcd's"},
		{"bad URL", Member{ID: 1, Name: "m", ClientURLs: []string{"m:2379"}}, MemberUnreachable, "not an http"},
		{"no client URL", Member{ID: 1, Name: "m"}, MemberUnknown, "no client URL"},
		{"unstarted", Member{ID: 1}, MemberUnstarted, "never started"},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			inspector := &Inspector{Timeout: 3 * time.Second}
			row := inspector.Inspect(t.Context(), []Member{test.member})[0]
			if row.Status != test.status || !strings.Contains(row.Reason, test.reason) || row.DBSize != DBSizeUnknown {
				t.Errorf("got %s, %q", row.Status, row.Reason)
			}
			if strings.Contains(row.Reason, "deadline exceeded") {
				t.Errorf("the cause is hidden: %q", row.Reason)
			}
		})
	}
}

func TestListSaysTheCauseForEachEndpoint(t *testing.T) {
	dead, hung := refusingURL(t), hungURL(t)
	_, _, err := (&Inspector{Timeout: 2 * time.Second}).List(t.Context(), []string{dead, hung})
	for _, want := range []string{dead + ": connection refused", hung + ": it accepts connections, but gave no answer"} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("got %v, want %q in it", err, want)
		}
	}
	if _, _, err := patient().List(t.Context(), nil); err == nil {
		t.Error("no error without endpoints")
	}
}

func statusOf(rows []MemberStatus, name string) MemberStatus {
	for _, row := range rows {
		if row.Name == name {
			return row
		}
	}
	return MemberStatus{}
}

// until polls a condition that real processes bring about.
func until(t *testing.T, condition func() bool) {
	t.Helper()
	deadline := time.After(20 * time.Second)
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for !condition() {
		select {
		case <-tick.C:
		case <-deadline:
			t.Fatal("condition did not come true within 20 s")
		}
	}
}
