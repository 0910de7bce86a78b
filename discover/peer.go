package discover

import (
	"cmp"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"net/http"
	"slices"
	"strings"
	"sync/atomic"
	"time"
)

const (
	// membersTimeout bounds asking one peer, from connect to the last byte
	// (etcd 3.5, etcdserver/cluster_util.go).
	membersTimeout = 10 * time.Second

	// headStart is how long a peer is alone before the next one is asked too,
	// unless the dial timeout is shorter: a hung peer costs no more than this.
	headStart = 300 * time.Millisecond
)

// The states of a peer that stood on a list to be asked.
const (
	PeerAnswered = "answered"  // its answer is the one that was used
	PeerFailed   = "failed"    // no answer, a bad one, or one that came too late
	PeerRefused  = "refused"   // it belongs to another cluster than the pinned one
	PeerNotAsked = "not asked" // another one had answered before its turn
)

// PeerAnswer is what became of one peer.
type PeerAnswer struct {
	URL       string        `json:"url"`
	State     string        `json:"state"` // see PeerAnswered and its neighbours
	Reason    string        `json:"reason"`
	Took      time.Duration `json:"-"`          // in JSON "took_ms", milliseconds
	ClusterID string        `json:"cluster_id"` // 16 hex digits; "" without a good answer
	Members   int           `json:"members"`    // how many its list has

	// ServerName is the name that its certificate had to have; "" for the host of
	// the URL.
	ServerName string `json:"server_name"`

	// Certificate is the one that it showed; nil without TLS.
	Certificate *Certificate `json:"certificate,omitempty"`
}

// Certificate is what an operator asks about the one that a peer showed.
type Certificate struct {
	Subject  string    `json:"subject"`
	Names    []string  `json:"names"` // DNS names and addresses that it is for
	Issuer   string    `json:"issuer"`
	NotAfter time.Time `json:"not_after"`
}

func newCertificate(c *x509.Certificate) *Certificate {
	names := slices.Clone(c.DNSNames)
	for _, ip := range c.IPAddresses {
		names = append(names, ip.String())
	}
	return &Certificate{
		Subject: oneLine(c.Subject.String()), Names: nonNil(names), Issuer: oneLine(c.Issuer.String()), NotAfter: c.NotAfter,
	}
}

// MarshalJSON writes Took as milliseconds.
func (p PeerAnswer) MarshalJSON() ([]byte, error) {
	type fields PeerAnswer
	return json.Marshal(struct {
		fields
		TookMs float64 `json:"took_ms"`
	}{fields(p), milliseconds(p.Took)})
}

func milliseconds(d time.Duration) float64 {
	return float64(d.Round(time.Microsecond)) / float64(time.Millisecond)
}

// peerList is the member list that one peer gave, or why there is none.
type peerList struct {
	peerURL   string
	clusterID uint64
	members   []Member
	err       error
	took      time.Duration

	certificate *Certificate
}

// wrongName tells that the certificate is for other names than it had to be.
func (l *peerList) wrongName() bool {
	var hostname x509.HostnameError
	return errors.As(l.err, &hostname)
}

// sameMembers tells whether both lists say the same, whatever their order.
func (l *peerList) sameMembers(other *peerList) bool {
	return slices.EqualFunc(byID(l.members), byID(other.members), func(a, b Member) bool {
		return a.ID == b.ID && a.Name == b.Name && a.IsLearner == b.IsLearner &&
			slices.Equal(a.PeerURLs, b.PeerURLs) && slices.Equal(a.ClientURLs, b.ClientURLs)
	})
}

func byID(members []Member) []Member {
	return slices.SortedFunc(slices.Values(members), func(a, b Member) int { return cmp.Compare(a.ID, b.ID) })
}

// isBehind tells whether the list is that of a member which still reads the
// cluster's log from its beginning: a list of long ago, with members that have
// gone and without client URLs. Each member tells its own through the log when
// it starts, and none takes them back: who does not know its own, or those of a
// member that we know, has not come to that entry yet (publishV3,
// server/etcdserver/server.go).
func (l *peerList) isBehind(known []Member) bool {
	for _, m := range l.members {
		if len(m.ClientURLs) > 0 {
			continue
		}
		asked := slices.ContainsFunc(m.PeerURLs, func(raw string) bool {
			peerURL, err := parsePeerURL(raw)
			return err == nil && peerURL == l.peerURL
		})
		told := slices.ContainsFunc(known, func(k Member) bool { return k.ID == m.ID && len(k.ClientURLs) > 0 })
		if asked || told {
			return true
		}
	}
	return false
}

