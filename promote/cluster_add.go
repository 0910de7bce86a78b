package promote

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	"go.etcd.io/etcd/client/pkg/v3/types"
	clientv3 "go.etcd.io/etcd/client/v3"

	"etcdops/discover"
)

const (
	// nextID is how long it takes until etcd makes another ID of the same peer
	// URLs: IDs hold the second of their making (computeMemberID,
	// server/etcdserver/api/membership/member.go).
	nextID = 1100 * time.Millisecond
	// lastLook is how long the list is asked for after the context has ended
	// in the middle of an add.
	lastLook = 3 * time.Second
)

// Add adds the member, or finds it added before by the same peer URLs, in the
// same role and never started. The table at Cluster says what becomes of each
// answer.
//
// With *UnknownOutcomeError the member may be there now, or later. Where the
// error comes with an ID, it is there and the list could not be read again.
// With all other errors this call has changed nothing.
func (c *Cluster) Add(ctx context.Context, name string, peerURLs []string, voter bool) (Added, error) {
	a := &addition{cluster: c, name: name, peerURLs: peerURLs, voter: voter, tries: c.newTries()}
	added, err := a.run(ctx)
	if err != nil {
		return added, fmt.Errorf("add member %s to cluster %016x: %w", name, c.ID, err)
	}
	return added, nil
}

// addition is one call of Add.
type addition struct {
	cluster  *Cluster
	name     string
	peerURLs []string
	voter    bool
	tries    *tries

	doubted  time.Time // since when an earlier question may have been heard; zero if none was
	notFound bool      // "member not found" was answered before
}

// inDoubt tells whether an earlier question may have been heard.
func (a *addition) inDoubt() bool { return !a.doubted.IsZero() }

// doubt begins with the first answer that was lost.
func (a *addition) doubt() {
	if !a.inDoubt() {
		a.doubted = time.Now()
	}
}

func (a *addition) run(ctx context.Context) (Added, error) {
	// clientv3 checks them too, with an error that looks like a lost answer.
	if _, err := types.NewURLs(a.peerURLs); err != nil {
		return Added{}, &RefusedError{err}
	}
	for {
		added, err := a.try(ctx)
		if err == nil || added.ID != 0 {
			return added, err
		}
		var pause *pauseError
		if !errors.As(err, &pause) {
			return Added{}, a.fail(err)
		}
		what := "asking the cluster again to add the member"
		if a.inDoubt() {
			limit := cmp.Or(a.cluster.doubtPatience, defaultDoubtPatience)
			if time.Since(a.doubted) >= limit {
				return Added{}, &UnknownOutcomeError{fmt.Errorf("nothing has told it for %s: last answer: %s", limit, plain(pause.cause))}
			}
			what = fmt.Sprintf("no answer to the add: looking in the cluster's list for what became of it, for %s at most", limit)
		} else if a.tries.over() {
			return Added{}, &GaveUpError{time.Since(a.tries.began), pause.cause}
		}
		if a.tries.again(ctx, pause.atLeast, what, pause.cause) != nil {
			return a.lastLook(ctx, pause.cause)
		}
	}
}

// pauseError says that a try may be followed by another one.
type pauseError struct {
	cause   error
	atLeast time.Duration
}

func (e *pauseError) Error() string { return e.cause.Error() }

// try looks at the list and, where that is in order, asks once.
func (a *addition) try(ctx context.Context) (Added, error) {
	v, members, err := a.cluster.reach(ctx, a.tries.count)
	switch {
	case err != nil && isFinal(err):
		return Added{}, err
	case err != nil:
		return Added{}, &pauseError{cause: err}
	}
	defer v.close()
	if m, found := a.find(members); found {
		return a.settle(ctx, v, Added{ID: m.ID, Members: members, Before: !a.inDoubt()})
	}
	if err := a.inTheWay(members); err != nil {
		return Added{}, err
	}
	if a.inDoubt() && a.tries.over() {
		return Added{}, errors.New("it is not in the list, and no answer came")
	}
	added, err := a.ask(ctx, v)
	if err == nil {
		return a.settle(ctx, v, added)
	}
	return Added{}, a.judge(err, members)
}

func (a *addition) ask(ctx context.Context, v *voter) (Added, error) {
	ctx, cancel := context.WithTimeout(ctx, changeTimeout)
	defer cancel()
	add := v.etcd.MemberAddAsLearner
	if a.voter {
		add = v.etcd.MemberAdd
	}
	answer, err := add(ctx, a.peerURLs)
	if err != nil {
		return Added{}, err
	}
	return addedFrom(v, answer)
}

