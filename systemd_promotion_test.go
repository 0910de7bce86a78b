//go:build systemd

// These tests write units and start them: scripts/test-systemd runs them in a box
// of their own.

package main

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"
)

const (
	// unitsOfPackages is where a package puts its units.
	unitsOfPackages = "/usr/lib/systemd/system"
	// unitsOfAdmin is where the admin does, and a promotion.
	unitsOfAdmin = "/etc/systemd/system"
	// unitUser runs the proxies: a user that each system has, without rights.
	unitUser = "daemon"
	// etcdInUnit is the entry from which on a drop-in makes the proxy's unit run
	// etcd.
	etcdInUnit = "start done"
)

// systemdPrograms are those that units and their user have to reach, which
// testscript's own folder does not allow.
var systemdPrograms = []string{"etcdops", "etcd", "etcdctl"}

// systemdCommands are the commands that these scripts have besides the others:
//
//	proxyunit CMD...  makes the unit $PROXY of a package, which runs CMD, enables and starts it
//	fill DIR          writes to DIR until nothing more fits
//	powercut          kills everything at once: all units of this script, and m1
//	boot              starts those of its units that are enabled
//	coldstart         stops all of its units, then boot
//
// Each script has a number $N of its own: its proxy is the unit $PROXY in the
// data directory $DIR, which is a file system of 300 MB, and becomes the member
// $NAME in the unit $UNIT.
var systemdCommands = map[string]func(ts *testscript.TestScript, neg bool, args []string){
	"proxyunit": cmdProxyUnit,
	"fill":      cmdFill,
	"powercut":  cmdPowerCut,
	"boot":      cmdBoot,
	"coldstart": cmdColdStart,
}

// TestSystemdPromotion promotes a proxy that is a unit.
func TestSystemdPromotion(t *testing.T) {
	testscript.Run(t, systemdParams(t, "testdata/systemd"))
}

// TestSystemdPowerCut cuts the power right after each entry of a promotion's
// journal; in the classic order, where etcd takes the proxy's place in its unit,
// after those that matter.
func TestSystemdPowerCut(t *testing.T) {
	for _, way := range []struct {
		name   string
		listen string // the address that etcd gets; the proxy's is IP2
		cuts   []string
	}{
		{"hand-over", "IP2", journalEntries[:len(journalEntries)-1]}, // behind the last nothing is under way
		{"drop-in", "IP3", []string{
			"stop-proxy begin", "stop-proxy done", "start begin", etcdInUnit, "catch-up done", "serve done", "finish begin", "finish done",
		}},
	} {
		t.Run(way.name, func(t *testing.T) {
			for i, cut := range way.cuts {
				served, dark := "IP2", false
				if way.listen != "IP2" && i >= slices.Index(way.cuts, etcdInUnit) {
					served, dark = way.listen, cut == etcdInUnit // a learner serves nobody
				}
				t.Run(strings.ReplaceAll(cut, " ", "-"), func(t *testing.T) {
					t.Parallel()
					testscript.RunT(inTest{t}, powerCutParams(t, cut, way.listen, served, dark))
				})
			}
		})
	}
}

func powerCutParams(t *testing.T, cut, listen, served string, dark bool) testscript.Params {
	params := systemdParams(t, "")
	params.Files = []string{"testdata/systemd/cut/power.txtar"}
	setUp := params.Setup
	params.Setup = func(env *testscript.Env) error {
		if err := setUp(env); err != nil {
			return err
		}
		env.Setenv("CUT", cut)
		env.Setenv("LISTEN", "http://"+env.Getenv(listen)+":2379")
		env.Setenv("SERVED", "http://"+env.Getenv(served)+":2379")
		return nil
	}
	params.Condition = func(string) (bool, error) { return dark, nil }
	return params
}

func systemdParams(t *testing.T, dir string) testscript.Params {
	programs, err := publicPrograms()
	if err != nil {
		t.Fatal(err)
	}
	params := scriptParams(dir)
	params.Cmds = map[string]func(ts *testscript.TestScript, neg bool, args []string){}
	for _, commands := range []map[string]func(ts *testscript.TestScript, neg bool, args []string){scriptCommands, systemdCommands} {
		for name, command := range commands {
			params.Cmds[name] = command
		}
	}
	params.Setup = func(env *testscript.Env) error {
		env.Setenv("PATH", programs+string(filepath.ListSeparator)+env.Getenv("PATH"))
		env.Setenv("BIN", programs)
		env.Setenv("ETCD35", filepath.Join(os.Getenv("ETCDS"), "3.5", "etcd"))
		if err := setUpScript(env); err != nil {
			return err
		}
		return setUpUnits(env)
	}
	return params
}

// publicPrograms is a folder with this binary under the names of the programs.
func publicPrograms() (string, error) {
	self, err := os.Executable()
	if err != nil {
		return "", err
	}
	return linkPrograms(self, systemdPrograms)
}

