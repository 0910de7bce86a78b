package proxy

import (
	"fmt"
	"os"
	"path/filepath"
	"runtime"
)

// maxSocketPath is the longest path of a unix socket that every platform of
// ours takes, in bytes (sun_path less its terminator: 104 on darwin, 108 on Linux).
const maxSocketPath = 103

// shortPath gives a name by which a unix socket with a long path can be bound
// or dialled, until done is called. Linux has one through an open directory;
// elsewhere a long path is an error.
func shortPath(path string) (short string, done func(), err error) {
	if len(path) <= maxSocketPath {
		return path, func() {}, nil
	}
	if runtime.GOOS != "linux" {
		return "", nil, fmt.Errorf("path of %d bytes is too long for a socket: %s", len(path), path)
	}
	dir, err := os.Open(filepath.Dir(path))
	if err != nil {
		return "", nil, err
	}
	return fmt.Sprintf("/proc/self/fd/%d/%s", dir.Fd(), filepath.Base(path)), func() { _ = dir.Close() }, nil
}
