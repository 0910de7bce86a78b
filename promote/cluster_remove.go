package promote

import (
	"context"
	"errors"
	"fmt"
	"time"

	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
)

// Remove removes the member with the ID while it is a learner; one that is gone
// already is no error. A learner has no vote, so its removal never costs a
// quorum. etcd can't be told to remove only a learner: between our look and
// our question nobody else may promote it.
//
// Errors are *VoterError, *RefusedError, *GaveUpError and *UnknownOutcomeError,
// those about users and the wrong cluster, and the context's.
func (c *Cluster) Remove(ctx context.Context, id uint64) error {
	if err := c.remove(ctx, id); err != nil {
		return fmt.Errorf("remove member %016x from cluster %016x: %w", id, c.ID, err)
	}
	return nil
}

func (c *Cluster) remove(ctx context.Context, id uint64) error {
	tries := c.newTries()
	doubt := false
	for {
		gone, asked, err := c.tryRemove(ctx, id, tries.count)
		doubt = doubt || asked && judge(err) == unknown
		var voter *VoterError
		switch {
		case gone:
			return nil
		case isFinal(err), errors.As(err, &voter):
			return err
		case !doubt && asked && judge(err) == refused && !errors.Is(err, rpctypes.ErrMemberNotFound):
			return &RefusedError{err}
		case ctx.Err() == nil && !tries.over():
			if tries.again(ctx, 0, "asking the cluster again to remove the learner", err) == nil {
				continue
			}
		}
		switch {
		case doubt:
			return &UnknownOutcomeError{err}
		case ctx.Err() != nil:
			return context.Cause(ctx)
		default:
			return &GaveUpError{time.Since(tries.began), err}
		}
	}
}

// tryRemove looks at the list and asks once where the learner is in it. asked
// says that err is the answer to that.
func (c *Cluster) tryRemove(ctx context.Context, id uint64, first int) (gone, asked bool, err error) {
	v, members, err := c.reach(ctx, first)
	if err != nil {
		return false, false, err
	}
	defer v.close()
	m, found := memberByID(members, id)
	switch {
	case !found:
		return true, false, nil
	case !m.IsLearner:
		return false, false, &VoterError{id}
	}
	ctx, cancel := context.WithTimeout(ctx, changeTimeout)
	defer cancel()
	answer, err := v.etcd.MemberRemove(ctx, id)
	if problem := authProblem(err); problem != nil {
		return false, true, problem
	}
	if err != nil {
		return false, true, err
	}
	if err := v.check(answer.Header); err != nil {
		return false, true, err
	}
	return true, true, nil
}
