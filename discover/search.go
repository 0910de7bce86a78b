package discover

import (
	"context"
	"fmt"
	"log/slog"
	"strings"
	"time"
)

// search is one run through the sources. A peer is asked at most once in it,
// however many sources name it.
type search struct {
	config   Config
	log      *slog.Logger
	pin      uint64 // the cluster that peers must belong to; 0 = any
	pinnedBy string
	known    []Member // the last good list; a list that is behind it is not taken

	flags   string // canonical form of the source flags
	memory  memory
	sources []Source

	peers   []PeerAnswer
	index   map[string]int // peer URL → its place in peers
	refused uint64         // another cluster that answered
	found   *peerList      // the list that was used
	at      time.Time      // when found came
}

func newSearch(config Config, pin uint64, pinnedBy string) *search {
	return &search{
		config: config, log: config.logger(),
		pin: pin, pinnedBy: pinnedBy,
		index: map[string]int{},
	}
}

// resolve tries the sources by precedence until a peer of one of them gives the
// member list.
func (s *search) resolve(ctx context.Context) error {
	if err := s.plan(); err != nil {
		return err
	}
	used := ""
	for i := range s.sources {
		source := &s.sources[i]
		switch {
		case source.State != "":
		case s.found != nil || ctx.Err() != nil:
			s.passOver(source, used)
		default:
			s.try(ctx, source)
			if source.State == SourceUsed {
				used = source.Name
			}
		}
		s.log.Debug("source settled", "source", source.Name, "state", source.State, "reason", source.Reason)
	}
	return s.outcome(ctx)
}

// ask asks the peers for the member list and keeps what each said.
func (s *search) ask(ctx context.Context, peerURLs []string) {
	var fresh []string
	for _, peerURL := range peerURLs {
		if _, known := s.index[peerURL]; !known {
			s.index[peerURL] = len(s.peers)
			s.peers = append(s.peers, PeerAnswer{URL: peerURL, State: PeerNotAsked})
			fresh = append(fresh, peerURL)
		}
	}
	d := dialer{tls: s.config.PeerTLS, timeout: s.config.DialTimeout}
	firstGood(ctx, d, fresh, s.take)
	for _, peerURL := range fresh {
		peer := &s.peers[s.index[peerURL]]
		switch {
		case peer.State != PeerNotAsked:
		case s.found != nil:
			peer.Reason = s.found.peerURL + " answered first"
		default:
			peer.Reason = "cancelled"
		}
	}
}

// take keeps what one peer said, and tells whether it is the list to use.
func (s *search) take(list peerList) bool {
	peer := &s.peers[s.index[list.peerURL]]
	peer.Took = list.took
	switch {
	case list.err != nil:
		peer.State, peer.Reason = PeerFailed, cause(list.err)
	case s.pin != 0 && list.clusterID != s.pin:
		s.refused = list.clusterID
		peer.ClusterID, peer.Members = hexID(list.clusterID), len(list.members)
		peer.State = PeerRefused
		peer.Reason = fmt.Sprintf("it belongs to cluster %s, but cluster %s is pinned by %s",
			hexID(list.clusterID), hexID(s.pin), s.pinnedBy)
	case len(s.known) > 0 && list.isBehind(s.known):
		peer.ClusterID, peer.Members = hexID(list.clusterID), len(list.members)
		peer.State, peer.Reason = PeerFailed, "it has joined and not caught up yet: its list is an old one"
	default:
		peer.ClusterID, peer.Members = hexID(list.clusterID), len(list.members)
		peer.State = PeerAnswered
		s.found, s.at = &list, time.Now()
	}
	s.log.Debug("peer asked", "peer_url", peer.URL, "state", peer.State, "reason", peer.Reason)
	return s.found != nil
}

// outcome is nil if a member list was found.
func (s *search) outcome(ctx context.Context) error {
	switch {
	case s.found != nil:
		return nil
	case ctx.Err() != nil:
		return fmt.Errorf("%w: %w", ErrNoCluster, context.Cause(ctx))
	case s.refused != 0:
		return fmt.Errorf("%w: %w", ErrNoCluster,
			&WrongClusterError{Pinned: s.pin, Seen: s.refused, PinnedBy: s.pinnedBy})
	}
	var fates []string
	for _, source := range s.sources {
		if source.State == SourceFailed {
			fates = append(fates, source.Name+": "+source.Reason)
		}
	}
	return fmt.Errorf("%w: %s", ErrNoCluster, strings.Join(fates, " | "))
}

// ledBy is the canonical form of the source flags that led to the list found.
// Where the file was the last resort these are not the present ones: it must
// not come before them at the next start.
func (s *search) ledBy() string {
	for i, source := range s.sources {
		lastResort := i > 0 && source.Name == SourceClusterFile && source.State == SourceUsed
		switch {
		case lastResort && s.memory.flags == nil:
			return "" // etcd's own proxy knew none
		case lastResort:
			return *s.memory.flags
		}
	}
	return s.flags
}

// membership is what the list found says.
func (s *search) membership() Membership {
	voters, others := askablePeerURLs(s.found.members)
	peerURLs := append(voters, others...)
	if len(peerURLs) == 0 {
		// Members that advertise only what cannot be asked (unix sockets): the
		// address that did answer is all there is.
		peerURLs = []string{s.found.peerURL}
	}
	return Membership{
		ClusterID: s.found.clusterID,
		Members:   s.found.members,
		PeerURLs:  peerURLs,
		At:        s.at,
	}
}
