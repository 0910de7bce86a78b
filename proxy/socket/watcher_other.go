//go:build !linux

package socket

import (
	"context"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// lookEach is how often a watched connection is looked at where there is no
// epoll.
const lookEach = 500 * time.Millisecond

// Watcher tells when a peer has left, by looking at each watched connection
// twice a second. Unread bytes hide the end of the stream from it: Linux has
// the exact one.
type Watcher struct {
	mu    sync.Mutex
	next  uint64
	calls map[uint64]watched
}

type watched struct {
	raw syscall.RawConn
	f   func()
}

// NewWatcher makes a watcher; Run must be running for it to report.
func NewWatcher() (*Watcher, error) { return &Watcher{calls: map[uint64]watched{}}, nil }

// Run reports until ctx ends.
func (w *Watcher) Run(ctx context.Context) {
	t := time.NewTicker(lookEach)
	defer t.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-t.C:
		}
		for _, f := range w.left() {
			f()
		}
	}
}

func (w *Watcher) left() (calls []func()) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for token, c := range w.calls {
		gone := false
		err := c.raw.Control(func(fd uintptr) {
			var one [1]byte
			n, _, err := unix.Recvfrom(int(fd), one[:], unix.MSG_PEEK|unix.MSG_DONTWAIT)
			gone = n == 0 && err == nil || err != nil && err != unix.EAGAIN && err != unix.EINTR
		})
		if err != nil || gone {
			delete(w.calls, token)
			calls = append(calls, c.f)
		}
	}
	return calls
}

func (w *Watcher) watch(raw syscall.RawConn, f func()) (stop func()) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.next++
	token := w.next
	w.calls[token] = watched{raw, f}
	return func() {
		w.mu.Lock()
		defer w.mu.Unlock()
		delete(w.calls, token)
	}
}
