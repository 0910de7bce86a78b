package proxy

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// errBound says that we listen on that address already.
var errBound = errors.New("this address is bound already")

// bindAddr is a TCP address as it is given to bind.
type bindAddr struct {
	addr netip.AddrPort // [::] where both families are meant
	six  bool           // the socket is of IPv6
}

// parseBindAddr reads the network and address that package net shows to a
// Control function.
func parseBindAddr(network, address string) (bindAddr, error) {
	at := bindAddr{six: strings.HasSuffix(network, "6")}
	host, port, err := net.SplitHostPort(address)
	if err != nil {
		return at, err
	}
	n, err := strconv.ParseUint(port, 10, 16)
	if err != nil {
		return at, err
	}
	ip := netip.IPv4Unspecified()
	if host != "" {
		if ip, err = netip.ParseAddr(host); err != nil {
			return at, err
		}
	}
	if at.six && ip.IsUnspecified() {
		ip = netip.IPv6Unspecified() // package net binds it for both families
	}
	at.addr = netip.AddrPortFrom(ip.Unmap(), uint16(n))
	return at, nil
}

// sockaddr is the address as the kernel takes it.
func (b bindAddr) sockaddr() (unix.Sockaddr, error) {
	ip, port := b.addr.Addr(), int(b.addr.Port())
	if !b.six {
		return &unix.SockaddrInet4{Addr: ip.As4(), Port: port}, nil
	}
	sa := &unix.SockaddrInet6{Addr: ip.As16(), Port: port}
	if zone := ip.Zone(); zone != "" {
		index, err := strconv.ParseUint(zone, 10, 32)
		if err != nil {
			i, err := net.InterfaceByName(zone)
			if err != nil {
				return nil, err
			}
			index = uint64(i.Index)
		}
		sa.ZoneId = uint32(index)
	}
	return sa, nil
}

// Names beside the path of a unix socket of ours, while it is handed over.
const (
	ownSuffix = ".etcdops" // another name of our own socket
	newSuffix = ".new"     // what is about to be renamed into place
)

// listenUnix listens on a path. With take, a path that somebody else listens on
// becomes ours; who has connected before stays with the other.
func listenUnix(ctx context.Context, path string, take bool) (net.Listener, error) {
	if err := os.Remove(path + ownSuffix); err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, err // of a proxy that was killed
	}
	bindPath := path
	switch err := removeStale(ctx, path); {
	case take && errors.Is(err, unix.EADDRINUSE):
		bindPath = path + newSuffix
		if err := removeStale(ctx, bindPath); err != nil {
			return nil, err
		}
	case err != nil:
		return nil, err
	}
	var lc net.ListenConfig
	l, err := lc.Listen(ctx, "unix", bindPath)
	if err != nil {
		return nil, err
	}
	l.(*net.UnixListener).SetUnlinkOnClose(false) // the path may be etcd's by then
	if bindPath != path {
		if err := os.Rename(bindPath, path); err != nil {
			_ = l.Close()
			return nil, errors.Join(err, os.Remove(bindPath))
		}
	}
	return l, nil
}

// givePath makes new connections to our unix socket reach the one that etcd
// listens on at side: the path becomes another name of etcd's socket, without
// a moment in which it names none. Our own keeps a name, for takePath.
func (l *listener) givePath(side string) error {
	theirs, err := os.Lstat(side)
	if err != nil {
		return err
	}
	if at, err := os.Lstat(l.path); err == nil && os.SameFile(at, theirs) {
		return nil
	}
	if !l.namesUs(l.path) {
		return fmt.Errorf("%s is no longer this proxy's socket", l.path)
	}
	kept, next := l.path+ownSuffix, l.path+newSuffix
	for _, name := range []string{kept, next} {
		if err := os.Remove(name); err != nil && !errors.Is(err, os.ErrNotExist) {
			return err
		}
	}
	if err := os.Link(l.path, kept); err != nil {
		return err
	}
	if err := os.Link(side, next); err != nil {
		return err
	}
	return os.Rename(next, l.path)
}

// takePath undoes givePath.
func (l *listener) takePath() error {
	if l.namesUs(l.path) {
		return nil
	}
	return os.Rename(l.path+ownSuffix, l.path)
}

// namesUs says whether a path leads to the socket that we listen on.
func (l *listener) namesUs(path string) bool {
	info, err := os.Lstat(path)
	return err == nil && os.SameFile(info, l.socket)
}

// Close ends the listening. The names of a unix socket go only where they are
// still ours.
func (l *listener) Close() error {
	if l.path != "" {
		for _, name := range []string{l.path, l.path + ownSuffix} {
			if l.namesUs(name) {
				_ = os.Remove(name) // what stays is removed by the next start
			}
		}
	}
	return l.Listener.Close()
}
