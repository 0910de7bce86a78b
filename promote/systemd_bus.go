package promote

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	systemd "github.com/coreos/go-systemd/v22/dbus"
	"github.com/godbus/dbus/v5"
)

const (
	// unitPoll is the time between two looks at a unit that changes.
	unitPoll = 20 * time.Millisecond
	// jobReplace is how systemctl queues its jobs, too: one that contradicts is
	// replaced.
	jobReplace = "replace"
	// sigkill as D-Bus wants it.
	sigkill = 9
)

// StopUnit stops a unit, kills what is left of it after grace, and returns when
// it is down. A unit that systemd does not know is down.
func (d *Systemd) StopUnit(ctx context.Context, unit string, grace time.Duration) error {
	conn, err := connect(ctx)
	if err != nil {
		return err
	}
	defer conn.Close()
	_, err = conn.StopUnitContext(ctx, unit, jobReplace, nil)
	if isBusError(err, "org.freedesktop.systemd1.NoSuchUnit") {
		return nil
	}
	if err != nil {
		return unitError("stop", unit, err)
	}
	isDown := func(state unitState) (bool, error) { return state.isDown(), nil }
	patience, cancel := context.WithTimeout(ctx, grace)
	defer cancel()
	err = await(patience, conn, unit, isDown)
	if err == nil || patience.Err() == nil || ctx.Err() != nil {
		return err
	}
	if err := conn.KillUnitWithTarget(ctx, unit, systemd.All, sigkill); err != nil {
		return unitError("kill", unit, err)
	}
	return await(ctx, conn, unit, isDown)
}

// StartUnit starts a unit and returns when it is up.
func (d *Systemd) StartUnit(ctx context.Context, unit string) error {
	conn, err := connect(ctx)
	if err != nil {
		return err
	}
	defer conn.Close()
	if _, err := conn.StartUnitContext(ctx, unit, jobReplace, nil); err != nil {
		return unitError("start", unit, err)
	}
	return await(ctx, conn, unit, func(state unitState) (bool, error) {
		if state.job {
			return false, nil
		}
		if state.active != "active" {
			return false, fmt.Errorf("unit %s did not start: %s", unit, state.ending())
		}
		return true, nil
	})
}

// UnitRuns tells whether a unit runs, or is on its way up or down. A unit that
// systemd does not know does not run.
func (d *Systemd) UnitRuns(ctx context.Context, unit string) (bool, error) {
	conn, err := connect(ctx)
	if err != nil {
		return false, err
	}
	defer conn.Close()
	state, err := lookAt(ctx, conn, unit)
	return !state.isDown(), err
}

// EnableUnit makes a unit start when the machine starts.
func (d *Systemd) EnableUnit(ctx context.Context, unit string) error {
	return withConnection(ctx, unit, enable)
}

// DisableUnit keeps a unit from being started when the machine starts.
func (d *Systemd) DisableUnit(ctx context.Context, unit string) error {
	return withConnection(ctx, unit, disable)
}

func withConnection(ctx context.Context, unit string, do func(context.Context, *systemd.Conn, string) error) error {
	conn, err := connect(ctx)
	if err != nil {
		return err
	}
	defer conn.Close()
	return do(ctx, conn, unit)
}

func enable(ctx context.Context, conn *systemd.Conn, unit string) error {
	_, changes, err := conn.EnableUnitFilesContext(ctx, []string{unit}, false, false)
	if err != nil {
		return unitError("enable", unit, err)
	}
	// systemd does not wait for the disk; a power cut would undo it.
	for _, change := range changes {
		if err := syncFolder(filepath.Dir(change.Filename)); err != nil {
			return unitError("enable", unit, err)
		}
	}
	if err := conn.ReloadContext(ctx); err != nil {
		return unitError("reload systemd for", unit, err)
	}
	return nil
}

func disable(ctx context.Context, conn *systemd.Conn, unit string) error {
	if _, err := conn.DisableUnitFilesContext(ctx, []string{unit}, false); err != nil {
		return unitError("disable", unit, err)
	}
	if err := conn.ReloadContext(ctx); err != nil {
		return unitError("reload systemd for", unit, err)
	}
	return nil
}

// await looks at the unit until done says so, or fails.
func await(ctx context.Context, conn *systemd.Conn, unit string, done func(unitState) (bool, error)) error {
	ticker := time.NewTicker(unitPoll)
	defer ticker.Stop()
	for {
		state, err := lookAt(ctx, conn, unit)
		if err != nil {
			return err
		}
		if ok, err := done(state); ok || err != nil {
			return err
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("wait for unit %s: %w", unit, context.Cause(ctx))
		case <-ticker.C:
		}
	}
}

// unitState is what we need of a unit's properties (org.freedesktop.systemd1,
// interfaces Unit and Service).
type unitState struct {
	load     string // loaded, not-found, masked, ...
	active   string // active, activating, deactivating, inactive, failed, ...
	fragment string // the unit's file; "" without one
	file     string // enabled, disabled, static, ...
	job      bool   // something is queued or under way
	main     int    // the main process; 0 = none
	result   string // of the last run: success, exit-code, signal, oom-kill, ...
	status   int    // exit status or signal of the last run
}

func lookAt(ctx context.Context, conn *systemd.Conn, unit string) (unitState, error) {
	properties, err := conn.GetAllPropertiesContext(ctx, unit)
	if err != nil {
		return unitState{}, unitError("look at", unit, err)
	}
	word := func(name string) string { text, _ := properties[name].(string); return text }
	state := unitState{
		load: word("LoadState"), active: word("ActiveState"), fragment: word("FragmentPath"),
		file: word("UnitFileState"), result: word("Result"),
	}
	if pid, ok := properties["MainPID"].(uint32); ok {
		state.main = int(pid)
	}
	if status, ok := properties["ExecMainStatus"].(int32); ok {
		state.status = int(status)
	}
	if job, ok := properties["Job"].([]any); ok && len(job) > 0 { // its id, 0 for none, and its path
		id, _ := job[0].(uint32)
		state.job = id != 0
	}
	return state, nil
}

func (u *unitState) isDown() bool {
	return !u.job && (u.active == "inactive" || u.active == "failed")
}

// ending words how the last run ended.
func (u *unitState) ending() string {
	if u.result == "" || u.result == "success" {
		return "it is " + u.active
	}
	return fmt.Sprintf("systemd says %s, status %d", u.result, u.status)
}

// connect takes systemd's own socket where we may, and the system bus where we
// are not root.
func connect(ctx context.Context) (*systemd.Conn, error) {
	if os.Geteuid() == 0 {
		if conn, err := systemd.NewSystemdConnectionContext(ctx); err == nil {
			return conn, nil
		}
	}
	conn, err := systemd.NewSystemConnectionContext(ctx)
	if err != nil {
		return nil, fmt.Errorf("connect to systemd: %w", err)
	}
	return conn, nil
}

// unitError names the unit and says what to do where we may not.
func unitError(step, unit string, err error) error {
	if errors.Is(err, fs.ErrPermission) ||
		isBusError(err, "org.freedesktop.DBus.Error.InteractiveAuthorizationRequired") ||
		isBusError(err, "org.freedesktop.DBus.Error.AccessDenied") {
		return fmt.Errorf("%s unit %s: %w: run this as root", step, unit, err)
	}
	return fmt.Errorf("%s unit %s: %w", step, unit, err)
}

func isBusError(err error, name string) bool {
	var bus dbus.Error
	return errors.As(err, &bus) && bus.Name == name
}