// askPeer asks one peer for the members of its cluster.
func askPeer(ctx context.Context, d dialer, peerURL string) peerList {
	start := time.Now()
	list := peerList{peerURL: peerURL}
	list.err = list.fetch(ctx, d)
	list.took = time.Since(start)
	return list
}

func (l *peerList) fetch(ctx context.Context, d dialer) error {
	ctx, cancel := context.WithTimeout(ctx, membersTimeout)
	defer cancel()
	to, err := parseTarget(l.peerURL)
	if err != nil {
		return err
	}
	var shown atomic.Pointer[x509.Certificate]
	d.verified = func(c *x509.Certificate) { shown.Store(c) }
	answer, err := d.get(ctx, to, "/members", membersLimit)
	var unverified *tls.CertificateVerificationError
	if errors.As(err, &unverified) && len(unverified.UnverifiedCertificates) > 0 {
		shown.Store(unverified.UnverifiedCertificates[0])
	}
	if c := shown.Load(); c != nil {
		l.certificate = newCertificate(c)
	}
	if err != nil {
		return err
	}
	if answer.status != http.StatusOK {
		return fmt.Errorf("answer has status %d%s", answer.status, statusHint(answer))
	}
	l.clusterID, l.members, err = decodeMembers(answer.header, answer.body)
	return err
}

func statusHint(answer *reply) string {
	switch {
	case answer.status >= 300 && answer.status < 400:
		return ": redirects of peers are not followed"
	case speaksTLS(answer):
		return ": it speaks TLS, is its URL https?"
	case answer.status == http.StatusNotFound:
		return ": is this a client port? peers listen on their own"
	}
	return ""
}

// speaksTLS knows the answer that net/http gives in the clear on a TLS port.
func speaksTLS(answer *reply) bool {
	return answer.status == http.StatusBadRequest && strings.Contains(string(answer.body), "HTTPS server")
}

// othersTimeout is how long the other peers may still answer after one has given the
// list that is used.
const othersTimeout = 3 * time.Second

// How many peers are wanted to answer.
const (
	firstAnswer = 1
	twoAnswers  = 2
	allAnswers  = math.MaxInt
)

// askPeers asks the peers, each with a head start over the next, until take has
// called as many lists good as are wanted. After the first good one the others
// have othersTimeout; where all are wanted, they are then asked at once. At the end
// it cancels the peers that are still busy and waits for them to let go. Every peer
// that was asked is given to take, from this goroutine; what comes after the end is
// ignored but for its error.
func askPeers(ctx context.Context, d dialer, peerURLs []string, want int, take func(peerList) (good bool)) {
	askCtx, cancel := context.WithCancel(ctx)
	defer cancel()
	lead := headStart
	if d.timeout > 0 {
		lead = min(lead, d.timeout)
	}
	turn := time.NewTimer(0)
	defer turn.Stop()
	var limit <-chan time.Time // of the other peers; nil until one was good
	lists := make(chan peerList, len(peerURLs))
	asked, busy, good, over := 0, 0, 0, false
	for !over && ctx.Err() == nil && (asked < len(peerURLs) || busy > 0) {
		select {
		case <-ctx.Done():
		case <-limit:
			over = true
		case <-turn.C:
			if asked < len(peerURLs) {
				peerURL := peerURLs[asked]
				go func() { lists <- askPeer(askCtx, d, peerURL) }()
				asked++
				busy++
				turn.Reset(lead)
			}
		case list := <-lists:
			busy--
			if take(list) {
				good++
				over = good >= want
			}
			if good == 1 && limit == nil {
				limit = time.After(othersTimeout)
				if want == allAnswers {
					lead = 0
				}
			}
			turn.Reset(0)
		}
	}
	cancel()
	for ; busy > 0; busy-- {
		list := <-lists
		list.err = fmt.Errorf("no answer after %s, when it was no longer waited for", roughly(list.took))
		take(list)
	}
}
