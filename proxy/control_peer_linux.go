package proxy

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"syscall"

	"golang.org/x/sys/unix"
)

// Peer is the process behind a control socket, as the kernel shows it to us. In
// a container it may have another pid, and other ids, for itself.
type Peer struct {
	PID      int
	UID, GID uint32
}

// Peer asks the kernel, not the proxy: it answers for one that is stopped too.
// The folder may be another user's than ours, who must not lead us to somebody
// else's proxy. Errors are those of a connection, see ControlClient.
func (c *ControlClient) Peer(ctx context.Context) (Peer, error) {
	owner, err := c.socketOwner()
	if err != nil {
		return Peer{}, fmt.Errorf("ask control socket %s: %w", c.Path, err)
	}
	conn, err := dialUnix(ctx, c.Path)
	if err != nil {
		return Peer{}, fmt.Errorf("ask control socket %s: %w", c.Path, noAnswer(ctx, err))
	}
	defer conn.Close()
	// Of who listens, from the time of its listen.
	who, err := credentials(conn)
	switch {
	case err != nil:
		return Peer{}, fmt.Errorf("ask control socket %s: %w", c.Path, err)
	case who.Pid == 0:
		return Peer{}, fmt.Errorf("ask control socket %s: %w", c.Path, errElsewhere)
	case os.Geteuid() == 0 && who.Uid != owner:
		return Peer{}, fmt.Errorf("ask control socket %s: it is user %d's, and its process %d user %d's", c.Path, owner, who.Pid, who.Uid)
	}
	return Peer{PID: int(who.Pid), UID: who.Uid, GID: who.Gid}, nil
}

// credentials are those of a unix socket's other end: unix(7), SO_PEERCRED.
func credentials(conn net.Conn) (*unix.Ucred, error) {
	raw, err := conn.(*net.UnixConn).SyscallConn()
	if err != nil {
		return nil, err
	}
	var who *unix.Ucred
	var asked error
	err = raw.Control(func(fd uintptr) {
		who, asked = unix.GetsockoptUcred(int(fd), unix.SOL_SOCKET, unix.SO_PEERCRED)
	})
	return who, errors.Join(err, asked)
}

// connectedUID is the effective user of a unix socket's other end, at the time of its
// connect or listen.
func connectedUID(conn net.Conn) (uint32, error) {
	who, err := credentials(conn)
	if err != nil {
		return 0, err
	}
	return who.Uid, nil
}

// socketOwner refuses a link, which could lead to any proxy.
func (c *ControlClient) socketOwner() (uint32, error) {
	info, err := os.Lstat(c.Path)
	if err != nil {
		return 0, err
	}
	stat := info.Sys().(*syscall.Stat_t)
	if info.Mode().Type() != os.ModeSocket || stat.Nlink != 1 {
		return 0, errors.New("it is no socket of one name")
	}
	return stat.Uid, nil
}

var errElsewhere = errors.New("the proxy lives in a pid namespace that can't be seen from here")
