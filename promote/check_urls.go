package promote

import (
	"context"
	"net"
	"net/netip"
	"strings"
	"time"

	"etcdops/discover"
)

// lookupTimeout bounds the look-up of one host name.
const lookupTimeout = 2 * time.Second

// CheckURLs looks at the new member's URLs: whether etcd takes them, whether
// they are free, and whether others can reach what is advertised. Names are
// resolved.
func (c *Candidate) CheckURLs(ctx context.Context, members []discover.MemberStatus) []Refusal {
	var found refusals
	lists := []struct {
		flag   string
		urls   []string
		listen bool
	}{
		{"--initial-advertise-peer-urls", c.InitialAdvertisePeerURLs, false},
		{"--listen-peer-urls", c.ListenPeerURLs, true},
		{"--listen-client-urls", c.ListenClientURLs, true},
		{"--advertise-client-urls", c.AdvertiseClientURLs, false},
	}
	for _, list := range lists {
		checkForm(&found, list.flag, list.urls, list.listen)
	}
	c.checkSockets(&found)
	c.checkPeerURLs(&found, members)
	c.checkPeerPorts(ctx, &found, members)
	c.checkAdvertisedClientURLs(&found, members)
	return found
}

// checkForm refuses what etcd would not take (server/embed/config.go,
// checkBindURLs and checkHostURLs).
func checkForm(found *refusals, flag string, urls []string, listen bool) {
	if len(urls) == 0 {
		found.add("missing-url", "add "+flag+" URL", "there is no URL for %s", flag)
	}
	for _, raw := range urls {
		e, err := parseEndpoint(raw)
		switch {
		case err != nil:
			found.add("bad-url", "write it as http://10.0.0.4:2380", "%s %s: %s", flag, raw, err)
		case e.unix():
		case listen && !bindable(e.host):
			found.add("bad-url", "name the address of the interface, or 0.0.0.0",
				"%s %s: etcd listens on IP addresses only", flag, raw)
		}
	}
}

// checkSockets refuses client URLs that an old etcd does not know.
func (c *Candidate) checkSockets(found *refusals) {
	if c.Binary.takesSocketPaths() {
		return
	}
	for _, raw := range c.ListenClientURLs {
		if e, err := parseEndpoint(raw); err == nil && e.unix() {
			found.add("bad-url", "leave it out: name the other URLs with --listen-client-urls",
				"--listen-client-urls %s: etcd %s takes no path of a socket", raw, c.Binary.Version)
		}
	}
}

func bindable(host string) bool {
	if host == "localhost" {
		return true
	}
	_, err := netip.ParseAddr(host)
	return err == nil
}

// checkPeerURLs looks at what the new member advertises to its peers: the text,
// that is, because that is what the cluster compares.
func (c *Candidate) checkPeerURLs(found *refusals, members []discover.MemberStatus) {
	const flag = "--initial-advertise-peer-urls"
	local := allPeersLocal(members)
	for _, raw := range c.InitialAdvertisePeerURLs {
		kind := addressKind(raw)
		if kind == addressUnspecified || kind == addressLoopback && !local {
			found.add("peer-url-local", "give the address of this host at which the members reach it",
				"%s %s is %s", flag, raw, kindName(kind))
		}
		if kind == addressUnix {
			found.add("bad-url", "write it as http://10.0.0.4:2380", "%s %s: peers talk over TCP", flag, raw)
		}
	}
	theirs := peerScheme(members)
	for _, raw := range c.InitialAdvertisePeerURLs {
		e, err := parseEndpoint(raw)
		if err != nil || e.unix() {
			continue
		}
		if theirs != "" && e.scheme != theirs {
			found.add("peer-scheme", "write it as "+theirs+"://, as the members have it",
				"%s %s: all peers of this cluster speak %s", flag, raw, theirs)
		}
		if listening := schemeOf(c.ListenPeerURLs, e.port); listening != "" && e.scheme != listening {
			found.add("peer-scheme", "give both the same scheme",
				"%s %s: etcd listens there with %s", flag, raw, listening)
		}
	}
}

// peerScheme is what all members speak with each other; "" where they differ.
func peerScheme(members []discover.MemberStatus) string {
	scheme := ""
	for _, m := range members {
		for _, raw := range m.PeerURLs {
			e, err := parseEndpoint(raw)
			if err != nil || scheme != "" && e.scheme != scheme {
				return ""
			}
			scheme = e.scheme
		}
	}
	return scheme
}

// schemeOf is the scheme of the URL with this port.
func schemeOf(urls []string, port string) string {
	for _, raw := range urls {
		if e, err := parseEndpoint(raw); err == nil && e.port == port {
			return e.scheme
		}
	}
	return ""
}

