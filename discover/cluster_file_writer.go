package discover

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"time"
)

const (
	// clusterFileTemp is in the folder only while a file is written.
	clusterFileTemp = "cluster.tmp"

	folderMode = 0o700
	fileMode   = 0o600
)

// clusterFileWriter keeps <data-dir>/proxy/cluster up to date until it is
// stopped. With an empty data directory it writes nothing.
type clusterFileWriter struct {
	dataDir string

	mu      sync.Mutex
	stopped bool
}

// stop ends the writing, or, with false, begins it again.
func (w *clusterFileWriter) stop(stopped bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.stopped = stopped
}

// remember writes the membership, unless the file says the same already.
func (w *clusterFileWriter) remember(m Membership, flags string) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.stopped || w.dataDir == "" {
		return nil
	}
	next := clusterFile{
		PeerURLs:  slices.Sorted(slices.Values(m.PeerURLs)),
		ClusterID: hexID(m.ClusterID),
		Flags:     &flags,
		Written:   m.At.UTC().Truncate(time.Second),

		ServerName: m.serverName,
	}
	last := readMemory(clusterFilePath(w.dataDir))
	if last.found && last.err == nil && last.says(next, m.ClusterID) {
		return nil
	}
	content, err := json.Marshal(next)
	if err != nil {
		return fmt.Errorf("encode cluster file: %w", err)
	}
	if err := writeClusterFile(w.dataDir, content); err != nil {
		return fmt.Errorf("write %s: %w", clusterFilePath(w.dataDir), err)
	}
	return nil
}

func (m memory) says(next clusterFile, clusterID uint64) bool {
	return slices.Equal(m.peerURLs, next.PeerURLs) && m.clusterID == clusterID && m.writtenFor(*next.Flags) && m.serverName == next.ServerName
}

// writeClusterFile writes to a temporary name in the same folder and renames,
// each step synced, so that a crash leaves the old file or the new one.
func writeClusterFile(dataDir string, content []byte) error {
	folder, err := openProxyFolder(dataDir)
	if err != nil {
		return err
	}
	defer folder.Close()
	if err := folder.Remove(clusterFileTemp); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("remove the rest of an earlier write: %w", err)
	}
	err = writeSynced(folder, clusterFileTemp, content)
	if err == nil {
		err = folder.Rename(clusterFileTemp, clusterFileName)
	}
	if err != nil {
		// What cannot be removed now is removed by the next write.
		_ = folder.Remove(clusterFileTemp)
		return err
	}
	return syncFolder(folder)
}

// openProxyFolder makes the folder if need be. A symbolic link in its place is
// refused: whoever may write the data directory could lead the writes away.
func openProxyFolder(dataDir string) (*os.Root, error) {
	if err := os.MkdirAll(dataDir, folderMode); err != nil {
		return nil, err
	}
	parent, err := os.OpenRoot(dataDir)
	if err != nil {
		return nil, err
	}
	defer parent.Close()
	if err := parent.Mkdir(proxyFolder, folderMode); err != nil && !errors.Is(err, fs.ErrExist) {
		return nil, err
	}
	named, err := parent.Lstat(proxyFolder)
	if err != nil {
		return nil, err
	}
	if !named.IsDir() {
		return nil, fmt.Errorf("%s is not a folder", filepath.Join(dataDir, proxyFolder))
	}
	folder, err := parent.OpenRoot(proxyFolder)
	if err != nil {
		return nil, err
	}
	// It may have been replaced by a link since Lstat.
	opened, err := folder.Stat(".")
	if err == nil && !os.SameFile(named, opened) {
		err = fmt.Errorf("%s changed while it was opened", filepath.Join(dataDir, proxyFolder))
	}
	if err != nil {
		_ = folder.Close()
		return nil, err
	}
	return folder, nil
}

func writeSynced(folder *os.Root, name string, content []byte) error {
	file, err := folder.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_EXCL, fileMode)
	if err != nil {
		return err
	}
	_, err = file.Write(content)
	if err == nil {
		err = file.Sync()
	}
	return errors.Join(err, file.Close())
}

func syncFolder(folder *os.Root) error {
	dir, err := folder.Open(".")
	if err != nil {
		return err
	}
	return errors.Join(dir.Sync(), dir.Close())
}
