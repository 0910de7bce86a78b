//go:build systemd

// These tests write to /etc/systemd/system and start units: scripts/test-systemd
// runs them in a box of their own.

package promote

import (
	"context"
	"encoding/json"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	systemd "github.com/coreos/go-systemd/v22/dbus"
)

// member is a one-member cluster in a unit: this test binary in the role of
// etcd.
func member(t *testing.T, name, ip, dataDir string) Service {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	binary := filepath.Join(t.TempDir(), "an etcd 100% $HOME")
	if err := os.Symlink(self, binary); err != nil {
		t.Fatal(err)
	}
	for folder := filepath.Dir(binary); folder != "/"; folder = filepath.Dir(folder) {
		_ = os.Chmod(folder, 0o755)
	}
	if err := errors.Join(os.MkdirAll(dataDir, 0o700), os.Chown(dataDir, nobody, nobody)); err != nil {
		t.Fatal(err)
	}
	peerURL := "http://" + ip + ":2380"
	s := Service{
		Binary: Binary{Path: binary}, Flags: []string{"--unsafe-no-fsync"},
		Name: name, DataDir: dataDir, UID: nobody, GID: nobody, Unit: UnitName(name), Unset: []string{"ETCD_PROXY"},
		Variables: Variables{
			{"ETCD_NAME", name},
			{"ETCD_INITIAL_CLUSTER", name + "=" + peerURL},
			{"ETCD_INITIAL_ADVERTISE_PEER_URLS", peerURL},
			{"ETCD_LISTEN_PEER_URLS", peerURL},
			{"ETCD_LISTEN_CLIENT_URLS", clientURL(ip)},
			{"ETCD_ADVERTISE_CLIENT_URLS", clientURL(ip)},
			{roleVariable, "etcd"},
		},
	}
	endUnit(t, s.Unit, s.unitPath(), dataDir)
	return s
}

// endUnit makes a unit be gone after the test, with its files.
func endUnit(t *testing.T, unit string, paths ...string) {
	t.Helper()
	t.Cleanup(func() {
		_ = exec.Command("systemctl", "disable", unit).Run()
		_ = exec.Command("systemctl", "kill", "--signal=KILL", unit).Run()
		_ = exec.Command("systemctl", "stop", unit).Run()
		for _, path := range paths {
			_ = os.RemoveAll(path)
		}
		_ = exec.Command("systemctl", "daemon-reload").Run()
		_ = exec.Command("systemctl", "reset-failed", unit).Run()
	})
}

func systemctl(t *testing.T, args ...string) string {
	t.Helper()
	output, _ := exec.CommandContext(t.Context(), "systemctl", args...).CombinedOutput()
	return strings.TrimSpace(string(output))
}

func show(t *testing.T, unit, property string) string {
	t.Helper()
	return systemctl(t, "show", "--value", "--property="+property, unit)
}

func write(t *testing.T, path, text string) {
	t.Helper()
	if err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o755), os.WriteFile(path, []byte(text), 0o644)); err != nil {
		t.Fatal(err)
	}
}

func becomesActive(t *testing.T, unit string) {
	t.Helper()
	eventually(t, unit+" is active", func() bool { return show(t, unit, "ActiveState") == "active" })
}

// wantVariables checks that etcd has the service's variables and no other of
// etcd's.
func wantVariables(t *testing.T, p Process, s Service) {
	t.Helper()
	environ, err := p.Environ()
	if err != nil {
		t.Fatal(err)
	}
	environ = slices.DeleteFunc(environ, func(entry string) bool {
		return !strings.HasPrefix(entry, "ETCD_") && !strings.HasPrefix(entry, roleVariable)
	})
	want := s.variables().Environ()
	slices.Sort(environ)
	slices.Sort(want)
	if !slices.Equal(environ, want) {
		t.Errorf("Environ:\n%q, want\n%q", environ, want)
	}
}

