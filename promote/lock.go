package promote

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"
)

// LockedError says that another promotion is at work in a data directory.
type LockedError struct{ DataDir string }

// Error implements error.
func (e *LockedError) Error() string {
	return "another promotion is at work in " + e.DataDir
}

// Lock keeps a second promotion out of a data directory until release. Our
// folder is made where it is missing, for its owner.
func Lock(dataDir string, uid, gid uint32) (release func(), err error) {
	folder := filepath.Join(dataDir, StateFolder)
	if err := makeFolder(folder, uid, gid); err != nil {
		return nil, fmt.Errorf("lock the promotion: %w", err)
	}
	path := filepath.Join(folder, "promote.lock")
	_, err = os.Lstat(path)
	isNew := errors.Is(err, fs.ErrNotExist)
	file, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, fmt.Errorf("lock the promotion: %w", err)
	}
	if isNew {
		err = giveFile(file, uid, gid)
	}
	if err == nil {
		err = unix.Flock(int(file.Fd()), unix.LOCK_EX|unix.LOCK_NB)
	}
	if err != nil {
		_ = file.Close()
		if errors.Is(err, unix.EWOULDBLOCK) {
			return nil, &LockedError{dataDir}
		}
		return nil, fmt.Errorf("lock the promotion: %w", err)
	}
	return func() { _ = file.Close() }, nil
}
