package discover

import (
	"cmp"
	"context"
	"errors"
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
	want     int      // how many peers of a source are to answer

	flags   string // canonical form of the source flags
	memory  memory
	sources []Source

	peers      []PeerAnswer
	index      map[peerKey]int // its place in peers
	refused    uint64          // another cluster that answered
	strangers  []peerList      // the lists of other clusters
	found      *peerList       // the list that was used
	differs    *peerList       // one that says something else than found
	at         time.Time       // when found came
	serverName string          // by which the peers of the source used were verified
	waitsFor   *WaitingError   // the bootstrap that a source waits for
}

// peerKey tells peers apart: the same URL verified by another name is another
// question.
type peerKey struct{ url, serverName string }

func newSearch(config Config, pin uint64, pinnedBy string) *search {
	s := &search{
		config: config, log: config.logger(),
		pin: pin, pinnedBy: pinnedBy, want: firstAnswer,
		index: map[peerKey]int{},
	}
	if config.AskAll {
		s.want = allAnswers
	}
	return s
}

// resolve tries the sources by precedence until a peer of one of them gives the
// member list.
func (s *search) resolve(ctx context.Context) error {
	if err := s.plan(); err != nil {
		return err
	}
	over, last := false, ""
	for i := range s.sources {
		source := &s.sources[i]
		switch {
		case source.State != "":
		case over || ctx.Err() != nil:
			s.passOver(ctx, source, last)
		default:
			s.try(ctx, source)
			last = source.Name
			failed := source.State == SourceFailed && source.Name != SourceClusterFile && source.Name != SourceDefault
			over = s.found != nil || s.waitsFor != nil || failed && s.config.Strict
		}
		s.log.Debug("source settled", "source", source.Name, "state", source.State, "reason", source.Reason)
	}
	return s.outcome(ctx)
}

// ask asks the peers for the member list and keeps what each said.
func (s *search) ask(ctx context.Context, peerURLs []string, serverName string) {
	var fresh []string
	for _, peerURL := range peerURLs {
		key := peerKey{peerURL, serverName}
		if _, known := s.index[key]; !known {
			s.index[key] = len(s.peers)
			s.peers = append(s.peers, PeerAnswer{URL: peerURL, State: PeerNotAsked, ServerName: serverName})
			fresh = append(fresh, peerURL)
		}
	}
	d := dialer{way: s.config.Dial, tls: s.config.PeerTLS, timeout: s.config.DialTimeout, serverName: serverName, resolver: s.config.Resolver}
	askPeers(ctx, d, fresh, s.want, func(list peerList) bool {
		peer := &s.peers[s.index[peerKey{list.peerURL, serverName}]]
		s.take(peer, list)
		return peer.State == PeerAnswered
	})
	for _, peerURL := range fresh {
		peer := &s.peers[s.index[peerKey{peerURL, serverName}]]
		switch {
		case peer.State != PeerNotAsked:
		case s.found != nil:
			peer.Reason = s.found.peerURL + " answered first"
		case errors.Is(ctx.Err(), context.DeadlineExceeded):
			peer.Reason = "the time of its source was over"
		default:
			peer.Reason = "cancelled"
		}
	}
}

// take keeps what one peer said; the first good list is the one to use.
func (s *search) take(peer *PeerAnswer, list peerList) {
	peer.Took, peer.Certificate = list.took, list.certificate
	if list.err != nil {
		peer.State, peer.Reason = PeerFailed, cause(list.err)
		if explain := s.config.ExplainPeer; explain != nil {
			peer.Reason = cmp.Or(explain(list.err), peer.Reason)
		}
		if wrongName := peer.ServerName != "" && list.wrongName(); wrongName {
			peer.Reason += "; behind --discovery-srv it must be for the domain, or give --peer-trusted-ca-file"
		}
		s.log.Debug("peer asked", "peer_url", peer.URL, "state", peer.State, "reason", peer.Reason)
		return
	}
	peer.ClusterID, peer.Members = hexID(list.clusterID), len(list.members)
	switch {
	case s.pin != 0 && list.clusterID != s.pin:
		s.refused = list.clusterID
		s.strangers = append(s.strangers, list)
		peer.State = PeerRefused
		peer.Reason = fmt.Sprintf("it belongs to cluster %s, but cluster %s is pinned by %s",
			hexID(list.clusterID), hexID(s.pin), s.pinnedBy)
	case s.found != nil && list.clusterID != s.found.clusterID:
		s.strangers = append(s.strangers, list)
		peer.State = PeerRefused
		peer.Reason = fmt.Sprintf("it belongs to cluster %s, and %s to cluster %s",
			hexID(list.clusterID), s.found.peerURL, hexID(s.found.clusterID))
	case len(s.known) > 0 && list.isBehind(s.known):
		peer.State, peer.Reason = PeerFailed, "it has joined and not caught up yet: its list is an old one"
	case s.found != nil:
		peer.State, peer.Reason = PeerAnswered, "its list is the same"
		if !list.sameMembers(s.found) {
			s.differs = &list
			peer.Reason = "its list differs from that of " + s.found.peerURL
		}
	default:
		peer.State = PeerAnswered
		s.found, s.at = &list, time.Now()
		if s.config.AskAll {
			peer.Reason = "its list is the one used"
		}
	}
	s.log.Debug("peer asked", "peer_url", peer.URL, "state", peer.State, "reason", peer.Reason)
}

// outcome is nil if a member list was found.
func (s *search) outcome(ctx context.Context) error {
	switch {
	case s.found != nil:
		return nil
	case ctx.Err() != nil:
		return fmt.Errorf("%w: %w", ErrNoCluster, context.Cause(ctx))
	case s.waitsFor != nil:
		return fmt.Errorf("%w: %w", ErrNoCluster, s.waitsFor)
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

		serverName: s.serverName,
	}
}
