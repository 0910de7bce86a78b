package main

import (
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"
)

// journalEntries are all entries that a promotion with hand-over writes, in
// order.
var journalEntries = []string{
	"plan",
	"add begin", "add done", "print begin", "print done", "aside begin", "aside done", "start begin", "start done",
	"catch-up begin", "catch-up done", "serve begin", "serve done", "hand-over begin", "hand-over done",
	"drain begin", "drain done", "finish begin", "finish done", "journal done",
}

// classicEntries are those without hand-over.
var classicEntries = []string{
	"plan",
	"add begin", "add done", "print begin", "print done", "aside begin", "aside done", "stop-proxy begin", "stop-proxy done",
	"start begin", "start done", "catch-up begin", "catch-up done", "serve begin", "serve done", "finish begin", "finish done", "journal done",
}

// undoEntries are those of an undo.
var undoEntries = []string{"undo begin", "undo cleared", "undo done", "journal undone"}

// TestPromotionCut cuts a promotion right after each entry of its journal: by
// kill -9 and then run again, by kill -9 and then --abort, by a power cut and
// then --continue.
func TestPromotionCut(t *testing.T) {
	learner := journalEntries[:slices.Index(journalEntries, "catch-up done")]
	classicLearner := classicEntries[:slices.Index(classicEntries, "catch-up done")]
	running := journalEntries[:slices.Index(journalEntries, "finish done")]
	for _, way := range []struct {
		script string
		cuts   []string
	}{
		{"continue", journalEntries},
		{"abort", learner},
		{"power", running},
		{"classic", classicEntries},
		{"classic-abort", classicLearner},
		{"undo", undoEntries},
	} {
		t.Run(way.script, func(t *testing.T) {
			for _, cut := range way.cuts {
				t.Run(strings.ReplaceAll(cut, " ", "-"), func(t *testing.T) {
					t.Parallel()
					testscript.RunT(inTest{t}, cutParams(way.script, cut))
				})
			}
		})
	}
}

// inTest runs a script as the test that it stands in: one cut, one test.
type inTest struct{ *testing.T }

// Run implements testscript.T.
func (t inTest) Run(_ string, f func(testscript.T)) { f(t) }

// Parallel implements testscript.T: the test is parallel already.
func (inTest) Parallel() {}

// Verbose implements testscript.T.
func (inTest) Verbose() bool { return testing.Verbose() }

func cutParams(script, cut string) testscript.Params {
	params := scriptParams("")
	params.Files = []string{filepath.Join("testdata", "cut", script+".txtar")}
	setUp := params.Setup
	params.Setup = func(env *testscript.Env) error {
		env.Setenv("CUT", cut)
		return setUp(env)
	}
	params.Condition = func(condition string) (bool, error) {
		switch condition {
		case "quorum-lost": // until the second voter runs again
			return slices.Index(journalEntries, cut) >= slices.Index(journalEntries, "catch-up done"), nil
		case "ended":
			return cut == "journal undone", nil
		case "proxy-ended":
			return slices.Index(journalEntries, cut) >= slices.Index(journalEntries, "drain done"), nil
		}
		return false, fmt.Errorf("unknown condition %q", condition)
	}
	return params
}
