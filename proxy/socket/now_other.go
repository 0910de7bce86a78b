//go:build !linux || race

package socket

import "golang.org/x/sys/unix"

// recvNow reads what there is. The descriptors of package net do not wait.
func recvNow(fd int, p []byte) (int, error) { return unix.Read(fd, p) }

// sendNow writes what the kernel takes.
func sendNow(fd int, p []byte) (int, error) { return unix.Write(fd, p) }

// peekNow looks at what there is and leaves it there.
func peekNow(fd int, p []byte) (int, error) {
	n, _, err := unix.Recvfrom(fd, p, unix.MSG_PEEK|unix.MSG_DONTWAIT)
	return n, err
}

// readWaiting and writeWaiting leave it to package net. The race detector knows of its
// calls which write comes before which read.
func (c *Conn) readWaiting(p []byte) (int, error) { return c.Conn.Read(p) }

func (c *Conn) writeWaiting(p []byte) (int, error) { return c.Conn.Write(p) }
