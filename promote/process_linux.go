package promote

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

func readStat(pid int) (stat, error) {
	text, err := os.ReadFile(procPath(pid, "stat"))
	if errors.Is(err, unix.ESRCH) { // it ended between open and read
		err = os.ErrNotExist
	}
	if err != nil {
		return stat{}, err
	}
	return parseStat(text)
}

// bootID tells this run of the kernel from others: random(4). It is empty where
// /proc does not show it.
var bootID = sync.OnceValue(func() string {
	text, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
	if err != nil {
		return ""
	}
	return strings.TrimSpace(string(text))
})

// runningPIDs lists the pids that /proc shows.
func runningPIDs() ([]int, error) {
	folders, err := filepath.Glob("/proc/[0-9]*")
	if err != nil {
		return nil, err
	}
	var pids []int
	for _, folder := range folders {
		if pid, err := strconv.Atoi(filepath.Base(folder)); err == nil {
			pids = append(pids, pid)
		}
	}
	return pids, nil
}

// processHandle is a pidfd: it stays with its process, whoever gets the pid.
type processHandle struct{ file *os.File }

// openProcess needs Linux 5.3.
func openProcess(pid int) (*processHandle, error) {
	fd, err := unix.PidfdOpen(pid, 0)
	if errors.Is(err, unix.ESRCH) {
		return nil, os.ErrProcessDone
	}
	if err != nil {
		return nil, os.NewSyscallError("pidfd_open", err)
	}
	// So that Go's poller takes it, as it takes a socket.
	if err := unix.SetNonblock(fd, true); err != nil {
		_ = unix.Close(fd)
		return nil, os.NewSyscallError("fcntl", err)
	}
	return &processHandle{os.NewFile(uintptr(fd), "pidfd")}, nil
}

func (h *processHandle) close() { _ = h.file.Close() }

func (h *processHandle) terminate() error { return h.signal(unix.SIGTERM) }
func (h *processHandle) kill() error      { return h.signal(unix.SIGKILL) }

func (h *processHandle) signal(signal unix.Signal) error {
	conn, err := h.file.SyscallConn()
	if err != nil {
		return err
	}
	var sendErr error
	err = conn.Control(func(fd uintptr) { sendErr = unix.PidfdSendSignal(int(fd), signal, nil, 0) })
	if errors.Is(sendErr, unix.ESRCH) {
		return os.ErrProcessDone
	}
	return errors.Join(err, os.NewSyscallError("pidfd_send_signal", sendErr))
}

// wait returns nil when the process has ended, reaped or not: that is when a
// pidfd becomes readable.
func (h *processHandle) wait(ctx context.Context) error {
	conn, err := h.file.SyscallConn()
	if err != nil {
		return err
	}
	if err := h.file.SetReadDeadline(time.Time{}); err != nil {
		return err
	}
	// A deadline in the past ends the wait.
	stop := context.AfterFunc(ctx, func() { _ = h.file.SetReadDeadline(time.Unix(1, 0)) })
	defer stop()
	var pollErr error
	err = conn.Read(func(fd uintptr) bool {
		var ready bool
		ready, pollErr = readable(int(fd))
		return ready || pollErr != nil
	})
	switch {
	case pollErr != nil:
		return os.NewSyscallError("poll", pollErr)
	case err != nil && ctx.Err() != nil:
		return context.Cause(ctx)
	}
	return err
}

func readable(fd int) (bool, error) {
	for {
		fds := []unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}
		n, err := unix.Poll(fds, 0)
		if !errors.Is(err, unix.EINTR) {
			return n > 0, err
		}
	}
}

// keepDescriptors makes sure that no process started from here on gets a
// descriptor that it was not given. Go's own are marked; those that we got from
// our own parent may not be.
func keepDescriptors() error {
	entries, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		return err
	}
	for _, entry := range entries {
		if fd, err := strconv.Atoi(entry.Name()); err == nil && fd > 2 {
			unix.CloseOnExec(fd) // one is of ReadDir itself and gone by now
		}
	}
	return nil
}
