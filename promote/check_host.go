package promote

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"

	"github.com/dustin/go-humanize"
	"golang.org/x/sys/unix"
)

const (
	// diskFactor is how much room the data directory must have, in databases:
	// one that is received as a snapshot, and one to grow.
	diskFactor = 2
	// walSpace is what etcd preallocates for the first file of its log, in
	// bytes (server/storage/wal/wal.go, SegmentSizeBytes).
	walSpace = 64 << 20
)

// CheckHost looks at what the new member will stand on: its folders, the disk
// under them, and its ports. dbSize is the size of the cluster's database in
// bytes, 0 or less if unknown.
func (c *Candidate) CheckHost(ctx context.Context, dbSize int64) []Refusal {
	var found refusals
	if info, err := os.Stat(c.DataDir); err != nil || !info.IsDir() {
		found.add("data-dir", "give the --data-dir of the running proxy", "%s is not a folder that can be looked into", c.DataDir)
	} else {
		c.checkFolders(&found)
		c.checkWALDir(&found)
		c.checkWAL(&found)
		c.checkLock(&found)
		c.checkDisk(&found, dbSize)
	}
	c.checkPorts(ctx, &found)
	return found
}

// checkFolders looks at the folders that are renamed or written to.
func (c *Candidate) checkFolders(found *refusals) {
	for _, name := range []string{"proxy", "member", StateFolder} {
		path := filepath.Join(c.DataDir, name)
		info, err := os.Lstat(path)
		switch {
		case errors.Is(err, fs.ErrNotExist):
		case err != nil:
			found.add("folder", "run it as a user who can look there", "%s: %s", path, causeOf(err))
		case info.Mode()&fs.ModeSymlink != 0:
			found.add("symlink", "put the folder itself there, or choose another --data-dir",
				"%s is a symbolic link: what it points to is not ours to rename", path)
		case !info.IsDir():
			found.add("folder", "look what it is, and move it away", "%s is not a folder", path)
		case otherDevice(c.DataDir, path):
			found.add("file-system", "unmount it, or choose another --data-dir",
				"%s is on a file system other than that of %s: it can't be renamed", path, c.DataDir)
		}
	}
	c.checkWritable(found, "--data-dir", c.DataDir, fmt.Sprintf("chown -R %d:%d %s", c.UID, c.GID, c.DataDir))
}

// checkWritable looks with the rights of the user who etcd will run as, and
// tells whether they suffice.
func (c *Candidate) checkWritable(found *refusals, flag, folder, hint string) bool {
	err := asUser(c.UID, c.GID, func() error {
		return unix.Faccessat(unix.AT_FDCWD, folder, unix.R_OK|unix.W_OK|unix.X_OK, unix.AT_EACCESS)
	})
	switch {
	case err == nil:
		return true
	case errors.Is(err, syscall.EROFS):
		found.add("read-only", "mount it for writing: mount -o remount,rw …", "%s %s is on a file system that is mounted read-only", flag, folder)
	default:
		found.add("not-writable", hint, "user %d, who etcd will run as, can't write to %s %s: %s", c.UID, flag, folder, causeOf(err))
	}
	return false
}

// nearestFolder is the path, or the first above it that exists.
func nearestFolder(path string) string {
	for {
		if _, err := os.Stat(path); err == nil || path == filepath.Dir(path) {
			return path
		}
		path = filepath.Dir(path)
	}
}

func otherDevice(a, b string) bool {
	var one, other unix.Stat_t
	return unix.Stat(a, &one) == nil && unix.Stat(b, &other) == nil && one.Dev != other.Dev
}

// checkLock refuses a database that another process holds: etcd would wait for
// it without end. The lock is bbolt's (flock on the file).
func (c *Candidate) checkLock(found *refusals) {
	path := filepath.Join(c.DataDir, "member", "snap", "db")
	file, err := os.Open(path)
	if err != nil {
		if !errors.Is(err, fs.ErrNotExist) {
			found.add("lock", "run it as a user who can look there", "%s: %s", path, causeOf(err))
		}
		return
	}
	defer file.Close() // gives the lock back
	if err := unix.Flock(int(file.Fd()), unix.LOCK_SH|unix.LOCK_NB); err != nil {
		found.add("lock", "stop it; who it is says: fuser -v "+path, "another process has %s open: %s", path, causeOf(err))
	}
}

// checkDisk looks for the room that a join takes.
func (c *Candidate) checkDisk(found *refusals, dbSize int64) {
	need := map[string]uint64{c.DataDir: diskFactor * uint64(max(dbSize, 0))}
	walDir := c.DataDir
	if c.WALDir != "" {
		walDir = nearestFolder(c.WALDir)
	}
	if otherDevice(c.DataDir, walDir) {
		need[walDir] = walSpace
	} else {
		need[c.DataDir] += walSpace
	}
	for _, folder := range sortedKeys(need) {
		free, err := freeSpace(folder)
		switch {
		case err != nil:
			found.add("disk", "see df "+folder, "the free space of %s can't be learnt: %s", folder, causeOf(err))
		case free < need[folder]:
			found.add("disk", "make room, or give a --data-dir on a larger disk",
				"%s has %s free, the member needs %s: %d times the database of %s, and %s for the log",
				folder, humanize.IBytes(free), humanize.IBytes(need[folder]), diskFactor, humanize.IBytes(uint64(max(dbSize, 0))), humanize.IBytes(walSpace))
		}
	}
}

// freeSpace is what an ordinary user may still write, in bytes.
func freeSpace(folder string) (uint64, error) {
	var stat unix.Statfs_t
	if err := unix.Statfs(folder, &stat); err != nil {
		return 0, err
	}
	return stat.Bavail * uint64(stat.Bsize), nil
}

// causeOf is an error without the path and the call, which our own line names.
func causeOf(err error) string {
	var number syscall.Errno
	if errors.As(err, &number) {
		return number.Error()
	}
	return err.Error()
}
