package main

import (
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"strconv"
	"syscall"
	"time"

	"github.com/rogpeppe/go-internal/testscript"

	"etcdops/promote"
)

// cmdSignalEtcd reaches the new etcd, which is no child of the script's, by the
// journal, and waits until the signal has taken effect.
func cmdSignalEtcd(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 2 || signals[args[1]] == 0 {
		ts.Fatalf("usage: signaletcd DIR INT|TERM|KILL|STOP|CONT")
	}
	etcd := journaledEtcd(ts, args[0])
	ts.Check(syscall.Kill(etcd.PID, signals[args[1]]))
	for limit := time.Now().Add(patience); !tookEffect(etcd, args[1]); time.Sleep(tryPause) {
		if time.Now().After(limit) {
			ts.Fatalf("%s had no effect on process %d after %v", args[1], etcd.PID, patience)
		}
	}
}

// journaledEtcd waits until the promotion under way has started etcd. Where it
// did so several times, the last one is meant.
func journaledEtcd(ts *testscript.TestScript, dir string) promote.Process {
	path := promote.JournalPath(ts.MkAbs(dir))
	for limit := time.Now().Add(patience); ; time.Sleep(tryPause) {
		text, _ := os.ReadFile(path)
		var found *promote.Process
		for line := range bytes.Lines(text) {
			var entry struct{ Facts promote.Facts }
			if json.Unmarshal(line, &entry) == nil && entry.Facts.Etcd != nil {
				found = entry.Facts.Etcd
			}
		}
		if found != nil {
			return *found
		}
		if time.Now().After(limit) {
			ts.Fatalf("%s names no etcd after %v:\n%s", path, patience, text)
		}
	}
}

func tookEffect(etcd promote.Process, signal string) bool {
	switch signal {
	case "KILL", "TERM", "INT":
		return !etcd.Alive()
	case "STOP":
		stat, err := os.ReadFile(filepath.Join("/proc", strconv.Itoa(etcd.PID), "stat"))
		return err == nil && bytes.HasPrefix(stat[bytes.LastIndexByte(stat, ')')+1:], []byte(" T"))
	}
	return true
}