func TestSystemdUnit(t *testing.T) {
	s := member(t, "m 1", loopback(60), `/var/lib/e tcd 100% "x" $HOME \n`)
	d := &Systemd{}
	ctx := t.Context()
	// The manager's own environment reaches every unit.
	systemctl(t, "set-environment", "ETCD_PROXY=on")
	defer systemctl(t, "unset-environment", "ETCD_PROXY")
	if _, found, err := d.Find(ctx, s); found || err != nil {
		t.Fatalf("Find before: %v, %v", found, err)
	}
	if err := errors.Join(d.Stop(ctx, s, time.Second), d.Remove(ctx, s)); err != nil {
		t.Errorf("Stop and Remove before: %v", err)
	}
	p, err := d.Start(ctx, s)
	if err != nil {
		t.Fatal(err)
	}
	wantVariables(t, p, s)
	if uid, gid, err := p.Owner(); err != nil || uid != nobody || gid != nobody {
		t.Errorf("Owner: %d, %d, %v", uid, gid, err)
	}
	if cwd, _ := p.Dir(); cwd != s.DataDir {
		t.Errorf("it works in %q", cwd)
	}
	if unit, isMain, err := d.UnitOf(ctx, p.PID); err != nil || unit != s.Unit || !isMain {
		t.Errorf("UnitOf: %q, %v, %v", unit, isMain, err)
	}
	if unit, isMain, err := d.UnitOf(ctx, os.Getpid()); err != nil || isMain {
		t.Errorf("UnitOf of this test: %q, %v, %v", unit, isMain, err)
	}
	becomesActive(t, s.Unit)
	if state := systemctl(t, "is-enabled", s.Unit); state != "enabled" {
		t.Errorf("it is %s", state)
	}
	if again, err := d.Start(ctx, s); err != nil || again != p {
		t.Errorf("second Start: %v, %v, want %v", again, err, p)
	}

	settled := s
	settled.Variables = s.Variables.With(Variable{"ETCD_LOG_LEVEL", "warn"})
	for range 2 {
		if err := d.Settle(ctx, settled); err != nil {
			t.Fatal(err)
		}
	}
	if found, ok, err := d.Find(ctx, settled); err != nil || !ok || found != p {
		t.Errorf("Find after Settle: %v, %v, %v", found, ok, err)
	}
	if restart := show(t, s.Unit, "Restart"); restart != "on-failure" {
		t.Errorf("Restart=%s", restart)
	}
	_ = syscall.Kill(p.PID, syscall.SIGKILL)
	var restarted Process
	eventually(t, "systemd starts it again", func() bool {
		found, ok, err := d.Find(ctx, settled)
		restarted = found
		return err == nil && ok && found != p
	})
	wantVariables(t, restarted, settled)

	for range 2 {
		if err := d.Stop(ctx, settled, time.Minute); err != nil {
			t.Fatal(err)
		}
		if restarted.Alive() {
			t.Error("alive after Stop")
		}
	}
	for range 2 {
		if err := d.Remove(ctx, settled); err != nil {
			t.Fatal(err)
		}
	}
	if state := show(t, s.Unit, "LoadState"); state != "not-found" {
		t.Errorf("after Remove it is %s", state)
	}
	for _, path := range []string{s.unitPath(), filepath.Join(unitFolder, "multi-user.target.wants", s.Unit)} {
		if _, err := os.Lstat(path); !os.IsNotExist(err) {
			t.Errorf("left: %s, %v", path, err)
		}
	}
}

