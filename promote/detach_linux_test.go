package promote

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// starterRole makes this test binary a promotion that starts the service whose
// data directory is in the first argument, and then waits to be killed.
const starterRole = "starter"

func init() {
	if os.Getenv(roleVariable) != starterRole {
		return
	}
	release, err := Lock(os.Args[1], uint32(os.Geteuid()), uint32(os.Getegid()))
	if err == nil {
		_, err = (&Detached{}).Start(context.Background(), sleeper(os.Args[1]))
		release()
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
	}
	os.Exit(0)
}

// sleeper is a service whose etcd merely sleeps.
func sleeper(dataDir string) Service {
	path, err := exec.LookPath("sleep")
	if err != nil {
		panic(err)
	}
	return Service{
		Binary: Binary{Path: path}, Flags: []string{"1000"}, Name: "m1", DataDir: dataDir,
		UID: uint32(os.Geteuid()), GID: uint32(os.Getegid()), LogPath: dataDir + ".log",
		Variables: Variables{{"ETCD_NAME", "m1"}, {"ETCD_DATA_DIR", dataDir}},
	}
}

// endAll ends what runs of a service when the test ends.
func endAll(t *testing.T, s Service) {
	t.Helper()
	t.Cleanup(func() {
		for _, p := range runningOf(t, s) {
			_ = syscall.Kill(p.PID, syscall.SIGKILL)
		}
	})
}

// endProcess ends a process with the test that has started it.
func endProcess(t *testing.T, p Process) {
	t.Helper()
	t.Cleanup(func() {
		if _, err := p.Stop(context.WithoutCancel(t.Context()), time.Second); err != nil {
			t.Error(err)
		}
	})
}

// runningOf lists all processes of a service.
func runningOf(t *testing.T, s Service) []Process {
	t.Helper()
	pids, err := runningPIDs()
	if err != nil {
		t.Fatal(err)
	}
	var running []Process
	for _, pid := range pids {
		p, err := FindProcess(pid)
		if err != nil {
			continue
		}
		if ours, _ := s.isRunBy(p); ours {
			running = append(running, p)
		}
	}
	return running
}

func TestDetachedRunsEtcd(t *testing.T) {
	ip, dir := loopback(40), filepath.Join(t.TempDir(), "data dir")
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	peerURL := "http://" + ip + ":2380"
	s := Service{
		Binary: Binary{Path: self}, Flags: []string{"--unsafe-no-fsync"}, Name: "m1", DataDir: dir,
		UID: uint32(os.Geteuid()), GID: uint32(os.Getegid()), LogPath: dir + ".log",
		Variables: Variables{
			{"ETCD_NAME", "m1"},
			{"ETCD_INITIAL_CLUSTER", "m1=" + peerURL},
			{"ETCD_INITIAL_ADVERTISE_PEER_URLS", peerURL},
			{"ETCD_LISTEN_PEER_URLS", peerURL},
			{"ETCD_LISTEN_CLIENT_URLS", clientURL(ip)},
			{"ETCD_ADVERTISE_CLIENT_URLS", clientURL(ip)},
			{roleVariable, "etcd"},
		},
	}
	endAll(t, s)
	d := &Detached{Environ: []string{"PATH=/bin", "HOME=/root", "ETCD_PROXY=on", "HTTP_PROXY=http://x", "SECRET=x", "TZ=UTC"}}
	if _, found, err := d.Find(t.Context(), s); found || err != nil {
		t.Fatalf("Find before: %v, %v", found, err)
	}
	p, err := d.Start(t.Context(), s)
	if err != nil {
		t.Fatal(err)
	}
	eventually(t, "etcd serves", func() bool {
		log, _ := os.ReadFile(s.LogPath)
		return strings.Contains(string(log), "ready to serve client requests")
	})
	if again, err := d.Start(t.Context(), s); err != nil || again != p {
		t.Errorf("second Start: %v, %v, want %v", again, err, p)
	}
	if found, ok, err := d.Find(t.Context(), s); err != nil || !ok || found != p {
		t.Errorf("Find: %v, %v, %v", found, ok, err)
	}
	environ, err := p.Environ()
	want := append([]string{"PATH=/bin", "TZ=UTC"}, s.variables().Environ()...)
	slices.Sort(environ)
	slices.Sort(want)
	if err != nil || !slices.Equal(environ, want) {
		t.Errorf("Environ: %q, %v, want %q", environ, err, want)
	}
	if cwd, _ := p.Dir(); cwd != dir {
		t.Errorf("it works in %q", cwd)
	}
	if err := d.Stop(t.Context(), s, time.Minute); err != nil {
		t.Fatal(err)
	}
	if err := d.Stop(t.Context(), s, time.Minute); err != nil {
		t.Errorf("second Stop: %v", err)
	}
	if p.Alive() {
		t.Error("alive after Stop")
	}
}

