package promote

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
)

// panelTimeout bounds one look at a voter, after its login. A voter that hangs
// costs each look as much, and nothing else.
const panelTimeout = time.Second

// panel is all the voters, asked over and over. One that fails is connected to
// anew at the next look: a connection that was lost, or whose token was, would
// not be good again soon.
type panel struct {
	cluster *Cluster
	voters  []*voter // by endpoint; nil where not connected
	leader  int      // the endpoint to promote at
}

func newPanel(c *Cluster) *panel {
	return &panel{cluster: c, voters: make([]*voter, len(c.Endpoints))}
}

func (p *panel) close() {
	for _, v := range p.voters {
		if v != nil {
			v.close()
		}
	}
}

// ask gives the highest committed index that any voter knows, and the size of
// the leader's database, in bytes. One voter that answers is enough.
func (p *panel) ask(ctx context.Context) (index uint64, dbSize int64, err error) {
	answers := make([]*clientv3.StatusResponse, len(p.voters))
	failures := make([]error, len(p.voters))
	var all sync.WaitGroup
	for i := range p.voters {
		all.Go(func() { answers[i], failures[i] = p.status(ctx, i) })
	}
	all.Wait()

	var causes []error
	var term uint64
	found := false
	for i, answer := range answers {
		if err := failures[i]; err != nil {
			if isFinal(err) {
				return 0, 0, err
			}
			causes = append(causes, fmt.Errorf("%s: %s", p.cluster.Endpoints[i], plain(err)))
			continue
		}
		index = max(index, answer.RaftIndex)
		// After an election the old leader may not know yet that it was one.
		leads := answer.Leader == answer.Header.GetMemberId() && answer.RaftTerm >= term
		if leads || !found {
			p.leader, dbSize = i, answer.DbSize
		}
		if leads {
			term = answer.RaftTerm
		}
		found = true
	}
	if !found {
		return 0, 0, fmt.Errorf("no voter answers: %w", errors.Join(causes...))
	}
	return index, dbSize, nil
}

// status asks one voter. Different endpoints may be asked at the same time.
func (p *panel) status(ctx context.Context, i int) (*clientv3.StatusResponse, error) {
	v, err := p.voter(ctx, i)
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, panelTimeout)
	defer cancel()
	answer, err := v.etcd.Status(ctx, v.url)
	if err != nil {
		p.drop(i)
		if problem := authProblem(err); problem != nil {
			return nil, problem
		}
		return nil, err
	}
	return answer, v.check(answer.Header)
}

// promote asks the leader, where it was reached at the last look. A follower
// forwards the question without its user, which a cluster with auth on refuses
// (promoteMemberHTTP, server/etcdserver/cluster_util.go).
func (p *panel) promote(ctx context.Context, id uint64) error {
	v, err := p.voter(ctx, p.leader)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, changeTimeout)
	defer cancel()
	answer, err := v.etcd.MemberPromote(ctx, id)
	if problem := authProblem(err); problem != nil {
		return problem
	}
	if err != nil {
		return err
	}
	return v.check(answer.Header)
}

// stir has the leader write an entry that changes nothing: the list of alarms is
// asked for through the log (Alarm, server/etcdserver/v3_server.go).
func (p *panel) stir(ctx context.Context) {
	v, err := p.voter(ctx, p.leader)
	if err != nil {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, panelTimeout)
	defer cancel()
	_, _ = v.etcd.AlarmList(ctx)
}

func (p *panel) voter(ctx context.Context, i int) (*voter, error) {
	if p.voters[i] == nil {
		v, err := p.cluster.open(ctx, p.cluster.Endpoints[i])
		if err != nil {
			return nil, err
		}
		p.voters[i] = v
	}
	return p.voters[i], nil
}

func (p *panel) drop(i int) {
	p.voters[i].close()
	p.voters[i] = nil
}
