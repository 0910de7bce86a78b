package promote

import (
	"context"
	"crypto/tls"
	"fmt"
	"slices"
	"strings"
	"time"

	"etcdops/discover"
)

// DefaultPatience is how long a refusal that passes by itself is asked again.
// "unhealthy cluster" lasts about five seconds after a member's start
// (HealthInterval, server/etcdserver/server.go).
const DefaultPatience = 20 * time.Second

// defaultDoubtPatience is how long the list is asked for what became of an add
// without an answer. An election, and a quorum that comes back, are sooner.
const defaultDoubtPatience = time.Minute

// Cluster is the cluster that gets a new member, asked at its voters. It never
// asks the new member itself.
//
// What it does in each case, the state being that of the list, read through
// the quorum before each question:
//
//	ADD: the list has              we
//	no member of ours              ask
//	ours: its peer URLs, its role, take it; Before says whether it was there
//	  never started                  before we asked
//	ours, but the other role       refuse: *TakenError
//	our name, or a URL of ours,    refuse: *TakenError
//	  at another member
//	another one, never started     refuse: *OtherLearnerError, *UnstartedError:
//	                                 etcd's variables can't name it
//
//	ADD: the answer                we
//	added                          read the list until two in a row are equal
//	unhealthy cluster              ask another voter, up to Patience
//	bad token, too many requests   the same
//	member not found               ask again once, over a second later: the ID
//	                                 is made of URLs and second, and the one of
//	                                 a member just removed is refused
//	member ID already exist,       read the list: ours there is taken, else
//	  Peer URLs already exists       ask again, up to Patience
//	too many learner members       *OtherLearnerError names it
//	needs a user, wrong password,  discover.ErrNeedsUser, ErrWrongPassword,
//	  permission denied              ErrNeedsRoot
//	any other refusal              *RefusedError
//	none, or a timeout             outcome unknown: read the list until it can
//	                                 be read, for a minute at most. Ours there
//	                                 is taken; else ask again, because etcd
//	                                 takes peer URLs only once.
//	                                 *UnknownOutcomeError where that does not
//	                                 settle it
//	of another cluster             *WrongClusterError, in every question
//
//	CATCH-UP: the member is        we
//	no member                      *GoneError
//	a voter                        are done
//	silent, etcd runs              watch the snapshot's bytes; Stirred gives a
//	                                 cluster where nobody writes an entry
//	over 1,000 entries behind      wait
//	at most 1,000, twice in a row  ask for the promotion, the leader first
//	without progress for stall     *StalledError
//	ended                          *EndedError
//
//	CATCH-UP: the answer           we
//	promoted                       are done
//	can only promote a learner     read the list: a voter is done
//	member not found               read the list: none is *GoneError
//	in sync, not enough started,   go on watching; stall ends it
//	  unhealthy, none, a timeout
//	auth, another cluster          as above
//
//	REMOVE: the list has           we
//	no such ID                     are done
//	it as a voter                  *VoterError
//	it as a learner                ask; after any answer but a refusal read the
//	                                 list again, up to Patience
//
// Exported fields must be set before its use.
type Cluster struct {
	// ID is what every answer must carry.
	ID uint64
	// TLS is how https endpoints are asked. If nil, the system's roots are
	// trusted and no client certificate is shown.
	TLS *tls.Config
	// Username and Password are of a user with the role root, where the
	// cluster has auth on.
	Username, Password string
	// Endpoints are the client URLs of started voters.
	Endpoints []string
	// Say, if not nil, is told what is waited for, one line each.
	Say func(text string)
	// Patience is how long refusals that pass by themselves are asked again.
	// 0 means DefaultPatience.
	Patience time.Duration

	// doubtPatience takes the place of its default, if not 0.
	doubtPatience time.Duration
}

func (c *Cluster) say(text string) {
	if c.Say != nil {
		c.Say(text)
	}
}

// Added is a member that was added to the cluster.
type Added struct {
	ID        uint64
	ClusterID uint64
	Members   []discover.Member // with it, read again after the answer
	Before    bool              // it was there before we asked
}

// Members lists the members by a linearizable read: it fails where the quorum
// is lost. The first endpoint that answers is enough.
func (c *Cluster) Members(ctx context.Context) ([]discover.Member, error) {
	v, members, err := c.reach(ctx, 0)
	if err != nil {
		return nil, fmt.Errorf("list the members of cluster %016x: %w", c.ID, err)
	}
	v.close()
	return members, nil
}

// InitialCluster is ETCD_INITIAL_CLUSTER for the new member under its name:
// every member of the list with each of its peer URLs, the new one last. etcd
// starts only where that is the cluster's list, by count and URLs
// (ValidateClusterAndAssignIDs, server/etcdserver/api/membership/cluster.go).
func (a Added) InitialCluster(name string) (string, error) {
	if name == "" || strings.ContainsAny(name, "=,") {
		return "", fmt.Errorf("initial cluster: %q can't be the name of a member", name)
	}
	members := slices.Clone(a.Members)
	ours := slices.IndexFunc(members, func(m discover.Member) bool { return m.ID == a.ID })
	if ours < 0 {
		return "", fmt.Errorf("initial cluster: member %016x is not in the list", a.ID)
	}
	if old := members[ours].Name; old != "" && old != name {
		return "", fmt.Errorf("initial cluster: member %016x is %s already", a.ID, old)
	}
	last := members[ours]
	last.Name = name
	members = append(slices.Delete(members, ours, ours+1), last)

	var pairs []string
	seen := map[string]bool{}
	for _, m := range members {
		switch {
		case !m.Started():
			return "", fmt.Errorf("initial cluster: %w", &UnstartedError{m})
		case seen[m.Name]:
			return "", fmt.Errorf("initial cluster: two members have the name %s", m.Name)
		case len(m.PeerURLs) == 0:
			return "", fmt.Errorf("initial cluster: member %s has no peer URL", m.Name)
		}
		seen[m.Name] = true
		for _, peerURL := range m.PeerURLs {
			pairs = append(pairs, m.Name+"="+peerURL)
		}
	}
	return strings.Join(pairs, ","), nil
}