// setUpUnits names the script's units and makes its data directory.
func setUpUnits(env *testscript.Env) error {
	number := strings.Split(env.Getenv("IP1"), ".")[2]
	dir := "/var/lib/etcd-" + number
	for name, value := range map[string]string{
		"N": number, "NAME": "m2-" + number, "DIR": dir,
		"PROXY": "etcd-proxy-" + number + ".service", "UNIT": "etcd-m2-" + number + ".service",
	} {
		env.Setenv(name, value)
	}
	env.Defer(func() {
		if t, ok := env.T().(interface{ Failed() bool }); ok && t.Failed() {
			log, _ := exec.Command("journalctl", "--quiet", "--no-pager", "--lines=20", "--output=short-precise", "--unit=*-"+number+".service").Output()
			env.T().Log(string(log))
		}
		_ = stopUnits(number)
		_ = syscall.Unmount(dir, syscall.MNT_DETACH)
		_ = os.RemoveAll(dir)
		for _, folder := range []string{unitsOfPackages, unitsOfAdmin, unitsOfAdmin + "/multi-user.target.wants"} {
			left, _ := filepath.Glob(folder + "/*-" + number + ".service*")
			for _, path := range left {
				_ = os.RemoveAll(path)
			}
		}
		_ = systemctl("daemon-reload")
	})
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	if err := syscall.Mount("tmpfs", dir, "tmpfs", 0, "size=300m,mode=700"); err != nil {
		return fmt.Errorf("mount %s: %w", dir, err)
	}
	if output, err := exec.Command("chown", unitUser+":"+unitUser, dir).CombinedOutput(); err != nil {
		return fmt.Errorf("chown %s: %w: %s", dir, err, output)
	}
	return nil
}

func cmdProxyUnit(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) == 0 {
		ts.Fatalf("usage: proxyunit CMD...")
	}
	const text = `[Unit]
Description=etcd proxy

[Service]
Type=notify
User=%[1]s
Group=%[1]s
WorkingDirectory=%[2]s
Environment=ETCD_LOG_LEVEL=info
ExecStart=%[3]s
Restart=always

[Install]
WantedBy=multi-user.target
`
	unit := ts.Getenv("PROXY")
	path := filepath.Join(unitsOfPackages, unit)
	ts.Check(os.WriteFile(path, fmt.Appendf(nil, text, unitUser, ts.Getenv("DIR"), strings.Join(args, " ")), 0o644))
	ts.Check(systemctl("daemon-reload"))
	ts.Check(systemctl("enable", "--now", unit))
}

func cmdFill(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 1 {
		ts.Fatalf("usage: fill DIR")
	}
	file, err := os.Create(filepath.Join(args[0], "filler"))
	ts.Check(err)
	defer file.Close()
	for piece := make([]byte, 1<<20); ; {
		if _, err := file.Write(piece); err != nil {
			if !errors.Is(err, syscall.ENOSPC) {
				ts.Fatalf("fill %s: %v", args[0], err)
			}
			return
		}
	}
}

func cmdPowerCut(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 0 {
		ts.Fatalf("usage: powercut")
	}
	number := ts.Getenv("N")
	// Not even systemd has the time to start something again.
	ts.Check(systemctl("kill", "--signal=KILL", "*-"+number+".service"))
	m1 := scriptProcesses(ts).get(ts, "m1")
	ts.Check(m1.cmd.Process.Kill())
	<-m1.done
	ts.Check(stopUnits(number))
}

func cmdColdStart(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 0 {
		ts.Fatalf("usage: coldstart")
	}
	ts.Check(stopUnits(ts.Getenv("N")))
	cmdBoot(ts, false, nil)
}

// cmdBoot does as the machine does when it starts, for the units of one script.
func cmdBoot(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 0 {
		ts.Fatalf("usage: boot")
	}
	ts.Check(systemctl("daemon-reload"))
	output, err := exec.Command("systemctl", "show", "--value", "--property=Wants", "multi-user.target").Output()
	ts.Check(err)
	enabled := slices.DeleteFunc(strings.Fields(string(output)), func(unit string) bool {
		return !strings.HasSuffix(unit, "-"+ts.Getenv("N")+".service")
	})
	ts.Logf("enabled: %s", strings.Join(enabled, " "))
	if len(enabled) > 0 {
		ts.Check(systemctl(append([]string{"start", "--no-block"}, enabled...)...))
	}
}

// stopUnits stops what a script has started, and forgets how it went.
func stopUnits(number string) error {
	units := "*-" + number + ".service"
	err := systemctl("stop", units)
	_ = systemctl("reset-failed", units) // there may be none
	return err
}

func systemctl(args ...string) error {
	output, err := exec.Command("systemctl", append([]string{"--quiet"}, args...)...).CombinedOutput()
	if err != nil {
		return fmt.Errorf("systemctl %s: %w: %s", strings.Join(args, " "), err, output)
	}
	return nil
}