func addedFrom(v *voter, answer *clientv3.MemberAddResponse) (Added, error) {
	if err := v.check(answer.Header); err != nil {
		return Added{}, err
	}
	return Added{ID: answer.Member.ID, Members: membersOf(answer.Members)}, nil
}

// judge says what follows from an answer that is not yes.
func (a *addition) judge(err error, members []discover.Member) error {
	if problem := authProblem(err); problem != nil {
		return problem
	}
	switch {
	case isFinal(err):
		// Asked a cluster that changed between two answers: it has our member.
		a.doubt()
		return err
	case errors.Is(err, rpctypes.ErrMemberExist), errors.Is(err, rpctypes.ErrPeerURLExist):
		return &pauseError{cause: err}
	case errors.Is(err, rpctypes.ErrMemberNotFound) && !a.notFound:
		a.notFound = true
		return &pauseError{cause: err, atLeast: nextID}
	case errors.Is(err, rpctypes.ErrTooManyLearners):
		for _, m := range members {
			if m.IsLearner {
				return &OtherLearnerError{m}
			}
		}
		// It came between our look and our question.
		return &pauseError{cause: err}
	}
	switch judge(err) {
	case refused:
		return &RefusedError{err}
	case transient:
		return &pauseError{cause: err}
	}
	a.doubt()
	return &pauseError{cause: err}
}

// fail words an end that is not the member's being there.
func (a *addition) fail(err error) error {
	if a.inDoubt() {
		return &UnknownOutcomeError{err}
	}
	return err
}

// lastLook tells an operator who interrupted a question what became of it,
// where that can be told soon. That the member is not in the list proves
// nothing: the change may still be on its way.
func (a *addition) lastLook(ended context.Context, cause error) (Added, error) {
	end := context.Cause(ended)
	if !a.inDoubt() {
		return Added{}, fmt.Errorf("%w: last answer: %s", end, plain(cause))
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ended), lastLook)
	defer cancel()
	v, members, err := a.cluster.reach(ctx, a.tries.count+1)
	if err != nil {
		return Added{}, &UnknownOutcomeError{end}
	}
	v.close()
	if m, found := a.find(members); found {
		return Added{ID: m.ID, ClusterID: a.cluster.ID, Members: members}, nil
	}
	return Added{}, &UnknownOutcomeError{end}
}

// find looks for our member: added, never started.
func (a *addition) find(members []discover.Member) (discover.Member, bool) {
	for _, m := range members {
		if !m.Started() && m.IsLearner != a.voter && sameURLs(m.PeerURLs, a.peerURLs) {
			return m, true
		}
	}
	return discover.Member{}, false
}

// inTheWay refuses lists to which our member can't be added, or not so that it
// could start.
func (a *addition) inTheWay(members []discover.Member) error {
	for _, m := range members {
		if m.Name == a.name {
			return &TakenError{m, "the name " + a.name}
		}
		for _, peerURL := range a.peerURLs {
			if slices.Contains(m.PeerURLs, peerURL) {
				return &TakenError{m, "the peer URL " + peerURL}
			}
		}
	}
	for _, m := range members {
		switch {
		case !m.Started() && m.IsLearner:
			return &OtherLearnerError{m}
		case !m.Started():
			return &UnstartedError{m}
		}
	}
	return nil
}

// settle reads the list until two in a row are equal and have the member: the
// list of an answer has been seen without it (etcd issue 7498). The first
// reading is at the voter that answered.
func (a *addition) settle(ctx context.Context, v *voter, added Added) (Added, error) {
	added.ClusterID = a.cluster.ID
	members, err := v.members(ctx)
	for {
		if err == nil {
			same := sameMembers(members, added.Members)
			added.Members = members
			if _, found := a.find(members); same && found {
				return added, nil
			}
			err = errors.New("the list of members changes")
		}
		if isFinal(err) || a.tries.over() || a.tries.again(ctx, 0, "reading the list with the new member again", err) != nil {
			return added, fmt.Errorf("it was added as %016x, but the list can't be read again: %w", added.ID, err)
		}
		if v, members, err = a.cluster.reach(ctx, a.tries.count); err == nil {
			v.close()
		}
	}
}

// sameMembers compares what etcd compares when a member joins.
func sameMembers(a, b []discover.Member) bool {
	if len(a) != len(b) {
		return false
	}
	for _, m := range a {
		if !slices.ContainsFunc(b, func(other discover.Member) bool {
			return m.ID == other.ID && m.IsLearner == other.IsLearner && m.Name == other.Name && sameURLs(m.PeerURLs, other.PeerURLs)
		}) {
			return false
		}
	}
	return true
}
