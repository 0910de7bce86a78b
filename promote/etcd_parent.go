package promote

import (
	"fmt"
	"io"
	"os"
	"strconv"
	"syscall"
	"time"
)

const (
	// parentPipeVariable names the inherited descriptor whose other end only
	// the parent holds.
	parentPipeVariable = "ETCDOPS_PARENT_PIPE"
	// FirstFile is the descriptor that a child finds the first of Etcd.Files at.
	FirstFile = 3
	// orphanGrace is how long an orphan may take to close its files.
	orphanGrace = 2 * time.Second
)

// DieWithParent is the child's half of Etcd.DieWithParent: where the parent
// left us a pipe, this process ends soon after the parent did, by SIGTERM and
// two seconds later by SIGKILL. Without such a pipe it does nothing. It takes
// the variable out of the environment with unsetenv, so that no process below
// this one mistakes another descriptor for the pipe.
//
// A pipe and not a parent-death signal, because that is bound to the thread
// that forked and is Linux's alone.
func DieWithParent(getenv func(string) string, unsetenv func(string) error) error {
	value := getenv(parentPipeVariable)
	if value == "" {
		return nil
	}
	if err := unsetenv(parentPipeVariable); err != nil {
		return fmt.Errorf("watch the parent: %w", err)
	}
	fd, err := strconv.Atoi(value)
	if err != nil {
		return fmt.Errorf("watch the parent: %s=%q is not a descriptor", parentPipeVariable, value)
	}
	var stat syscall.Stat_t
	if err := syscall.Fstat(fd, &stat); err != nil {
		return fmt.Errorf("watch the parent: descriptor %d of %s: %w", fd, parentPipeVariable, err)
	}
	if stat.Mode&syscall.S_IFMT != syscall.S_IFIFO {
		return fmt.Errorf("watch the parent: descriptor %d of %s is not a pipe", fd, parentPipeVariable)
	}
	syscall.CloseOnExec(fd)
	go endAfter(os.NewFile(uintptr(fd), "parent"))
	return nil
}

// endAfter ends this process when nobody holds the pipe's other end any more.
func endAfter(pipe *os.File) {
	// An error means the same as the end: nobody watches us.
	_, _ = io.Copy(io.Discard, pipe)
	_ = syscall.Kill(os.Getpid(), syscall.SIGTERM)
	time.Sleep(orphanGrace)
	_ = syscall.Kill(os.Getpid(), syscall.SIGKILL)
}
