package proxy

import (
	"context"
	"errors"
	"fmt"
	"net"

	"golang.org/x/sys/unix"
)

// Peer is the process behind a control socket, as the kernel shows it to us. In
// a container it may have another pid, and other ids, for itself.
type Peer struct {
	PID      int
	UID, GID uint32
}

// Peer asks the kernel, not the proxy: it answers for one that is stopped too.
// Errors are those of a connection, see ControlClient.
func (c *ControlClient) Peer(ctx context.Context) (Peer, error) {
	conn, err := dialUnix(ctx, c.Path)
	if err != nil {
		return Peer{}, fmt.Errorf("ask control socket %s: %w", c.Path, err)
	}
	defer conn.Close()
	raw, err := conn.(*net.UnixConn).SyscallConn()
	if err != nil {
		return Peer{}, fmt.Errorf("ask control socket %s: %w", c.Path, err)
	}
	var who *unix.Ucred
	var asked error
	err = raw.Control(func(fd uintptr) {
		// That of who listens, from the time of its listen: unix(7), SO_PEERCRED.
		who, asked = unix.GetsockoptUcred(int(fd), unix.SOL_SOCKET, unix.SO_PEERCRED)
	})
	switch err = errors.Join(err, asked); {
	case err != nil:
		return Peer{}, fmt.Errorf("ask control socket %s: %w", c.Path, err)
	case who.Pid == 0:
		return Peer{}, fmt.Errorf("ask control socket %s: %w", c.Path, errElsewhere)
	}
	return Peer{PID: int(who.Pid), UID: who.Uid, GID: who.Gid}, nil
}

var errElsewhere = errors.New("the proxy lives in a pid namespace that can't be seen from here")
