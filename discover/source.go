package discover

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"
)

// The names of the sources.
const (
	SourceDiscovery      = "discovery"
	SourceDiscoveryToken = "discovery-token"
	SourceDiscoverySRV   = "discovery-srv"
	SourceInitialCluster = "initial-cluster"
	SourceDefault        = "default"
	SourceClusterFile    = "cluster file"
)

// The states of a source after a resolution.
const (
	SourceUsed       = "used"        // one of its peers gave the member list
	SourceWaiting    = "waiting"     // its cluster has not bootstrapped yet
	SourceNotSet     = "not set"     // the operator gave none, or no file is there
	SourceNotUsed    = "not used"    // another source is set or answered first
	SourceFailed     = "failed"      // it led to no member list
	SourceNotReached = "not reached" // it would have come later
)

// Source is the fate of one source, in the order of the precedence.
type Source struct {
	Name     string        `json:"source"` // see SourceDiscovery and its neighbours
	State    string        `json:"state"`  // see SourceUsed and its neighbours
	PeerURLs []string      `json:"peer_urls"`
	Reason   string        `json:"reason"`
	Took     time.Duration `json:"-"` // in JSON "took_ms", milliseconds

	// Registry is what the discovery service answered; nil where it was not
	// asked or gave none.
	Registry *Registry `json:"registry,omitempty"`

	// DNS are the names that were asked for SRV records.
	DNS []DNSName `json:"dns"`

	// File is the cluster file; nil where there is none.
	File *FileReport `json:"file,omitempty"`

	// contact fills in the peer URLs. If nil, they are there already.
	contact func(ctx context.Context, source *Source) error
	// serverName is the name that its peers' certificates must have; "" for the
	// host of each URL.
	serverName string
}

// MarshalJSON writes Took as milliseconds and no list as an empty one.
func (s Source) MarshalJSON() ([]byte, error) {
	type fields Source
	s.PeerURLs = nonNil(s.PeerURLs)
	if s.DNS == nil {
		s.DNS = []DNSName{}
	}
	return json.Marshal(struct {
		fields
		TookMs float64 `json:"took_ms"`
	}{fields(s), milliseconds(s.Took)})
}

// plan lists the sources in the order in which they are tried; those that are
// to be tried have no state yet. The order, exactly: a cluster file written
// for the same source flags; the sources that flags set; only where none of
// them is set, etcd's default peers; a cluster file written for other flags as
// the last resort. A file by etcd's own proxy carries no flags, so set flags
// beat it and the default does not. An error is a *BadClusterError.
func (s *search) plan() error {
	static, err := s.planStatic()
	if err != nil {
		s.sources = []Source{static}
		return err
	}
	flags := []Source{s.planURL(), s.planToken(), s.planSRV(), static}
	set := slices.ContainsFunc(flags, func(source Source) bool { return source.State == "" })
	s.flags = s.config.canonicalFlags(static.PeerURLs)
	s.memory = s.config.memory()
	file, first := s.planFile(set)

	fallback := Source{Name: SourceDefault, PeerURLs: defaultPeerURLs, Reason: "no source is set"}
	switch {
	case set:
		fallback.State, fallback.Reason = SourceNotUsed, "a source is set, so localhost could be a stranger"
	case first && !s.memory.writtenFor(s.flags):
		fallback.State, fallback.Reason = SourceNotUsed, "the cluster file names peers, so localhost could be a stranger"
	}
	flags = append(flags, fallback)
	if first || file.State == SourceFailed {
		s.sources = append([]Source{file}, flags...)
	} else {
		s.sources = append(flags, file)
	}
	return nil
}

func (s *search) planURL() Source {
	source := Source{Name: SourceDiscovery}
	if s.config.DiscoveryURL == "" {
		source.State, source.Reason = SourceNotSet, "--discovery is not set"
		return source
	}
	source.contact = func(ctx context.Context, source *Source) error {
		service, err := newURLRegistry(s.config)
		if err != nil {
			return err
		}
		return s.readRegistry(ctx, source, service)
	}
	return source
}

func (s *search) planToken() Source {
	source := Source{Name: SourceDiscoveryToken}
	if s.config.DiscoveryToken == "" {
		source.State, source.Reason = SourceNotSet, "--discovery-token is not set"
		return source
	}
	source.contact = func(ctx context.Context, source *Source) error {
		return s.readRegistry(ctx, source, newTokenRegistry(s.config))
	}
	return source
}

// readRegistry takes the peers from a registry, once the cluster in it has
// bootstrapped.
func (s *search) readRegistry(ctx context.Context, source *Source, service registryService) error {
	defer service.close()
	start := time.Now()
	lookCtx, cancel := context.WithTimeout(ctx, s.config.sourceTimeout())
	registry, err := service.look(lookCtx)
	cancel()
	if err != nil {
		return contactCause(err, start)
	}
	source.Registry = registry
	if err := s.awaitBootstrap(ctx, source, service); err != nil {
		return err
	}
	source.PeerURLs, err = source.Registry.peerURLs()
	source.Reason = source.Registry.Progress()
	return err
}

func (s *search) planSRV() Source {
	source := Source{Name: SourceDiscoverySRV}
	if s.config.SRVDomain == "" {
		source.State, source.Reason = SourceNotSet, "--discovery-srv is not set"
		return source
	}
	lookup := &srvLookup{resolver: s.config.Resolver, domain: s.config.SRVDomain, suffix: s.config.SRVName}
	if s.config.PeerTLS == nil || s.config.PeerTLS.RootCAs == nil {
		source.serverName = lookup.serverName()
	}
	source.contact = func(ctx context.Context, source *Source) error {
		ctx, cancel := context.WithTimeout(ctx, s.config.sourceTimeout())
		defer cancel()
		var err error
		source.DNS, source.PeerURLs, err = lookup.find(ctx)
		return err
	}
	return source
}

