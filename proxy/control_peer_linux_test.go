package proxy

import (
	"errors"
	"net"
	"os"
	"path/filepath"
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
