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

	// DialTimeout bounds the TCP and TLS connect to one peer, and is the upper
	// bound of the head start that a peer has over the next one. 0 means none.
	DialTimeout time.Duration

	// Logger hears about sources and peers, mostly at debug level. If nil,
	// nothing is logged.
	Logger *slog.Logger

	// ClusterID is the cluster that peers must belong to. 0 means that it is
	// not pinned yet: the cluster file or the first answer pins it.
	ClusterID uint64
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

// hexID is how IDs look in every output: etcd's decimal ones cannot be pasted
// into its own commands and lose digits in JSON readers.
func hexID(id uint64) string {
	return fmt.Sprintf("%016x", id)
}
