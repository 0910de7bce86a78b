package discover

import (
	"encoding/json"
	"strings"
	"testing"
)

func TestAllHealthy(t *testing.T) {
	row := func(id, status string, change ...func(*MemberStatus)) MemberStatus {
		s := MemberStatus{ID: id, Name: "m" + id, Status: status, Role: RoleVoter, Reason: "because"}
		for _, c := range change {
			c(&s)
		}
		return s
	}
	leader := func(s *MemberStatus) { s.Leader = true }
	learner := func(s *MemberStatus) { s.Role = RoleLearner }
	denied := func(s *MemberStatus) { s.DBSize, s.NeedsUser = DBSizeUnknown, true }
	for _, test := range []struct {
		name    string
		members []MemberStatus
		problem string // "" = healthy
	}{
		{"good", []MemberStatus{row("1", MemberHealthy, leader), row("2", MemberHealthy), row("3", MemberHealthy, learner)}, ""},
		{"no members", nil, "no members"},
		{"no leader", []MemberStatus{row("1", MemberHealthy)}, "no member is the leader"},
		{"leader may not be asked for", []MemberStatus{row("1", MemberHealthy, denied)}, ""},
		{"a learner proves no leader", []MemberStatus{row("1", MemberHealthy, denied, learner)}, "no member is the leader"},
		{"unstarted", []MemberStatus{row("1", MemberHealthy, leader), row("2", MemberUnstarted)}, "m2 (2) is unstarted: because"},
		{"unhealthy", []MemberStatus{row("1", MemberUnhealthy, leader)}, "m1 (1) is unhealthy: because"},
		{"unreachable", []MemberStatus{row("1", MemberHealthy, leader), row("2", MemberUnreachable)}, "m2 (2) is unreachable: because"},
		{"unknown", []MemberStatus{row("1", MemberHealthy, leader), row("2", MemberUnknown)}, "m2 (2) is unknown: because"},
	} {
		t.Run(test.name, func(t *testing.T) {
			healthy, problem := AllHealthy(test.members)
			if healthy != (test.problem == "") || !strings.Contains(problem, test.problem) || healthy != (problem == "") {
				t.Errorf("got %v, %q", healthy, problem)
			}
		})
	}
}

func TestMemberStatusAsJSON(t *testing.T) {
	encoded, err := json.Marshal(newMemberStatus(Member{ID: 0x8e9e05c52164694d}))
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{
		`"id":"8e9e05c52164694d"`, `"name":"unstarted"`, `"status":"unstarted"`, `"db_size":-1`,
		`"role":"voter"`, `"client_urls":[]`, `"used":false`, `"why":"unstarted"`, `"alarms":[]`,
	} {
		if !strings.Contains(string(encoded), want) {
			t.Errorf("no %s in %s", want, encoded)
		}
	}
}
