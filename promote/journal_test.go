package promote

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
)

func testPlan(t *testing.T) Plan {
	t.Helper()
	return Plan{
		Name: "m4", DataDir: t.TempDir(), ClusterID: "00000000000000ab", PeerURLs: []string{"http://127.0.0.4:2380"},
		Stamp: "20260101T000000Z", Steps: []string{StepAdd, StepPrint, StepFinish},
		Service: Service{UID: uint32(os.Getuid()), GID: uint32(os.Getgid())},
	}
}

func TestJournalIsReadAsItWasWritten(t *testing.T) {
	plan := testPlan(t)
	if Unfinished(plan.DataDir) {
		t.Error("an empty folder has a promotion under way")
	}
	if _, err := OpenJournal(plan.DataDir); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("OpenJournal of an empty folder: %v", err)
	}
	j, err := createJournal(plan)
	if err != nil {
		t.Fatal(err)
	}
	var seen []string
	j.Written = func(entry string) { seen = append(seen, entry) }
	for _, err := range []error{
		j.begin(StepAdd, nil), j.done(StepAdd, &Facts{MemberID: "0000000000000001", InitialCluster: "m4=x"}),
		j.begin(StepFinish, nil), j.done(StepFinish, &Facts{Drained: &Drained{Cut: 2}}), j.Close(),
	} {
		if err != nil {
			t.Fatal(err)
		}
	}
	if want := []string{"add begin", "add done", "finish begin", "finish done"}; !slices.Equal(seen, want) {
		t.Errorf("Written got %q, want %q", seen, want)
	}
	info, err := os.Stat(JournalPath(plan.DataDir))
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("journal: %v, %v, want mode 0600", info.Mode(), err)
	}
	j, err = OpenJournal(plan.DataDir)
	if err != nil {
		t.Fatal(err)
	}
	if j.Plan.Name != "m4" || !slices.Equal(j.Plan.Steps, plan.Steps) {
		t.Errorf("plan: %+v", j.Plan)
	}
	if f := j.Facts; f.MemberID != "0000000000000001" || f.InitialCluster != "m4=x" || f.Drained == nil || f.Drained.Cut != 2 {
		t.Errorf("facts: %+v", f)
	}
	if !j.has(StepAdd, eventDone) || j.has(StepPrint, eventDone) || j.Last() != "finish done" || j.Undoing() {
		t.Errorf("entries: %+v", j.entries)
	}
	if err := j.end("done"); err != nil {
		t.Fatal(err)
	}
	ended, _ := filepath.Glob(filepath.Join(plan.DataDir, StateFolder, "promotion-done-*.journal"))
	if Unfinished(plan.DataDir) || len(ended) != 1 {
		t.Errorf("after the end: unfinished %v, ended %q", Unfinished(plan.DataDir), ended)
	}
}

func TestJournalSurvivesATornLine(t *testing.T) {
	for name, torn := range map[string]string{
		"half an entry":        `{"at":"2026-01-01T00:00:00Z","step":"pri`,
		"no newline":           `{"at":"2026-01-01T00:00:00Z","step":"print","event":"begin"}`,
		"zeroes after a crash": "\x00\x00\x00\x00",
	} {
		t.Run(name, func(t *testing.T) {
			plan := testPlan(t)
			j, err := createJournal(plan)
			if err != nil {
				t.Fatal(err)
			}
			if err := errors.Join(j.begin(StepAdd, nil), j.Close()); err != nil {
				t.Fatal(err)
			}
			file, err := os.OpenFile(JournalPath(plan.DataDir), os.O_APPEND|os.O_WRONLY, 0)
			if err != nil {
				t.Fatal(err)
			}
			_, err = file.WriteString(torn)
			if err := errors.Join(err, file.Close()); err != nil {
				t.Fatal(err)
			}
			if j, err = OpenJournal(plan.DataDir); err != nil {
				t.Fatal(err)
			}
			if j.Last() != "add begin" {
				t.Errorf("last entry %q", j.Last())
			}
			if err := errors.Join(j.done(StepAdd, nil), j.Close()); err != nil {
				t.Fatal(err)
			}
			if j, err = ReadJournal(plan.DataDir); err != nil || j.Last() != "add done" {
				t.Errorf("after another entry: %v, last %q", err, j.Last())
			}
		})
	}
}