func TestSystemdEtcdThatEnds(t *testing.T) {
	s := member(t, "m2", loopback(61), "/var/lib/m2")
	s.Flags = []string{"--proxy=on"}
	d := &Systemd{}
	p, err := d.Start(t.Context(), s)
	if err == nil { // it was seen before it ended
		if err := p.Wait(t.Context()); err != nil {
			t.Errorf("Wait: %v", err)
		}
	} else if !strings.Contains(err.Error(), "did not start: systemd says exit-code, status 2") {
		t.Errorf("Start: %v", err)
	}
	eventually(t, "it has failed", func() bool { return show(t, s.Unit, "ActiveState") == "failed" })
	if restarts := show(t, s.Unit, "NRestarts"); restarts != "0" {
		t.Errorf("it was started again %s times", restarts)
	}
	if cause, lines := d.Failed(t.Context(), s); cause != "flag provided but not defined: -proxy" || len(lines) == 0 {
		t.Errorf("Failed: %q, %q", cause, lines)
	}
	// The next try starts it in spite of the failed state.
	s.Flags = nil
	if _, err := d.Start(t.Context(), s); err != nil {
		t.Errorf("Start after a failure: %v", err)
	}
	if err := errors.Join(d.Stop(t.Context(), s, time.Minute), d.Remove(t.Context(), s)); err != nil {
		t.Error(err)
	}
	if failed := systemctl(t, "list-units", "--failed", "--plain", "--no-legend"); strings.Contains(failed, s.Unit) {
		t.Errorf("still failed: %s", failed)
	}
}

func TestSystemdUnknownUser(t *testing.T) {
	s := member(t, "m3", loopback(62), "/var/lib/m3")
	s.UID, s.GID = 4711, 4711
	d := &Systemd{}
	if _, err := d.Start(t.Context(), s); err == nil || !strings.Contains(err.Error(), "did not start: systemd says exit-code, status 21") {
		t.Errorf("Start: %v", err)
	}
	if cause, lines := d.Failed(t.Context(), s); !strings.Contains(cause, "status 21") {
		t.Errorf("Failed: %q, %q", cause, lines)
	}
}

const proxyUnit = `[Unit]
Description=a proxy
[Service]
Type=simple
Environment=ETCD_NAME=%[1] "ETCD_INITIAL_CLUSTER=old=http://10.0.0.1:2380"
EnvironmentFile=/etc/default/etcd-proxy
PassEnvironment=ETCD_DEBUG
UnsetEnvironment=ETCD_INITIAL_CLUSTER
ExecStart=/bin/sleep 1000
ExecReload=/bin/kill -HUP $MAINPID
WatchdogSec=1000
Restart=always
[Install]
WantedBy=multi-user.target
`

