package promote

import (
	"slices"
	"testing"

	"etcdops/discover"
)

func TestCheckCluster(t *testing.T) {
	joining := func(role, peerURL string) discover.MemberStatus {
		return discover.MemberStatus{
			ID: "000000000000000f", Name: "unstarted", Status: discover.MemberUnstarted, Role: role,
			PeerURLs: []string{peerURL}, Reason: "it was added, but has never started",
		}
	}
	ourPeerURL := "http://" + loopback(240) + ":2380"
	for _, test := range []struct {
		name    string
		n       int // members; 0 = 3
		change  func(c *Candidate, members *[]discover.MemberStatus)
		checks  []string
		problem string // of the first
		hint    string // of the first
	}{
		{"good", 0, func(*Candidate, *[]discover.MemberStatus) {}, nil, "", ""},
		{
			"proxy of another cluster", 0,
			func(c *Candidate, _ *[]discover.MemberStatus) { c.ProxyClusterID = 0xdef },
			[]string{"other-cluster"},
			"0000000000000def", "--data-dir",
		},
		{
			"cluster of the proxy unknown", 0,
			func(c *Candidate, _ *[]discover.MemberStatus) { c.ProxyClusterID = 0 }, nil, "", "",
		},
		{
			"no members", 0,
			func(_ *Candidate, members *[]discover.MemberStatus) { *members = nil },
			[]string{"no-members"},
			"empty", "etcdops proxy discover",
		},
		{
			"name that breaks the list", 0,
			func(c *Candidate, _ *[]discover.MemberStatus) { c.Name = "m=4" },
			[]string{"bad-name"},
			`"m=4"`, "without =",
		},
		{
			"name taken", 0,
			func(c *Candidate, _ *[]discover.MemberStatus) { c.Name = "m3" },
			[]string{"name-taken"},
			"member m3 (0000000000000003)", "choose another name: that member is healthy",
		},
		{
			"named as unstarted ones are shown", 0,
			func(c *Candidate, _ *[]discover.MemberStatus) { c.Name = "unstarted" }, nil, "", "",
		},
		{
			"dead member", 0,
			func(_ *Candidate, members *[]discover.MemberStatus) {
				(*members)[1].Status, (*members)[1].Reason = discover.MemberUnreachable, "connection refused"
				(*members)[1].RaftTerm = 0
			},
			[]string{"dead-member"},
			"member m2 (0000000000000002) is unreachable: connection refused", "member remove 0000000000000002",
		},
		{
			"member without a quorum", 0,
			func(_ *Candidate, members *[]discover.MemberStatus) {
				(*members)[1].Status, (*members)[1].Reason = discover.MemberUnhealthy, "no answer within 2s"
			},
			[]string{"dead-member"},
			"is unhealthy: no answer within 2s", "",
		},
		{
			"member that can't be asked", 0,
			func(_ *Candidate, members *[]discover.MemberStatus) {
				(*members)[1].Status, (*members)[1].Reason = discover.MemberUnknown, "it advertises no client URL to ask"
			},
			[]string{"unknown-member"},
			"m2", "--advertise-client-urls",
		},
		{
			"member that answers users only", 0,
			func(_ *Candidate, members *[]discover.MemberStatus) {
				(*members)[1].NeedsUser, (*members)[1].Reason = true, "it answers users only"
				(*members)[1].RaftTerm = 0
			},
			[]string{"needs-user"},
			"m2", "--user",
		},
		{
			"unstarted member", 0,
			func(_ *Candidate, members *[]discover.MemberStatus) {
				*members = append(*members, joining(discover.RoleVoter, "http://10.0.0.9:2380"))
			},
			[]string{"unstarted-member"},
			"the member at http://10.0.0.9:2380 (000000000000000f)", "member remove 000000000000000f",
		},
		{
			"another learner", 0,
			func(_ *Candidate, members *[]discover.MemberStatus) { (*members)[2].Role = discover.RoleLearner },
			[]string{"another-learner"},
			"member m3 (0000000000000003)", "member promote 0000000000000003",
		},
		{
			"another learner that never started", 0,
			func(_ *Candidate, members *[]discover.MemberStatus) {
				*members = append(*members, joining(discover.RoleLearner, "http://10.0.0.9:2380"))
			},
			[]string{"another-learner"},
			"http://10.0.0.9:2380", "member remove 000000000000000f",
		},
		{
			"the learner is ours", 0,
			func(_ *Candidate, members *[]discover.MemberStatus) {
				*members = append(*members, joining(discover.RoleLearner, ourPeerURL))
			},
			[]string{AlreadyAdded},
			ourPeerURL, "member remove 000000000000000f",
		},
		{
			"ours was added as a voter, and a learner is wanted", 0,
			func(_ *Candidate, members *[]discover.MemberStatus) {
				*members = append(*members, joining(discover.RoleVoter, ourPeerURL))
			},
			[]string{"unstarted-member"},
			ourPeerURL, "",
		},
		{
			"no leader", 0,
			func(_ *Candidate, members *[]discover.MemberStatus) { (*members)[0].Leader = false },
			[]string{"no-leader"},
			"no member is the leader", "",
		},
		{
			"terms differ", 0,
			func(_ *Candidate, members *[]discover.MemberStatus) { (*members)[2].RaftTerm = 8 },
			[]string{"terms-differ"},
			"7 at member m1 (0000000000000001), member m2 (0000000000000002); 8 at member m3", "",
		},
		{
			"alarm, which each member tells", 0,
			func(_ *Candidate, members *[]discover.MemberStatus) {
				for i := range *members {
					(*members)[i].Alarms = []string{"NOSPACE 0000000000000002"}
					(*members)[i].Status = discover.MemberUnhealthy
				}
			},
			[]string{"alarm"},
			"member m2 (0000000000000002) has raised the alarm NOSPACE", "etcdctl alarm disarm",
		},
		{
			"voter beside one", 1,
			func(c *Candidate, _ *[]discover.MemberStatus) { c.Voter = true },
			[]string{"voter-quorum"},
			"2 of 2, and only 1", "leave --voter out",
		},
		{"voter beside three", 3, func(c *Candidate, _ *[]discover.MemberStatus) { c.Voter = true }, nil, "", ""},
		{
			"voter beside two of three", 3,
			func(c *Candidate, members *[]discover.MemberStatus) {
				c.Voter = true
				(*members)[2].Status, (*members)[2].Reason = discover.MemberUnreachable, "no route to host"
			},
			[]string{"dead-member", "voter-quorum"},
			"m3", "",
		},
	} {
		t.Run(test.name, func(t *testing.T) {
			n := test.n
			if n == 0 {
				n = 3
			}
			c, members := goodCandidate(t), goodMembers(n)
			test.change(c, &members)
			found := c.CheckCluster(0xabc, members)
			if len(test.checks) < 2 {
				expectOne(t, found, slices.Concat(test.checks, []string{""})[0], test.problem, test.hint)
				return
			}
			if got := checksOf(found); !slices.Equal(got, test.checks) {
				t.Errorf("got %q, want %q", got, test.checks)
			}
			expectLines(t, found)
		})
	}
}
