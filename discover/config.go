// Package discover turns what the operator configured into the members of a
// cluster and says why: sources by precedence, their peer URLs, the member
// list that one of the peers gives, the members' client URLs. It also asks the
// members how they are. It returns structs with JSON tags and prints nothing.
package discover

import (
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"slices"
	"strings"
	"time"
)

// DefaultDialTimeout is the default of etcd's --proxy-dial-timeout
// (etcd 3.5, server/embed/config.go).
const DefaultDialTimeout = time.Second

// defaultPeerURLs are asked only where no source is set: etcd 2's defaults
// (release-2.3, Documentation/configuration.md).
var defaultPeerURLs = []string{"http://localhost:2380", "http://localhost:7001"}

// ErrNoCluster is wrapped by the errors of Resolve and Refresh when no source
// led to a cluster.
var ErrNoCluster = errors.New("no cluster found")

// Config says where to look for the cluster. The zero value asks etcd's
// default peers.
type Config struct {
	// DiscoveryURL is etcd's --discovery, a v2 discovery URL, and DiscoveryProxy
	// the HTTP proxy towards it. Empty means that it is not set.
	DiscoveryURL, DiscoveryProxy string

	// DiscoveryToken and DiscoveryEndpoints are etcd's flags of v3 discovery,
	// DiscoveryClient how the endpoints are asked. An empty token means that it
	// is not set.
	DiscoveryToken     string
	DiscoveryEndpoints []string
	DiscoveryClient    DiscoveryClient

	// DiscoveryTLS is how discovery services of both kinds are asked. If nil, the
	// system's roots are trusted, and endpoints without a scheme are plain.
	DiscoveryTLS *tls.Config

	// SRVDomain and SRVName are etcd's --discovery-srv and --discovery-srv-name.
	// An empty domain means that it is not set.
	SRVDomain, SRVName string

	// InitialCluster is etcd's --initial-cluster, "name=peerURL,…". Empty means
	// that this source is not set.
	InitialCluster string

	// DataDir holds proxy/cluster, the memory of the last good answer. Empty
	// means that no cluster file is read or written.
	DataDir string

	// ClusterFile is asked for the memory instead, where it exists: a promotion
	// sets the folder proxy aside, and a proxy that starts meanwhile still needs
	// what is in it. What is written goes to DataDir.
	ClusterFile string

	// ReadOnly means that no cluster file is written, as after StopWriting.
	ReadOnly bool

	// PreferFile asks the cluster file first, whatever flags it was written
	// for. It is for commands that were given a data directory and no source.
	PreferFile bool

	// PeerTLS is how peers with https URLs are asked. If nil, the system's
	// roots are trusted and no client certificate is shown.
	PeerTLS *tls.Config

	// ExplainPeer words an error of TLS with a peer for an operator, and is "" for
	// others. If nil, TLSCause does.
	ExplainPeer func(err error) string

	// DialTimeout bounds the TCP and TLS connect to one peer, and is the upper
	// bound of the head start that a peer has over the next one. 0 means none.
	DialTimeout time.Duration

	// Strict means that after a set source that failed no other one is tried.
	Strict bool

	// SourceTimeout bounds contacting one source, and then asking its peers.
	// 0 means 10 s.
	SourceTimeout time.Duration

	// BootstrapWait bounds the wait for a cluster that has not bootstrapped yet.
	// 0 means for ever, below 0 not at all.
	BootstrapWait time.Duration

	// Waiting hears how far a bootstrap has come, while it is waited for: at each
	// look, also where nothing has changed. If nil, nobody does.
	Waiting func(*WaitingError)

	// AskAll asks also the other peers of a source after one has given the
	// list that is used. It is for showing.
	AskAll bool

	// Resolver asks the DNS. If nil, it is net.DefaultResolver.
	Resolver *net.Resolver

	// Logger hears about sources and peers, mostly at debug level. If nil,
	// nothing is logged.
	Logger *slog.Logger

	// ClusterID is the cluster that peers must belong to. 0 means that it is
	// not pinned yet: the cluster file or the first answer pins it.
	ClusterID uint64

	// Dial is the way to peers; nil means straight on.
	Dial Dial

	// AnyCluster passes over the pin in the cluster file: whoever answers first
	// pins the cluster.
	AnyCluster bool
}

