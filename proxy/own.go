package proxy

import (
	"context"
	"net"
	"net/netip"
	"net/url"
	"strconv"

	"etcdops/proxy/policy"
)

// OwnURLs tells of client URLs whether they would lead back to a proxy that
// listens on the given ones. It is for showing: a proxy that runs knows its
// listeners themselves.
func OwnURLs(ctx context.Context, listen []url.URL) func(raw string) bool {
	self := policy.Self{}
	for _, u := range listen {
		self.Listeners = append(self.Listeners, listenAddrs(ctx, u)...)
	}
	return func(raw string) bool {
		u, err := url.Parse(raw)
		return err == nil && self.Is(ctx, u)
	}
}

// listenAddrs are the addresses that a listener of the URL would be bound to.
func listenAddrs(ctx context.Context, u url.URL) []net.Addr {
	if u.Scheme == "unix" || u.Scheme == "unixs" {
		return []net.Addr{&net.UnixAddr{Name: u.Host + u.Path, Net: "unix"}}
	}
	port, err := strconv.ParseUint(u.Port(), 10, 16)
	if err != nil {
		return nil
	}
	if u.Hostname() == "" {
		return []net.Addr{net.TCPAddrFromAddrPort(netip.AddrPortFrom(netip.IPv6Unspecified(), uint16(port)))}
	}
	ips, err := net.DefaultResolver.LookupNetIP(ctx, "ip", u.Hostname())
	if err != nil {
		return nil
	}
	var addrs []net.Addr
	for _, ip := range ips {
		addrs = append(addrs, net.TCPAddrFromAddrPort(netip.AddrPortFrom(ip.Unmap(), uint16(port))))
	}
	return addrs
}
