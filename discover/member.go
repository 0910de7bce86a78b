package discover

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strconv"
	"time"
)

// Member is one member of the cluster as the cluster's own list has it.
type Member struct {
	ID         uint64   `json:"-"` // in JSON "id", 16 hex digits
	Name       string   `json:"name"`
	PeerURLs   []string `json:"peer_urls"`
	ClientURLs []string `json:"client_urls"`
	IsLearner  bool     `json:"is_learner"`
}

// Started tells whether the member has ever started: before that it has no
// name and no client URLs (etcd, server/etcdserver/api/membership/member.go).
func (m Member) Started() bool {
	return m.Name != ""
}

// Usable tells whether the proxy sends requests to the member, and if not, why
// not.
func (m Member) Usable() (usable bool, why string) {
	switch {
	case !m.Started():
		return false, "unstarted"
	case m.IsLearner:
		return false, "learner: it serves no reads of the whole cluster"
	case len(m.ClientURLs) == 0:
		return false, "it advertises no client URL"
	}
	return true, ""
}

// MarshalJSON writes the ID as 16 lower-case hex digits.
func (m Member) MarshalJSON() ([]byte, error) {
	type fields Member
	m.PeerURLs, m.ClientURLs = nonNil(m.PeerURLs), nonNil(m.ClientURLs)
	return json.Marshal(struct {
		ID string `json:"id"`
		fields
	}{hexID(m.ID), fields(m)})
}

// ClientURL is one client URL of the cluster and whether the proxy would use
// it. A member without client URLs has one with an empty URL.
type ClientURL struct {
	URL      string `json:"url"`
	Member   string `json:"member"`    // its name; "" while unstarted
	MemberID string `json:"member_id"` // 16 hex digits
	Used     bool   `json:"used"`
	Why      string `json:"why"` // why it is not used; "" when it is
}

func clientURLs(members []Member) []ClientURL {
	var all []ClientURL
	for _, m := range members {
		usable, why := m.Usable()
		if len(m.ClientURLs) == 0 {
			all = append(all, ClientURL{Member: m.Name, MemberID: hexID(m.ID), Why: why})
		}
		for _, rawURL := range m.ClientURLs {
			row := ClientURL{URL: rawURL, Member: m.Name, MemberID: hexID(m.ID), Used: usable, Why: why}
			if _, err := parseTarget(rawURL); usable && err != nil {
				row.Used, row.Why = false, err.Error()
			}
			all = append(all, row)
		}
	}
	return all
}

// Membership is the last good answer of the cluster about itself.
type Membership struct {
	ClusterID uint64
	Members   []Member
	PeerURLs  []string  // where the members can be asked, each once
	At        time.Time // when the answer came

	// serverName is the name that the peers' certificates must have; "" for the
	// host of each URL.
	serverName string

	// FileErr is why the cluster file could not be written after this answer;
	// nil where it was, and where none is kept. The membership is good.
	FileErr error
}

// ClientURLs returns the URLs that the proxy would use, each once.
func (m Membership) ClientURLs() []string {
	var urls []string
	for _, c := range clientURLs(m.Members) {
		if c.Used && !slices.Contains(urls, c.URL) {
			urls = append(urls, c.URL)
		}
	}
	return urls
}

// askablePeerURLs is the union of the members' peer URLs: those of started
// voters first, because a learner or a joining member may still give an old
// list.
func askablePeerURLs(members []Member) (voters, others []string) {
	for _, m := range members {
		for _, raw := range m.PeerURLs {
			peerURL, err := parsePeerURL(raw)
			if err != nil || slices.Contains(voters, peerURL) || slices.Contains(others, peerURL) {
				continue
			}
			if m.Started() && !m.IsLearner {
				voters = append(voters, peerURL)
			} else {
				others = append(others, peerURL)
			}
		}
	}
	return voters, others
}

// membersLimit bounds the answer to /members, in bytes.
const membersLimit = 4 << 20

// decodeMembers reads the answer to GET /members of a peer. The format is the
// same from etcd 2 to 3.7: a JSON array, and the cluster's ID in hex in the
// header X-Etcd-Cluster-Id (server/etcdserver/api/etcdhttp/peer.go).
func decodeMembers(header http.Header, body []byte) (clusterID uint64, members []Member, err error) {
	rawID := header.Get("X-Etcd-Cluster-Id")
	if rawID == "" {
		return 0, nil, errors.New("answer without X-Etcd-Cluster-Id: this is not the peer port of an etcd member")
	}
	clusterID, err = strconv.ParseUint(rawID, 16, 64)
	if err != nil {
		return 0, nil, fmt.Errorf("answer with a bad X-Etcd-Cluster-Id %.20q", rawID)
	}
	if clusterID == 0 {
		return 0, nil, errors.New("the peer is not in a cluster yet (its X-Etcd-Cluster-Id is 0)")
	}
	if !bytes.HasPrefix(bytes.TrimLeft(body, " \t\r\n"), []byte("[")) {
		return 0, nil, errors.New("answer is not a JSON array of members")
	}
	var list []struct {
		ID         uint64   `json:"id"`
		PeerURLs   []string `json:"peerURLs"`
		IsLearner  bool     `json:"isLearner"`
		Name       string   `json:"name"`
		ClientURLs []string `json:"clientURLs"`
	}
	if err := json.Unmarshal(body, &list); err != nil {
		return 0, nil, fmt.Errorf("answer is not a list of members: %w", jsonCause(err))
	}
	if len(list) == 0 {
		return 0, nil, errors.New("answer is an empty list of members")
	}
	for _, m := range list {
		members = append(members, Member{
			ID: m.ID, Name: m.Name, PeerURLs: m.PeerURLs, ClientURLs: m.ClientURLs, IsLearner: m.IsLearner,
		})
	}
	return clusterID, members, nil
}

// jsonCause says truncation in words that an operator understands.
func jsonCause(err error) error {
	var syntax *json.SyntaxError
	if errors.As(err, &syntax) && syntax.Error() == "unexpected end of JSON input" || errors.Is(err, io.ErrUnexpectedEOF) {
		return errors.New("it is cut short")
	}
	return err
}

func nonNil(list []string) []string {
	if list == nil {
		return []string{}
	}
	return list
}
