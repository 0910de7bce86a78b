//go:build !linux

package proxy

import (
	"context"
	"errors"
	"net"

	"golang.org/x/sys/unix"
)

// Peer is the process behind a control socket, as the kernel shows it to us.
type Peer struct {
	PID      int
	UID, GID uint32
}

// Peer needs Linux.
func (c *ControlClient) Peer(context.Context) (Peer, error) {
	return Peer{}, errors.New("finding the process of a proxy needs Linux")
}

// connectedUID is the effective user of a unix socket's other end, at the time of its
// connect or listen: unix(4),
// LOCAL_PEERCRED.
func connectedUID(conn net.Conn) (uint32, error) {
	raw, err := conn.(*net.UnixConn).SyscallConn()
	if err != nil {
		return 0, err
	}
	var who *unix.Xucred
	var asked error
	err = raw.Control(func(fd uintptr) {
		who, asked = unix.GetsockoptXucred(int(fd), unix.SOL_LOCAL, unix.LOCAL_PEERCRED)
	})
	if err = errors.Join(err, asked); err != nil {
		return 0, err
	}
	return who.Uid, nil
}
