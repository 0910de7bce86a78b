package discover

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"
)

// Registry is what a discovery service knows of one token: how many members the
// cluster is to have, and who has registered. It tells of the bootstrap alone:
// members that came later are not in it.
type Registry struct {
	Size    int          `json:"size"`
	Members []Registered `json:"members"` // in the order of their creation
}

// Registered is one entry of a registry.
type Registered struct {
	ID        string   `json:"id"` // the last part of its key; etcd's member ID in hex
	Name      string   `json:"name"`
	PeerURLs  []string `json:"peer_urls"`
	Created   uint64   `json:"created"`    // v2 createdIndex, v3 create revision
	InCluster bool     `json:"in_cluster"` // it is one of the first Size
	Problem   string   `json:"problem"`    // why it cannot be used; "" if it can
}

// newRegistry puts the entries in the order of their creation, of which the
// first size are the cluster (server/etcdserver/api/v2discovery/discovery.go of
// 3.5, checkCluster, and v3discovery's).
func newRegistry(size int, members []Registered) *Registry {
	slices.SortStableFunc(members, func(a, b Registered) int { return cmp.Compare(a.Created, b.Created) })
	for i := range members {
		members[i].InCluster = i < size
	}
	return &Registry{Size: size, Members: append([]Registered{}, members...)}
}

// newRegistered reads an entry, whose value is name=peerURL[,name=peerURL…].
func newRegistered(id, value string, created uint64) Registered {
	r := Registered{ID: oneLine(id), PeerURLs: []string{}, Created: created}
	for entry := range strings.SplitSeq(value, ",") {
		name, peerURL, err := parseEntry(strings.TrimSpace(entry))
		if err != nil {
			var bad *BadClusterError
			errors.As(err, &bad)
			r.Problem = fmt.Sprintf("bad entry %.80q: %s", withoutUser(entry), oneLine(bad.Reason))
			r.Name, r.PeerURLs = "", []string{}
			return r
		}
		r.Name = oneLine(name)
		if !slices.Contains(r.PeerURLs, peerURL) {
			r.PeerURLs = append(r.PeerURLs, peerURL)
		}
	}
	return r
}

// withoutUser hides a user and a password in a URL.
func withoutUser(text string) string {
	if at := strings.LastIndex(text, "@"); at >= 0 {
		return "…" + text[at:]
	}
	return text
}

// Bootstrapped tells whether all members that the cluster is to have are there.
// More of them are normal: they are proxies.
func (r *Registry) Bootstrapped() bool { return len(r.Members) >= r.Size }

// Taken tells whether the registry is full without whoever has these peer
// URLs.
func (r *Registry) Taken(peerURLs []string) bool {
	if !r.Bootstrapped() {
		return false
	}
	return !slices.ContainsFunc(r.Members[:r.Size], func(m Registered) bool { return SamePeerURLs(m.PeerURLs, peerURLs) })
}

// SamePeerURLs tells whether both are one member's, whatever their order. As with
// etcd, whose member ID is made of them, they are all that tells one from
// another.
func SamePeerURLs(a, b []string) bool { return slices.Equal(peerURLSet(a), peerURLSet(b)) }

func peerURLSet(urls []string) []string {
	set := slices.Clone(urls)
	for i, raw := range set {
		if peerURL, err := parsePeerURL(raw); err == nil {
			set[i] = peerURL
		}
	}
	slices.Sort(set)
	return slices.Compact(set)
}

// Progress is how far the bootstrap has come.
func (r *Registry) Progress() string {
	return fmt.Sprintf("%d of %d members registered", len(r.Members), r.Size)
}

// peerURLs are those of the members of the cluster, each once.
func (r *Registry) peerURLs() ([]string, error) {
	var all []string
	var problem string
	for _, m := range r.Members {
		if !m.InCluster {
			continue
		}
		if m.Problem != "" {
			problem = m.Problem
		}
		for _, peerURL := range m.PeerURLs {
			if !slices.Contains(all, peerURL) {
				all = append(all, peerURL)
			}
		}
	}
	if len(all) == 0 {
		return nil, fmt.Errorf("no registered member has a peer URL: %s", problem)
	}
	return all, nil
}

// RegistryError says what is wrong with a token or its service: asking again
// does not help.
type RegistryError struct {
	Reason  string
	ofToken bool // the service itself is good
}

func (e *RegistryError) Error() string { return e.Reason }

