package commands

import (
	"fmt"
	"slices"
	"strings"

	"github.com/dustin/go-humanize"

	"etcdops/discover"
)

func membersTable(env *Env, r *membersReport) Table {
	t := Table{
		Header: []string{
			"ID", "NAME", "STATUS", "LEADER", "ROLE", "VERSION", "DB SIZE", "RAFT TERM", "RAFT INDEX",
			"PEER URLS", "CLIENT URLS", "USED", "NOTE",
		},
		Value: r,
	}
	for _, m := range r.Members {
		unknown := "?"
		if m.NeedsUser {
			unknown = "needs --user"
		}
		number := func(n uint64) string {
			if n == 0 {
				return unknown
			}
			return fmt.Sprint(n)
		}
		size, leader := unknown, yesNo(m.Leader)
		if m.DBSize >= 0 {
			size = humanize.Bytes(uint64(m.DBSize))
		} else {
			leader = unknown
		}
		version := m.Version
		if version == "" {
			version = unknown
		}
		notes := slices.DeleteFunc([]string{m.Reason, m.Why, m.Skew}, func(s string) bool { return s == "" })
		t.Rows = append(t.Rows, []string{
			m.ID, m.Name, paintStatus(env.Out, m.Status), leader, m.Role, version, size,
			number(m.RaftTerm), number(m.RaftIndex),
			strings.Join(m.PeerURLs, "\n"), strings.Join(m.ClientURLs, "\n"), yesNo(m.Used),
			oneLine(strings.Join(slices.Compact(notes), "\n")),
		})
	}
	return t
}

func yesNo(b bool) string {
	if b {
		return "yes"
	}
	return "no"
}

func paintStatus(p Palette, status string) string {
	switch status {
	case discover.MemberHealthy:
		return p.Good.Sprint(status)
	case discover.MemberUnstarted, discover.MemberUnknown:
		return p.Warn.Sprint(status)
	}
	return p.Bad.Sprint(status)
}