func TestDetachedSaysWhyItEnded(t *testing.T) {
	dir := t.TempDir()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	s := sleeper(dir)
	s.Binary.Path, s.Flags = self, []string{"--proxy=on"}
	s.Variables = s.Variables.With(Variable{roleVariable, "etcd"})
	d := &Detached{}
	p, err := d.Start(t.Context(), s)
	if err != nil {
		t.Fatal(err)
	}
	if err := p.Wait(t.Context()); err != nil {
		t.Fatal(err)
	}
	cause, lines := d.Failed(t.Context(), s)
	if want := "flag provided but not defined: -proxy"; cause != want || len(lines) != failedLines {
		t.Errorf("Failed: %q, %d lines: %q", cause, len(lines), lines)
	}
	if info, err := os.Stat(s.LogPath); err != nil {
		t.Error(err)
	} else {
		s.LogFrom = info.Size()
	}
	if cause, lines := d.Failed(t.Context(), s); cause != "" || lines != nil {
		t.Errorf("of an earlier etcd: %q, %q", cause, lines)
	}
	s.LogPath += ".absent"
	if cause, lines := d.Failed(t.Context(), s); cause != "" || lines != nil {
		t.Errorf("without a log: %q, %q", cause, lines)
	}
}

// TestDetachedStartsOnce kills a promotion at moments all around the fork, and
// starts the service as the next promotion does.
func TestDetachedStartsOnce(t *testing.T) {
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	for round := range 12 {
		s := sleeper(t.TempDir())
		endAll(t, s)
		starter := exec.CommandContext(t.Context(), self, s.DataDir)
		starter.Env = append(os.Environ(), roleVariable+"="+starterRole)
		if err := starter.Start(); err != nil {
			t.Fatal(err)
		}
		eventually(t, "the promotion is at work", func() bool {
			_, err := os.Stat(filepath.Join(s.DataDir, StateFolder))
			return err == nil
		})
		// From before the fork until after it: a look at /proc takes about
		// as long as a fork.
		for range round * 10 {
			_, _ = os.ReadFile("/proc/self/stat")
		}
		_ = starter.Process.Kill()
		_ = starter.Wait()

		var release func()
		eventually(t, "the lock is free", func() bool {
			release, err = Lock(s.DataDir, s.UID, s.GID)
			return err == nil
		})
		if _, err := (&Detached{}).Start(t.Context(), s); err != nil {
			t.Fatal(err)
		}
		release()
		if running := runningOf(t, s); len(running) != 1 {
			t.Errorf("round %d: %d processes: %v", round, len(running), running)
		}
	}
}

