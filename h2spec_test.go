//go:build h2spec

package main

import (
	"encoding/xml"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"slices"
	"strings"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"
)

// TestH2spec runs the scenarios in which h2spec is the proxy's client.
// scripts/test-h2spec builds that program.
func TestH2spec(t *testing.T) {
	params := scriptParams("testdata/h2spec")
	params.Cmds = maps.Clone(params.Cmds)
	params.Cmds["conforms"] = cmdConforms
	testscript.Run(t, params)
}

// conformCases is how many cases h2spec 2.2.1 has with --strict, one more than
// without; conformLeast, how many have to pass at least, whatever is listed.
const (
	conformCases = 146
	conformLeast = 140
)

// nonconforming are the cases that fail, by the name of the run and the case's
// section and text, and why that is right. A case that passes must not stand here.
var nonconforming = map[string]map[string]string{
	"clear": {
		"http2/3.5: Sends invalid connection preface": "The port speaks HTTP/1.1 too, and the first bytes say which: what is no preface is a " +
			"request line, a bad one, which gets HTTP/1.1's 400 (RFC 9112 section 3) and then the end of the connection. With TLS, " +
			"ALPN has said that it is HTTP/2, and the case passes.",
	},
	"tls": {},
}

// h2specReport is h2spec's report, of the form that JUnit has.
type h2specReport struct {
	Cases []struct {
		Section string  `xml:"package,attr"`
		Text    string  `xml:"classname,attr"`
		Failure *string `xml:"failure"`
		Error   *string `xml:"error"`
		Skipped *string `xml:"skipped"`
	} `xml:"testsuite>testcase"`
}

// cmdConforms is "conforms RUN ARG...": it runs h2spec and compares what fails with
// nonconforming[RUN].
func cmdConforms(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 2 || nonconforming[args[0]] == nil {
		ts.Fatalf("usage: conforms RUN ARG...")
	}
	file := ts.MkAbs(args[0] + ".xml")
	// It exits with 1 where a case fails: the report says which.
	out, err := exec.Command("h2spec", append(args[1:], "--junit-report", file)...).CombinedOutput()
	text, readErr := os.ReadFile(file)
	if readErr != nil {
		ts.Fatalf("h2spec: %v: %s", err, out)
	}
	var report h2specReport
	ts.Check(xml.Unmarshal(text, &report))
	wrong, passed := report.compare(nonconforming[args[0]])
	ts.Logf("h2spec, %s: %d of %d cases pass", args[0], passed, len(report.Cases))
	if len(report.Cases) != conformCases {
		wrong = append(wrong, fmt.Sprintf("%d cases were run, not %d", len(report.Cases), conformCases))
	}
	if passed < conformLeast {
		wrong = append(wrong, fmt.Sprintf("%d cases passed, less than %d", passed, conformLeast))
	}
	if len(wrong) > 0 {
		ts.Fatalf("%s\n%s", out, strings.Join(wrong, "\n"))
	}
}

// compare names the cases that failed and are not listed, and those that are listed
// and did not fail.
func (r *h2specReport) compare(listed map[string]string) (wrong []string, passed int) {
	missing := maps.Clone(listed)
	for _, c := range r.Cases {
		name := c.Section + ": " + c.Text
		if c.Failure == nil && c.Error == nil && c.Skipped == nil {
			passed++
			continue
		}
		if listed[name] == "" {
			wrong = append(wrong, "fails, and is not listed: "+name)
		}
		delete(missing, name)
	}
	for _, name := range slices.Sorted(maps.Keys(missing)) {
		wrong = append(wrong, "is listed, and does not fail: "+name)
	}
	return wrong, passed
}
