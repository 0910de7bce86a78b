package discover

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"
)

func TestDefaultPeersAreEtcds(t *testing.T) {
	if !slices.Equal(defaultPeerURLs, []string{"http://localhost:2380", "http://localhost:7001"}) {
		t.Errorf("got %q", defaultPeerURLs)
	}
}

// In each case, peer A is a member of cluster A, and so on; "dead" refuses.
func TestPrecedence(t *testing.T) {
	a, b, other := newPeer(t, clusterA), newPeer(t, clusterA), newPeer(t, clusterB)
	dead := refusingURL(t)
	replaceDefaults(t, other.URL)

	file := func(peerURL, clusterID, flags string) string {
		return fmt.Sprintf(`{"PeerURLs":[%q],"cluster_id":%q,"flags":%q,"written":"2026-01-02T03:04:05Z"}`, peerURL, clusterID, flags)
	}
	const idA, idB = "cdf818194e3a8c32", "1111111111111111"
	flagsOf := func(peerURL string) string { return "initial-cluster=" + peerURL }

	for _, test := range []struct {
		name    string
		cluster string // peer URL of --initial-cluster
		file    string
		prefer  bool
		want    string // source=state, in order
	}{
		{"nothing set", "", "", false, "initial-cluster=not set default=used cluster file=not set"},
		{"flag set", a.URL, "", false, "initial-cluster=used default=not used cluster file=not set"},
		{"flag set and dead: never localhost", dead, "", false, "initial-cluster=failed default=not used cluster file=not set"},
		{
			"file for the same flags comes first", a.URL, file(b.URL, idA, flagsOf(a.URL)), false,
			"cluster file=used initial-cluster=not used default=not used",
		},
		{
			"file for the same flags, dead", a.URL, file(dead, idA, flagsOf(a.URL)), false,
			"cluster file=failed initial-cluster=used default=not used",
		},
		{
			"file for the same flags, flag dead", dead, file(b.URL, idA, flagsOf(dead)), false,
			"cluster file=used initial-cluster=not used default=not used",
		},
		{
			"changed flags beat the file", a.URL, file(b.URL, idA, flagsOf("http://old:1")), false,
			"initial-cluster=used default=not used cluster file=not reached",
		},
		{
			"changed flags may lead to another cluster", other.URL, file(b.URL, idA, flagsOf("http://old:1")), false,
			"initial-cluster=used default=not used cluster file=not reached",
		},
		{
			"changed flags dead: the file is the last resort", dead, file(b.URL, idA, flagsOf("http://old:1")), false,
			"initial-cluster=failed default=not used cluster file=used",
		},
		{
			"all dead", dead, file(dead, idA, flagsOf("http://old:1")), false,
			"initial-cluster=failed default=not used cluster file=failed",
		},
		{
			"the last resort is good for its own cluster only", dead, file(other.URL, idA, flagsOf("http://old:1")), false,
			"initial-cluster=failed default=not used cluster file=failed",
		},
		{
			"file by etcd, flag set", a.URL, `{"PeerURLs":["` + b.URL + `"]}`, false,
			"initial-cluster=used default=not used cluster file=not reached",
		},
		{
			"file by etcd, flag set and dead", dead, `{"PeerURLs":["` + b.URL + `"]}`, false,
			"initial-cluster=failed default=not used cluster file=used",
		},
		{
			"file by etcd, nothing set", "", `{"PeerURLs":["` + b.URL + `"]}`, false,
			"cluster file=used initial-cluster=not set default=not used",
		},
		{
			"file by etcd, dead, nothing set: never localhost", "", `{"PeerURLs":["` + dead + `"]}`, false,
			"cluster file=failed initial-cluster=not set default=not used",
		},
		{
			"file for the default, nothing set", "", file(b.URL, idA, "default"), false,
			"cluster file=used initial-cluster=not set default=not used",
		},
		{
			"file for the default, dead, pins", "", file(dead, idA, "default"), false,
			"cluster file=failed initial-cluster=not set default=failed",
		},
		{
			"file for the default, dead, same cluster", "", file(dead, idB, "default"), false,
			"cluster file=failed initial-cluster=not set default=used",
		},
		{
			"file for flags that are no longer set", "", file(b.URL, idA, flagsOf(a.URL)), false,
			"initial-cluster=not set default=used cluster file=not reached",
		},
		{
			"the same, the file is preferred", "", file(b.URL, idA, flagsOf(a.URL)), true,
			"cluster file=used initial-cluster=not set default=not used",
		},
		{
			"bad file, nothing set", "", `{`, false,
			"cluster file=failed initial-cluster=not set default=used",
		},
	} {
		t.Run(test.name, func(t *testing.T) {
			config := Config{DataDir: t.TempDir(), PreferFile: test.prefer}
			if test.cluster != "" {
				config.InitialCluster = "m0=" + test.cluster
			}
			if test.file != "" {
				writeFile(t, config.DataDir, test.file)
			}
			resolution, err := New(config).Resolve(t.Context())
			if got := fates(resolution.Sources); got != test.want {
				t.Errorf("got  %s\nwant %s", got, test.want)
				for _, source := range resolution.Sources {
					t.Log(source.Name, source.Reason)
				}
			}
			if used := strings.Contains(test.want, "=used"); used != (err == nil) || !used && !errors.Is(err, ErrNoCluster) {
				t.Errorf("error %v", err)
			}
			checkComplete(t, resolution)
			if test.file == "" {
				entries, err := os.ReadDir(config.DataDir)
				if err != nil || len(entries) > 0 {
					t.Errorf("resolving wrote %v, %v", entries, err)
				}
			} else if readFile(t, config.DataDir) != test.file {
				t.Error("resolving changed the cluster file")
			}
		})
	}
}

