package promote

import (
	"context"
	"errors"
	"fmt"
	"time"

	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"

	"etcdops/discover"
)

const (
	// readyBehind is how many entries a learner may be behind when it becomes a
	// voter. etcd's own rule, 90 % of the leader's index (readyPercentThreshold,
	// server/etcdserver/server.go), allows millions on an old log.
	readyBehind = 1000
	// readyPolls in a row must find it so near.
	readyPolls = 2
	// pollInterval is the time between two looks at learner and voters.
	pollInterval = 200 * time.Millisecond
)

// CatchUp waits until the learner has caught up, at most 1,000 entries behind
// in two looks in a row, and makes it a voter. One that is a voter already is
// no error. report, if not nil, is called with each look. ended is closed when
// the learner's process ends.
//
// It fails with *StalledError where for the time stall neither an entry was
// applied nor a byte of snapshot or log was received, *EndedError, *GoneError,
// *WrongMemberError, those about users and the wrong cluster, and the
// context's, as *UnknownOutcomeError where the answer to a promotion was lost
// before.
func (c *Cluster) CatchUp(ctx context.Context, id uint64, j *Joiner, stall time.Duration, ended <-chan struct{}, report func(Progress)) error {
	u := &catchUp{
		cluster: c, id: id, joiner: j, stall: stall, ended: ended, report: report,
		panel: newPanel(c), pace: &pace{},
	}
	defer u.panel.close()
	if err := u.run(ctx); err != nil {
		return fmt.Errorf("make member %016x a voter: %w", id, err)
	}
	return nil
}

// catchUp is one call of CatchUp.
type catchUp struct {
	cluster *Cluster
	id      uint64
	joiner  *Joiner
	stall   time.Duration
	ended   <-chan struct{}
	report  func(Progress)
	panel   *panel
	pace    *pace

	near  int    // looks in a row that found it near enough
	last  error  // what was in the way at the last look
	doubt bool   // a promotion that was asked for may have been heard
	said  string // why it is no voter yet
}

func (u *catchUp) run(ctx context.Context) error {
	done, err := u.isVoter(ctx)
	if done || isEnd(err) {
		return err
	}
	ticker := time.NewTicker(pollInterval)
	defer ticker.Stop()
	for {
		progress, err := u.look(ctx)
		if isEnd(err) {
			return err
		}
		if u.report != nil {
			u.report(progress)
		}
		u.last = err
		if err == nil {
			u.last = fmt.Errorf("it is %d entries behind", progress.Behind)
		}
		if u.ready(progress, err) && !isClosed(u.ended) && ctx.Err() == nil {
			done, err := u.promote(ctx)
			if done || isEnd(err) {
				return err
			}
			u.last = err
		}
		if idle := u.pace.idle(); idle >= u.stall {
			return &StalledError{For: idle, Last: progress, Err: u.last}
		}
		select {
		case <-u.ended:
			return &EndedError{u.last}
		case <-ctx.Done():
			if u.doubt {
				return &UnknownOutcomeError{context.Cause(ctx)}
			}
			return fmt.Errorf("%w: last seen: %s", context.Cause(ctx), plain(u.last))
		case <-ticker.C:
		}
	}
}

// look asks the learner and the voters once.
func (u *catchUp) look(ctx context.Context) (Progress, error) {
	index, dbSize, err := u.panel.ask(ctx)
	if isFinal(err) {
		return Progress{}, err
	}
	standing, joinerErr := u.joiner.standing(ctx)
	if joinerErr != nil {
		joinerErr = fmt.Errorf("the new member does not answer yet: %s", plain(joinerErr))
	} else {
		joinerErr = standing.check(u.cluster.ID, u.id)
	}
	u.pace.add(sample{
		at: time.Now(), known: joinerErr == nil, applied: standing.applied, index: index, received: u.joiner.received(),
	})
	progress := u.pace.progress(dbSize)
	progress.Learner = joinerErr != nil || standing.learner
	return progress, errors.Join(err, joinerErr)
}

// ready tells whether to ask for the promotion.
func (u *catchUp) ready(p Progress, err error) bool {
	if err != nil || p.Unknown || p.Behind > readyBehind {
		u.near = 0
		return false
	}
	u.near++
	return u.near >= readyPolls
}

// isClosed is false where there is no channel.
func isClosed(channel <-chan struct{}) bool {
	select {
	case <-channel:
		return true
	default:
		return false
	}
}

// promote asks for the promotion once. An error that is no end is followed by
// another look.
func (u *catchUp) promote(ctx context.Context) (done bool, err error) {
	err = u.panel.promote(ctx, u.id)
	if err == nil {
		return true, nil
	}
	if ctx.Err() == nil {
		u.sayNotYet(err)
	}
	// The context may end a moment after the answer was lost.
	u.doubt = u.doubt || judge(err) == unknown
	switch {
	case isFinal(err):
		return false, err
	case errors.Is(err, rpctypes.ErrMemberNotLearner), errors.Is(err, rpctypes.ErrMemberNotFound):
		done, listErr := u.isVoter(ctx)
		if done || isEnd(listErr) {
			return done, listErr
		}
	}
	return false, err
}

// sayNotYet names a reason once, until there is another one.
func (u *catchUp) sayNotYet(err error) {
	text := "not made a voter yet: " + plain(err)
	if text != u.said {
		u.cluster.say(text)
		u.said = text
	}
}

// isVoter reads the list.
func (u *catchUp) isVoter(ctx context.Context) (bool, error) {
	members, err := u.cluster.Members(ctx)
	if err != nil {
		return false, err
	}
	m, found := memberByID(members, u.id)
	if !found {
		return false, &GoneError{u.id}
	}
	return !m.IsLearner, nil
}

// isEnd tells whether looking on is no use.
func isEnd(err error) bool {
	var gone *GoneError
	var member *WrongMemberError
	var outcome *UnknownOutcomeError
	return isFinal(err) || errors.As(err, &gone) || errors.As(err, &member) || errors.As(err, &outcome)
}

// memberByID finds a member in a list.
func memberByID(members []discover.Member, id uint64) (discover.Member, bool) {
	for _, m := range members {
		if m.ID == id {
			return m, true
		}
	}
	return discover.Member{}, false
}
