package proxy

import (
	"errors"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestPeer(t *testing.T) {
	client := &ControlClient{Path: filepath.Join(t.TempDir(), "control.sock")}
	if _, err := client.Peer(t.Context()); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("nobody listens: %v", err)
	}
	// It listens, and nobody accepts: as a proxy that is stopped.
	l, err := net.Listen("unix", client.Path)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	want := Peer{PID: os.Getpid(), UID: uint32(os.Getuid()), GID: uint32(os.Getgid())}
	if got, err := client.Peer(t.Context()); err != nil || got != want {
		t.Errorf("got %+v, %v; want %+v", got, err, want)
	}
}

// Whoever owns the folder must not lead us to somebody else's proxy.
func TestPeerFollowsNoLink(t *testing.T) {
	dir := t.TempDir()
	other := filepath.Join(dir, "other.sock")
	l, err := net.Listen("unix", other)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	client := &ControlClient{Path: filepath.Join(dir, "control.sock")}
	if err := os.Symlink(other, client.Path); err != nil {
		t.Fatal(err)
	}
	if got, err := client.Peer(t.Context()); err == nil || !strings.Contains(err.Error(), "no socket of one name") {
		t.Errorf("a symbolic link: %+v, %v", got, err)
	}
	if err := errors.Join(os.Remove(client.Path), os.Link(other, client.Path)); err != nil {
		t.Fatal(err)
	}
	if got, err := client.Peer(t.Context()); err == nil || !strings.Contains(err.Error(), "no socket of one name") {
		t.Errorf("a second name: %+v, %v", got, err)
	}
	if err := os.Remove(client.Path); err != nil {
		t.Fatal(err)
	}
	client.Path = other
	if os.Geteuid() == 0 { // as after a change of the link behind our back
		if err := os.Chown(other, 65534, 65534); err != nil {
			t.Fatal(err)
		}
		if got, err := client.Peer(t.Context()); err == nil || !strings.Contains(err.Error(), "it is user 65534's") {
			t.Errorf("another user's: %+v, %v", got, err)
		}
	}
}
