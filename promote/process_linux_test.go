package promote

import (
	"context"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"testing"
	"time"
)

// startProgram runs a program to look at. It is reaped at the end of the test,
// and before by whom the test tells to.
func startProgram(t *testing.T, environ []string, argv ...string) *exec.Cmd {
	t.Helper()
	cmd := exec.Command(argv[0], argv[1:]...)
	cmd.Env = append([]string{"PATH=" + os.Getenv("PATH")}, environ...)
	cmd.Dir = t.TempDir()
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	})
	return cmd
}

func mustFind(t *testing.T, pid int) Process {
	t.Helper()
	p, err := FindProcess(pid)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// becomes waits until a forked process shows the arguments that it is to have.
func becomes(t *testing.T, p Process, args ...string) {
	t.Helper()
	eventually(t, "the program runs", func() bool {
		got, err := p.Args()
		return err == nil && slices.Equal(got, args)
	})
}

func TestProcessLooks(t *testing.T) {
	cmd := startProgram(t, []string{"A=one", "B=two words"}, "sleep", "1000")
	p := mustFind(t, cmd.Process.Pid)
	becomes(t, p, "sleep", "1000")
	environ, err := p.Environ()
	if err != nil || !slices.Contains(environ, "B=two words") || !slices.Contains(environ, "A=one") {
		t.Errorf("Environ: %q, %v", environ, err)
	}
	if dir, err := p.Dir(); err != nil || dir != cmd.Dir {
		t.Errorf("Dir: %q, %v", dir, err)
	}
	exe, err := p.Exe()
	want, _ := exec.LookPath("sleep")
	want, _ = filepath.EvalSymlinks(want)
	if err != nil || exe != want {
		t.Errorf("Exe: %q, %v, want %q", exe, err, want)
	}
	uid, gid, err := p.Owner()
	if err != nil || int(uid) != os.Geteuid() || int(gid) != os.Getegid() {
		t.Errorf("Owner: %d, %d, %v", uid, gid, err)
	}
	if pid, err := p.NamespacePID(); err != nil || pid != p.PID {
		t.Errorf("NamespacePID: %d, %v", pid, err)
	}
	if p.Pod() {
		t.Error("Pod of a plain process")
	}
	pod := mustFind(t, startProgram(t, []string{"KUBERNETES_SERVICE_HOST=10.0.0.1"}, "sleep", "1000").Process.Pid)
	becomes(t, pod, "sleep", "1000")
	if !pod.Pod() {
		t.Error("not Pod, with a kubelet's environment")
	}
}

func TestProcessWithAnotherPIDInside(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Log("only root can make a pid namespace: looked at our own alone")
		return
	}
	cmd := startProgram(t, nil, "unshare", "--pid", "--fork", "--kill-child", "sleep", "1000")
	var inside Process
	eventually(t, "the namespace has a process", func() bool {
		pids, err := runningPIDs()
		if err != nil {
			t.Fatal(err)
		}
		return slices.ContainsFunc(pids, func(pid int) bool {
			p, err := FindProcess(pid)
			if err != nil {
				return false
			}
			parent, err := p.status("PPid", 0)
			inside = p
			return err == nil && int(parent) == cmd.Process.Pid
		})
	})
	if pid, err := inside.NamespacePID(); err != nil || pid != 1 {
		t.Errorf("NamespacePID: %d, %v", pid, err)
	}
}

func TestProcessStops(t *testing.T) {
	cmd := startProgram(t, nil, "sleep", "1000")
	p := mustFind(t, cmd.Process.Pid)
	becomes(t, p, "sleep", "1000")
	if !p.Alive() {
		t.Error("not alive")
	}
	short, cancel := context.WithTimeout(t.Context(), time.Millisecond)
	defer cancel()
	if err := p.Wait(short); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("Wait for a running process: %v", err)
	}
	killed, err := p.Stop(t.Context(), time.Minute)
	if err != nil || killed {
		t.Errorf("Stop: %v, %v", killed, err)
	}
	// Nobody has reaped it: it is a zombie.
	if p.Alive() {
		t.Error("a zombie is alive")
	}
	if _, err := FindProcess(p.PID); !errors.Is(err, os.ErrProcessDone) {
		t.Errorf("FindProcess of a zombie: %v", err)
	}
	for _, state := range []string{"zombie", "reaped"} {
		if err := p.Wait(t.Context()); err != nil {
			t.Errorf("%s: Wait: %v", state, err)
		}
		if killed, err := p.Stop(t.Context(), time.Minute); err != nil || killed {
			t.Errorf("%s: Stop: %v, %v", state, killed, err)
		}
		if _, err := p.Args(); err == nil {
			t.Errorf("%s: it has arguments", state)
		}
		_ = cmd.Wait()
	}
}

