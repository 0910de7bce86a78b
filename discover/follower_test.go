package discover

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

func refresh(t *testing.T, f *Follower) Membership {
	t.Helper()
	m, err := f.Refresh(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if m.FileErr != nil {
		t.Fatal(m.FileErr)
	}
	return m
}

func TestFollowerSurvivesTheReplacementOfAllMembers(t *testing.T) {
	first, second := newPeer(t, clusterA), newPeer(t, clusterA)
	dataDir := t.TempDir()
	config := Config{InitialCluster: cluster(first.URL), DataDir: dataDir}
	f := NewFollower(config)
	if m := refresh(t, f); !slices.Equal(m.PeerURLs, []string{first.URL}) || m.ClusterID != clusterA || m.At.IsZero() {
		t.Fatalf("got %+v", m)
	}

	both := []Member{voter(1, first.URL), voter(2, second.URL)}
	first.set(func(p *fakePeer) { p.members = both })
	second.set(func(p *fakePeer) { p.members = both })
	if m := refresh(t, f); !slices.Equal(m.PeerURLs, []string{first.URL, second.URL}) {
		t.Fatalf("got %+v", m)
	}

	first.set(func(p *fakePeer) { p.down = true })
	second.set(func(p *fakePeer) { p.members = both[1:] })
	m := refresh(t, f)
	if !slices.Equal(m.PeerURLs, []string{second.URL}) || !slices.Equal(m.ClientURLs(), []string{"http://10.0.0.2:2379"}) {
		t.Fatalf("got %+v", m)
	}

	// A new process with the old flags finds the new members by the file.
	if m := refresh(t, NewFollower(config)); !slices.Equal(m.PeerURLs, []string{second.URL}) {
		t.Errorf("after a restart: %+v", m)
	}
}

// TestFollowerTakesNoListOfAMemberThatJoins: it was seen to have none but the
// joining member's client URL, and the proxy to drop all endpoints.
func TestFollowerTakesNoListOfAMemberThatJoins(t *testing.T) {
	old, joining := newPeer(t, clusterA), newPeer(t, clusterA)
	f := NewFollower(Config{InitialCluster: cluster(old.URL)})
	silent := func(m Member) Member { m.ClientURLs = nil; return m }
	now := []Member{voter(1, old.URL), voter(2, joining.URL)}
	old.set(func(p *fakePeer) { p.members = now })
	refresh(t, f)
	for _, test := range []struct {
		name    string
		members []Member
	}{
		{"it does not know its own client URLs", []Member{voter(1, old.URL), silent(voter(2, joining.URL))}},
		{"nor anybody's", []Member{silent(voter(1, old.URL)), silent(voter(2, joining.URL))}},
		{"nor those of a member that we know", []Member{silent(voter(1, old.URL)), voter(2, joining.URL)}},
		{"it knows one of long ago", []Member{voter(9, refusingURL(t)), silent(voter(2, joining.URL))}},
		{"it has caught up", now},
	} {
		t.Run(test.name, func(t *testing.T) {
			joining.set(func(p *fakePeer) { p.members = test.members })
			for range 2 { // each of them has its turn to be asked first
				asked := joining.timesAsked()
				m := refresh(t, f)
				if joining.timesAsked() == asked || len(m.Members) != len(now) || !slices.Equal(m.Members[0].ClientURLs, now[0].ClientURLs) {
					t.Errorf("got %+v", m.Members)
				}
			}
		})
	}
	old.set(func(p *fakePeer) { p.down = true })
	joining.set(func(p *fakePeer) { p.members = []Member{silent(voter(1, old.URL)), silent(voter(2, joining.URL))} })
	if m, err := f.Refresh(t.Context()); err == nil || len(m.Members) < 2 || len(m.Members[0].ClientURLs) == 0 {
		t.Errorf("with nobody else to ask: %+v, %v", m.Members, err)
	}
}

func TestFollowerKeepsTheLastGoodList(t *testing.T) {
	peer := newPeer(t, clusterA)
	dataDir := t.TempDir()
	f := NewFollower(Config{InitialCluster: cluster(peer.URL), DataDir: dataDir})
	peer.set(func(p *fakePeer) { p.down = true })
	if m, err := f.Refresh(t.Context()); err == nil || len(m.Members) > 0 {
		t.Errorf("before the first answer: %+v, %v", m, err)
	}
	if _, err := os.Stat(filepath.Join(dataDir, "proxy")); !os.IsNotExist(err) {
		t.Errorf("a folder was made without an answer: %v", err)
	}
	peer.set(func(p *fakePeer) { p.down = false })
	good := refresh(t, f)
	file := readFile(t, dataDir)

	for _, test := range []struct {
		name  string
		spoil func(p *fakePeer)
	}{
		{"another cluster", func(p *fakePeer) { p.clusterID, p.members = clusterB, []Member{voter(9, "http://x:1")} }},
		{"empty list", func(p *fakePeer) { p.clusterID, p.members = clusterA, nil }},
		{"down", func(p *fakePeer) { p.down = true }},
	} {
		peer.set(test.spoil)
		m, err := f.Refresh(t.Context())
		if !errors.Is(err, ErrNoCluster) {
			t.Errorf("%s: got error %v", test.name, err)
		}
		if m.ClusterID != clusterA || len(m.Members) != 1 || m.Members[0].ID != 1 || m.At != good.At {
			t.Errorf("%s: the last good list became %+v", test.name, m)
		}
		if readFile(t, dataDir) != file {
			t.Errorf("%s: the file became %s", test.name, readFile(t, dataDir))
		}
	}
}

func TestFollowerIsPinnedByTheFirstAnswer(t *testing.T) {
	peer := newPeer(t, clusterA)
	f := NewFollower(Config{InitialCluster: cluster(peer.URL)})
	refresh(t, f)
	peer.set(func(p *fakePeer) { p.clusterID = clusterB })
	_, err := f.Refresh(t.Context())
	var wrong *WrongClusterError
	if !errors.As(err, &wrong) || wrong.Pinned != clusterA || wrong.Seen != clusterB || wrong.PinnedBy != pinnedByAnswer {
		t.Errorf("got %v", err)
	}
	peer.set(func(p *fakePeer) { p.clusterID = clusterA })
	refresh(t, f)
}

func TestFollowerGoesBackToTheSources(t *testing.T) {
	// The members advertise an address that cannot be reached from here.
	peer := newPeer(t, clusterA)
	dead := refusingURL(t)
	peer.set(func(p *fakePeer) { p.members = []Member{voter(1, dead)} })
	f := NewFollower(Config{InitialCluster: cluster(peer.URL), DataDir: t.TempDir()})
	for range 3 {
		if m := refresh(t, f); !slices.Equal(m.PeerURLs, []string{dead}) {
			t.Errorf("got %+v", m)
		}
	}
	if peer.timesAsked() != 3 {
		t.Errorf("the source was asked %d times, want 3", peer.timesAsked())
	}
}

func TestFollowerAsksAllVotersInTurn(t *testing.T) {
	peers := []*fakePeer{newPeer(t, clusterA), newPeer(t, clusterA), newPeer(t, clusterA), newPeer(t, clusterA)}
	members := []Member{
		{ID: 4, Name: "learner", IsLearner: true, PeerURLs: []string{peers[3].URL}},
		voter(1, peers[0].URL), voter(2, peers[1].URL), voter(3, peers[2].URL),
	}
	for _, p := range peers {
		p.set(func(p *fakePeer) { p.members = members })
	}
	f := NewFollower(Config{InitialCluster: cluster(peers[0].URL)})
	for range 7 {
		refresh(t, f)
	}
	if asked := []int{peers[0].timesAsked(), peers[1].timesAsked(), peers[2].timesAsked(), peers[3].timesAsked()}; min(asked[0], asked[1], asked[2]) < 4 || asked[0]+asked[1]+asked[2] > 15 || asked[3] != 0 { // 13, and one may be late
		t.Errorf("asked %v times, want two voters each time, in turn, and never the learner", asked)
	}
}

// TestFollowerKeepsTheListWhilePeersDisagree: until they agree, or for two refreshes.
func TestFollowerKeepsTheListWhilePeersDisagree(t *testing.T) {
	one, two := newPeer(t, clusterA), newPeer(t, clusterA)
	before := []Member{voter(1, one.URL), voter(2, two.URL)}
	after := append(slices.Clone(before), voter(3, "http://10.0.0.3:2380"))
	say := func(first, second []Member) {
		one.set(func(p *fakePeer) { p.members = first })
		two.set(func(p *fakePeer) { p.members = second })
	}
	for _, test := range []struct {
		name    string
		refresh [][2][]Member // what the two say at each
		members []int         // how many are listed after it
	}{
		{"they come to agree", [][2][]Member{{before, after}, {after, after}}, []int{2, 3}},
		{"the change is taken back", [][2][]Member{{after, before}, {before, before}}, []int{2, 2}},
		{"the refresh after next", [][2][]Member{{before, after}, {before, after}, {before, after}}, []int{2, 2, 3}},
		{"each time another one", [][2][]Member{{before, after}, {after, before}, {after, before}}, []int{2, 2, 3}},
		{"a new disagreement is a new one", [][2][]Member{{before, after}, {before, after}, {before, before}, {before, after}}, []int{2, 2, 2, 2}},
	} {
		t.Run(test.name, func(t *testing.T) {
			say(before, before)
			f := NewFollower(Config{InitialCluster: cluster(one.URL)})
			refresh(t, f)
			for i, lists := range test.refresh {
				say(lists[0], lists[1])
				m, err := f.Refresh(t.Context())
				var disagree *DisagreeError
				held := len(lists[0]) != len(lists[1]) && i < disagreeLimit || i == 3
				if errors.As(err, &disagree) != held || !held && err != nil || len(m.Members) != test.members[i] {
					t.Fatalf("refresh %d: %d members, %v", i+1, len(m.Members), err)
				}
				if held && !strings.Contains(err.Error(), "m1, m2, m3") {
					t.Errorf("the lists are not named: %v", err)
				}
			}
		})
	}
	say(before, after)
	f := NewFollower(Config{InitialCluster: cluster(one.URL)})
	refresh(t, f)
	two.set(func(p *fakePeer) { p.down = true })
	one.set(func(p *fakePeer) { p.members = after })
	if m := refresh(t, f); len(m.Members) != 3 {
		t.Errorf("with one to answer: %+v", m.Members)
	}
}

func TestFollowerAcceptsAnotherCluster(t *testing.T) {
	peer := newPeer(t, clusterA)
	config := Config{InitialCluster: cluster(peer.URL), DataDir: t.TempDir()}
	f := NewFollower(config)
	refresh(t, f)
	if m, err := f.Accept(t.Context(), clusterB); err == nil {
		t.Fatalf("a cluster that nobody answers for was accepted: %+v", m)
	}
	refresh(t, f)
	peer.set(func(p *fakePeer) { p.clusterID = clusterB })
	var wrong *WrongClusterError
	if _, err := f.Refresh(t.Context()); !errors.As(err, &wrong) {
		t.Fatalf("got %v", err)
	}
	if m, err := f.Accept(t.Context(), clusterB); err != nil || m.ClusterID != clusterB {
		t.Fatalf("got %+v, %v", m, err)
	}
	refresh(t, f)
	if m := refresh(t, NewFollower(config)); m.ClusterID != clusterB {
		t.Errorf("after a restart: %+v", m)
	}
	// The restart itself: by the file's pin, by no pin, and by another one.
	peer.set(func(p *fakePeer) { p.clusterID = clusterA })
	if _, err := NewFollower(config).Refresh(t.Context()); !errors.As(err, &wrong) || wrong.Pinned != clusterB {
		t.Errorf("the file's pin: %v", err)
	}
	config.ClusterID = clusterB
	if _, err := NewFollower(config).Refresh(t.Context()); !errors.As(err, &wrong) || wrong.PinnedBy != pinnedByConfig {
		t.Errorf("a pin that is given: %v", err)
	}
	config.ClusterID = clusterA
	if m := refresh(t, NewFollower(config)); m.ClusterID != clusterA {
		t.Errorf("a pin that beats the file's: %+v", m)
	}
	peer.set(func(p *fakePeer) { p.clusterID = clusterB })
	config.ClusterID, config.AnyCluster = 0, true
	f = NewFollower(config)
	if m := refresh(t, f); m.ClusterID != clusterB {
		t.Errorf("any: %+v", m)
	}
	peer.set(func(p *fakePeer) { p.clusterID = clusterA })
	if _, err := f.Refresh(t.Context()); !errors.As(err, &wrong) {
		t.Errorf("any is the first, not each: %v", err)
	}
}

func TestFollowerReportsAFileThatCannotBeWritten(t *testing.T) {
	peer := newPeer(t, clusterA)
	dataDir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dataDir, "proxy"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	f := NewFollower(Config{InitialCluster: cluster(peer.URL), DataDir: dataDir})
	m, err := f.Refresh(t.Context())
	if err != nil || len(m.Members) != 1 {
		t.Fatalf("the membership was lost: %+v, %v", m, err)
	}
	if m.FileErr == nil || !strings.Contains(m.FileErr.Error(), filepath.Join(dataDir, "proxy", "cluster")) ||
		strings.Contains(m.FileErr.Error(), "\n") {
		t.Errorf("got %v", m.FileErr)
	}
	if err := os.Remove(filepath.Join(dataDir, "proxy")); err != nil {
		t.Fatal(err)
	}
	refresh(t, f)
	readFile(t, dataDir)
}

func TestFollowerStopsWriting(t *testing.T) {
	peer := newPeer(t, clusterA)
	dataDir := t.TempDir()
	f := NewFollower(Config{InitialCluster: cluster(peer.URL), DataDir: dataDir})
	refresh(t, f)
	f.StopWriting()
	if err := os.Rename(filepath.Join(dataDir, "proxy"), filepath.Join(dataDir, "aside")); err != nil {
		t.Fatal(err)
	}
	peer.set(func(p *fakePeer) { p.members = append(p.members, voter(2, "http://b:2380")) })
	if m := refresh(t, f); len(m.Members) != 2 {
		t.Errorf("following ended too: %+v", m)
	}
	if _, err := os.Stat(filepath.Join(dataDir, "proxy")); !os.IsNotExist(err) {
		t.Errorf("the folder is back: %v", err)
	}
	f.ResumeWriting()
	refresh(t, f)
	if file := readFile(t, dataDir); !strings.Contains(file, "http://b:2380") {
		t.Errorf("after writing was resumed the file has %s", file)
	}
}

// A proxy that starts in the middle of a promotion goes by the folder that was
// set aside, and writes none.
func TestFollowerReadsTheFileSetAside(t *testing.T) {
	first, second := newPeer(t, clusterA), newPeer(t, clusterA)
	dataDir := t.TempDir()
	config := Config{InitialCluster: cluster(first.URL), DataDir: dataDir}
	first.set(func(p *fakePeer) { p.members = []Member{voter(2, second.URL)} })
	refresh(t, NewFollower(config))
	aside := filepath.Join(dataDir, "aside")
	if err := os.Rename(filepath.Join(dataDir, "proxy"), aside); err != nil {
		t.Fatal(err)
	}
	first.set(func(p *fakePeer) { p.down = true })
	second.set(func(p *fakePeer) { p.members = []Member{voter(2, second.URL), voter(3, "http://c:2380")} })

	config.ClusterFile, config.ReadOnly = filepath.Join(aside, "cluster"), true
	f := NewFollower(config)
	if m := refresh(t, f); len(m.Members) != 2 {
		t.Errorf("got %+v", m)
	}
	if _, err := os.Stat(filepath.Join(dataDir, "proxy")); !os.IsNotExist(err) {
		t.Errorf("the folder is back: %v", err)
	}
	// The promotion is undone: its folder returns, and is read and written.
	if err := os.Rename(aside, filepath.Join(dataDir, "proxy")); err != nil {
		t.Fatal(err)
	}
	f.ResumeWriting()
	refresh(t, f)
	if file := readFile(t, dataDir); !strings.Contains(file, "http://c:2380") {
		t.Errorf("the file has %s", file)
	}
	if m := refresh(t, NewFollower(config)); len(m.Members) != 2 {
		t.Errorf("without the folder aside: %+v", m)
	}
}

func TestFollowerWithABadClusterFails(t *testing.T) {
	_, err := NewFollower(Config{InitialCluster: "oops"}).Refresh(t.Context())
	var bad *BadClusterError
	if !errors.As(err, &bad) {
		t.Errorf("got %v", err)
	}
}

func TestUnaskablePeerURLsDoNotEmptyTheFile(t *testing.T) {
	peer := newPeer(t, clusterA)
	peer.set(func(p *fakePeer) { p.members = []Member{voter(1, "unix://localhost:m0")} })
	dataDir := t.TempDir()
	f := NewFollower(Config{InitialCluster: cluster(peer.URL), DataDir: dataDir})
	for range 2 {
		refresh(t, f)
	}
	if want := fmt.Sprintf(`{"PeerURLs":[%q]`, peer.URL); !strings.HasPrefix(readFile(t, dataDir), want) {
		t.Errorf("file has %s", readFile(t, dataDir))
	}
}

func TestFollowerByTheLastResort(t *testing.T) {
	peer := newPeer(t, clusterA)
	for name, file := range map[string]string{
		"our own file": fmt.Sprintf(`{"PeerURLs":[%q],"cluster_id":"cdf818194e3a8c32","flags":"initial-cluster=http://old:1"}`, peer.URL),
		"etcd's file":  fmt.Sprintf(`{"PeerURLs":[%q]}`, peer.URL),
	} {
		t.Run(name, func(t *testing.T) {
			dataDir := t.TempDir()
			writeFile(t, dataDir, file)
			config := Config{InitialCluster: cluster(refusingURL(t)), DataDir: dataDir}
			f := NewFollower(config)
			refresh(t, f)
			refresh(t, f)
			// The file must not come before flags that never led anywhere.
			resolution, err := New(config).Resolve(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			if got := fates(resolution.Sources); got != "initial-cluster=failed default=not used cluster file=used" {
				t.Errorf("got %s; the file is %s", got, readFile(t, dataDir))
			}
		})
	}
}
