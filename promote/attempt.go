package promote

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"
)

// memberFolder is etcd's folder in a data directory.
const memberFolder = "member"

// Attempt is an etcd's first start in a data directory, which may fail. Such an
// etcd leaves member/snap/db behind, by which it would take the directory for a
// member's beside a proxy's ever after ("both member and proxy directories
// exist").
type Attempt struct {
	dataDir, walDir string
	had             bool // there was a member folder before
}

// NewAttempt looks at the data directory before the start. walDir is etcd's
// --wal-dir, "" for none.
func NewAttempt(dataDir, walDir string) (*Attempt, error) {
	_, err := os.Lstat(filepath.Join(dataDir, memberFolder))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("look into the data directory: %w", err)
	}
	return &Attempt{dataDir: dataDir, walDir: walDir, had: err == nil}, nil
}

// SetAside renames what the failed start has left, and returns its new path: ""
// where there is nothing that this attempt has made, or where there is a
// member's log.
func (a *Attempt) SetAside() (string, error) {
	hasLog, err := HasLog(a.dataDir, a.walDir)
	if err != nil || hasLog || a.had {
		return "", err
	}
	path := filepath.Join(a.dataDir, memberFolder)
	if _, err := os.Lstat(path); errors.Is(err, fs.ErrNotExist) {
		return "", nil
	}
	aside := path + "." + stamp(time.Now())
	if err := setAside(path, aside); err != nil {
		return "", fmt.Errorf("set aside what the failed start left: %w", err)
	}
	return aside, nil
}