func replaceDefaults(t *testing.T, peerURLs ...string) {
	t.Helper()
	old := defaultPeerURLs
	defaultPeerURLs = peerURLs
	t.Cleanup(func() { defaultPeerURLs = old })
}

func fates(sources []Source) string {
	var all []string
	for _, source := range sources {
		if strings.HasPrefix(source.Name, "discovery") && source.State == SourceNotSet {
			continue // most tests set none of them
		}
		all = append(all, source.Name+"="+source.State)
	}
	return strings.Join(all, " ")
}

// checkComplete wants a reason for all that is not simply good.
func checkComplete(t *testing.T, resolution *Resolution) {
	t.Helper()
	for _, source := range resolution.Sources {
		if source.State == "" || source.Reason == "" || strings.Contains(source.Reason, "\n") {
			t.Errorf("source is not explained: %+v", source)
		}
	}
	for _, peer := range resolution.Peers {
		if peer.State == "" || peer.Reason == "" && peer.State != PeerAnswered {
			t.Errorf("peer is not explained: %+v", peer)
		}
	}
}

func TestSourcesThatShareAPeerAskItOnce(t *testing.T) {
	peer := newPeer(t, clusterA)
	peer.set(func(p *fakePeer) { p.clusterID = clusterB })
	dataDir := t.TempDir()
	writeFile(t, dataDir, fmt.Sprintf(`{"PeerURLs":[%q],"cluster_id":"cdf818194e3a8c32","flags":"initial-cluster=%s"}`, peer.URL, peer.URL))
	resolution, err := New(Config{InitialCluster: cluster(peer.URL), DataDir: dataDir}).Resolve(t.Context())
	if err == nil || peer.timesAsked() != 1 || len(resolution.Peers) != 1 {
		t.Errorf("asked %d times, %v, %+v", peer.timesAsked(), err, resolution.Peers)
	}
}