func allPeersLocal(members []discover.MemberStatus) bool {
	for _, m := range members {
		if !onlyLocal(m.PeerURLs) {
			return false
		}
	}
	return len(members) > 0
}

// checkPeerPorts refuses a peer URL that another member has, or that belongs to
// clients. The latter is a slip that etcd notices only when the member starts.
func (c *Candidate) checkPeerPorts(ctx context.Context, found *refusals, members []discover.MemberStatus) {
	const flag = "--initial-advertise-peer-urls"
	places := places{}
	for _, raw := range c.InitialAdvertisePeerURLs {
		ours, err := parseEndpoint(raw)
		if err != nil || ours.unix() {
			continue
		}
		for _, m := range members {
			if c.addedBefore(m) {
				continue // the cluster's check has said so
			}
			if places.among(ctx, ours, m.PeerURLs) {
				found.add("peer-url-taken", takenHint(m), "%s %s is the peer URL of %s", flag, raw, nameOf(m))
			}
			if places.among(ctx, ours, m.ClientURLs) {
				found.add("peer-url-is-client-url", "give the port for peers, mostly 2380",
					"%s %s is the client URL of %s", flag, raw, nameOf(m))
			}
		}
		for _, client := range c.clientPorts() {
			if client.port == ours.port {
				found.add("peer-url-is-client-url", "give the port for peers, mostly 2380",
					"%s %s has the port of the client URL %s://%s", flag, raw, client.scheme, client.address())
				break
			}
		}
	}
}

func takenHint(m discover.MemberStatus) string {
	if m.Status == discover.MemberUnstarted && m.Role != discover.RoleLearner {
		return "it was added as a voter: add --voter to go on with it, or take it out: etcdctl member remove " + m.ID
	}
	if m.Status == discover.MemberHealthy {
		return "give this host's own address: that member is healthy"
	}
	return "give this host's own address, or take the old member out: etcdctl member remove " + m.ID
}

// clientPorts are the TCP client URLs on this host, the proxy's and the new
// member's.
func (c *Candidate) clientPorts() []endpoint {
	var all []endpoint
	for _, urls := range [][]string{c.Reused, c.ListenClientURLs} {
		for _, raw := range urls {
			if e, err := parseEndpoint(raw); err == nil && !e.unix() {
				all = append(all, e)
			}
		}
	}
	return all
}

// checkAdvertisedClientURLs refuses what would lead the clients, and the
// proxies of other hosts, to themselves.
func (c *Candidate) checkAdvertisedClientURLs(found *refusals, members []discover.MemberStatus) {
	local := allLoopback(members)
	for _, raw := range c.AdvertiseClientURLs {
		kind := addressKind(raw)
		allowed := kind == addressBad || kind == addressPublic || local && kind != addressUnspecified
		if !allowed {
			found.add("advertise-local", "add --advertise-client-urls with the address of this host that clients use",
				"--advertise-client-urls %s is %s", raw, kindName(kind))
		}
	}
}

// places compares URLs by where they lead. It holds the addresses of each name,
// so that it is resolved once.
type places map[string][]netip.Addr

// among tells whether one of urls leads to the same place.
func (p places) among(ctx context.Context, ours endpoint, urls []string) bool {
	for _, raw := range urls {
		theirs, err := parseEndpoint(raw)
		if err != nil || theirs.unix() || theirs.port != ours.port {
			continue
		}
		if ours.host == theirs.host || p.sameHost(ctx, ours.host, theirs.host) {
			return true
		}
	}
	return false
}

// sameHost tells whether two hosts have an address in common. Loopback does not
// count where a name was resolved: each machine has it for itself.
func (p places) sameHost(ctx context.Context, a, b string) bool {
	_, notAnIP := netip.ParseAddr(a)
	_, notIP := netip.ParseAddr(b)
	named := notAnIP != nil || notIP != nil
	for _, one := range p.resolve(ctx, a) {
		for _, other := range p.resolve(ctx, b) {
			if one == other && (!named || !one.IsLoopback()) {
				return true
			}
		}
	}
	return false
}

func (p places) resolve(ctx context.Context, host string) []netip.Addr {
	found, ok := p[host]
	if !ok {
		found, _ = resolveHost(ctx, host) // what does not resolve leads nowhere
		p[host] = found
	}
	return found
}

// resolveHost finds the addresses of a host.
func resolveHost(ctx context.Context, host string) ([]netip.Addr, error) {
	if ip, err := netip.ParseAddr(host); err == nil {
		return []netip.Addr{ip.Unmap()}, nil
	}
	ctx, cancel := context.WithTimeout(ctx, lookupTimeout)
	defer cancel()
	found, err := net.DefaultResolver.LookupNetIP(ctx, "ip", strings.TrimSuffix(host, "."))
	for i := range found {
		found[i] = found[i].Unmap()
	}
	return found, err
}