func TestSystemdDropIn(t *testing.T) {
	for name, test := range map[string]struct {
		unit, before string
		override     bool
	}{
		"enabled":               {unit: "etcd-proxy.service", before: "enabled"},
		"disabled":              {unit: "etcd-proxy.service", before: "disabled"},
		"with systemctl edit's": {unit: "etcd-proxy.service", before: "enabled", override: true},
	} {
		t.Run(name, func(t *testing.T) {
			s := member(t, "m4", loopback(63), "/var/lib/m4")
			s.Unit, s.DropIn = test.unit, true
			vendor := "/usr/lib/systemd/system/" + s.Unit
			override := filepath.Join(unitFolder, s.Unit+".d", "override.conf")
			text := strings.ReplaceAll(proxyUnit, "%[1]", s.Name)
			write(t, vendor, text)
			write(t, "/etc/default/etcd-proxy", "ETCD_PROXY=on\nETCD_DATA_DIR=/var/lib/m4\n")
			if test.override {
				write(t, override, "[Service]\nEnvironment=ETCD_PROXY=on ETCD_DISCOVERY=http://x\nExecStart=\nExecStart=/bin/sleep 2000\n")
			}
			endUnit(t, s.Unit, vendor, filepath.Dir(override))
			systemctl(t, "daemon-reload")
			if test.before == "enabled" {
				systemctl(t, "enable", s.Unit)
			}
			ctx, d := t.Context(), &Systemd{}
			if err := d.StartUnit(ctx, s.Unit); err != nil {
				t.Fatal(err)
			}
			if _, found, err := d.Find(ctx, s); found || err != nil {
				t.Fatalf("Find with the proxy: %v, %v", found, err)
			}
			if err := d.Stop(ctx, s, time.Second); err != nil || show(t, s.Unit, "ActiveState") != "active" {
				t.Errorf("Stop has hit the proxy, or %v", err)
			}
			if _, err := d.Start(ctx, s); err == nil || !strings.Contains(err.Error(), "still runs process") {
				t.Errorf("Start beside the proxy: %v", err)
			}
			for range 2 {
				if err := d.StopUnit(ctx, s.Unit, time.Minute); err != nil {
					t.Fatal(err)
				}
			}

			p, err := d.Start(ctx, s)
			if err != nil {
				t.Fatal(err)
			}
			wantVariables(t, p, s)
			if again, err := d.Start(ctx, s); err != nil || again != p {
				t.Errorf("second Start: %v, %v", again, err)
			}
			becomesActive(t, s.Unit)
			for property, want := range map[string]string{
				"Type": "notify", "Restart": "no", "WatchdogUSec": "0", "UnitFileState": "enabled", "ExecReload": "",
			} {
				if got := show(t, s.Unit, property); got != want {
					t.Errorf("%s=%s, want %s", property, got, want)
				}
			}
			if err := d.Stop(ctx, s, time.Minute); err != nil || p.Alive() {
				t.Fatalf("Stop: %v", err)
			}
			// As after a crash in between: the file is there, nothing runs.
			if _, err := d.Start(ctx, s); err != nil {
				t.Fatal(err)
			}
			for range 2 {
				if err := errors.Join(d.Stop(ctx, s, time.Minute), d.Remove(ctx, s)); err != nil {
					t.Fatal(err)
				}
			}
			if err := d.StartUnit(ctx, s.Unit); err != nil {
				t.Fatal(err)
			}
			if command := show(t, s.Unit, "ExecStart"); !strings.Contains(command, "/bin/sleep") {
				t.Errorf("after Remove it runs %s", command)
			}
			if state := show(t, s.Unit, "UnitFileState"); state != test.before {
				t.Errorf("it is %s, before %s", state, test.before)
			}
			if got, err := os.ReadFile(vendor); err != nil || string(got) != text {
				t.Errorf("the vendor's file is %q, %v", got, err)
			}
			entries, err := os.ReadDir(filepath.Dir(override))
			if test.override && len(entries) != 1 || !test.override && !os.IsNotExist(err) {
				t.Errorf("left: %v, %v", entries, err)
			}
		})
	}
}

// TestSystemdColdStart is the machine's start after a promotion, and after one
// that was cut: what is enabled comes up.
func TestSystemdColdStart(t *testing.T) {
	s := member(t, "m5", loopback(64), "/var/lib/m5")
	proxy := "etcd-proxy5.service"
	write(t, filepath.Join(unitFolder, proxy), strings.ReplaceAll(proxyUnit, "EnvironmentFile", "#"))
	endUnit(t, proxy, filepath.Join(unitFolder, proxy))
	ctx, d := t.Context(), &Systemd{}
	systemctl(t, "daemon-reload")
	if err := errors.Join(d.EnableUnit(ctx, proxy), d.EnableUnit(ctx, proxy), d.StartUnit(ctx, proxy)); err != nil {
		t.Fatal(err)
	}
	if _, err := d.Start(ctx, s); err != nil {
		t.Fatal(err)
	}
	// A new cluster of one that is stopped after its WAL is made and before its
	// first entries are in it has no voter and never elects itself (etcd 3.7.3,
	// 3 of 240 that were stopped in their start). A member that joins recovers.
	becomesActive(t, s.Unit)
	coldStart := func() {
		systemctl(t, "stop", proxy, s.Unit)
		systemctl(t, "daemon-reload")
		systemctl(t, "start", "multi-user.target")
	}
	coldStart()
	becomesActive(t, s.Unit)
	becomesActive(t, proxy)

	if err := errors.Join(d.Settle(ctx, s), d.StopUnit(ctx, proxy, time.Minute), d.DisableUnit(ctx, proxy), d.DisableUnit(ctx, proxy)); err != nil {
		t.Fatal(err)
	}
	coldStart()
	becomesActive(t, s.Unit)
	if state := show(t, proxy, "ActiveState"); state != "inactive" {
		t.Errorf("the proxy is %s", state)
	}
}

