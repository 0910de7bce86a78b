package promote

import (
	"errors"
	"fmt"
	"path/filepath"

	"golang.org/x/sys/unix"
)

// LockedError says that another promotion is at work in a data directory.
type LockedError struct{ DataDir string }

// Error implements error.
func (e *LockedError) Error() string {
	return "another promotion is at work in " + e.DataDir
}

// Lock keeps a second promotion out of a data directory until release. It locks
// our folder, which is made where it is missing, for its owner.
func Lock(dataDir string, uid, gid uint32) (release func(), err error) {
	if err := makeFolder(filepath.Join(dataDir, StateFolder), uid, gid); err != nil {
		return nil, fmt.Errorf("lock the promotion: %w", err)
	}
	state, err := openState(dataDir)
	if err != nil {
		return nil, fmt.Errorf("lock the promotion: %w", err)
	}
	defer state.Close()
	folder, err := state.Open(".")
	if err != nil {
		return nil, fmt.Errorf("lock the promotion: %w", err)
	}
	if err := unix.Flock(int(folder.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		_ = folder.Close()
		if errors.Is(err, unix.EWOULDBLOCK) {
			return nil, &LockedError{dataDir}
		}
		return nil, fmt.Errorf("lock the promotion: %w", err)
	}
	return func() { _ = folder.Close() }, nil
}
