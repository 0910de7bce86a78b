package discover

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"time"
)

const (
	proxyFolder     = "proxy"
	clusterFileName = "cluster"

	// clusterFileLimit bounds what is read of a cluster file, in bytes.
	clusterFileLimit = 1 << 20
)

// clusterFile is <data-dir>/proxy/cluster: etcd's object
// {"PeerURLs":["http://…"]} (etcd 3.5, server/etcdmain/etcd.go) with our fields
// beside it, which etcd passes over.
type clusterFile struct {
	PeerURLs  []string  `json:"PeerURLs"`
	ClusterID string    `json:"cluster_id,omitempty"` // 16 hex digits
	Flags     *string   `json:"flags,omitempty"`      // nil: etcd's own proxy wrote it
	Written   time.Time `json:"written,omitzero"`

	// ServerName is the name that the peers' certificates must have, where that
	// is not the host of each URL.
	ServerName string `json:"server_name,omitempty"`
}

// FileReport is what a cluster file says about itself.
type FileReport struct {
	Path       string     `json:"path"`
	Written    *time.Time `json:"written,omitempty"`     // nil: it does not say
	AgeSeconds *int64     `json:"age_seconds,omitempty"` // since then
	Flags      *string    `json:"flags,omitempty"`       // it was written for; nil: etcd's own proxy wrote it, or it can't be read
	ClusterID  string     `json:"cluster_id"`            // 16 hex digits; "" if it does not say
}

// memory is the cluster file as it was found.
type memory struct {
	path       string // "" = no data directory is set
	found      bool
	peerURLs   []string
	serverName string
	clusterID  uint64 // 0 = unknown
	flags      *string
	written    time.Time
	err        error // why it cannot be used
}

func (m memory) writtenFor(flags string) bool {
	return m.flags != nil && *m.flags == flags
}

// age says how long ago it was written; "" if it does not say.
func (m memory) age(now time.Time) string {
	if m.written.IsZero() || m.written.After(now) {
		return ""
	}
	return now.Sub(m.written).Truncate(time.Second).String()
}

// report is what the file says about itself.
func (m memory) report(now time.Time) *FileReport {
	report := &FileReport{Path: m.path, Flags: m.flags}
	if m.clusterID != 0 {
		report.ClusterID = hexID(m.clusterID)
	}
	if !m.written.IsZero() {
		age := int64(now.Sub(m.written) / time.Second)
		report.Written, report.AgeSeconds = &m.written, &age
	}
	return report
}

// clusterFilePath is the cluster file of a data directory, "" for none.
func clusterFilePath(dataDir string) string {
	if dataDir == "" {
		return ""
	}
	return filepath.Join(dataDir, proxyFolder, clusterFileName)
}

func readMemory(path string) memory {
	if path == "" {
		return memory{}
	}
	m := memory{path: path, found: true}
	content, err := readClusterFile(m.path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		m.found = false
		return m
	case err != nil:
		m.err = err
		return m
	}
	file, err := decodeClusterFile(content)
	if err != nil {
		m.err = err
		return m
	}
	m.peerURLs, m.flags, m.written, m.serverName = file.PeerURLs, file.Flags, file.Written, file.ServerName
	if file.ClusterID != "" {
		// decodeClusterFile has made sure that it is an ID.
		m.clusterID, _ = strconv.ParseUint(file.ClusterID, 16, 64)
	}
	return m
}

func readClusterFile(path string) ([]byte, error) {
	// Opening a pipe or a device could block for ever.
	info, err := os.Stat(path)
	if err != nil {
		return nil, withoutPath(err)
	}
	if !info.Mode().IsRegular() {
		return nil, errors.New("not a regular file")
	}
	file, err := os.Open(path)
	if err != nil {
		return nil, withoutPath(err)
	}
	defer file.Close()
	content, err := io.ReadAll(io.LimitReader(file, clusterFileLimit+1))
	if err != nil {
		return nil, withoutPath(err)
	}
	if len(content) > clusterFileLimit {
		return nil, fmt.Errorf("larger than %d bytes", clusterFileLimit)
	}
	return content, nil
}

// decodeClusterFile returns a file with at least one peer URL, all of which
// can be asked, each once.
func decodeClusterFile(content []byte) (clusterFile, error) {
	var file clusterFile
	if err := json.Unmarshal(content, &file); err != nil {
		return clusterFile{}, fmt.Errorf("not a cluster file: %w", jsonCause(err))
	}
	if file.ClusterID != "" {
		if id, err := strconv.ParseUint(file.ClusterID, 16, 64); err != nil || id == 0 {
			return clusterFile{}, fmt.Errorf("not a cluster file: bad cluster_id %.20q", file.ClusterID)
		}
	}
	var peerURLs []string
	for _, raw := range file.PeerURLs {
		peerURL, err := parsePeerURL(raw)
		if err != nil {
			return clusterFile{}, fmt.Errorf("bad peer URL %.60q: %w", raw, err)
		}
		if !slices.Contains(peerURLs, peerURL) {
			peerURLs = append(peerURLs, peerURL)
		}
	}
	if len(peerURLs) == 0 {
		return clusterFile{}, errors.New("it has no PeerURLs")
	}
	file.PeerURLs = peerURLs
	return file, nil
}

// withoutPath leaves the path to the caller, who names it once.
func withoutPath(err error) error {
	var path *fs.PathError
	if errors.As(err, &path) {
		return path.Err
	}
	return err
}