func TestSystemdRefuses(t *testing.T) {
	const vendor = "/usr/lib/systemd/system/"
	for name, test := range map[string]struct {
		prepare func(s *Service)
		want    string
	}{
		"a vendor's unit": {func(s *Service) { write(t, vendor+s.Unit, "[Service]\nExecStart=/bin/sleep 1\n") }, "there is a unit etcd-r0.service already, in /"},
		"an admin's unit": {func(s *Service) { write(t, s.unitPath(), "[Service]\nExecStart=/bin/sleep 1\n") }, "was not written for this member"},
		"another member's": {func(s *Service) {
			other := *s
			other.DataDir = "/var/lib/other"
			write(t, s.unitPath(), other.mark()+"\n[Service]\nExecStart=/bin/sleep 1\n")
		}, "was not written for this member"},
		"a masked unit":   {func(s *Service) { systemctl(t, "mask", s.Unit) }, "is masked: run systemctl unmask"},
		"no unit to edit": {func(s *Service) { s.DropIn = true }, "systemd calls it not-found"},
		"a unit's name":   {func(s *Service) { s.Unit = "no unit" }, "no unit"},
	} {
		t.Run(name, func(t *testing.T) {
			s := member(t, "r0", loopback(65), "/var/lib/r0")
			test.prepare(&s)
			systemctl(t, "daemon-reload")
			endUnit(t, s.Unit, vendor+s.Unit, s.unitPath())
			before, _ := os.ReadFile(s.unitPath())
			d := &Systemd{}
			if _, err := d.Start(t.Context(), s); err == nil || !strings.Contains(err.Error(), test.want) {
				t.Errorf("Start: %v, want it to say %q", err, test.want)
			}
			// An undo must not touch it either.
			_ = d.Stop(t.Context(), s, time.Second)
			_ = d.Remove(t.Context(), s)
			if after, _ := os.ReadFile(s.unitPath()); string(after) != string(before) {
				t.Errorf("the file has become %q", after)
			}
		})
	}
}

func TestSystemdStopKillsAfterGrace(t *testing.T) {
	const unit = "stubborn.service"
	write(t, filepath.Join(unitFolder, unit), "[Service]\nExecStart=/bin/sh -c 'trap \"\" TERM; exec sleep 1000'\nTimeoutStopSec=infinity\n")
	endUnit(t, unit, filepath.Join(unitFolder, unit))
	systemctl(t, "daemon-reload")
	ctx, d := t.Context(), &Systemd{}
	if err := d.StartUnit(ctx, unit); err != nil {
		t.Fatal(err)
	}
	p := mustFind(t, atoi(t, show(t, unit, "MainPID")))
	becomes(t, p, "sleep", "1000")
	short, cancel := context.WithTimeout(ctx, 100*time.Millisecond)
	defer cancel()
	if err := d.StopUnit(short, unit, time.Minute); !errors.Is(err, context.DeadlineExceeded) || !p.Alive() {
		t.Errorf("StopUnit with an ended context: %v, alive %v", err, p.Alive())
	}
	if err := d.StopUnit(ctx, unit, 100*time.Millisecond); err != nil || p.Alive() {
		t.Errorf("StopUnit: %v, alive %v", err, p.Alive())
	}
	if err := d.StopUnit(ctx, "nobody-knows.service", time.Second); err != nil {
		t.Errorf("StopUnit of what is not there: %v", err)
	}
	if err := d.StartUnit(ctx, "nobody-knows.service"); err == nil || !strings.Contains(err.Error(), "start unit nobody-knows.service: Unit nobody-knows.service not found") {
		t.Errorf("StartUnit of what is not there: %v", err)
	}
}

