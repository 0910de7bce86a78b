package promote

import (
	"os"
	"path/filepath"
	"testing"
)

// TestAttemptSetsAsideItsOwnAlone: what was there before, and a member's log, is
// never moved.
func TestAttemptSetsAsideItsOwnAlone(t *testing.T) {
	const log = "0000000000000000-0000000000000000.wal"
	for _, test := range []struct {
		name          string
		before, after []string // folders and files that are made
		moved         bool
	}{
		{"a failed join", nil, []string{"member/snap/db"}, true},
		{"with an empty log folder", nil, []string{"member/snap/db", "member/wal/"}, true},
		{"nothing", nil, nil, false},
		{"a folder of long ago", []string{"member/snap/db"}, nil, false},
		{"an empty folder of long ago", []string{"member/"}, []string{"member/snap/db"}, false},
		{"a member", nil, []string{"member/snap/db", "member/wal/" + log}, false},
		{"a member whose log is elsewhere", nil, []string{"member/snap/db", "wal/" + log}, false},
	} {
		t.Run(test.name, func(t *testing.T) {
			dir := filepath.Join(t.TempDir(), "data")
			fill := func(paths []string) {
				for _, path := range paths {
					folder, file := filepath.Split(path)
					if err := os.MkdirAll(filepath.Join(dir, folder), 0o700); err != nil {
						t.Fatal(err)
					}
					if file == "" {
						continue
					}
					if err := os.WriteFile(filepath.Join(dir, path), []byte("x"), 0o600); err != nil {
						t.Fatal(err)
					}
				}
			}
			fill(test.before)
			attempt, err := NewAttempt(dir, filepath.Join(dir, "wal"))
			if err != nil {
				t.Fatal(err)
			}
			fill(test.after)
			aside, err := attempt.SetAside()
			if err != nil || (aside != "") != test.moved {
				t.Fatalf("moved to %q, %v", aside, err)
			}
			_, err = os.Stat(filepath.Join(dir, "member"))
			if gone := os.IsNotExist(err); gone != (test.moved || len(test.before)+len(test.after) == 0) {
				t.Errorf("member/: %v", err)
			}
			if test.moved {
				if _, err := os.Stat(filepath.Join(aside, "snap", "db")); err != nil {
					t.Error(err)
				}
			}
		})
	}
}
