package promote

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

const nobody = 65534

// A link that somebody else has put where a file is made is not written through.
func TestWriteFileFollowsNoLink(t *testing.T) {
	dir := t.TempDir()
	victim, path := filepath.Join(dir, "victim"), filepath.Join(dir, "journal")
	if err := errors.Join(os.WriteFile(victim, []byte("secret"), 0o600), os.Symlink(victim, path+".new"), os.Symlink(victim, path)); err != nil {
		t.Fatal(err)
	}
	if err := writeFile(path, []byte("new"), 0o640, uint32(os.Geteuid()), uint32(os.Getegid())); err != nil {
		t.Fatal(err)
	}
	if text, err := os.ReadFile(victim); err != nil || string(text) != "secret" {
		t.Errorf("the link's target: %q, %v", text, err)
	}
	info, err := os.Lstat(path)
	if err != nil || !info.Mode().IsRegular() || info.Mode().Perm() != 0o640 {
		t.Errorf("the file: %v, %v", info, err)
	}
	if _, err := os.Lstat(path + ".new"); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("left behind: %v", err)
	}
}

func TestOurFolderMustBeOne(t *testing.T) {
	me, group := uint32(os.Geteuid()), uint32(os.Getegid())
	elsewhere := t.TempDir()
	for name, test := range map[string]struct {
		make func(path string) error
		uid  uint32
		want string
	}{
		"none":          {func(string) error { return nil }, me, ""},
		"ours":          {func(path string) error { return os.Mkdir(path, 0o700) }, me, ""},
		"a link":        {func(path string) error { return os.Symlink(elsewhere, path) }, me, "symbolic link"},
		"a link inside": {func(path string) error { return os.Symlink(".", path) }, me, "symbolic link"},
		"a file":        {func(path string) error { return os.WriteFile(path, nil, 0o600) }, me, "no folder"},
		"another user's": {func(path string) error {
			if me != 0 {
				return os.Symlink(elsewhere, path) // only root can make one
			}
			return errors.Join(os.Mkdir(path, 0o700), os.Chown(path, nobody, nobody))
		}, me, "etcdops"},
		"the service's user's": {func(path string) error {
			if me != 0 {
				return nil
			}
			return errors.Join(os.Mkdir(path, 0o700), os.Chown(path, nobody, nobody))
		}, nobody, ""},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			if err := test.make(filepath.Join(dir, StateFolder)); err != nil {
				t.Fatal(err)
			}
			release, err := Lock(dir, test.uid, group)
			if err == nil {
				release()
			}
			if (err == nil) != (test.want == "") || err != nil && !strings.Contains(err.Error(), test.want) {
				t.Errorf("got %v, want %q", err, test.want)
			}
		})
	}
	if entries, err := os.ReadDir(elsewhere); err != nil || len(entries) != 0 {
		t.Errorf("the link's target has %v, %v", entries, err)
	}
}

func TestPrivateFolder(t *testing.T) {
	t.Setenv("TMPDIR", t.TempDir())
	one, other := privateFolder(), privateFolder()
	if one == other || len(filepath.Join("/run", filepath.Base(one), "member.sock")) > maxSocketPath {
		t.Errorf("names %s, %s", one, other)
	}
	if os.Geteuid() == 0 && filepath.Dir(one) != "/run" {
		t.Errorf("root's is %s", one)
	}
	one = filepath.Join(t.TempDir(), filepath.Base(one))
	for range 2 {
		if err := makeFolder(one, uint32(os.Geteuid()), uint32(os.Getegid())); err != nil {
			t.Fatal(err)
		}
	}
	info, err := os.Stat(one)
	if err != nil || info.Mode().Perm() != 0o700 || int(info.Sys().(*syscall.Stat_t).Uid) != os.Geteuid() {
		t.Errorf("got %v, %v", info, err)
	}
}
