package socket

import (
	"errors"
	"io"

	"golang.org/x/sys/unix"
)

// atOnce is the most that one system call reads or writes, in bytes.
const atOnce = 64 << 10

// transfer is a read or a write of a descriptor, one at a time.
type transfer struct {
	do  func(fd uintptr) (done bool) // made once, so that no transfer allocates
	p   []byte
	n   int
	err error
}

// run has the descriptor's runtime call do, again whenever it is ready, until it is
// done. The error is the kernel's, io.EOF, or of package net: closed, too late.
func (t *transfer) run(on func(func(fd uintptr) bool) error, p []byte) (int, error) {
	t.p, t.n, t.err = p, 0, nil
	err := on(t.do)
	t.p = nil
	if err == nil {
		err = t.err
	}
	return t.n, err
}

// receive reads once. It is not done where there is nothing yet.
func (t *transfer) receive(fd uintptr) bool {
	for {
		n, err := recvNow(int(fd), t.p[:min(len(t.p), atOnce)])
		switch {
		case err == nil && n > 0:
			t.n = n
		case err == nil:
			t.err = io.EOF
		case errors.Is(err, unix.EAGAIN):
			return false
		case errors.Is(err, unix.EINTR):
			continue
		default:
			t.err = err
		}
		return true
	}
}

// send writes all. It is not done where the kernel takes no more for now.
func (t *transfer) send(fd uintptr) bool {
	for t.n < len(t.p) {
		n, err := sendNow(int(fd), t.p[t.n:min(len(t.p), t.n+atOnce)])
		switch {
		case err == nil:
			t.n += n
		case errors.Is(err, unix.EAGAIN):
			return false
		case errors.Is(err, unix.EINTR):
		default:
			t.err = err
			return true
		}
	}
	return true
}
