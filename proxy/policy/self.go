package policy

import (
	"context"
	"net"
	"net/netip"
	"net/url"
	"time"
)

// lookupTimeout bounds the look-up of one host name.
const lookupTimeout = time.Second

// Self tells whether a URL leads back to one of our own listeners.
type Self struct {
	// Listeners are the addresses that we have bound.
	Listeners []net.Addr
	// LookupNetIP resolves host names; nil means net.DefaultResolver's.
	LookupNetIP func(ctx context.Context, network, host string) ([]netip.Addr, error)
	// InterfaceAddrs lists the host's addresses; nil means net.InterfaceAddrs.
	InterfaceAddrs func() ([]net.Addr, error)
}

// Is says whether u is one of ours: the same port, and an address that the
// listener there accepts. An unspecified address in u means this host.
func (s *Self) Is(ctx context.Context, u *url.URL) bool {
	if u.Scheme == "unix" || u.Scheme == "unixs" {
		for _, l := range s.Listeners {
			if a, ok := l.(*net.UnixAddr); ok && a.Name == u.Host+u.Path {
				return true
			}
		}
		return false
	}
	var here []netip.AddrPort
	for _, l := range s.Listeners {
		if a, ok := l.(*net.TCPAddr); ok {
			if ap := a.AddrPort(); u.Port() == portText(ap) {
				here = append(here, ap)
			}
		}
	}
	if len(here) == 0 {
		return false // no look-up where the port alone decides
	}
	own := s.own()
	for _, ip := range s.lookup(ctx, u.Hostname()) {
		for _, l := range here {
			bound := l.Addr().Unmap()
			switch {
			case bound == ip:
				return true
			case bound.IsUnspecified() && (ip.IsLoopback() || own[ip] || ip.IsUnspecified()):
				return true
			case ip.IsUnspecified() && (bound.IsLoopback() || own[bound]):
				return true
			}
		}
	}
	return false
}

func (s *Self) lookup(ctx context.Context, host string) []netip.Addr {
	if ip, err := netip.ParseAddr(host); err == nil {
		return []netip.Addr{ip.Unmap()}
	}
	find := s.LookupNetIP
	if find == nil {
		find = net.DefaultResolver.LookupNetIP
	}
	ctx, cancel := context.WithTimeout(ctx, lookupTimeout)
	defer cancel()
	ips, err := find(ctx, "ip", host)
	if err != nil {
		return nil
	}
	for i := range ips {
		ips[i] = ips[i].Unmap()
	}
	return ips
}

func (s *Self) own() map[netip.Addr]bool {
	list := s.InterfaceAddrs
	if list == nil {
		list = net.InterfaceAddrs
	}
	addrs, err := list()
	if err != nil {
		return nil
	}
	own := map[netip.Addr]bool{}
	for _, a := range addrs {
		if p, err := netip.ParsePrefix(a.String()); err == nil {
			own[p.Addr().Unmap()] = true
		}
	}
	return own
}

func portText(ap netip.AddrPort) string {
	_, port, err := net.SplitHostPort(ap.String())
	if err != nil {
		return ""
	}
	return port
}