// memory reads the cluster file.
func (c Config) memory() memory {
	if c.ClusterFile != "" {
		if m := readMemory(c.ClusterFile); m.found {
			return m
		}
	}
	return readMemory(clusterFilePath(c.DataDir))
}

// canonicalFlags is what the cluster file remembers of the source flags: equal
// for settings that mean the same peers, whatever their order and spacing, and
// without secrets. initialCluster are the peer URLs of that flag.
func (c Config) canonicalFlags(initialCluster []string) string {
	var flags []string
	if u, err := ParseDiscoveryURL(c.DiscoveryURL); err == nil {
		u.User = nil
		flags = append(flags, "discovery="+u.String())
	}
	if c.DiscoveryToken != "" {
		flags = append(flags, "discovery-token="+c.DiscoveryToken,
			"discovery-endpoints="+strings.Join(slices.Sorted(slices.Values(c.DiscoveryEndpoints)), ","))
	}
	if c.SRVDomain != "" {
		flags = append(flags, "discovery-srv="+strings.ToLower(strings.TrimSuffix(c.SRVDomain, ".")))
		if c.SRVName != "" {
			flags = append(flags, "discovery-srv-name="+strings.ToLower(c.SRVName))
		}
	}
	if len(initialCluster) > 0 {
		flags = append(flags, "initial-cluster="+strings.Join(slices.Sorted(slices.Values(initialCluster)), ","))
	}
	if len(flags) == 0 {
		return "default"
	}
	return strings.Join(flags, " ")
}

// defaultSourceTimeout bounds contacting a source, and then asking its peers.
const defaultSourceTimeout = 10 * time.Second

func (c Config) sourceTimeout() time.Duration {
	if c.SourceTimeout == 0 {
		return defaultSourceTimeout
	}
	return c.SourceTimeout
}

func (c Config) waiting(w *WaitingError) {
	if c.Waiting != nil {
		c.Waiting(w)
	}
}

func (c Config) logger() *slog.Logger {
	if c.Logger == nil {
		return slog.New(slog.DiscardHandler)
	}
	return c.Logger
}

// WrongClusterError reports that every peer that answered belongs to another
// cluster than the pinned one. Such peers get no request of a client.
type WrongClusterError struct {
	// Pinned is the cluster that we follow, Seen the last other one that
	// answered.
	Pinned, Seen uint64

	// PinnedBy says what pinned it, with the path if that is a file.
	PinnedBy string
}

func (e *WrongClusterError) Error() string {
	return fmt.Sprintf("peers answer for cluster %s, but cluster %s is pinned by %s",
		hexID(e.Seen), hexID(e.Pinned), e.PinnedBy)
}

// DisagreeError reports that two members give different lists of members. Until
// they agree, or for two refreshes, the list before stays.
type DisagreeError struct {
	// First and Second are their peer URLs, FirstList and SecondList what each lists.
	First, Second         string
	FirstList, SecondList []Member
}

func (e *DisagreeError) Error() string {
	first, second := names(e.FirstList), names(e.SecondList)
	if first == second {
		return fmt.Sprintf("peers %s and %s list different URLs for the members %s", e.First, e.Second, first)
	}
	return fmt.Sprintf("peers disagree about the members: %s lists %s; %s lists %s", e.First, first, e.Second, second)
}

func names(members []Member) string {
	var list []string
	for _, m := range byID(members) {
		switch {
		case !m.Started():
			list = append(list, hexID(m.ID)+" (unstarted)")
		case m.IsLearner:
			list = append(list, m.Name+" (learner)")
		default:
			list = append(list, m.Name)
		}
	}
	return strings.Join(list, ", ")
}

// hexID is how IDs look in every output: etcd's decimal ones cannot be pasted
// into its own commands and lose digits in JSON readers.
func hexID(id uint64) string {
	return fmt.Sprintf("%016x", id)
}
