package promote

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	systemd "github.com/coreos/go-systemd/v22/dbus"
)

const (
	// systemdFolder is there where systemd runs the machine (sd_booted).
	systemdFolder = "/run/systemd/system"
	// journalTimeout bounds the reading of the last log lines.
	journalTimeout = 10 * time.Second
)

// Systemd runs etcd in a unit: one of its own, or with Service.DropIn in an
// existing one, in which a drop-in replaces what it runs. Files are written
// below /etc/systemd/system alone, and never over one that is not ours.
//
// It also stops, starts, enables and disables other units. Almost everything
// needs root. Each call opens a connection of its own, so that a D-Bus daemon
// that is restarted, or not there, does no harm.
type Systemd struct{}

// UnitOf returns the service whose process this is, and whether it is the main
// one. unit is empty where the process belongs to none, or systemd does not run
// this machine.
func (d *Systemd) UnitOf(ctx context.Context, pid int) (unit string, isMain bool, err error) {
	if _, err := os.Stat(systemdFolder); errors.Is(err, fs.ErrNotExist) {
		return "", false, nil
	}
	conn, err := connect(ctx)
	if err != nil {
		return "", false, err
	}
	defer conn.Close()
	unit, err = conn.GetUnitNameByPID(ctx, uint32(pid))
	if isBusError(err, "org.freedesktop.systemd1.NoUnitForPID") {
		return "", false, nil
	}
	if err != nil {
		return "", false, fmt.Errorf("find the unit of process %d: %w", pid, err)
	}
	if !strings.HasSuffix(unit, ".service") {
		return "", false, nil // a session or a container
	}
	state, err := lookAt(ctx, conn, unit)
	return unit, state.main == pid, err
}

// Start implements Supervisor. The unit is enabled at once, so that a reboot in
// the middle of a promotion brings etcd back.
func (d *Systemd) Start(ctx context.Context, s Service) (Process, error) {
	if err := s.checkProgram(); err != nil {
		return Process{}, err
	}
	conn, err := connect(ctx)
	if err != nil {
		return Process{}, err
	}
	defer conn.Close()
	state, err := lookAt(ctx, conn, s.Unit)
	if err != nil {
		return Process{}, err
	}
	if p, ours := s.mainProcess(state); ours {
		return p, nil
	}
	if err := s.mayHave(state); err != nil {
		return Process{}, err
	}
	_, before, err := s.readUnit()
	if err != nil {
		return Process{}, err
	}
	if err := s.install(ctx, conn, unitStarting, cmp.Or(before, state.file)); err != nil {
		return Process{}, err
	}
	// A unit that has failed too often is not started otherwise.
	if state.active == "failed" {
		_ = conn.ResetFailedUnitContext(ctx, s.Unit)
	}
	if _, err := conn.StartUnitContext(ctx, s.Unit, jobReplace, nil); err != nil {
		return Process{}, unitError("start", s.Unit, err)
	}
	return s.awaitProcess(ctx, conn)
}

// mayHave refuses a unit that is not ours to run etcd in.
func (s *Service) mayHave(state unitState) error {
	switch {
	case state.load == "masked":
		return fmt.Errorf("unit %s is masked: run systemctl unmask %s", s.Unit, s.Unit)
	case s.DropIn && state.load != "loaded":
		return fmt.Errorf("unit %s can't be used: systemd calls it %s", s.Unit, state.load)
	case s.DropIn && state.main != 0 && state.active == "active":
		return fmt.Errorf("unit %s still runs process %d", s.Unit, state.main)
	case !s.DropIn && state.fragment != "" && state.fragment != s.unitPath():
		return fmt.Errorf("there is a unit %s already, in %s: choose --supervisor detach", s.Unit, state.fragment)
	}
	return nil
}

// awaitProcess returns etcd as soon as it runs.
func (s *Service) awaitProcess(ctx context.Context, conn *systemd.Conn) (Process, error) {
	var p Process
	err := await(ctx, conn, s.Unit, func(state unitState) (bool, error) {
		var ours bool
		if p, ours = s.mainProcess(state); ours {
			return true, nil
		}
		switch {
		case state.job || state.active == "activating":
			return false, nil
		case state.active == "active":
			return false, fmt.Errorf("unit %s runs something else than %s: look at systemctl cat %s", s.Unit, s.Binary.Path, s.Unit)
		default:
			return false, fmt.Errorf("unit %s did not start: %s", s.Unit, state.ending())
		}
	})
	return p, err
}

