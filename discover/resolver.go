package discover

import (
	"context"
	"encoding/json"
)

// Resolution is how the sources led to the cluster, or did not.
type Resolution struct {
	Sources   []Source     `json:"sources"`    // in the order of the precedence
	Peers     []PeerAnswer `json:"peers"`      // in the order of their turns
	ClusterID string       `json:"cluster_id"` // 16 hex digits; "" if none was found
	Members   []Member     `json:"members"`
	PeerURLs  []string     `json:"peer_urls"` // of the members, each once
	Clients   []ClientURL  `json:"clients"`
}

// MarshalJSON writes missing lists as empty ones.
func (r Resolution) MarshalJSON() ([]byte, error) {
	type fields Resolution
	if r.Sources == nil {
		r.Sources = []Source{}
	}
	if r.Peers == nil {
		r.Peers = []PeerAnswer{}
	}
	if r.Members == nil {
		r.Members = []Member{}
	}
	if r.Clients == nil {
		r.Clients = []ClientURL{}
	}
	r.PeerURLs = nonNil(r.PeerURLs)
	return json.Marshal(fields(r))
}

// Resolver finds the cluster once, for showing. It changes nothing.
type Resolver struct {
	config Config
}

// New returns a Resolver for what the operator configured.
func New(config Config) *Resolver {
	return &Resolver{config: config}
}

// Resolve tries the sources by precedence and asks their peers. The Resolution
// is complete also beside an error. The error wraps ErrNoCluster if no source
// led to a cluster, with a *WrongClusterError if all that answered belong to
// another one, and a *WaitingError if the cluster of a source has not
// bootstrapped in time; it is a *BadClusterError if --initial-cluster cannot be
// used.
func (r *Resolver) Resolve(ctx context.Context) (*Resolution, error) {
	s := newSearch(r.config, r.config.ClusterID, pinnedByConfig)
	err := s.resolve(ctx)
	resolution := &Resolution{Sources: s.sources, Peers: s.peers, Clients: s.strangersClients()}
	if err != nil {
		return resolution, err
	}
	m := s.membership()
	resolution.ClusterID = hexID(m.ClusterID)
	resolution.Members = m.Members
	resolution.PeerURLs = m.PeerURLs
	resolution.Clients = append(clientURLs(m.Members), resolution.Clients...)
	return resolution, nil
}

// strangersClients are the client URLs of other clusters' members that answered.
// They get no request.
func (s *search) strangersClients() []ClientURL {
	var all []ClientURL
	seen := map[string]bool{}
	for _, list := range s.strangers {
		for _, c := range clientURLs(list.members) {
			c.Used, c.Why = false, "it belongs to another cluster, "+hexID(list.clusterID)
			if !seen[c.MemberID+c.URL] {
				seen[c.MemberID+c.URL] = true
				all = append(all, c)
			}
		}
	}
	return all
}

// What pinned the cluster where no file did, for messages.
const (
	pinnedByConfig   = "--cluster-id"
	pinnedByAnswer   = "the first answer"
	pinnedByOperator = "etcdops proxy accept-cluster"
)
