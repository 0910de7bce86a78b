//go:build bench

package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"runtime/debug"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"
)

var (
	benchLoadFlag    = flag.String("load", "", "run these loads alone, with commas between")
	benchRoundsFlag  = flag.Int("rounds", 35, "how often each variant is measured")
	benchTimeFlag    = flag.Duration("time", 400*time.Millisecond, "how long one measurement takes")
	benchProfileFlag = flag.String("profile", "", "folder for CPU profiles of the proxy, made by perf")
	benchDocsFlag    = flag.String("docs", "docs/benchmarks.md", "file that a run of all loads writes")
)

// bench is one run of scripts/bench.
type bench struct {
	etcdops string // the program, as we ship it
	etcd35  string // etcd 3.5
	haproxy string // "": there is none
	rounds  int
	time    time.Duration // of one measurement
	profile string        // folder; "": none
	work    string        // folder for everything that the processes write
}

// benchLoad is one load: a line of the table of bars, or two where GET and PUT are
// judged each.
type benchLoad struct {
	name string // for -load
	does string // one sentence
	run  func(ctx context.Context, b *bench, l *benchLoad) (*benchResult, error)
	rate *rateLoad // of runRate, runOpen, runWatch
}

// TestBench measures the proxy beside its rivals. scripts/bench runs it.
func TestBench(t *testing.T) {
	b := &bench{
		etcdops: os.Getenv("ETCDOPS"), haproxy: os.Getenv("HAPROXY"),
		etcd35: filepath.Join(os.Getenv("ETCDS"), "3.5", "etcd"),
		rounds: *benchRoundsFlag, time: *benchTimeFlag, profile: *benchProfileFlag, work: t.TempDir(),
	}
	if b.etcdops == "" {
		t.Fatal("$ETCDOPS is not set: run scripts/bench")
	}
	if b.rounds < 1 || b.time <= 0 {
		t.Fatalf("-rounds %d -time %v: both must be above 0", b.rounds, b.time)
	}
	// An interrupt ends a run as a failure does: what was started ends with it.
	ctx, stop := signal.NotifyContext(t.Context(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	loads, err := chosenLoads(*benchLoadFlag)
	if err != nil {
		t.Fatal(err)
	}
	// The client shares the cores with what it measures: it collects seldom.
	debug.SetGCPercent(800)
	machine, err := describeMachine(ctx, b)
	if err != nil {
		t.Fatal(err)
	}
	fmt.Println(machine.text())
	report := &benchReport{machine: machine, rounds: b.rounds, time: b.time}
	for _, l := range loads {
		result, err := l.run(ctx, b, l)
		if err != nil {
			t.Fatalf("%s: %v", l.name, err)
		}
		result.name, result.does = l.name, l.does
		report.results = append(report.results, result)
		fmt.Println(result.text())
	}
	fmt.Println(report.summary())
	if *benchLoadFlag != "" || *benchDocsFlag == "" {
		return
	}
	if err := os.WriteFile(*benchDocsFlag, []byte(report.page()), 0o644); err != nil {
		t.Fatal(err)
	}
	fmt.Println("written:", *benchDocsFlag)
}

// chosenLoads are those that -load names, in the order of the page.
func chosenLoads(names string) ([]*benchLoad, error) {
	all := benchLoads()
	if names == "" {
		return all, nil
	}
	wanted := strings.Split(names, ",")
	var known []string
	var chosen []*benchLoad
	for _, l := range all {
		known = append(known, l.name)
		if slices.Contains(wanted, l.name) {
			chosen = append(chosen, l)
		}
	}
	for _, name := range wanted {
		if !slices.Contains(known, name) {
			return nil, fmt.Errorf("there is no load %q; there are: %s", name, strings.Join(known, ", "))
		}
	}
	if len(chosen) == 0 {
		return nil, errors.New("no load was named")
	}
	return chosen, nil
}
