package promote

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// What another user can have put there does not run as root.
func TestFindBinaryAsks(t *testing.T) {
	dir := t.TempDir()
	path, link, log := filepath.Join(dir, "etcd-1"), filepath.Join(dir, "etcd"), filepath.Join(dir, "log")
	script := "#!/bin/sh\necho \"$(id -u) $(id -g) $ROOTS\" >> " + log + "\necho etcd Version: 3.5.1\necho '  --data-dir'\n"
	if err := errors.Join(os.Chmod(filepath.Dir(dir), 0o755), os.WriteFile(path, []byte(script), 0o755), os.Symlink(path, link),
		os.WriteFile(log, nil, 0o666), os.Chmod(log, 0o666)); err != nil {
		t.Fatal(err)
	}
	t.Setenv("ROOTS", "secret")
	b, err := FindBinary(t.Context(), Asker{nobody, nobody}, link)
	if err != nil {
		t.Fatal(err)
	}
	if b.Path != link || b.File != path {
		t.Errorf("path %s, file %s", b.Path, b.File)
	}
	if os.Geteuid() != 0 {
		t.Log("only root can ask as somebody else: looked at the paths alone")
		return
	}
	text, err := os.ReadFile(log)
	if want := strings.Repeat("65534 65534 \n", 2); err != nil || string(text) != want {
		t.Errorf("it ran as %q, %v", text, err)
	}
	if err := os.Chmod(path, 0o700); err != nil {
		t.Fatal(err)
	}
	if _, err := FindBinary(t.Context(), Asker{nobody, nobody}, link); err == nil || !strings.Contains(err.Error(), "as user 65534") {
		t.Errorf("what that user can't run: %v", err)
	}
}
