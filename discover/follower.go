package discover

import (
	"context"
	"crypto/tls"
	"slices"
	"sync"
	"sync/atomic"
)

// Follower follows the membership of one cluster for ever. Its methods may be
// called from several goroutines.
type Follower struct {
	config Config
	file   *clusterFileWriter

	shown atomic.Pointer[Membership] // last, for readers that can't wait
	tls   atomic.Pointer[followerTLS]

	mu       sync.Mutex
	last     Membership // zero until the first good answer
	flags    string     // the source flags that led to it, for the cluster file
	pin      uint64
	pinnedBy string
	rounds   int
	differed int // refreshes in a row at which peers disagreed
}

// disagreeLimit is at how many refreshes in a row the old list stays because two
// peers disagree: the one after them takes the new one.
const disagreeLimit = 2

// NewFollower returns a Follower that has asked nobody yet.
func NewFollower(config Config) *Follower {
	return &Follower{
		config:   config,
		file:     &clusterFileWriter{dataDir: config.DataDir, stopped: config.ReadOnly},
		pin:      config.ClusterID,
		pinnedBy: pinnedByConfig,
	}
}

// Refresh asks the cluster for its members. The first good answer comes by the
// sources' precedence and pins the cluster; later the last known members are
// asked, two at each refresh, and when all of them are gone the sources again.
// After a change the cluster file is written; if that fails, Membership.FileErr
// says so.
//
// Beside an error the last good Membership is returned, which is zero if there
// was none. Errors are those of Resolver.Resolve, and a *DisagreeError.
func (f *Follower) Refresh(ctx context.Context) (Membership, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	s := f.newSearch(f.pin, f.pinnedBy)
	s.known = f.last.Members
	if err := f.search(ctx, s); err != nil {
		return f.last, err
	}
	if err := f.compare(s); err != nil {
		return f.last, err
	}
	return f.keep(s), nil
}

// search asks the last known members, else the sources.
func (f *Follower) search(ctx context.Context, s *search) error {
	if len(f.last.Members) > 0 {
		// A bootstrap is waited for at the start alone: later, members that were
		// known may come back meanwhile.
		s.config.BootstrapWait, s.serverName = -1, f.last.serverName
		voters, others := f.nextPeers()
		s.want = twoAnswers
		s.ask(ctx, voters, s.serverName)
		s.want = firstAnswer
		if s.found == nil {
			s.ask(ctx, others, s.serverName)
		}
	}
	if s.found != nil {
		return nil
	}
	if err := s.resolve(ctx); err != nil {
		return err
	}
	f.flags = s.ledBy()
	if was := s.memory.clusterID; len(f.last.Members) == 0 && was != 0 && was != s.found.clusterID {
		s.log.Warn("another cluster than that of the cluster file is followed",
			"before", hexID(was), "now", hexID(s.found.clusterID))
	}
	return nil
}

// compare holds a list back on which the peers do not agree. What they come to
// agree on is taken; if they do not, the one that is news.
func (f *Follower) compare(s *search) error {
	if s.differs == nil {
		f.differed = 0
		return nil
	}
	if f.differed++; f.differed <= disagreeLimit {
		return &DisagreeError{
			First: s.found.peerURL, FirstList: s.found.members, Second: s.differs.peerURL, SecondList: s.differs.members,
		}
	}
	f.differed = 0
	last := peerList{members: f.last.Members}
	if last.sameMembers(s.found) {
		s.found = s.differs
	}
	s.log.Warn("peers still disagree about the members, the new list is taken", "peer_url", s.found.peerURL, "members", names(s.found.members))
	return nil
}

// keep makes the list found the last good one.
func (f *Follower) keep(s *search) Membership {
	f.last = s.membership()
	if f.pin == 0 {
		f.pin, f.pinnedBy = f.last.ClusterID, pinnedByAnswer
		if s.pin != 0 {
			f.pinnedBy = s.pinnedBy
		}
	}
	f.last.FileErr = f.file.remember(f.last, f.flags)
	last := f.last
	f.shown.Store(&last)
	return f.last
}

// Accept makes another cluster the one to follow, if a peer answers for it now:
// one of the last known members', or of the sources'. On an error, one of Refresh,
// nothing has changed.
func (f *Follower) Accept(ctx context.Context, clusterID uint64) (Membership, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	s := f.newSearch(clusterID, pinnedByOperator)
	if err := f.search(ctx, s); err != nil {
		return Membership{}, err
	}
	f.pin, f.pinnedBy, f.differed = clusterID, pinnedByOperator, 0
	return f.keep(s), nil
}

// Last returns the last good answer, zero if there was none. It does not wait
// for a Refresh under way.
func (f *Follower) Last() Membership {
	if m := f.shown.Load(); m != nil {
		return *m
	}
	return Membership{}
}

// nextPeers turns the voters by one at each refresh, so that no two members answer
// all proxies. Others are for when no voter answers: their lists may be old.
func (f *Follower) nextPeers() (voters, others []string) {
	voters, others = askablePeerURLs(f.last.Members)
	if len(voters) > 0 {
		turn := f.rounds % len(voters)
		voters = slices.Concat(voters[turn:], voters[:turn])
	}
	f.rounds++
	if len(voters)+len(others) == 0 {
		return f.last.PeerURLs, nil
	}
	return voters, others
}

// SetTLS replaces Config.PeerTLS and Config.DiscoveryTLS from the next Refresh on.
func (f *Follower) SetTLS(peers, discovery *tls.Config) {
	f.tls.Store(&followerTLS{peers, discovery})
}

// followerTLS are the configurations that can be replaced.
type followerTLS struct{ peers, discovery *tls.Config }

// newSearch begins a run through the sources, with the TLS of now.
func (f *Follower) newSearch(pin uint64, pinnedBy string) *search {
	config := f.config
	if now := f.tls.Load(); now != nil {
		config.PeerTLS, config.DiscoveryTLS = now.peers, now.discovery
	}
	return newSearch(config, pin, pinnedBy)
}

// StopWriting ends the writing of the cluster file until ResumeWriting. When it
// returns, no write is under way: promotion may set the folder aside.
func (f *Follower) StopWriting() { f.file.stop(true) }

// ResumeWriting undoes StopWriting and Config.ReadOnly: from the next Refresh
// on the cluster file is written again.
func (f *Follower) ResumeWriting() { f.file.stop(false) }
