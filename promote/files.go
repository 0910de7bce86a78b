package promote

import (
	"crypto/rand"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
)

// writeFile writes a file so that it is there as a whole or not at all, also
// after a power cut, and gives it to its owner.
func writeFile(path string, body []byte, mode fs.FileMode, uid, gid uint32) error {
	folder, err := os.OpenRoot(filepath.Dir(path))
	if err != nil {
		return err
	}
	defer folder.Close()
	return writeIn(folder, filepath.Base(path), body, mode, uid, gid)
}

// writeIn is writeFile in an open folder. It may belong to somebody else than
// root, who could have put a link where the file is made: whatever is there goes
// first, and nothing is opened that was there.
func writeIn(folder *os.Root, name string, body []byte, mode fs.FileMode, uid, gid uint32) error {
	temp := name + ".new"
	if err := folder.Remove(temp); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	file, err := folder.OpenFile(temp, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	_, err = file.Write(body)
	err = errors.Join(err, giveFile(file, uid, gid), file.Chmod(mode), file.Sync(), file.Close())
	if err == nil {
		err = folder.Rename(temp, name)
	}
	if err != nil {
		_ = folder.Remove(temp)
		return err
	}
	return syncRoot(folder)
}

// openState opens our folder in a data directory. Through it nothing is reached
// that lies outside of the data directory, whatever links somebody else puts
// there.
func openState(dataDir string) (*os.Root, error) {
	data, err := os.OpenRoot(dataDir)
	if err != nil {
		return nil, err
	}
	defer data.Close()
	info, err := data.Lstat(StateFolder)
	if err == nil && !info.IsDir() {
		err = &fs.PathError{Op: "open", Path: filepath.Join(dataDir, StateFolder), Err: errNoFolder}
	}
	if err != nil {
		return nil, err
	}
	return data.OpenRoot(StateFolder)
}

var errNoFolder = errors.New("it is no folder, or a symbolic link")

// makeFolder makes a folder that its owner alone can look into. One that is
// there is taken where it is root's or that owner's.
func makeFolder(path string, uid, gid uint32) error {
	made := os.Mkdir(path, 0o700)
	if made != nil && !errors.Is(made, fs.ErrExist) {
		return made
	}
	file, err := os.OpenFile(path, os.O_RDONLY|syscall.O_NOFOLLOW|syscall.O_DIRECTORY, 0)
	if errors.Is(err, syscall.ELOOP) || errors.Is(err, syscall.ENOTDIR) {
		return &fs.PathError{Op: "open", Path: path, Err: errNoFolder}
	}
	if err != nil {
		return err
	}
	defer file.Close()
	info, err := file.Stat()
	if err != nil {
		return err
	}
	if err := checkOwner(path, info, uid); err != nil || made != nil {
		return err
	}
	return giveFile(file, uid, gid)
}

// privateFolder names a folder for the private socket of a member whose data
// directory has too long a path for one. Nobody can have put anything there:
// nobody can guess the name, and below /run nobody but root can make it.
func privateFolder() string {
	base := os.TempDir()
	if info, err := os.Stat("/run"); os.Geteuid() == 0 && err == nil && info.IsDir() {
		base = "/run"
	}
	return filepath.Join(base, "etcdops-"+strings.ToLower(rand.Text()))
}

// checkOwner refuses what is neither root's, nor ours, nor uid's.
func checkOwner(path string, info fs.FileInfo, uid uint32) error {
	owner := info.Sys().(*syscall.Stat_t).Uid
	if owner == 0 || owner == uid || int(owner) == os.Geteuid() {
		return nil
	}
	return fmt.Errorf("%s belongs to user %d, not to user %d", path, owner, uid)
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

func syncRoot(folder *os.Root) error {
	file, err := folder.Open(".")
	if err != nil {
		return err
	}
	defer file.Close()
	return file.Sync()
}

func syncFolder(path string) error {
	folder, err := os.Open(path)
	if err != nil {
		return err
	}
	defer folder.Close()
	return folder.Sync()
}
