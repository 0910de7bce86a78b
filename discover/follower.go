package discover

import (
	"context"
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

	mu       sync.Mutex
	last     Membership // zero until the first good answer
	flags    string     // the source flags that led to it, for the cluster file
	pin      uint64
	pinnedBy string
	rounds   int
}

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
// asked, and when all of them are gone the sources again. After a change the
// cluster file is written; if that fails, Membership.FileErr says so.
//
// Beside an error the last good Membership is returned, which is zero if there
// was none. Errors are those of Resolver.Resolve.
func (f *Follower) Refresh(ctx context.Context) (Membership, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	s := newSearch(f.config, f.pin, f.pinnedBy)
	s.known = f.last.Members
	if len(f.last.Members) > 0 {
		// A bootstrap is waited for at the start alone: later, members that were
		// known may come back meanwhile.
		s.config.BootstrapWait = -1
		s.ask(ctx, f.nextPeers(), f.last.serverName)
		s.serverName = f.last.serverName
	}
	if s.found == nil {
		if err := s.resolve(ctx); err != nil {
			return f.last, err
		}
		f.flags = s.ledBy()
		if was := s.memory.clusterID; len(f.last.Members) == 0 && was != 0 && was != s.found.clusterID {
			s.log.Warn("another cluster than before is followed, as the source flags have changed",
				"before", hexID(was), "now", hexID(s.found.clusterID))
		}
	}
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
	return f.last, nil
}

// Last returns the last good answer, zero if there was none. It does not wait
// for a Refresh under way.
func (f *Follower) Last() Membership {
	if m := f.shown.Load(); m != nil {
		return *m
	}
	return Membership{}
}

// nextPeers turns the voters by one at each refresh, so that no single member
// answers all proxies. Others follow: their lists may be old.
func (f *Follower) nextPeers() []string {
	voters, others := askablePeerURLs(f.last.Members)
	if len(voters) > 0 {
		turn := f.rounds % len(voters)
		voters = slices.Concat(voters[turn:], voters[:turn])
	}
	f.rounds++
	if len(voters)+len(others) == 0 {
		return f.last.PeerURLs
	}
	return append(voters, others...)
}

// StopWriting ends the writing of the cluster file until ResumeWriting. When it
// returns, no write is under way: promotion may set the folder aside.
func (f *Follower) StopWriting() { f.file.stop(true) }

// ResumeWriting undoes StopWriting and Config.ReadOnly: from the next Refresh
// on the cluster file is written again.
func (f *Follower) ResumeWriting() { f.file.stop(false) }
