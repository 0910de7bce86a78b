package promote

import (
	"slices"
	"testing"

	"etcdops/discover"
)

func TestQuorumTable(t *testing.T) {
	oneDead := goodMembers(3)
	oneDead[1].Status = discover.MemberUnreachable
	withLearner := append(goodMembers(3), discover.MemberStatus{Name: "l", Role: discover.RoleLearner, Status: discover.MemberHealthy})
	for _, test := range []struct {
		name    string
		members []discover.MemberStatus
		voter   bool
		want    []QuorumRow
	}{
		{"one to two", goodMembers(1), false, []QuorumRow{{PhaseNow, 1, 1, 0}, {PhaseJoining, 1, 1, 0}, {PhaseAfter, 2, 2, 0}}},
		{"one to two as a voter", goodMembers(1), true, []QuorumRow{{PhaseNow, 1, 1, 0}, {PhaseJoining, 2, 2, -1}, {PhaseAfter, 2, 2, 0}}},
		{"two to three", goodMembers(2), false, []QuorumRow{{PhaseNow, 2, 2, 0}, {PhaseJoining, 2, 2, 0}, {PhaseAfter, 3, 2, 1}}},
		{"three to four as a voter", goodMembers(3), true, []QuorumRow{{PhaseNow, 3, 2, 1}, {PhaseJoining, 4, 3, 0}, {PhaseAfter, 4, 3, 1}}},
		{"one of three dead", oneDead, false, []QuorumRow{{PhaseNow, 3, 2, 0}, {PhaseJoining, 3, 2, 0}, {PhaseAfter, 4, 3, 0}}},
		{"a learner has no vote", withLearner, false, []QuorumRow{{PhaseNow, 3, 2, 1}, {PhaseJoining, 3, 2, 1}, {PhaseAfter, 4, 3, 1}}},
	} {
		t.Run(test.name, func(t *testing.T) {
			if got := QuorumTable(test.members, test.voter); !slices.Equal(got, test.want) {
				t.Errorf("got %+v, want %+v", got, test.want)
			}
		})
	}
}
