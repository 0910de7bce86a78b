package promote

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"
)

// Process is one process, told from a later one with the same pid.
type Process struct {
	PID     int    `json:"pid"`
	Started uint64 `json:"started"`        // clock ticks since boot: /proc/PID/stat, field 22
	Boot    string `json:"boot,omitempty"` // of the kernel, which counts both anew; "" is not compared
}

// FindProcess returns the process that has the pid now. The error is
// os.ErrProcessDone where there is none; a zombie is none.
func FindProcess(pid int) (Process, error) {
	s, err := readStat(pid)
	switch {
	case errors.Is(err, os.ErrNotExist), err == nil && s.dead():
		return Process{}, fmt.Errorf("find process %d: %w", pid, os.ErrProcessDone)
	case err != nil:
		return Process{}, fmt.Errorf("find process %d: %w", pid, err)
	}
	return Process{PID: pid, Started: s.started, Boot: bootID()}, nil
}

// Alive tells whether the process still runs. A zombie is dead, and so is a
// process whose pid another one has by now, be it after a reboot.
func (p Process) Alive() bool {
	if boot := bootID(); p.Boot != "" && boot != "" && p.Boot != boot {
		return false
	}
	s, err := readStat(p.PID)
	return err == nil && !s.dead() && s.started == p.Started
}

// Wait returns nil when the process is gone, and otherwise when ctx ends.
func (p Process) Wait(ctx context.Context) error {
	handle, err := p.open()
	if errors.Is(err, os.ErrProcessDone) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("wait for process %d: %w", p.PID, err)
	}
	defer handle.close()
	if err := handle.wait(ctx); err != nil {
		return fmt.Errorf("wait for process %d: %w", p.PID, err)
	}
	return nil
}

// Stop asks the process to end with SIGTERM, kills it after grace, and returns
// when it is gone. Stopping what is gone is no error. When ctx ends, Stop
// returns at once: the process was asked to end, and is not killed.
func (p Process) Stop(ctx context.Context, grace time.Duration) (killed bool, err error) {
	handle, err := p.open()
	if errors.Is(err, os.ErrProcessDone) {
		return false, nil
	}
	if err != nil {
		return false, fmt.Errorf("stop process %d: %w", p.PID, err)
	}
	defer handle.close()
	if err := handle.terminate(); err != nil && !errors.Is(err, os.ErrProcessDone) {
		return false, fmt.Errorf("stop process %d: %w", p.PID, err)
	}
	patience, cancel := context.WithTimeout(ctx, grace)
	defer cancel()
	if handle.wait(patience) == nil {
		return false, nil
	}
	if ctx.Err() != nil {
		return false, fmt.Errorf("stop process %d: %w", p.PID, context.Cause(ctx))
	}
	if err := handle.kill(); err != nil && !errors.Is(err, os.ErrProcessDone) {
		return false, fmt.Errorf("kill process %d: %w", p.PID, err)
	}
	if err := handle.wait(ctx); err != nil {
		return true, fmt.Errorf("wait for killed process %d: %w", p.PID, err)
	}
	return true, nil
}

// open takes hold of the process itself: from then on its pid can't pass to
// another one unseen.
func (p Process) open() (*processHandle, error) {
	handle, err := openProcess(p.PID)
	if err != nil {
		return nil, err
	}
	if !p.Alive() {
		handle.close()
		return nil, os.ErrProcessDone
	}
	return handle, nil
}

// Args is the command line with which the process was started.
func (p Process) Args() ([]string, error) { return p.strings("cmdline") }

// Environ is the environment with which the process was started. Its owner and
// root alone may read it.
func (p Process) Environ() ([]string, error) { return p.strings("environ") }

// Dir is the working directory.
func (p Process) Dir() (string, error) { return p.link("cwd") }

// Exe is the path of the executable, also where the file has been replaced or
// removed since.
func (p Process) Exe() (string, error) {
	path, err := p.link("exe")
	return strings.TrimSuffix(path, " (deleted)"), err
}

// Owner returns the effective user and group.
func (p Process) Owner() (uid, gid uint32, err error) {
	u, err := p.status("Uid", 1)
	if err != nil {
		return 0, 0, err
	}
	g, err := p.status("Gid", 1)
	return uint32(u), uint32(g), err
}

// NamespacePID is the process's own view of its pid: 1 in a container whose
// only program it is.
func (p Process) NamespacePID() (int, error) {
	pid, err := p.status("NSpid", -1)
	return int(pid), err
}

// Pod tells whether the process lives in a pod of Kubernetes: its control group
// says so, or the environment that the kubelet gives to each container.
func (p Process) Pod() bool {
	if groups, err := p.file("cgroup"); err == nil && bytes.Contains(groups, []byte("kubepods")) {
		return true
	}
	environ, err := p.Environ()
	return err == nil && slices.ContainsFunc(environ, func(entry string) bool {
		return strings.HasPrefix(entry, "KUBERNETES_SERVICE_HOST=")
	})
}

// status reads one number of a line of /proc/PID/status; -1 is the last.
func (p Process) status(line string, field int) (uint64, error) {
	text, err := p.file("status")
	if err != nil {
		return 0, err
	}
	for row := range strings.Lines(string(text)) {
		name, rest, _ := strings.Cut(row, ":")
		if name != line {
			continue
		}
		fields := strings.Fields(rest)
		if field < 0 {
			field = len(fields) - 1
		}
		if field >= 0 && field < len(fields) {
			return strconv.ParseUint(fields[field], 10, 32)
		}
	}
	return 0, fmt.Errorf("process %d: its status has no %s", p.PID, line)
}

func (p Process) strings(name string) ([]string, error) {
	text, err := p.file(name)
	if err != nil || len(text) == 0 {
		return nil, err
	}
	return strings.Split(strings.TrimSuffix(string(text), "\x00"), "\x00"), nil
}

// file reads a file of /proc/PID. What another process with the same pid says
// is thrown away.
func (p Process) file(name string) ([]byte, error) {
	text, err := os.ReadFile(procPath(p.PID, name))
	if err == nil && !p.Alive() {
		err = os.ErrProcessDone
	}
	if err != nil {
		return nil, fmt.Errorf("read %s of process %d: %w", name, p.PID, err)
	}
	return text, nil
}

func (p Process) link(name string) (string, error) {
	target, err := os.Readlink(procPath(p.PID, name))
	if err == nil && !p.Alive() {
		err = os.ErrProcessDone
	}
	if err != nil {
		return "", fmt.Errorf("read %s of process %d: %w", name, p.PID, err)
	}
	return target, nil
}

func procPath(pid int, name string) string {
	return filepath.Join("/proc", strconv.Itoa(pid), name)
}

// stat is what we need of /proc/PID/stat.
type stat struct {
	state   byte // Z and X: dead
	started uint64
}

func (s stat) dead() bool { return s.state == 'Z' || s.state == 'X' }

func parseStat(text []byte) (stat, error) {
	// The name in field 2 may hold anything, also ") Z 1": the last bracket
	// ends it (man 5 proc_pid_stat).
	fields := strings.Fields(string(text[bytes.LastIndexByte(text, ')')+1:]))
	const first, startTime = 3, 22
	if len(fields) <= startTime-first {
		return stat{}, fmt.Errorf("unknown form %.80q", text)
	}
	started, err := strconv.ParseUint(fields[startTime-first], 10, 64)
	return stat{state: fields[0][0], started: started}, err
}
