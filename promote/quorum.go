package promote

import "etcdops/discover"

// Phases of a promotion as the quorum sees them.
const (
	PhaseNow     = "now"
	PhaseJoining = "while it joins" // added, and has no data yet
	PhaseAfter   = "afterwards"     // a voter that serves
)

// QuorumRow is what the cluster can bear in one phase of a promotion.
type QuorumRow struct {
	Phase  string `json:"phase"`
	Voters int    `json:"voters"`
	Quorum int    `json:"quorum"`
	// Tolerance is how many of the voters that live may fail before writes
	// stop. Below 0 they have stopped already.
	Tolerance int `json:"tolerance"`
}

// QuorumTable says what the cluster can bear before, during and after a
// promotion. A learner has no vote while it joins; a voter has one from the
// moment that it is added, and lives only later.
func QuorumTable(members []discover.MemberStatus, voter bool) []QuorumRow {
	voters, alive := countVoters(members)
	joining := voters
	if voter {
		joining++
	}
	row := func(phase string, voters, alive int) QuorumRow {
		return QuorumRow{phase, voters, quorumOf(voters), alive - quorumOf(voters)}
	}
	return []QuorumRow{
		row(PhaseNow, voters, alive),
		row(PhaseJoining, joining, alive),
		row(PhaseAfter, voters+1, alive+1),
	}
}

// quorumOf is how many voters must agree.
func quorumOf(voters int) int { return voters/2 + 1 }

// countVoters counts those who have a vote, and those of them that are healthy.
func countVoters(members []discover.MemberStatus) (voters, healthy int) {
	for _, m := range members {
		if m.Role == discover.RoleLearner {
			continue
		}
		voters++
		if m.Status == discover.MemberHealthy {
			healthy++
		}
	}
	return voters, healthy
}