// mainProcess is the unit's main process, where it is this service's etcd.
func (s *Service) mainProcess(state unitState) (Process, bool) {
	if state.main == 0 {
		return Process{}, false
	}
	p, err := FindProcess(state.main)
	if err != nil {
		return Process{}, false
	}
	ours, err := s.isRunBy(p)
	return p, ours && err == nil
}

// Find implements Supervisor.
func (d *Systemd) Find(ctx context.Context, s Service) (Process, bool, error) {
	conn, err := connect(ctx)
	if err != nil {
		return Process{}, false, err
	}
	defer conn.Close()
	state, err := lookAt(ctx, conn, s.Unit)
	if err != nil {
		return Process{}, false, err
	}
	p, ours := s.mainProcess(state)
	return p, ours, nil
}

// Stop implements Supervisor. A unit in which there is nothing of ours is left
// alone: in a drop-in's place it is the proxy's.
func (d *Systemd) Stop(ctx context.Context, s Service, grace time.Duration) error {
	text, _, err := s.readUnit()
	if err != nil || text == "" {
		return err
	}
	if s.DropIn {
		conn, err := connect(ctx)
		if err != nil {
			return err
		}
		defer conn.Close()
		state, err := lookAt(ctx, conn, s.Unit)
		if err != nil {
			return err
		}
		if _, ours := s.mainProcess(state); !ours && state.active == "active" {
			return nil
		}
	}
	return d.StopUnit(ctx, s.Unit, grace)
}

// Remove implements Supervisor.
func (d *Systemd) Remove(ctx context.Context, s Service) error {
	text, before, err := s.readUnit()
	if err != nil {
		return err
	}
	conn, err := connect(ctx)
	if err != nil {
		return err
	}
	defer conn.Close()
	// The file goes last: it knows the state before.
	if text != "" && (!s.DropIn || before == "disabled") {
		if err := disable(ctx, conn, s.Unit); err != nil {
			return err
		}
	}
	path := s.unitPath()
	if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return unitError("remove", s.Unit, err)
	}
	if s.DropIn {
		_ = os.Remove(filepath.Dir(path)) // only if nothing else is in it
	} else {
		_ = conn.ResetFailedUnitContext(ctx, s.Unit) // else it stays in the list of failed units
	}
	if err := conn.ReloadContext(ctx); err != nil {
		return unitError("reload systemd for", s.Unit, err)
	}
	return nil
}

// Settle implements Supervisor. The etcd that runs is not touched.
func (d *Systemd) Settle(ctx context.Context, s Service) error {
	if _, _, err := s.readUnit(); err != nil {
		return err
	}
	conn, err := connect(ctx)
	if err != nil {
		return err
	}
	defer conn.Close()
	return s.install(ctx, conn, unitSettled, "")
}

// install writes our file, makes systemd read it, and enables the unit.
func (s *Service) install(ctx context.Context, conn *systemd.Conn, stage unitStage, before string) error {
	text, err := s.unitText(stage, before)
	if err != nil {
		return unitError("write", s.Unit, err)
	}
	path := s.unitPath()
	if s.DropIn {
		if err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o755), syncFolder(unitFolder)); err != nil {
			return unitError("write", s.Unit, err)
		}
	}
	if err := writeFile(path, []byte(text), 0o644, 0, 0); err != nil {
		return unitError("write", s.Unit, err)
	}
	if err := conn.ReloadContext(ctx); err != nil {
		return unitError("reload systemd for", s.Unit, err)
	}
	return enable(ctx, conn, s.Unit)
}

// Failed implements Supervisor.
func (d *Systemd) Failed(ctx context.Context, s Service) (cause string, lines []string) {
	cause, lines = logEnd(unitLog(ctx, s.Unit))
	if cause != "" {
		return cause, lines
	}
	conn, err := connect(ctx)
	if err != nil {
		return "", lines
	}
	defer conn.Close()
	state, err := lookAt(ctx, conn, s.Unit)
	if err != nil || state.result == "success" {
		return "", lines
	}
	return state.ending(), lines
}

// unitLog reads the last lines of a unit, systemd's own about it among them.
// They are for a message only: without a journal there are none.
func unitLog(ctx context.Context, unit string) []byte {
	ctx, cancel := context.WithTimeout(ctx, journalTimeout)
	defer cancel()
	// What the unit has just written may not be in the journal's files yet.
	_ = exec.CommandContext(ctx, "journalctl", "--sync").Run()
	cmd := exec.CommandContext(ctx, "journalctl", "--unit="+unit, "--lines="+strconv.Itoa(keptLines), "--output=cat", "--quiet", "--no-pager")
	text, _ := cmd.Output()
	return text
}