func (s *search) planStatic() (Source, error) {
	source := Source{Name: SourceInitialCluster}
	if strings.TrimSpace(s.config.InitialCluster) == "" {
		source.State, source.Reason = SourceNotSet, "--initial-cluster is not set"
		return source, nil
	}
	var err error
	source.PeerURLs, err = ParseInitialCluster(s.config.InitialCluster)
	if err != nil {
		source.State, source.Reason = SourceFailed, err.Error()
	}
	return source, err
}

// planFile says what the cluster file is good for, and takes the pin from it.
func (s *search) planFile(flagsSet bool) (file Source, first bool) {
	m := s.memory
	file = Source{Name: SourceClusterFile, PeerURLs: m.peerURLs, serverName: m.serverName}
	switch {
	case m.path == "":
		file.State, file.Reason = SourceNotSet, "no data directory is set"
		return file, false
	case !m.found:
		file.State, file.Reason = SourceNotSet, "there is no "+m.path
		return file, false
	}
	now := time.Now()
	file.File = m.report(now)
	switch {
	case m.err != nil:
		file.State = SourceFailed
		file.Reason = fmt.Sprintf("%s: %s; remove or repair it, the sources are asked instead", m.path, m.err)
		return file, false
	}
	written := "written"
	if age := m.age(now); age != "" {
		written += " " + age + " ago"
	}
	switch {
	case m.writtenFor(s.flags):
		first, file.Reason = true, written+" for the same flags"
	case s.config.PreferFile:
		first, file.Reason = true, written+", and first because only the data directory was given"
	case m.flags == nil && !flagsSet:
		first, file.Reason = true, written+" by etcd's own proxy, and no source is set"
	case m.flags == nil:
		file.Reason = written + " by etcd's own proxy: set sources beat it, it is the last resort"
	default:
		file.Reason = written + " for other flags: it is the last resort"
	}
	if first && s.config.BootstrapWait == 0 {
		// Where a cluster was known, its members may come back while a registry
		// that has shrunk is waited for: whoever asks again asks them first.
		s.config.BootstrapWait = -1
	}
	if first && s.pin == 0 && m.clusterID != 0 && !s.config.AnyCluster {
		s.pin, s.pinnedBy = m.clusterID, "the cluster file "+m.path
	}
	return file, first
}

// try contacts one source, asks its peers and settles its state.
func (s *search) try(ctx context.Context, source *Source) {
	if source.Name == SourceClusterFile && s.pin == 0 && s.memory.clusterID != 0 && !s.config.AnyCluster {
		// The last resort: its addresses are good for its own cluster only.
		s.pin, s.pinnedBy = s.memory.clusterID, "the cluster file "+s.memory.path
	}
	start := time.Now()
	defer func() { source.Took = time.Since(start) }()
	if source.contact != nil {
		if err := source.contact(ctx, source); err != nil {
			s.notContacted(source, err)
			return
		}
	}
	askCtx, cancel := context.WithTimeout(ctx, s.config.sourceTimeout())
	s.ask(askCtx, source.PeerURLs, source.serverName)
	cancel()
	result := ""
	if s.found != nil {
		source.State, result = SourceUsed, s.found.peerURL+" answered"
		s.serverName = source.serverName
	} else {
		source.State, result = SourceFailed, s.failure(source)
	}
	if source.Reason != "" {
		result = source.Reason + "; " + result
	}
	source.Reason = result
}

// notContacted settles a source that gave no peer URLs.
func (s *search) notContacted(source *Source, err error) {
	var waiting *WaitingError
	if errors.As(err, &waiting) {
		source.State, source.Reason, s.waitsFor = SourceWaiting, "the cluster has not bootstrapped: "+waiting.Progress, waiting
		return
	}
	source.State, source.Reason = SourceFailed, printable(err.Error())
}

// passOver settles a source that was to be tried, but another one came first.
func (s *search) passOver(ctx context.Context, source *Source, last string) {
	switch {
	case s.found == nil && ctx.Err() != nil:
		source.State, source.Reason = SourceNotReached, "cancelled"
	case s.waitsFor != nil:
		source.State, source.Reason = SourceNotReached, "the cluster of the "+last+" source is waited for"
	case s.found == nil:
		source.State, source.Reason = SourceNotReached, "the "+last+" source failed, and sources are strict"
	case source.Name == SourceClusterFile:
		source.State, source.Reason = SourceNotReached, source.Reason+"; the "+last+" source answered"
	default:
		source.State, source.Reason = SourceNotUsed, "the "+last+" answered first"
	}
}

// failure sums up why none of the peers gave a member list, each cause once.
func (s *search) failure(source *Source) string {
	var causes []string
	for _, peerURL := range source.PeerURLs {
		reason := s.peers[s.index[peerKey{peerURL, source.serverName}]].Reason
		if !slices.Contains(causes, reason) {
			causes = append(causes, reason)
		}
	}
	const most = 3
	if len(causes) > most {
		causes = append(causes[:most], "…")
	}
	count := fmt.Sprintf("none of its %d peers gave a member list", len(source.PeerURLs))
	if len(source.PeerURLs) == 1 {
		count = source.PeerURLs[0] + " gave no member list"
	}
	return count + ": " + strings.Join(causes, "; ")
}
