package promote

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
)

// writeFile writes a file so that it is there as a whole or not at all, also
// after a power cut, and gives it to its owner.
func writeFile(path string, body []byte, mode fs.FileMode, uid, gid uint32) error {
	temp := path + ".new"
	file, err := os.OpenFile(temp, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, mode)
	if err != nil {
		return err
	}
	_, err = file.Write(body)
	err = errors.Join(err, file.Chmod(mode), giveFile(file, uid, gid), file.Sync(), file.Close())
	if err == nil {
		err = os.Rename(temp, path)
	}
	if err != nil {
		_ = os.Remove(temp)
		return err
	}
	return syncFolder(filepath.Dir(path))
}

// makeFolder makes a folder that its owner alone can look into.
func makeFolder(path string, uid, gid uint32) error {
	err := os.Mkdir(path, 0o700)
	if errors.Is(err, fs.ErrExist) {
		return nil
	}
	if err != nil {
		return err
	}
	file, err := os.Open(path)
	if err != nil {
		return err
	}
	defer file.Close()
	return giveFile(file, uid, gid)
}

// giveFile gives a file to the user that the proxy and etcd run as. Only root
// can; anybody else is that user.
func giveFile(file *os.File, uid, gid uint32) error {
	if os.Geteuid() != 0 {
		return nil
	}
	return file.Chown(int(uid), int(gid))
}

// setAside renames a folder of the data directory. What is gone already has
// been renamed by an earlier run; a symlink is refused, because what it points
// to is not ours.
func setAside(path, aside string) error {
	info, err := os.Lstat(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil
	case err != nil:
		return err
	case info.Mode()&fs.ModeSymlink != 0:
		return fmt.Errorf("%s is a symbolic link", path)
	case !info.IsDir():
		return fmt.Errorf("%s is not a folder", path)
	}
	if _, err := os.Lstat(aside); err == nil {
		return fmt.Errorf("both %s and %s exist", path, aside)
	}
	if err := os.Rename(path, aside); err != nil {
		return err
	}
	return syncFolder(filepath.Dir(path))
}

// putBack undoes setAside.
func putBack(aside, path string) error {
	if aside == "" {
		return nil
	}
	if _, err := os.Lstat(aside); errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return setAside(aside, path)
}

func syncFolder(path string) error {
	folder, err := os.Open(path)
	if err != nil {
		return err
	}
	defer folder.Close()
	return folder.Sync()
}