// TestFindIsNotMisled puts processes beside each other that have the variables
// of the service and are not its etcd.
func TestFindIsNotMisled(t *testing.T) {
	s := sleeper(t.TempDir())
	variables := s.variables().Environ()
	other := s
	other.DataDir += "2"
	for name, test := range map[string]struct {
		environ []string
		argv    []string
		want    bool
	}{
		"the etcd":             {variables, []string{s.Binary.Path, "1000"}, true},
		"another name for it":  {variables, []string{"etcd", "1000"}, true},
		"another program":      {variables, []string{"tail", "-f", "/dev/null"}, false},
		"other arguments":      {variables, []string{s.Binary.Path, "1001"}, false},
		"another directory":    {other.variables().Environ(), []string{s.Binary.Path, "1000"}, false},
		"without variables":    {nil, []string{s.Binary.Path, "1000"}, false},
		"name in another list": {[]string{"X=ETCD_NAME=m1", "ETCD_DATA_DIR=" + s.DataDir}, []string{s.Binary.Path, "1000"}, false},
	} {
		t.Run(name, func(t *testing.T) {
			program := test.argv[0]
			if program == "etcd" {
				program = s.Binary.Path
			}
			cmd := exec.Command(program, test.argv[1:]...)
			cmd.Args = test.argv
			cmd.Env = append([]string{"PATH=" + os.Getenv("PATH")}, test.environ...)
			if err := cmd.Start(); err != nil {
				t.Fatal(err)
			}
			defer func() {
				_ = cmd.Process.Kill()
				_ = cmd.Wait()
			}()
			becomes(t, mustFind(t, cmd.Process.Pid), test.argv...)
			p, found, err := (&Detached{}).Find(t.Context(), s)
			if err != nil || found != test.want || found && p.PID != cmd.Process.Pid {
				t.Errorf("Find: %v, %v, %v", p, found, err)
			}
		})
	}
}