var (
	errTokenNotFound = &RegistryError{Reason: "token not found", ofToken: true}
	errSizeMissing   = &RegistryError{Reason: "size missing: the token has no _config/size", ofToken: true}
)

func badSize(value string) error {
	return &RegistryError{Reason: fmt.Sprintf("bad size %.20q: it must be a number above 0", value), ofToken: true}
}

func notDiscovery(why string) error {
	return &RegistryError{Reason: "not a discovery service: " + why}
}

// registryService is where a registry can be read.
type registryService interface {
	// look reads the registry. A *RegistryError is final.
	look(ctx context.Context) (*Registry, error)
	// await returns when the registry may have changed since look.
	await(ctx context.Context) error
	close()
}

// ReadRegistry looks once at what the discovery service of the config knows,
// which must have one. Nothing is registered. A *RegistryError is final; after
// another error it may be asked again.
func ReadRegistry(ctx context.Context, config Config) (*Registry, error) {
	ctx, cancel := context.WithTimeout(ctx, config.sourceTimeout())
	defer cancel()
	service, err := config.registryService()
	if err != nil {
		return nil, err
	}
	defer service.close()
	start := time.Now()
	registry, err := service.look(ctx)
	if err != nil {
		return nil, contactCause(err, start)
	}
	return registry, nil
}

// registryService is that of --discovery, else that of --discovery-token.
func (c Config) registryService() (registryService, error) {
	if c.DiscoveryURL != "" {
		return newURLRegistry(c)
	}
	return newTokenRegistry(c), nil
}

// contactCause keeps a *RegistryError, and makes of everything else a line that
// names the cause.
func contactCause(err error, start time.Time) error {
	var final *RegistryError
	if errors.As(err, &final) {
		return err
	}
	return errors.New(cause(silence(err, "answer", start)))
}

const (
	// bootstrapPause is the least time between two looks at a registry that is
	// not full, and the first pause after one that failed.
	bootstrapPause = 200 * time.Millisecond

	// bootstrapPauseMost is the longest pause after looks that failed.
	bootstrapPauseMost = 5 * time.Second

	// bootstrapLook is how long a service is trusted to tell of changes, before
	// the registry is looked at again.
	bootstrapLook = 10 * time.Second
)

// WaitingError says that a cluster has not bootstrapped yet. It is not a
// failure of the source.
type WaitingError struct {
	Source   string
	Progress string // "2 of 3 members registered"
}

func (e *WaitingError) Error() string {
	return fmt.Sprintf("%s: waiting for the cluster to bootstrap: %s", e.Source, e.Progress)
}

// awaitBootstrap reads the registry again at each change until the cluster has
// bootstrapped. The service's events only say when to look: updates, deletions
// and those of _config among them are no members. What answers in the service's
// place for a moment, as a balancer does, is no reason to turn to another
// source. Errors are a *WaitingError
// where the time is up or ctx has ended, or a *RegistryError.
func (s *search) awaitBootstrap(ctx context.Context, source *Source, service registryService) error {
	limit := s.config.BootstrapWait
	waitCtx, cancel := ctx, context.CancelFunc(func() {})
	if limit > 0 {
		waitCtx, cancel = context.WithTimeout(ctx, limit)
	}
	defer cancel()
	failures, trouble := 0, ""
	for !source.Registry.Bootstrapped() {
		progress := source.Registry.Progress() + trouble
		if limit < 0 {
			return &WaitingError{source.Name, progress}
		}
		s.config.waiting(&WaitingError{source.Name, progress})
		pause := time.NewTimer(min(bootstrapPause<<failures, bootstrapPauseMost))
		if failures == 0 {
			lookCtx, endLook := context.WithTimeout(waitCtx, bootstrapLook)
			// However it ends, the registry is looked at next.
			_ = service.await(lookCtx)
			endLook()
		}
		select {
		case <-pause.C:
		case <-waitCtx.Done():
		}
		pause.Stop()
		if waitCtx.Err() != nil { // also where ctx has ended
			return &WaitingError{source.Name, progress}
		}
		start := time.Now()
		lookCtx, endLook := context.WithTimeout(ctx, s.config.sourceTimeout())
		registry, err := service.look(lookCtx)
		endLook()
		var final *RegistryError
		switch {
		case errors.As(err, &final) && final.ofToken:
			return err
		case err != nil:
			failures, trouble = min(failures+1, 16), ", "+contactCause(err, start).Error()
		default:
			failures, trouble, source.Registry = 0, "", registry
		}
	}
	return nil
}
