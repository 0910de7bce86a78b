package policy

import (
	"context"
	"net"
	"net/netip"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strconv"
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
// listener there accepts. An unspecified address in u means this host. The zone
// of an IPv6 address does not count: one of ours is ours on every interface.
func (s *Self) Is(ctx context.Context, u *url.URL) bool {
	if u.Scheme == "unix" || u.Scheme == "unixs" {
		return slices.ContainsFunc(s.Listeners, func(l net.Addr) bool {
			a, ok := l.(*net.UnixAddr)
			return ok && samePath(a.Name, u.Host+u.Path)
		})
	}
	port := portOf(u)
	var here []netip.Addr
	for _, l := range s.Listeners {
		if a, ok := l.(*net.TCPAddr); ok && a.Port == port {
			here = append(here, plainIP(a.AddrPort().Addr()))
		}
	}
	if len(here) == 0 {
		return false // no look-up where the port alone decides
	}
	own := s.own()
	for _, ip := range s.lookup(ctx, u.Hostname()) {
		for _, bound := range here {
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
		return []netip.Addr{plainIP(ip)}
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
		ips[i] = plainIP(ips[i])
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
			own[plainIP(p.Addr())] = true
		}
	}
	return own
}

// plainIP makes one address of the ways to write it.
func plainIP(ip netip.Addr) netip.Addr { return ip.Unmap().WithZone("") }

// portOf is the port that u leads to, or -1.
func portOf(u *url.URL) int {
	if port, err := strconv.ParseUint(u.Port(), 10, 16); err == nil {
		return int(port)
	}
	switch {
	case u.Port() != "":
	case u.Scheme == "http":
		return 80
	case u.Scheme == "https":
		return 443
	}
	return -1
}

// samePath says whether two paths of sockets are one, also where one of them is
// relative, or leads over a symbolic link.
func samePath(a, b string) bool {
	absA, errA := filepath.Abs(a)
	absB, errB := filepath.Abs(b)
	if errA == nil && errB == nil && absA == absB {
		return true
	}
	infoA, errA := os.Stat(a)
	infoB, errB := os.Stat(b)
	return errA == nil && errB == nil && os.SameFile(infoA, infoB)
}