// TestFindAfterTheBinaryWasReplaced is an update of the package while etcd runs.
func TestFindAfterTheBinaryWasReplaced(t *testing.T) {
	s := sleeper(t.TempDir())
	program, err := os.ReadFile(s.Binary.Path)
	if err != nil {
		t.Fatal(err)
	}
	folder := t.TempDir()
	path := filepath.Join(folder, "etcd")
	if err := os.WriteFile(path, program, 0o755); err != nil {
		t.Fatal(err)
	}
	s.Binary.Path = filepath.Join(folder, "link")
	if err := os.Symlink("etcd", s.Binary.Path); err != nil {
		t.Fatal(err)
	}
	p, err := (&Detached{}).Start(t.Context(), s)
	if err != nil {
		t.Fatal(err)
	}
	endProcess(t, p)
	// As dpkg and rpm do it: a new file is renamed over the old one.
	if err := os.WriteFile(path+".new", program, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(path+".new", path); err != nil {
		t.Fatal(err)
	}
	if got, found, err := (&Detached{}).Find(t.Context(), s); err != nil || !found || got != p {
		t.Errorf("Find: %v, %v, %v", got, found, err)
	}
}

// TestFindAfterTheLinkWasMoved is an update that installs beside the old version
// and moves a link, as alternatives do.
func TestFindAfterTheLinkWasMoved(t *testing.T) {
	s := sleeper(t.TempDir())
	program, err := os.ReadFile(s.Binary.Path)
	if err != nil {
		t.Fatal(err)
	}
	folder := t.TempDir()
	link, older, newer := filepath.Join(folder, "etcd"), filepath.Join(folder, "etcd-1"), filepath.Join(folder, "etcd-2")
	for _, path := range []string{older, newer} {
		if err := os.WriteFile(path, program, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Symlink(older, link); err != nil {
		t.Fatal(err)
	}
	s.Binary.Path, s.Binary.File = link, older
	p, err := (&Detached{}).Start(t.Context(), s)
	if err != nil {
		t.Fatal(err)
	}
	endProcess(t, p)
	if err := errors.Join(os.Remove(link), os.Symlink(newer, link)); err != nil {
		t.Fatal(err)
	}
	if got, found, err := (&Detached{}).Find(t.Context(), s); err != nil || !found || got != p {
		t.Errorf("by the file: %v, %v, %v", got, found, err)
	}
	s.Binary.File = ""
	if got, found, err := (&Detached{}).Find(t.Context(), s); err != nil || found {
		t.Errorf("by nothing: %v, %v, %v", got, found, err)
	}
	s.Known = &p
	if got, found, err := (&Detached{}).Find(t.Context(), s); err != nil || !found || got != p {
		t.Errorf("by what is known: %v, %v, %v", got, found, err)
	}
	for name, change := range map[string]func(s *Service, known *Process){
		"another user":       func(s *Service, _ *Process) { s.UID++ },
		"another directory":  func(s *Service, _ *Process) { s.DataDir += "2" },
		"an earlier process": func(_ *Service, known *Process) { known.Started-- },
	} {
		other, known := s, p
		other.Known = &known
		change(&other, &known)
		if got, found, err := (&Detached{}).Find(t.Context(), other); err != nil || found {
			t.Errorf("%s: %v, %v, %v", name, got, found, err)
		}
	}
}

func TestRespawnDetaches(t *testing.T) {
	// A descriptor that we got from a parent which did not mark it.
	var leaked [2]int
	if err := syscall.Pipe(leaked[:]); err != nil {
		t.Fatal(err)
	}
	defer syscall.Close(leaked[0])
	defer syscall.Close(leaked[1])
	dir := t.TempDir()
	logPath := filepath.Join(dir, "log")
	if err := os.WriteFile(logPath, []byte("before\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	p, err := Respawn(t.Context(), []string{"sh", "-c", "echo $A; cat; echo err >&2; exec sleep 1000"}, dir,
		[]string{"A=b c", "PATH=/usr/bin:/bin"}, uint32(os.Geteuid()), uint32(os.Getegid()), logPath)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _, _ = p.Stop(context.Background(), time.Minute) })
	becomes(t, p, "sleep", "1000")
	if text, err := os.ReadFile(logPath); err != nil || string(text) != "before\nb c\nerr\n" {
		t.Errorf("log: %q, %v", text, err)
	}
	if info, err := os.Stat(logPath); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("log: %v, %v", info.Mode(), err)
	}
	if session, err := unix.Getsid(p.PID); err != nil || session != p.PID {
		t.Errorf("session %d, %v", session, err)
	}
	eventually(t, "three descriptors are open, when its libraries are loaded", func() bool {
		open, err := os.ReadDir(procPath(p.PID, "fd"))
		return err == nil && len(open) == 3
	})
	if stdin, _ := p.link("fd/0"); stdin != os.DevNull {
		t.Errorf("stdin is %s", stdin)
	}
	if cwd, _ := p.Dir(); cwd != dir {
		t.Errorf("it works in %q", cwd)
	}
	if killed, err := p.Stop(t.Context(), time.Minute); err != nil || killed {
		t.Errorf("Stop: %v, %v", killed, err)
	}
	eventually(t, "it is reaped", func() bool {
		_, err := readStat(p.PID)
		return os.IsNotExist(err)
	})
}

func TestRespawnAsAnotherUser(t *testing.T) {
	dir := t.TempDir()
	if err := os.Chmod(filepath.Dir(dir), 0o755); err != nil {
		t.Fatal(err)
	}
	logPath := filepath.Join(dir, "log")
	p, err := Respawn(t.Context(), []string{"sleep", "1000"}, dir, nil, nobody, nobody, logPath)
	if os.Geteuid() != 0 {
		if err == nil || !strings.Contains(err.Error(), "only root") {
			t.Errorf("not as root: %v", err)
		}
		return
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _, _ = p.Stop(context.Background(), time.Minute) })
	if uid, gid, err := p.Owner(); err != nil || uid != nobody || gid != nobody {
		t.Errorf("Owner: %d, %d, %v", uid, gid, err)
	}
	status, _ := p.file("status")
	for line := range strings.Lines(string(status)) {
		if groups, ok := strings.CutPrefix(line, "Groups:"); ok {
			for _, group := range strings.Fields(groups) {
				if group != strconv.Itoa(nobody) {
					t.Errorf("it is in group %s", group)
				}
			}
		}
	}
	info, err := os.Stat(logPath)
	if err != nil || info.Sys().(*syscall.Stat_t).Uid != nobody || info.Mode().Perm() != 0o600 {
		t.Errorf("log: %v, %v", info, err)
	}
}

