package discover

import (
	"fmt"
	"strconv"
	"strings"
)

// markSkew tells of each member whose version is more than one minor away from
// another's: etcd is upgraded one minor at a time
// (https://etcd.io/docs/v3.6/upgrades/).
func markSkew(rows []MemberStatus) {
	for i := range rows {
		worst := 1
		for _, other := range rows {
			distance, known := minorsBetween(rows[i].Version, other.Version)
			if known && distance > worst {
				worst = distance
				rows[i].Skew = fmt.Sprintf("version %s, and %s has %s: more than one minor apart", rows[i].Version, other.Name, other.Version)
			}
		}
	}
}

// minorsBetween is how many minor versions lie between two of one major; more than
// any where the majors differ.
func minorsBetween(a, b string) (distance int, known bool) {
	majorA, minorA, okA := minorOf(a)
	majorB, minorB, okB := minorOf(b)
	switch {
	case !okA || !okB:
		return 0, false
	case majorA != majorB:
		return 1 << 10, true
	}
	return max(minorA-minorB, minorB-minorA), true
}

func minorOf(version string) (major, minor int, ok bool) {
	parts := strings.SplitN(version, ".", 3)
	if len(parts) < 2 {
		return 0, 0, false
	}
	major, err := strconv.Atoi(parts[0])
	if err != nil {
		return 0, 0, false
	}
	minor, err = strconv.Atoi(parts[1])
	return major, minor, err == nil
}
