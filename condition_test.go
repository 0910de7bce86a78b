package main

import (
	"bytes"
	"fmt"
	"os"
	"regexp"
	"strconv"
	"strings"
	"time"

	"github.com/rogpeppe/go-internal/testscript"
)

// tryPause is the time between two looks at a condition.
const tryPause = 20 * time.Millisecond

func cmdUntil(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 2 {
		ts.Fatalf("usage: until TIME [!] [VAR=VALUE...] CMD [ARG...]")
	}
	within, err := time.ParseDuration(args[0])
	ts.Check(err)
	args = args[1:]
	wantFail := args[0] == "!"
	if wantFail {
		args = args[1:]
	}
	for limit := time.Now().Add(within); ; time.Sleep(tryPause) {
		stdout, stderr, err := run(ts, args)
		if (err != nil) == wantFail {
			fmt.Fprint(ts.Stdout(), stdout)
			fmt.Fprint(ts.Stderr(), stderr)
			return
		}
		if time.Now().After(limit) {
			ts.Fatalf("not so after %v: %s: %v\n%s%s", within, strings.Join(args, " "), err, stdout, stderr)
		}
	}
}

func run(ts *testscript.TestScript, line []string) (stdout, stderr string, err error) {
	cmd := command(ts, line)
	var out, errOut bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errOut
	err = cmd.Run()
	return out.String(), errOut.String(), err
}

func cmdUntilLog(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 3 || len(args) > 4 {
		ts.Fatalf("usage: untillog TIME NAME REGEXP [COUNT]")
	}
	within, err := time.ParseDuration(args[0])
	ts.Check(err)
	want, err := regexp.Compile("(?m)" + args[2])
	ts.Check(err)
	count := 1
	if len(args) == 4 {
		count, err = strconv.Atoi(args[3])
		ts.Check(err)
	}
	p := scriptProcesses(ts).get(ts, args[1])
	for limit := time.Now().Add(within); ; time.Sleep(tryPause) {
		log, err := os.ReadFile(p.log)
		ts.Check(err)
		if len(want.FindAll(log, count)) == count {
			return
		}
		if time.Now().After(limit) {
			ts.Fatalf("%s.log does not match %s after %v:\n%s", args[1], args[2], within, log)
		}
	}
}