func TestJournalWithoutAPlanIsRefused(t *testing.T) {
	for name, text := range map[string]string{"empty": "", "no JSON": "hello\n"} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			if err := os.Mkdir(filepath.Join(dir, StateFolder), 0o700); err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(JournalPath(dir), []byte(text), 0o600); err != nil {
				t.Fatal(err)
			}
			if _, err := ReadJournal(dir); err == nil || !strings.Contains(err.Error(), JournalPath(dir)) {
				t.Errorf("got %v, want an error that names the file", err)
			}
		})
	}
}

// A journal names programs to run and folders to empty: it is believed only to
// root and to who we are.
func TestJournalOfSomebodyElseIsRefused(t *testing.T) {
	const line = `{"name":"m4","service":{"binary":{"path":"/tmp/evil"}}}` + "\n"
	write := func(path string) error { return os.WriteFile(path, []byte(line), 0o600) }
	for name, test := range map[string]struct {
		make func(path string) error
		want string
	}{
		"a link": {func(path string) error { return errors.Join(write(path+".x"), os.Symlink(path+".x", path)) }, "not a plain file"},
		"a link out of the folder": {func(path string) error {
			outside := filepath.Join(filepath.Dir(path), "..", "..", "journal")
			return errors.Join(write(outside), os.Symlink(outside, path))
		}, "not a plain file"},
		"of two names":     {func(path string) error { return errors.Join(write(path), os.Link(path, path+".x")) }, "not a plain file"},
		"a pipe":           {func(path string) error { return syscall.Mkfifo(path, 0o600) }, "not a plain file"},
		"a folder":         {func(path string) error { return os.Mkdir(path, 0o700) }, "not a plain file"},
		"others may write": {func(path string) error { return errors.Join(write(path), os.Chmod(path, 0o660)) }, "by others than its owner"},
		"another user's": {func(path string) error {
			if os.Geteuid() != 0 {
				return errors.Join(write(path), os.Chmod(path, 0o602)) // only root can make one
			}
			return errors.Join(write(path), os.Chown(path, nobody, nobody))
		}, "journal "},
	} {
		t.Run(name, func(t *testing.T) {
			dir := filepath.Join(t.TempDir(), "data")
			path := JournalPath(dir)
			if err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o700), test.make(path)); err != nil {
				t.Fatal(err)
			}
			for _, read := range []func(string) (*Journal, error){ReadJournal, OpenJournal} {
				if j, err := read(dir); err == nil || j != nil || !strings.Contains(err.Error(), test.want) || !strings.Contains(err.Error(), path) {
					t.Errorf("got %v, %v, want %q", j, err, test.want)
				}
			}
			if !Unfinished(dir) {
				t.Error("as if there were none")
			}
		})
	}
}

func TestRootsJournalStaysRoots(t *testing.T) {
	plan := testPlan(t)
	if os.Geteuid() == 0 {
		plan.Service.UID, plan.Service.GID = nobody, nobody
	}
	j, err := createJournal(plan)
	if err != nil {
		t.Fatal(err)
	}
	defer j.Close()
	info, err := os.Stat(JournalPath(plan.DataDir))
	if err != nil {
		t.Fatal(err)
	}
	owner := info.Sys().(*syscall.Stat_t)
	if int(owner.Uid) != os.Geteuid() || owner.Gid != plan.Service.GID {
		t.Errorf("it is user %d's, group %d's", owner.Uid, owner.Gid)
	}
	if want := map[bool]fs.FileMode{true: 0o640, false: 0o600}[os.Geteuid() == 0]; info.Mode().Perm() != want {
		t.Errorf("mode %v, want %v", info.Mode(), want)
	}
}

func TestSetAside(t *testing.T) {
	dir := t.TempDir()
	folder, aside, link, file := filepath.Join(dir, "proxy"), filepath.Join(dir, "aside"), filepath.Join(dir, "link"), filepath.Join(dir, "file")
	if err := errors.Join(os.Mkdir(folder, 0o700), os.Symlink(folder, link), os.WriteFile(file, nil, 0o600)); err != nil {
		t.Fatal(err)
	}
	if err := setAside(link, aside); err == nil || !strings.Contains(err.Error(), "symbolic link") {
		t.Errorf("a symbolic link: %v", err)
	}
	if err := setAside(file, aside); err == nil || !strings.Contains(err.Error(), "not a folder") {
		t.Errorf("a file: %v", err)
	}
	for range 2 { // the second time it is done already
		if err := setAside(folder, aside); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Mkdir(folder, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := setAside(folder, aside); err == nil || !strings.Contains(err.Error(), "both") {
		t.Errorf("both are there: %v", err)
	}
	if err := os.Remove(folder); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if err := putBack(aside, folder); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := os.Stat(folder); err != nil {
		t.Errorf("not put back: %v", err)
	}
}