func TestPinnedClusterIsKept(t *testing.T) {
	stranger, friend := newPeer(t, clusterB), newPeer(t, clusterA)

	t.Run("other peers are tried", func(t *testing.T) {
		resolution, err := resolvePeers(t, Config{ClusterID: clusterA}, stranger.URL, friend.URL)
		if err != nil {
			t.Fatal(err)
		}
		refused := resolution.Peers[0]
		if refused.State != PeerRefused || !strings.Contains(refused.Reason, "1111111111111111") ||
			!strings.Contains(refused.Reason, "cdf818194e3a8c32") {
			t.Errorf("got %+v, want it refused with both IDs", refused)
		}
		if resolution.ClusterID != "cdf818194e3a8c32" {
			t.Errorf("got cluster %s", resolution.ClusterID)
		}
	})
	t.Run("all are strangers", func(t *testing.T) {
		_, err := resolvePeers(t, Config{ClusterID: clusterA}, stranger.URL, refusingURL(t))
		var wrong *WrongClusterError
		if !errors.As(err, &wrong) || !errors.Is(err, ErrNoCluster) || wrong.Pinned != clusterA || wrong.Seen != clusterB {
			t.Errorf("got %v", err)
		}
	})
	t.Run("by the cluster file for the same flags", func(t *testing.T) {
		dataDir := t.TempDir()
		writeFile(t, dataDir, fmt.Sprintf(`{"PeerURLs":[%q],"cluster_id":"cdf818194e3a8c32","flags":"initial-cluster=%s"}`,
			refusingURL(t), stranger.URL))
		_, err := New(Config{InitialCluster: cluster(stranger.URL), DataDir: dataDir}).Resolve(t.Context())
		var wrong *WrongClusterError
		if !errors.As(err, &wrong) || !strings.Contains(wrong.PinnedBy, dataDir) {
			t.Errorf("got %v, want the path of the file in it", err)
		}
	})
	t.Run("a file about another cluster is not used", func(t *testing.T) {
		dataDir := t.TempDir()
		writeFile(t, dataDir, fmt.Sprintf(`{"PeerURLs":[%q],"cluster_id":"1111111111111111","flags":"initial-cluster=%s"}`,
			stranger.URL, friend.URL))
		resolution, err := New(Config{ClusterID: clusterA, InitialCluster: cluster(friend.URL), DataDir: dataDir}).Resolve(t.Context())
		if err != nil || fates(resolution.Sources) != "cluster file=failed initial-cluster=used default=not used" {
			t.Errorf("got %s, %v", fates(resolution.Sources), err)
		}
	})
}

func TestBadInitialClusterAsksNobody(t *testing.T) {
	peer := newPeer(t, clusterA)
	resolution, err := New(Config{InitialCluster: cluster(peer.URL) + ",oops"}).Resolve(t.Context())
	var bad *BadClusterError
	if !errors.As(err, &bad) || bad.Entry != "oops" || errors.Is(err, ErrNoCluster) || peer.timesAsked() > 0 {
		t.Errorf("got %v", err)
	}
	if len(resolution.Sources) != 1 || resolution.Sources[0].State != SourceFailed {
		t.Errorf("got %+v", resolution.Sources)
	}
}

func TestClientURLsSayWhyTheyAreNotUsed(t *testing.T) {
	peer := newPeer(t, clusterA,
		voter(1, "http://a:2380"),
		Member{ID: 2, Name: "learner", IsLearner: true, PeerURLs: []string{"http://b:2380"}, ClientURLs: []string{"http://b:2379"}},
		Member{ID: 3, PeerURLs: []string{"http://c:2380", "unix://localhost:m3"}},
		Member{ID: 4, Name: "odd", ClientURLs: []string{"b:2379", "unix:///run/etcd.sock"}},
	)
	resolution, err := resolvePeers(t, Config{}, peer.URL)
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, c := range resolution.Clients {
		if c.Used != (c.Why == "") {
			t.Errorf("used and why disagree: %+v", c)
		}
		got = append(got, fmt.Sprintf("%s %s %v", c.MemberID, c.URL, c.Used))
	}
	want := []string{
		"0000000000000001 http://10.0.0.1:2379 true",
		"0000000000000002 http://b:2379 false",
		"0000000000000003  false",
		"0000000000000004 b:2379 false",
		"0000000000000004 unix:///run/etcd.sock true",
	}
	if !slices.Equal(got, want) {
		t.Errorf("got\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
	if want := []string{"http://a:2380", "http://b:2380", "http://c:2380"}; !slices.Equal(resolution.PeerURLs, want) {
		t.Errorf("peer URLs %q, want %q", resolution.PeerURLs, want)
	}
}

func TestResolutionAsJSON(t *testing.T) {
	peer := newPeer(t, clusterA, voter(0x8e9e05c52164694d, "http://a:2380"), Member{ID: 1})
	good, err := resolvePeers(t, Config{}, peer.URL)
	if err != nil {
		t.Fatal(err)
	}
	for name, resolution := range map[string]*Resolution{"good": good, "empty": {}} {
		encoded, err := json.Marshal(resolution)
		if err != nil {
			t.Fatal(err)
		}
		if strings.Contains(string(encoded), "null") {
			t.Errorf("%s: a missing list is null: %s", name, encoded)
		}
	}
	encoded, _ := json.Marshal(good)
	for _, want := range []string{
		`"id":"8e9e05c52164694d","name":"m`, `"source":"initial-cluster"`, `"took_ms":`,
		`"cluster_id":"cdf818194e3a8c32"`, `"peer_urls":[]`, `"is_learner":false`,
	} {
		if !strings.Contains(string(encoded), want) {
			t.Errorf("no %s in %s", want, encoded)
		}
	}
}