func TestProcessIsKilledAfterGrace(t *testing.T) {
	cmd := startProgram(t, nil, "sh", "-c", `trap "" TERM; exec sleep 1000`)
	p := mustFind(t, cmd.Process.Pid)
	becomes(t, p, "sleep", "1000")
	cancelled, cancel := context.WithCancel(t.Context())
	cancel()
	if killed, err := p.Stop(cancelled, time.Minute); !errors.Is(err, context.Canceled) || killed {
		t.Errorf("Stop with an ended context: %v, %v", killed, err)
	}
	if !p.Alive() {
		t.Fatal("it was killed though the context had ended")
	}
	if killed, err := p.Stop(t.Context(), time.Millisecond); err != nil || !killed {
		t.Errorf("Stop: %v, %v", killed, err)
	}
	if p.Alive() {
		t.Error("still alive")
	}
}

func TestProcessWithAnotherStartIsDead(t *testing.T) {
	cmd := startProgram(t, nil, "sleep", "1000")
	p := mustFind(t, cmd.Process.Pid)
	becomes(t, p, "sleep", "1000")
	earlier := Process{PID: p.PID, Started: p.Started - 1}
	if earlier.Alive() {
		t.Error("alive")
	}
	if killed, err := earlier.Stop(t.Context(), time.Millisecond); err != nil || killed {
		t.Errorf("Stop: %v, %v", killed, err)
	}
	if err := earlier.Wait(t.Context()); err != nil {
		t.Errorf("Wait: %v", err)
	}
	if _, err := earlier.Environ(); !errors.Is(err, os.ErrProcessDone) {
		t.Errorf("Environ: %v", err)
	}
	booted := p
	booted.Boot = "00000000-0000-0000-0000-000000000000"
	if p.Boot == "" || booted.Alive() {
		t.Errorf("boot %q: alive after another boot: %v", p.Boot, booted.Alive())
	}
	if killed, err := booted.Stop(t.Context(), time.Millisecond); err != nil || killed {
		t.Errorf("Stop after another boot: %v, %v", killed, err)
	}
	if unknown := (Process{PID: p.PID, Started: p.Started}); !unknown.Alive() {
		t.Error("without a boot it is dead")
	}
	if !p.Alive() {
		t.Error("the later process was hit")
	}
}

func TestParseStat(t *testing.T) {
	for name, test := range map[string]struct {
		text string
		want stat
		bad  bool
	}{
		"plain":           {text: "7 (etcd) S 1 7 7 0 -1 4194560 1 0 0 0 0 0 0 0 20 0 1 0 4711 0 0\n", want: stat{'S', 4711}},
		"brackets inside": {text: "7 (a) Z 1 (b) R 1 7 7 0 -1 4194560 1 0 0 0 0 0 0 0 20 0 1 0 4711 0 0\n", want: stat{'R', 4711}},
		"zombie":          {text: "7 (etcd) Z 1 7 7 0 -1 4194560 1 0 0 0 0 0 0 0 20 0 1 0 5 0 0\n", want: stat{'Z', 5}},
		"short":           {text: "7 (etcd) S 1\n", bad: true},
		"empty":           {bad: true},
	} {
		t.Run(name, func(t *testing.T) {
			got, err := parseStat([]byte(test.text))
			if (err != nil) != test.bad || !test.bad && got != test.want {
				t.Errorf("got %v, %v", got, err)
			}
		})
	}
}