func TestRespawnFails(t *testing.T) {
	dir := t.TempDir()
	target := filepath.Join(dir, "target")
	for path, mode := range map[string]os.FileMode{"target": 0o644, "garbage": 0o755, "linked": 0o644} {
		if err := os.WriteFile(filepath.Join(dir, path), []byte("\x01\x02"), mode); err != nil {
			t.Fatal(err)
		}
	}
	must := func(err error) {
		if err != nil {
			t.Fatal(err)
		}
	}
	must(os.Symlink(target, filepath.Join(dir, "symlink")))
	must(os.Link(filepath.Join(dir, "linked"), filepath.Join(dir, "hardlink")))
	must(syscall.Mkfifo(filepath.Join(dir, "fifo"), 0o600))
	for name, test := range map[string]struct {
		argv      []string
		dir, log  string
		want      string
		logStands bool
	}{
		"no such program":   {argv: []string{"./absent"}, log: "log", want: "no such file"},
		"not on PATH":       {argv: []string{"etcd-that-is-nowhere"}, log: "log", want: "not found in $PATH"},
		"not executable":    {argv: []string{target}, log: "log", want: "permission denied"},
		"no program at all": {argv: []string{"./garbage"}, log: "log", want: "exec format error"},
		"no command":        {log: "log", want: "no command"},
		"no folder":         {argv: []string{"sleep", "1"}, dir: "absent", log: "log", want: "no such file"},
		"log is a symlink":  {argv: []string{"sleep", "1"}, log: "symlink", want: "is a symbolic link", logStands: true},
		"log has two names": {argv: []string{"sleep", "1"}, log: "hardlink", want: "not a plain file", logStands: true},
		"log is a pipe":     {argv: []string{"sleep", "1"}, log: "fifo", want: "no such device", logStands: true},
		"log's folder":      {argv: []string{"sleep", "1"}, log: "absent/log", want: "no such file"},
	} {
		t.Run(name, func(t *testing.T) {
			before := children(t)
			logPath := filepath.Join(dir, test.log)
			_, err := Respawn(t.Context(), test.argv, filepath.Join(dir, test.dir), nil, uint32(os.Geteuid()), uint32(os.Getegid()), logPath)
			if err == nil || !strings.Contains(err.Error(), test.want) {
				t.Errorf("got %v, want it to say %q", err, test.want)
			}
			if _, err := os.Lstat(logPath); (err == nil) != test.logStands {
				t.Errorf("log: %v", err)
			}
			for _, pid := range children(t) {
				if !slices.Contains(before, pid) { // those of before may have gone
					t.Errorf("it has left process %s", pid)
				}
			}
		})
	}
	if text, _ := os.ReadFile(target); string(text) != "\x01\x02" {
		t.Errorf("the link's target has become %q", text)
	}
}

// children lists the pids of this process's children, zombies too.
func children(t *testing.T) []string {
	t.Helper()
	files, err := filepath.Glob("/proc/self/task/*/children")
	if err != nil {
		t.Fatal(err)
	}
	var all []string
	for _, file := range files {
		text, _ := os.ReadFile(file)
		all = append(all, strings.Fields(string(text))...)
	}
	return all
}

func TestStartRefusesAScript(t *testing.T) {
	s := sleeper(t.TempDir())
	s.Binary.Path = filepath.Join(t.TempDir(), "etcd")
	if err := os.WriteFile(s.Binary.Path, []byte("#!/bin/sh\nexec etcd\n"), 0o755); err != nil {
		t.Fatal(err)
	}
	if _, err := (&Detached{}).Start(t.Context(), s); err == nil || !strings.Contains(err.Error(), "is a script") {
		t.Errorf("Start: %v", err)
	}
	if _, err := os.Stat(s.LogPath); !os.IsNotExist(err) {
		t.Errorf("log: %v", err)
	}
}
