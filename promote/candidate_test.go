package promote

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"etcdops/discover"
)

// refusalCase changes one thing of what is good and says what must be found.
type refusalCase struct {
	name    string
	change  func(c *Candidate)
	check   string // "" = nothing is wrong
	problem string // a part of the line
	hint    string // a part of it
}

// goodCandidate is one that nothing speaks against, on an address of this test
// and beside members of goodMembers.
func goodCandidate(t *testing.T) *Candidate {
	t.Helper()
	ip := loopback(240)
	return &Candidate{
		Name: "m4", DataDir: t.TempDir(),
		InitialAdvertisePeerURLs: []string{"http://" + ip + ":2380"},
		ListenPeerURLs:           []string{"http://" + ip + ":2380"},
		ListenClientURLs:         []string{"http://" + ip + ":2379"},
		AdvertiseClientURLs:      []string{"http://" + ip + ":2379"},
		Settings:                 map[string]string{},
		Binary: Binary{
			Path: "/usr/bin/etcd", Version: "3.7.3",
			flags: map[string]bool{"quota-backend-bytes": true, "pre-vote": true, "auto-compaction-retention": true},
		},
		ProxyPID: 4711, ProxyNamespacePID: 4711, ProxyClusterID: 0xabc,
		UID: uint32(os.Geteuid()), GID: uint32(os.Getegid()),
	}
}

// goodMembers are n healthy voters on loopback addresses.
func goodMembers(n int) []discover.MemberStatus {
	var members []discover.MemberStatus
	for i := range n {
		digit := string(rune('1' + i))
		ip := loopback(byte(241 + i))
		members = append(members, discover.MemberStatus{
			ID: strings.Repeat("0", 15) + digit, Name: "m" + digit, Status: discover.MemberHealthy, Leader: i == 0,
			Role: discover.RoleVoter, Version: "3.7.1", DBSize: 1 << 20, RaftTerm: 7, RaftIndex: 100,
			PeerURLs: []string{"http://" + ip + ":2380"}, ClientURLs: []string{"http://" + ip + ":2379"},
		})
	}
	return members
}

// expectOne wants exactly the one refusal of a case, or none.
func expectOne(t *testing.T, found []Refusal, check, problem, hint string) {
	t.Helper()
	if check == "" {
		if len(found) > 0 {
			t.Errorf("refused: %q", found)
		}
		return
	}
	if len(found) != 1 {
		t.Fatalf("want %s alone, got %d: %q", check, len(found), found)
	}
	r := found[0]
	if r.Check != check || !strings.Contains(r.Problem, problem) || !strings.Contains(r.Hint, hint) {
		t.Errorf("want %s with %q and hint %q, got %+v", check, problem, hint, r)
	}
	expectLines(t, found)
}

// expectLines wants each problem and hint to be one line that says something.
func expectLines(t *testing.T, found []Refusal) {
	t.Helper()
	for _, r := range found {
		for _, text := range []string{r.Check, r.Problem, r.Hint} {
			if text == "" || strings.ContainsAny(text, "\n\r") || strings.Contains(text, "%!") {
				t.Errorf("not a line: %q of %+v", text, r)
			}
		}
	}
}

// checksOf are the names of what was found, in order.
func checksOf(found []Refusal) []string {
	var checks []string
	for _, r := range found {
		checks = append(checks, r.Check)
	}
	return checks
}

// tree lists what is below a folder, with sizes and times, so that two looks
// can be compared.
func tree(t *testing.T, folder string) []string {
	t.Helper()
	var entries []string
	err := filepath.Walk(folder, func(path string, info os.FileInfo, err error) error {
		if err == nil {
			entries = append(entries, path+" "+info.Mode().String()+" "+info.ModTime().String())
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return entries
}

func TestPreflightOfAGoodCandidate(t *testing.T) {
	c, members := goodCandidate(t), goodMembers(3)
	for _, folder := range []string{"proxy", "member/snap", StateFolder} {
		if err := os.MkdirAll(filepath.Join(c.DataDir, folder), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	before := tree(t, c.DataDir)
	for range 2 { // the second time finds no trace of the first
		found := slices.Concat(
			c.CheckCluster(0xabc, members), c.CheckBinary(members), c.CheckURLs(t.Context(), members),
			c.CheckHost(t.Context(), 1<<20), c.CheckTLS(), c.CheckEnvironment(),
		)
		expectOne(t, found, "", "", "")
	}
	if after := tree(t, c.DataDir); !slices.Equal(before, after) {
		t.Errorf("the data directory was changed: %q became %q", before, after)
	}
}

func TestPreflightFindsAllAtOnce(t *testing.T) {
	c, members := goodCandidate(t), goodMembers(3)
	c.Name = "m2"
	c.ProxyClusterID = 0xdef
	c.Binary.Version = "3.5.0"
	c.EtcdFlags = []string{"--nonsense"}
	c.AdvertiseClientURLs = []string{"http://0.0.0.0:2379"}
	c.DataDir = filepath.Join(c.DataDir, "gone")
	c.ListenClientURLs = append(c.ListenClientURLs, "https://"+loopback(240)+":4001")
	c.Environ = []string{"ETCD_PROXY=on"}
	members[2].Status, members[2].Reason = discover.MemberUnreachable, "connection refused"
	found := slices.Concat(
		c.CheckCluster(0xabc, members), c.CheckBinary(members), c.CheckURLs(t.Context(), members),
		c.CheckHost(t.Context(), 1<<20), c.CheckTLS(), c.CheckEnvironment(),
	)
	want := []string{
		"other-cluster", "name-taken", "dead-member", "version-skew", "unknown-flag",
		"advertise-local", "data-dir", "tls-missing", "environment",
	}
	if got := checksOf(found); !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
	expectLines(t, found)
}