func atoi(t *testing.T, text string) int {
	t.Helper()
	var n int
	if err := json.Unmarshal([]byte(text), &n); err != nil {
		t.Fatal(err)
	}
	return n
}

// TestSystemdReadsFormats lets systemd read what is printed for it.
func TestSystemdReadsFormats(t *testing.T) {
	write(t, "/etc/default/nasty", format(t, nasty, FormatEnvFile))
	for name, lines := range map[string]string{
		"systemd":  format(t, nasty, FormatSystemd),
		"env-file": "EnvironmentFile=/etc/default/nasty\n",
	} {
		t.Run(name, func(t *testing.T) {
			unit := "nasty-" + name + ".service"
			write(t, filepath.Join(unitFolder, unit), "[Service]\n"+lines+"ExecStart=/bin/sleep 1000\n")
			endUnit(t, unit, filepath.Join(unitFolder, unit))
			systemctl(t, "daemon-reload")
			d := &Systemd{}
			if err := d.StartUnit(t.Context(), unit); err != nil {
				t.Fatal(err)
			}
			p := mustFind(t, atoi(t, show(t, unit, "MainPID")))
			becomes(t, p, "/bin/sleep", "1000")
			environ, err := p.Environ()
			if err != nil {
				t.Fatal(err)
			}
			wantEnviron(t, environ)
			if err := d.StopUnit(t.Context(), unit, time.Minute); err != nil {
				t.Error(err)
			}
		})
	}
}

// TestSystemdPastedUnit does with a unit to paste what its comment says.
func TestSystemdPastedUnit(t *testing.T) {
	s := member(t, "m6", loopback(66), "/var/lib/m6")
	write(t, s.unitPath(), UnitToPaste(s))
	systemctl(t, "daemon-reload")
	systemctl(t, "enable", s.Unit)
	d := &Systemd{}
	if err := d.StartUnit(t.Context(), s.Unit); err != nil {
		t.Fatal(err)
	}
	p := mustFind(t, atoi(t, show(t, s.Unit, "MainPID")))
	wantVariables(t, p, s)
	if complaints := systemctl(t, "status", "--no-pager", s.Unit); strings.Contains(complaints, "Unknown key") {
		t.Error(complaints)
	}
}

// nobodyRole makes this test binary try what only root may do.
const nobodyRole = "nobody"

func init() {
	if os.Getenv(roleVariable) == nobodyRole {
		err := (&Systemd{}).StopUnit(context.Background(), "systemd-journald.service", time.Second)
		os.Stdout.WriteString(err.Error())
		os.Exit(0)
	}
}

func TestSystemdNotAsRoot(t *testing.T) {
	cmd := exec.CommandContext(t.Context(), os.Args[0])
	cmd.Env = append(os.Environ(), roleVariable+"="+nobodyRole)
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: nobody, Gid: nobody}}
	said, err := cmd.CombinedOutput()
	if err != nil || !strings.HasPrefix(string(said), "stop unit systemd-journald.service: ") || !strings.HasSuffix(string(said), ": run this as root") {
		t.Errorf("it said %q, %v", said, err)
	}
}

// TestSystemdWithoutBus has only systemd's own socket, as on a machine without
// D-Bus.
func TestSystemdWithoutBus(t *testing.T) {
	systemctl(t, "stop", "dbus.socket", "dbus.service")
	defer systemctl(t, "start", "dbus.socket")
	if _, err := systemd.NewSystemConnectionContext(t.Context()); err == nil {
		t.Fatal("the bus still answers")
	}
	s := member(t, "m7", loopback(67), "/var/lib/m7")
	d := &Systemd{}
	if _, err := d.Start(t.Context(), s); err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(d.Stop(t.Context(), s, time.Minute), d.Remove(t.Context(), s)); err != nil {
		t.Error(err)
	}
}
