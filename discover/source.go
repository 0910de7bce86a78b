package discover

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"time"
)

// The names of the sources.
const (
	SourceClusterFile    = "cluster file"
	SourceInitialCluster = "initial-cluster"
	SourceDefault        = "default"
)

// The states of a source after a resolution.
const (
	SourceUsed       = "used"        // one of its peers gave the member list
	SourceNotSet     = "not set"     // the operator gave none, or no file is there
	SourceNotUsed    = "not used"    // another source is set or answered first
	SourceFailed     = "failed"      // none of its peers gave a member list
	SourceNotReached = "not reached" // it would have come later
)

// Source is the fate of one source, in the order of the precedence.
type Source struct {
	Name     string        `json:"source"` // see SourceClusterFile and its neighbours
	State    string        `json:"state"`  // see SourceUsed and its neighbours
	PeerURLs []string      `json:"peer_urls"`
	Reason   string        `json:"reason"`
	Took     time.Duration `json:"-"` // in JSON "took_ms", milliseconds
}

// MarshalJSON writes Took as milliseconds and no list as an empty one.
func (s Source) MarshalJSON() ([]byte, error) {
	type fields Source
	s.PeerURLs = nonNil(s.PeerURLs)
	return json.Marshal(struct {
		fields
		TookMs float64 `json:"took_ms"`
	}{fields(s), milliseconds(s.Took)})
}

// plan lists the sources in the order in which they are tried; those that are
// to be tried have no state yet. The order, exactly: a cluster file written
// for the same source flags; the source flags; only where none of them is set,
// etcd's default peers; a cluster file written for other flags as the last
// resort. A file by etcd's own proxy carries no flags, so set flags beat it and
// the default does not. An error is a *BadClusterError.
func (s *search) plan() error {
	var fromFlags []string
	flags := Source{Name: SourceInitialCluster, State: SourceNotSet, Reason: "--initial-cluster is not set"}
	if strings.TrimSpace(s.config.InitialCluster) != "" {
		var err error
		fromFlags, err = ParseInitialCluster(s.config.InitialCluster)
		flags = Source{Name: SourceInitialCluster, PeerURLs: fromFlags}
		if err != nil {
			flags.State, flags.Reason = SourceFailed, err.Error()
			s.sources = []Source{flags}
			return err
		}
	}
	s.flags = canonicalFlags(fromFlags)
	s.memory = s.config.memory()
	file, first := s.planFile(len(fromFlags) > 0)

	fallback := Source{Name: SourceDefault, PeerURLs: defaultPeerURLs, Reason: "no source is set"}
	switch {
	case len(fromFlags) > 0:
		fallback.State, fallback.Reason = SourceNotUsed, "a source is set, so localhost could be a stranger"
	case first && !s.memory.writtenFor(s.flags):
		fallback.State, fallback.Reason = SourceNotUsed, "the cluster file names peers, so localhost could be a stranger"
	}
	if first || file.State == SourceFailed {
		s.sources = []Source{file, flags, fallback}
	} else {
		s.sources = []Source{flags, fallback, file}
	}
	return nil
}

// planFile says what the cluster file is good for, and takes the pin from it.
func (s *search) planFile(flagsSet bool) (file Source, first bool) {
	m := s.memory
	file = Source{Name: SourceClusterFile, PeerURLs: m.peerURLs}
	switch {
	case m.path == "":
		file.State, file.Reason = SourceNotSet, "no data directory is set"
		return file, false
	case !m.found:
		file.State, file.Reason = SourceNotSet, "there is no "+m.path
		return file, false
	case m.err != nil:
		file.State = SourceFailed
		file.Reason = fmt.Sprintf("%s: %s; remove or repair it, the sources are asked instead", m.path, m.err)
		return file, false
	case s.pin != 0 && m.clusterID != 0 && m.clusterID != s.pin:
		file.State = SourceFailed
		file.Reason = fmt.Sprintf("%s is about cluster %s, but cluster %s is pinned by %s",
			m.path, hexID(m.clusterID), hexID(s.pin), s.pinnedBy)
		return file, false
	}
	switch {
	case m.writtenFor(s.flags):
		first, file.Reason = true, "written for the same flags"
	case s.config.PreferFile:
		first, file.Reason = true, "it comes first because only the data directory was given"
	case m.flags == nil && !flagsSet:
		first, file.Reason = true, "written by etcd's own proxy, and no source is set"
	case m.flags == nil:
		file.Reason = "written by etcd's own proxy: set sources beat it, it is the last resort"
	default:
		file.Reason = "written for other flags: it is the last resort"
	}
	if age := m.age(time.Now()); age != "" {
		file.Reason += ", " + age + " ago"
	}
	if first && s.pin == 0 && m.clusterID != 0 {
		s.pin, s.pinnedBy = m.clusterID, "the cluster file "+m.path
	}
	return file, first
}

// try asks the peers of one source and settles its state.
func (s *search) try(ctx context.Context, source *Source) {
	if source.Name == SourceClusterFile && s.pin == 0 && s.memory.clusterID != 0 {
		// The last resort: its addresses are good for its own cluster only.
		s.pin, s.pinnedBy = s.memory.clusterID, "the cluster file "+s.memory.path
	}
	start := time.Now()
	s.ask(ctx, source.PeerURLs)
	source.Took = time.Since(start)
	result := ""
	if s.found != nil {
		source.State, result = SourceUsed, s.found.peerURL+" answered"
	} else {
		source.State, result = SourceFailed, s.failure(source.PeerURLs)
	}
	if source.Reason != "" {
		result = source.Reason + "; " + result
	}
	source.Reason = result
}

// passOver settles a source that was to be tried, but another one came first.
func (s *search) passOver(source *Source, used string) {
	switch {
	case used == "":
		source.State, source.Reason = SourceNotReached, "cancelled"
	case source.Name == SourceClusterFile:
		source.State, source.Reason = SourceNotReached, source.Reason+"; the "+used+" source answered"
	default:
		source.State, source.Reason = SourceNotUsed, "the "+used+" answered first"
	}
}

// failure sums up why none of the peers gave a member list, each cause once.
func (s *search) failure(peerURLs []string) string {
	var causes []string
	seen := map[string]bool{}
	for _, peerURL := range peerURLs {
		reason := s.peers[s.index[peerURL]].Reason
		if !seen[reason] {
			seen[reason] = true
			causes = append(causes, reason)
		}
	}
	const most = 3
	if len(causes) > most {
		causes = append(causes[:most], "…")
	}
	count := fmt.Sprintf("none of its %d peers gave a member list", len(peerURLs))
	if len(peerURLs) == 1 {
		count = peerURLs[0] + " gave no member list"
	}
	return count + ": " + strings.Join(causes, "; ")
}
