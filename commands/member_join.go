package commands

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"etcdops/discover"
	"etcdops/promote"
)

// tryToJoin starts etcd where the registry has room for it.
func (m *memberStart) tryToJoin(ctx context.Context, wasProxy bool) error {
	relay := newSignalRelay(ctx)
	defer func() { relay.stop() }()
	m.logger.Info("reading the registry of this discovery", "discovery", m.discovery())
	registry, err := discover.ReadRegistry(relay.ctx, m.config)
	var final *discover.RegistryError
	switch {
	case relay.ctx.Err() != nil:
		return interrupted(context.Canceled)
	case errors.As(err, &final):
		return fail(ExitNoCluster, fmt.Errorf("%s: %w", m.discovery(), err), "check the token, or make a new one; etcdops proxy discover shows each step")
	case err != nil:
		m.logger.Warn("the registry can't be read now, etcd will try itself", "error", err)
	case registry.Taken(m.peerURLs()):
		return m.fallBack(ctx, relay, registry, nil)
	case wasProxy:
	default:
		if err := m.checkLost(relay.ctx, registry); err != nil {
			return err
		}
	}
	if wasProxy {
		return m.refuseProxyFolder()
	}
	attempt, err := promote.NewAttempt(m.settings.String("data-dir"), m.settings.String("wal-dir"))
	if err != nil {
		return fail(ExitRefused, err, "check the rights of "+m.settings.String("data-dir"))
	}
	ended := m.runEtcd(ctx, relay)
	if ended == nil || relay.asked.Load() {
		return ended
	}
	isMember, err := promote.HasLog(m.settings.String("data-dir"), m.settings.String("wal-dir"))
	if err != nil || isMember {
		return ended
	}
	if registry, err = discover.ReadRegistry(relay.ctx, m.config); err != nil || !registry.Taken(m.peerURLs()) {
		return ended
	}
	return m.fallBack(ctx, relay, registry, attempt)
}

// discovery names the discovery, for messages.
func (m *memberStart) discovery() string {
	if u, err := discover.ParseDiscoveryURL(m.settings.String("discovery")); err == nil {
		return "discovery " + u.Redacted()
	}
	return fmt.Sprintf("discovery token %s at %s", m.settings.String("discovery-token"), m.settings.String("discovery-endpoints"))
}

// peerURLs are the ones that etcd registers.
func (m *memberStart) peerURLs() []string {
	if own := m.settings.List("initial-advertise-peer-urls"); len(own) > 0 {
		return own
	}
	return []string{defaultPeerURL}
}

// defaultPeerURL is etcd's --initial-advertise-peer-urls.
const defaultPeerURL = "http://localhost:2380"

// checkLost refuses to start a member that has served its cluster before and has
// lost its log: under its old ID it would forget votes that it has given, and
// etcd ends in a panic ("tocommit is out of range").
func (m *memberStart) checkLost(ctx context.Context, registry *discover.Registry) error {
	if !registry.Bootstrapped() {
		return nil
	}
	ids, err := loadIdentities(m.settings, nil, m.logger)
	if err != nil {
		return nil // etcd reads the same files, and judges them
	}
	config := m.config
	config.PeerTLS, config.DialTimeout, config.DataDir, config.BootstrapWait = ids.Peers, discover.DefaultDialTimeout, "", -1
	resolution, err := discover.New(config).Resolve(ctx)
	if err != nil {
		return nil // the cluster does not live yet
	}
	for _, member := range resolution.Members {
		// A member's client URLs are there once it has served (publishV3,
		// server/etcdserver/server.go).
		if len(member.ClientURLs) > 0 && discover.SamePeerURLs(member.PeerURLs, m.peerURLs()) {
			id := fmt.Sprintf("%016x", member.ID)
			return &Failure{
				Code:    ExitRefused,
				Message: fmt.Sprintf("member %s (%s) has served this cluster before, and its log is not in %s", member.Name, id, m.settings.String("data-dir")),
				Hint:    fmt.Sprintf("bring the data directory back; or remove the member with: etcdctl --endpoints URL member remove %s, start a proxy here and make it a member with: etcdops proxy promote", id),
			}
		}
	}
	return nil
}

// fallBack does what --discovery-fallback says. attempt is etcd's failed one;
// nil if there was none.
func (m *memberStart) fallBack(ctx context.Context, relay *signalRelay, registry *discover.Registry, attempt *promote.Attempt) error {
	if attempt != nil {
		aside, err := attempt.SetAside()
		if err != nil {
			return fail(ExitHalfway, err, "move that folder away by hand, then start again")
		}
		if aside != "" {
			m.logger.Info("set aside what the failed start has left", "folder", aside)
		}
	}
	var names []string
	for _, member := range registry.Members[:registry.Size] {
		names = append(names, member.Name)
	}
	asked := relay.stop()
	switch {
	case m.fallback == fallbackExit:
		return &Failure{
			Code: ExitClusterFull, Message: fmt.Sprintf("the cluster of %s is full: %s (%s), and not %s",
				m.discovery(), registry.Progress(), strings.Join(names, ", "), strings.Join(m.peerURLs(), ", ")),
			Hint: "take another token, or start a proxy with --discovery-fallback=proxy",
		}
	case asked:
		return interrupted(context.Canceled)
	}
	m.logger.Warn("the cluster is full: this becomes a proxy",
		"discovery", m.discovery(), "registered", registry.Progress(), "members", names, "not", m.peerURLs())
	return m.becomeProxy(ctx)
}
