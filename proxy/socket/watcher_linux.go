package socket

import (
	"context"
	"fmt"
	"sync"
	"syscall"

	"golang.org/x/sys/unix"
)

// Watcher tells, for many connections with one epoll instance, when a peer has
// left. It sees a FIN even behind unread bytes and below TLS.
type Watcher struct {
	epfd int
	wake [2]int // a pipe: closing the write end stops Run

	mu    sync.Mutex
	next  uint64
	calls map[uint64]func()
}

// NewWatcher makes a watcher; Run must be running for it to report.
func NewWatcher() (*Watcher, error) {
	ep, err := unix.EpollCreate1(unix.EPOLL_CLOEXEC)
	if err != nil {
		return nil, fmt.Errorf("create epoll: %w", err)
	}
	w := &Watcher{epfd: ep, calls: map[uint64]func(){}}
	if err := unix.Pipe2(w.wake[:], unix.O_CLOEXEC|unix.O_NONBLOCK); err != nil {
		_ = unix.Close(ep)
		return nil, fmt.Errorf("create pipe: %w", err)
	}
	ev := unix.EpollEvent{Events: unix.EPOLLIN | unix.EPOLLHUP} // token 0
	if err := unix.EpollCtl(ep, unix.EPOLL_CTL_ADD, w.wake[0], &ev); err != nil {
		return nil, fmt.Errorf("watch pipe: %w", err)
	}
	return w, nil
}

// Run reports until ctx ends.
func (w *Watcher) Run(ctx context.Context) {
	stop := context.AfterFunc(ctx, func() { _ = unix.Close(w.wake[1]) })
	defer stop()
	events := make([]unix.EpollEvent, 128)
	for ctx.Err() == nil {
		n, err := unix.EpollWait(w.epfd, events, -1)
		if err != nil && err != unix.EINTR {
			return
		}
		for _, ev := range events[:max(n, 0)] {
			if call := w.forget(tokenOf(ev)); call != nil {
				call()
			}
		}
	}
	_ = unix.Close(w.wake[0])
	w.mu.Lock()
	defer w.mu.Unlock()
	_ = unix.Close(w.epfd)
	w.epfd = -1
}

func (w *Watcher) watch(raw syscall.RawConn, f func()) (stop func()) {
	w.mu.Lock()
	w.next++
	token := w.next
	w.calls[token] = f
	ev := unix.EpollEvent{Events: unix.EPOLLRDHUP | unix.EPOLLONESHOT}
	setToken(&ev, token)
	var addErr error
	err := raw.Control(func(fd uintptr) {
		addErr = unix.EpollCtl(w.epfd, unix.EPOLL_CTL_ADD, int(fd), &ev)
	})
	w.mu.Unlock()
	if err != nil || addErr != nil {
		// A closed descriptor: its owner finds out by itself.
		w.forget(token)
		return func() {}
	}
	return func() {
		w.forget(token)
		_ = raw.Control(func(fd uintptr) {
			w.mu.Lock()
			defer w.mu.Unlock()
			_ = unix.EpollCtl(w.epfd, unix.EPOLL_CTL_DEL, int(fd), nil)
		})
	}
}

func (w *Watcher) forget(token uint64) func() {
	w.mu.Lock()
	defer w.mu.Unlock()
	f := w.calls[token]
	delete(w.calls, token)
	return f
}

// The kernel hands back 64 bits of ours with each event; a number that is never
// used again keeps a late event from meeting a re-used descriptor.
func setToken(ev *unix.EpollEvent, token uint64) {
	ev.Fd, ev.Pad = int32(token), int32(token>>32)
}

func tokenOf(ev unix.EpollEvent) uint64 {
	return uint64(uint32(ev.Fd)) | uint64(uint32(ev.Pad))<<32
}
