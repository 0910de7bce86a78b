//go:build !linux

package proxy

import (
	"context"
	"errors"
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
