package main

import (
	"context"
	"flag"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"
	"go.etcd.io/etcd/etcdctl/v3/ctlv3"
	"go.etcd.io/etcd/server/v3/etcdmain"

	"etcdops/commands"
)

var update = flag.Bool("update", false, "write what the commands print into the scripts")

// TestMain makes this binary etcdops, etcd, etcdctl and the tools of the
// scenarios as well: they need nothing installed.
func TestMain(m *testing.M) {
	if info, err := os.Stat("/dev/shm"); err == nil && info.IsDir() && os.Getenv("TMPDIR") == "" {
		os.Setenv("TMPDIR", "/dev/shm") // etcd's fsync on a busy disk is the noise in every timing
	}
	// Scripts wait more than they work. -parallel on the command line beats this.
	if err := flag.Set("test.parallel", strconv.Itoa(2*runtime.GOMAXPROCS(0))); err != nil {
		panic(err)
	}
	testscript.Main(m, programs)
}

// programs are what this binary is by another name.
var programs = map[string]func(){
	"etcdops":    func() { os.Exit(etcdopsMain()) },
	"etcd":       func() { etcdmain.Main(os.Args) },
	"etcdctl":    func() { ctlv3.MustStart() },
	"etcdutl":    func() { os.Exit(etcdutlMain(os.Args[1:])) },
	"load":       func() { os.Exit(loadMain(os.Args[1:])) },
	"http":       func() { os.Exit(httpMain(os.Args[1:])) },
	"certs":      func() { os.Exit(certsMain(os.Args[1:])) },
	"forward":    func() { os.Exit(forwardMain(os.Args[1:])) },
	"notified":   func() { os.Exit(notifiedMain(os.Args[1:])) },
	"nobody":     func() { os.Exit(nobodyMain(os.Args[1:])) },
	"grpc":       func() { os.Exit(grpcMain(os.Args[1:])) },
	"calls":      func() { os.Exit(callsMain(os.Args[1:])) },
	"bypass":     func() { os.Exit(bypassMain(os.Args[1:])) },
	"dns":        func() { os.Exit(dnsMain(os.Args[1:])) },
	"processes":  func() { os.Exit(processesMain(os.Args[1:])) },
	"flood":      func() { os.Exit(floodMain(os.Args[1:])) },
	"tunnel":     func() { os.Exit(tunnelMain(os.Args[1:])) },
	"leavers":    func() { os.Exit(leaversMain(os.Args[1:])) },
	"neighbours": func() { os.Exit(neighboursMain(os.Args[1:])) },

	"differential": func() { os.Exit(differentialMain(os.Args[1:])) },
}

// crashVariable makes etcdops kill itself, as kill -9 would, right after an entry
// of the journal: its number, from 1, or its text, as "add done".
const crashVariable = "CRASH_AFTER"

// terminalVariable makes etcdops take its standard input for a terminal.
const terminalVariable = "STDIN_IS_TERMINAL"

func etcdopsMain() int {
	env := commands.NewEnv(os.Stdin, os.Stdout, os.Stderr)
	env.StdinTTY = env.StdinTTY || os.Getenv(terminalVariable) != ""
	if address := os.Getenv(dnsVariable); address != "" {
		useNameServer(address)
	}
	if after := os.Getenv(crashVariable); after != "" {
		number := 0
		env.Journaled = func(entry string) {
			if number++; after == entry || after == strconv.Itoa(number) {
				_ = syscall.Kill(os.Getpid(), syscall.SIGKILL)
				select {} // until the signal is there
			}
		}
	}
	return commands.Run(context.Background(), env, os.Args)
}

// TestScripts runs the scenarios of testdata/script.
func TestScripts(t *testing.T) {
	testscript.Run(t, scriptParams("testdata/script"))
}

// TestScriptsAlone runs the scenarios that hold a time against a promise, or take
// the whole machine: none runs beside another one.
func TestScriptsAlone(t *testing.T) {
	files, err := filepath.Glob("testdata/alone/*.txtar")
	if err != nil || len(files) == 0 {
		t.Fatalf("%d scenarios, %v", len(files), err)
	}
	for _, file := range files {
		// What is parallel in it ends before the next one begins.
		t.Run(strings.TrimSuffix(filepath.Base(file), ".txtar"), func(t *testing.T) {
			params := scriptParams("")
			params.Files = []string{file}
			testscript.Run(t, params)
		})
	}
}

func scriptParams(dir string) testscript.Params {
	return testscript.Params{
		Dir:                 dir,
		Setup:               setUpScript,
		Cmds:                scriptCommands,
		RequireExplicitExec: true,
		RequireUniqueNames:  true,
		UpdateScripts:       *update,
	}
}
