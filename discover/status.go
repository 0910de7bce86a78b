package discover

import (
	"encoding/json"
	"fmt"
)

// The states of a member.
const (
	MemberHealthy     = "healthy"     // a read went through the cluster's quorum
	MemberUnhealthy   = "unhealthy"   // it answers, but the read did not
	MemberUnreachable = "unreachable" // none of its client URLs answers
	MemberUnstarted   = "unstarted"   // added to the cluster, never started
	MemberUnknown     = "unknown"     // it cannot be asked
)

// The roles of a member.
const (
	RoleVoter   = "voter"
	RoleLearner = "learner"
)

// DBSizeUnknown is a database size that could not be learnt.
const DBSizeUnknown = -1

// MemberStatus is one row of the members table.
type MemberStatus struct {
	ID        string `json:"id"`      // 16 hex digits
	Name      string `json:"name"`    // "unstarted" while it has none
	Status    string `json:"status"`  // see MemberHealthy and its neighbours
	Leader    bool   `json:"leader"`  // by its own account
	Role      string `json:"role"`    // RoleVoter or RoleLearner
	Version   string `json:"version"` // "" = unknown
	DBSize    int64  `json:"db_size"` // bytes allocated; DBSizeUnknown
	RaftTerm  uint64 `json:"raft_term"`
	RaftIndex uint64 `json:"raft_index"` // committed
	// RaftAppliedIndex is how far it has applied what is committed; 0 = unknown,
	// also with etcd before 3.4.
	RaftAppliedIndex uint64   `json:"raft_applied_index"`
	PeerURLs         []string `json:"peer_urls"`
	ClientURLs       []string `json:"client_urls"`

	// Alarms are those of the whole cluster, as this member has them: each is
	// "NOSPACE 8e9e05c52164694d", the kind and the ID of who raised it.
	Alarms []string `json:"alarms"`

	// Used tells whether the proxy sends requests to it, Why why not.
	Used bool   `json:"used"`
	Why  string `json:"why"`

	// Reason is the cause when it is not healthy, or why its columns are
	// unknown.
	Reason string `json:"reason"`

	// Skew tells where its version is more than one minor away from another
	// member's; "" where it is not, and where one of them is not known.
	Skew string `json:"skew,omitempty"`

	// NeedsUser is set where columns are unknown because the cluster has auth
	// on and no user, or not the right one, was given.
	NeedsUser bool `json:"needs_user"`
}

// MarshalJSON writes missing lists as empty ones.
func (s MemberStatus) MarshalJSON() ([]byte, error) {
	type fields MemberStatus
	s.PeerURLs, s.ClientURLs, s.Alarms = nonNil(s.PeerURLs), nonNil(s.ClientURLs), nonNil(s.Alarms)
	return json.Marshal(fields(s))
}

// newMemberStatus is the row of a member that was not asked yet.
func newMemberStatus(m Member) MemberStatus {
	row := MemberStatus{
		ID: hexID(m.ID), Name: m.Name, Status: MemberUnknown, Role: RoleVoter, DBSize: DBSizeUnknown,
		PeerURLs: m.PeerURLs, ClientURLs: m.ClientURLs,
	}
	row.Used, row.Why = m.Usable()
	if m.IsLearner {
		row.Role = RoleLearner
	}
	switch {
	case !m.Started():
		row.Name, row.Status = "unstarted", MemberUnstarted
		row.Reason = "it was added, but has never started"
	case len(m.ClientURLs) == 0:
		row.Reason = "it advertises no client URL to ask"
	}
	return row
}

// AllHealthy tells whether every member is started, reachable and healthy, and
// there is a leader; if not, it names the first thing that is wrong.
func AllHealthy(members []MemberStatus) (healthy bool, problem string) {
	leader := false
	for _, m := range members {
		if m.Status != MemberHealthy {
			return false, fmt.Sprintf("member %s (%s) is %s: %s", m.Name, m.ID, m.Status, m.Reason)
		}
		// Where a voter may not be asked who leads, its read through the quorum
		// has proven that somebody does.
		proven := m.Role == RoleVoter && m.DBSize == DBSizeUnknown
		leader = leader || m.Leader || proven
	}
	switch {
	case len(members) == 0:
		return false, "there are no members"
	case !leader:
		return false, "no member is the leader"
	}
	return true, ""
}
