//go:build linux && !race

package socket

import (
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

// recvNow and sendNow are recv(2) and send(2) that can't wait. So the Go scheduler is
// not told of them, as it is by unix.Read: it takes those for calls that may wait, and
// where all cores are busy its monitor takes the processor away from many of them, and
// wakes a thread for it each time (9 % of the proxy's CPU under the load range-10).
// It can't stop the goroutine meanwhile, so that p is not long: see atOnce.
func recvNow(fd int, p []byte) (int, error) {
	return call(unix.SYS_RECVFROM, fd, p, unix.MSG_DONTWAIT)
}

func sendNow(fd int, p []byte) (int, error) {
	return call(unix.SYS_SENDTO, fd, p, unix.MSG_DONTWAIT|unix.MSG_NOSIGNAL)
}

// peekNow looks at what there is and leaves it there.
func peekNow(fd int, p []byte) (int, error) {
	return call(unix.SYS_RECVFROM, fd, p, unix.MSG_PEEK|unix.MSG_DONTWAIT)
}

// readWaiting reads once, when there is something.
func (c *Conn) readWaiting(p []byte) (int, error) {
	if len(p) == 0 {
		return 0, nil
	}
	n, err := c.in.run(c.raw.Read, p)
	return n, c.named("read", err)
}

// writeWaiting writes all.
func (c *Conn) writeWaiting(p []byte) (int, error) {
	c.queue.Lock()
	defer c.queue.Unlock()
	n, err := c.out.run(c.raw.Write, p)
	return n, c.named("write", err)
}

// call makes the call, with no address. p is not empty.
func call(number uintptr, fd int, p []byte, flags uintptr) (int, error) {
	n, _, errno := syscall.RawSyscall6(number, uintptr(fd), uintptr(unsafe.Pointer(&p[0])), uintptr(len(p)), flags, 0, 0)
	if errno != 0 {
		return 0, errno
	}
	return int(n), nil
}
