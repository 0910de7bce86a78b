package promote

import (
	"fmt"
	"slices"
	"strings"

	"etcdops/discover"
)

// CheckCluster looks at the cluster as its members gave it: whether each one
// lives, whether they agree, and whether there is room for the new member.
//
// etcd refuses some of it itself, with texts that name nobody, and accepts the
// rest (server/etcdserver/server.go, AddMember).
func (c *Candidate) CheckCluster(clusterID uint64, members []discover.MemberStatus) []Refusal {
	var found refusals
	if c.ProxyClusterID != 0 && c.ProxyClusterID != clusterID {
		found.add("other-cluster", "give the --data-dir of a proxy that stands in front of this cluster",
			"the proxy serves cluster %016x, the members belong to %016x", c.ProxyClusterID, clusterID)
	}
	if c.Name == "" || strings.ContainsAny(c.Name, "=,") || strings.TrimSpace(c.Name) != c.Name {
		found.add("bad-name", "choose a name without = and , and blanks around it",
			"%q can't stand in --initial-cluster, where it is followed by = and ends at a comma", c.Name)
	}
	if len(members) == 0 {
		found.add("no-members", "see what is found: etcdops proxy discover", "the cluster's list of members is empty")
		return found
	}
	for _, m := range members {
		c.checkMember(&found, m)
	}
	checkAgreement(&found, members)
	if c.Voter {
		checkVoterQuorum(&found, members)
	}
	return found
}

// checkMember looks at one member by itself.
func (c *Candidate) checkMember(found *refusals, m discover.MemberStatus) {
	who := nameOf(m)
	switch {
	case c.addedBefore(m):
		found.add(AlreadyAdded, "start its etcd, or take it out first: etcdctl member remove "+m.ID,
			"%s was added earlier with the peer URL of the new member and has never started", who)
		return
	case m.Role == discover.RoleLearner:
		found.add("another-learner",
			"one joins at a time; when it has caught up: etcdctl member promote "+m.ID+"; if it is given up: etcdctl member remove "+m.ID,
			"%s is a learner already", who)
	case m.Status == discover.MemberUnstarted:
		found.add("unstarted-member", "start it, or take it out: etcdctl member remove "+m.ID,
			"%s was added and has never started", who)
	}
	if m.Status != discover.MemberUnstarted && m.Name == c.Name {
		found.add("name-taken", nameHint(m),
			"%s has the name already", who)
	}
	switch {
	case m.NeedsUser:
		found.add("needs-user", "add --user NAME --password-file FILE of a user with the role root",
			"%s does not tell us how it is: %s", who, reasonOf(m))
	case m.Status == discover.MemberHealthy, m.Status == discover.MemberUnstarted:
	case m.Status == discover.MemberUnhealthy && len(m.Alarms) > 0:
		// The alarm is a reason of its own.
	case m.Status == discover.MemberUnknown:
		found.add("unknown-member", "start it with --advertise-client-urls, so that it can be asked",
			"%s can't be asked: %s", who, reasonOf(m))
	default:
		found.add("dead-member", "bring it back, or take it out first: etcdctl member remove "+m.ID,
			"%s is %s: %s", who, m.Status, reasonOf(m))
	}
}

// addedBefore tells whether the member is the new one, added by an earlier
// attempt that never started it. As a voter it is so only where a voter is
// wanted: it counts already.
func (c *Candidate) addedBefore(m discover.MemberStatus) bool {
	return m.Status == discover.MemberUnstarted && sameURLs(m.PeerURLs, c.InitialAdvertisePeerURLs) &&
		(m.Role == discover.RoleLearner || c.Voter)
}

// checkAgreement looks at what the members say together: the leader, the term
// and the alarms.
func checkAgreement(found *refusals, members []discover.MemberStatus) {
	leader, asked := false, false
	terms := map[uint64][]string{}
	alarms := map[string][]string{}
	for _, m := range members {
		leader = leader || m.Leader
		if m.RaftTerm != 0 {
			asked = true
			terms[m.RaftTerm] = append(terms[m.RaftTerm], nameOf(m))
		}
		for _, alarm := range m.Alarms {
			alarms[alarm] = append(alarms[alarm], nameOf(m))
		}
	}
	if asked && !leader {
		found.add("no-leader", "wait for an election to end, or bring the quorum back: etcdops proxy members",
			"no member is the leader")
	}
	if len(terms) > 1 {
		var said []string
		for _, term := range sortedKeys(terms) {
			said = append(said, fmt.Sprintf("%d at %s", term, strings.Join(terms[term], ", ")))
		}
		found.add("terms-differ", "an election is going on or a member is cut off: look again in some seconds with etcdops proxy members",
			"the members are in different raft terms: %s", strings.Join(said, "; "))
	}
	for _, alarm := range sortedKeys(alarms) {
		found.add("alarm", alarmHint(alarm), "%s", alarmProblem(alarm, members))
	}
}

// alarmProblem names who raised an alarm, which stands as "KIND ID".
func alarmProblem(alarm string, members []discover.MemberStatus) string {
	kind, id, _ := strings.Cut(alarm, " ")
	who := "member " + id
	for _, m := range members {
		if m.ID == id {
			who = nameOf(m)
		}
	}
	return fmt.Sprintf("%s has raised the alarm %s", who, kind)
}

func alarmHint(alarm string) string {
	switch kind, _, _ := strings.Cut(alarm, " "); kind {
	case "NOSPACE":
		return "make room (etcdctl compact, then etcdctl defrag), then: etcdctl alarm disarm"
	case "CORRUPT":
		return "replace the member whose data differ before the cluster grows; then: etcdctl alarm disarm"
	}
	return "see etcdctl alarm list; when the cause is gone: etcdctl alarm disarm"
}

// checkVoterQuorum refuses a voter that would stop all writes until it has
// started, as the second member of a cluster of one always does.
func checkVoterQuorum(found *refusals, members []discover.MemberStatus) {
	voters, healthy := countVoters(members)
	if quorum := quorumOf(voters + 1); quorum > healthy {
		found.add("voter-quorum", "leave --voter out: a learner has no vote until it has caught up",
			"with one more voter the quorum is %d of %d, and only %d live: writes would stop until it serves", quorum, voters+1, healthy)
	}
}

// nameOf is how a member is named in a line.
func nameOf(m discover.MemberStatus) string {
	if m.Status == discover.MemberUnstarted {
		return fmt.Sprintf("the member at %s (%s)", strings.Join(m.PeerURLs, ","), m.ID)
	}
	return fmt.Sprintf("member %s (%s)", m.Name, m.ID)
}

func reasonOf(m discover.MemberStatus) string {
	if m.Reason == "" {
		return "no cause is known"
	}
	return m.Reason
}

// sortedKeys gives the problems an order that is the same in each run.
func sortedKeys[K uint64 | string, V any](all map[K]V) []K {
	keys := make([]K, 0, len(all))
	for key := range all {
		keys = append(keys, key)
	}
	slices.Sort(keys)
	return keys
}

// nameHint names the removal of a member only where that can be what is meant.
func nameHint(m discover.MemberStatus) string {
	if m.Status == discover.MemberHealthy {
		return "choose another name: that member is healthy"
	}
	return "choose another name, or take the old member out: etcdctl member remove " + m.ID
}
