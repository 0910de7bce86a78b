//go:build !linux

package proxy

import (
	"context"
	"errors"
	"net"
	"net/netip"
)

// listenTCP listens; sharing a port with etcd needs Linux.
func listenTCP(ctx context.Context, address string, _ []netip.AddrPort, _ bool) (net.Listener, bool, error) {
	var lc net.ListenConfig
	lc.SetMultipathTCP(false)
	l, err := lc.Listen(ctx, "tcp", address)
	return l, false, err
}

// attach steers the new connections of a shared port on Linux.
func attach(net.Listener, int) error {
	return errors.New("sharing a port with etcd needs Linux")
}

// queued is known on Linux only.
func queued(net.Listener) int { return 0 }

// alone is known on Linux only.
func alone(net.Listener) bool { return false }
