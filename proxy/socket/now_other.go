//go:build !linux || race

package socket

import (
	"syscall"

	"golang.org/x/sys/unix"
)

// recvNow reads what there is. The descriptors of package net do not wait. The race
// detector knows of this call that it comes after the write that it has read.
func recvNow(fd int, p []byte) (int, error) { return syscall.Read(fd, p) }

// sendNow writes what the kernel takes.
func sendNow(fd int, p []byte) (int, error) { return syscall.Write(fd, p) }

// peekNow looks at what there is and leaves it there.
func peekNow(fd int, p []byte) (int, error) {
	n, _, err := unix.Recvfrom(fd, p, unix.MSG_PEEK|unix.MSG_DONTWAIT)
	return n, err
}
