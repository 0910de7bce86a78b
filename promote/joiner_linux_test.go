package promote

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestJoinerLongSocketPath(t *testing.T) {
	t.Parallel()
	folder := filepath.Join(t.TempDir(), strings.Repeat("long", 30))
	if err := os.MkdirAll(folder, 0o700); err != nil {
		t.Fatal(err)
	}
	f := newFakeJoiner(t, folder)
	f.applied = []uint64{7}
	s, err := f.joiner().standing(t.Context())
	if err != nil || s.applied != 7 || len(f.socket) <= maxSocketPath {
		t.Errorf("got %+v, %v on a path of %d bytes", s, err, len(f.socket))
	}
}
