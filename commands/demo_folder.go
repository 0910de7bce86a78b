package commands

import (
	"fmt"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"
)

// demoPrefix begins the name of each demo's folder.
const demoPrefix = "etcdops-demo-"

// makeFolder makes the folder of the demo; clean removes it unless it is kept.
func (d *demo) makeFolder(keep string) (clean func() error, err error) {
	if keep != "" {
		entries, err := os.ReadDir(keep)
		if err == nil && len(entries) > 0 {
			return nil, usageError("name an empty folder, or one that does not exist yet", "--keep: %s is not empty", keep)
		}
		if err := os.MkdirAll(keep, 0o700); err != nil {
			return nil, usageError("name a folder that you may write", "--keep: %v", err)
		}
		d.dir = keep
		return func() error { d.say("kept in %s", keep); return nil }, nil
	}
	removeDeadDemos(os.TempDir())
	if d.dir, err = os.MkdirTemp("", demoPrefix); err != nil {
		return nil, fmt.Errorf("make a folder for the demo: %w", err)
	}
	lock, err := lockFolder(d.dir)
	if err != nil {
		return nil, fmt.Errorf("lock the demo's folder: %w", err)
	}
	return func() error {
		defer lock.Close()
		return os.RemoveAll(d.dir)
	}, nil
}

// lockFolder marks a demo's folder as in use for as long as this process lives.
func lockFolder(dir string) (*os.File, error) {
	f, err := os.OpenFile(filepath.Join(dir, "lock"), os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, err
	}
	if err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		_ = f.Close()
		return nil, err
	}
	return f, nil
}

// removeDeadDemos removes what demos left that were killed with SIGKILL: folders
// of ours with a lock file that nobody holds.
func removeDeadDemos(tmp string) {
	folders, _ := filepath.Glob(filepath.Join(tmp, demoPrefix+"*"))
	for _, dir := range folders {
		if info, err := os.Lstat(filepath.Join(dir, "lock")); err != nil || !info.Mode().IsRegular() {
			continue
		}
		if lock, err := lockFolder(dir); err == nil {
			_ = os.RemoveAll(dir)
			_ = lock.Close()
		}
	}
}
