package main

import (
	"flag"
	"os"
	"runtime"
	"strconv"
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
	testscript.Main(m, map[string]func(){
		"etcdops":   func() { os.Exit(commands.Main(os.Args, os.Stdin, os.Stdout, os.Stderr)) },
		"etcd":      func() { etcdmain.Main(os.Args) },
		"etcdctl":   func() { ctlv3.MustStart() },
		"load":      func() { os.Exit(loadMain(os.Args[1:])) },
		"http":      func() { os.Exit(httpMain(os.Args[1:])) },
		"certs":     func() { os.Exit(certsMain(os.Args[1:])) },
		"forward":   func() { os.Exit(forwardMain(os.Args[1:])) },
		"notified":  func() { os.Exit(notifiedMain(os.Args[1:])) },
		"nobody":    func() { os.Exit(nobodyMain(os.Args[1:])) },
		"processes": func() { os.Exit(processesMain(os.Args[1:])) },
	})
}

// TestScripts runs the scenarios of testdata/script.
func TestScripts(t *testing.T) {
	testscript.Run(t, testscript.Params{
		Dir:                 "testdata/script",
		Setup:               setUpScript,
		Cmds:                scriptCommands,
		RequireExplicitExec: true,
		RequireUniqueNames:  true,
		UpdateScripts:       *update,
	})
}
