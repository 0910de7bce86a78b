package promote

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
)

// walDirNames is how many files of a --wal-dir a refusal names.
const walDirNames = 5

// checkWALDir wants a folder in whose place etcd can put its log, or none yet.
// etcd makes its log beside it, under the name with .tmp, then removes the
// folder with all that is in it, and renames its own (Create and renameWAL,
// server/storage/wal/wal.go).
func (c *Candidate) checkWALDir(found *refusals) {
	if c.WALDir == "" {
		return
	}
	path := filepath.Clean(c.WALDir)
	const hint = "start the proxy with another --wal-dir, or without: the log is then inside the data directory"
	info, err := os.Lstat(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		c.checkAroundWALDir(found, path)
		return
	case err != nil:
		found.add("wal-dir", "run it as a user who can look there", "%s: %s", path, causeOf(err))
		return
	case info.Mode()&fs.ModeSymlink != 0:
		found.add("wal-dir", hint, "%s is a symbolic link, which etcd would replace by a folder", path)
		return
	case !info.IsDir():
		found.add("wal-dir", hint, "%s is not a folder", path)
		return
	case otherDevice(filepath.Dir(path), path):
		found.add("wal-dir", "start the proxy with a folder in it: --wal-dir "+filepath.Join(path, "wal"),
			"%s is a mount point, which etcd can't replace by a folder of its own", path)
		return
	}
	// What can't be read, and the log of a member, are named by checkWAL.
	if names := entryNames(path); len(names) > 0 && !slices.ContainsFunc(names, isLog) {
		found.add("wal-dir", "move that away, or "+hint,
			"%s is not empty, and etcd would remove what is in it: %s", path, someOf(names, walDirNames))
	}
	if c.checkWritable(found, "--wal-dir", path, fmt.Sprintf("chown -R %d:%d %s", c.UID, c.GID, path)) {
		c.checkAroundWALDir(found, path)
	}
}

// checkAroundWALDir wants the right to make and rename folders beside the log.
func (c *Candidate) checkAroundWALDir(found *refusals, path string) {
	c.checkWritable(found, "the folder around --wal-dir", nearestFolder(filepath.Dir(path)),
		fmt.Sprintf("start the proxy with a --wal-dir in a folder that user %d may write to", c.UID))
}

// checkWAL refuses the log of a member, because that is a member's identity.
// What a failed join leaves is a member folder without one.
func (c *Candidate) checkWAL(found *refusals) {
	folders := []string{filepath.Join(c.DataDir, memberFolder, "wal")}
	if c.WALDir != "" {
		folders = append(folders, c.WALDir)
	}
	for _, folder := range folders {
		name, err := logIn(folder)
		switch {
		case err != nil:
			found.add("wal", "run it as a user who can look there", "%s: %s", folder, causeOf(err))
		case name != "":
			found.add("wal", "start that member as it is, or choose another folder",
				"%s holds the log of a member (%s)", folder, name)
		}
	}
}

// HasLog tells whether the data directory, or walDir if that is not empty, holds
// the log of a member, which is what makes it one.
func HasLog(dataDir, walDir string) (bool, error) {
	folders := []string{filepath.Join(dataDir, memberFolder, "wal")}
	if walDir != "" {
		folders = append(folders, walDir)
	}
	for _, folder := range folders {
		if name, err := logIn(folder); name != "" || err != nil {
			return name != "", err
		}
	}
	return false, nil
}

// logIn names the first file of a member's log in a folder; "" without one. What
// is no folder holds no log, and is named by other checks.
func logIn(folder string) (string, error) {
	entries, err := os.ReadDir(folder)
	if err != nil && !errors.Is(err, fs.ErrNotExist) && !errors.Is(err, syscall.ENOTDIR) {
		return "", err
	}
	for _, entry := range entries {
		if isLog(entry.Name()) {
			return entry.Name(), nil
		}
	}
	return "", nil
}

// isLog tells a file of etcd's log, by etcd's own test (Exist,
// server/storage/wal/util.go).
func isLog(name string) bool { return strings.HasSuffix(name, ".wal") }

// entryNames are the names in a folder, none where it can't be read.
func entryNames(folder string) []string {
	entries, _ := os.ReadDir(folder)
	names := make([]string, len(entries))
	for i, entry := range entries {
		names[i] = entry.Name()
	}
	return names
}

// someOf joins the first names and counts the others.
func someOf(names []string, most int) string {
	if len(names) <= most {
		return strings.Join(names, ", ")
	}
	return fmt.Sprintf("%s and %d more", strings.Join(names[:most], ", "), len(names)-most)
}
