package proxy

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// stateFolder is our own folder in the data directory. etcd merely warns about
// a name that it does not know.
const stateFolder = "etcdops"

// LockedError says that another process works in the data directory.
type LockedError struct {
	DataDir string
	PID     int // 0 if unknown
}

// Error implements error.
func (e *LockedError) Error() string {
	if e.PID > 0 {
		return fmt.Sprintf("data directory %s is in use by process %d", e.DataDir, e.PID)
	}
	return fmt.Sprintf("data directory %s is in use by another process", e.DataDir)
}

// lock is held by the process that works in a data directory.
type lock struct{ f *os.File }

// takeLock locks the data directory and makes our folder in it.
func takeLock(dataDir string) (*lock, error) {
	dir := filepath.Join(dataDir, stateFolder)
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("make data directory: %w", err)
	}
	f, err := os.OpenFile(filepath.Join(dir, "lock"), os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, fmt.Errorf("lock data directory: %w", err)
	}
	if err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		defer f.Close()
		if errors.Is(err, unix.EWOULDBLOCK) {
			text, _ := io.ReadAll(io.LimitReader(f, 32))
			pid, _ := strconv.Atoi(strings.TrimSpace(string(text)))
			return nil, &LockedError{dataDir, pid}
		}
		return nil, fmt.Errorf("lock data directory: %w", err)
	}
	if err := f.Truncate(0); err == nil {
		_, err = f.WriteAt([]byte(strconv.Itoa(os.Getpid())+"\n"), 0)
		if err != nil {
			_ = f.Close()
			return nil, fmt.Errorf("write lock: %w", err)
		}
	}
	return &lock{f}, nil
}

// release gives the lock back. The file stays: removing it would let two
// processes lock two files of one name.
func (l *lock) release() { _ = l.f.Close() }
