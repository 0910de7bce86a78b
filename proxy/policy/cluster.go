package policy

import "fmt"

// WrongClusterError is why no request is served where another cluster answers
// than the one that is followed (law 7 of the design). Waiting does not mend it.
type WrongClusterError struct {
	Pinned, Seen uint64
	// PinnedBy says what pinned it; it may be "".
	PinnedBy string
}

// Error implements error. It is what clients are told, with the way out.
func (e *WrongClusterError) Error() string {
	by := ""
	if e.PinnedBy != "" {
		by = ", pinned by " + e.PinnedBy
	}
	return fmt.Sprintf("etcdops: the members' addresses answer for cluster %016x, but cluster %016x is followed%s; "+
		"if that is right, as after a restore, run: etcdops proxy accept-cluster %016x", e.Seen, e.Pinned, by, e.Seen)
}
