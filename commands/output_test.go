package commands

import (
	"bytes"
	"encoding/json"
	"runtime"
	"strings"
	"testing"

	etcdversion "go.etcd.io/etcd/api/v3/version"

	"etcdops/discover"
)

func TestPrintTable(t *testing.T) {
	long := "http://" + strings.Repeat("a-very-long-name.", 20) + "example:2380"
	table := Table{
		Header: []string{"ID", "PEER_URLS", "NOTE"},
		Rows:   [][]string{{"00e5b1ff12d3a001", "http://a:1\nhttp://b:1", ""}, {"b", long, "needs --user"}},
		Value:  map[string]any{"url": "http://a:1?x=<&>", "ids": []string{"00e5b1ff12d3a001"}},
	}
	columns := "00e5b1ff12d3a001\thttp://a:1,http://b:1\t-\nb\t" + long + "\tneeds --user\n"
	for name, test := range map[string]struct {
		format   string
		terminal bool
		want     []string // parts of the output; one part alone is all of it
	}{
		"pipe":                 {"", false, []string{columns}},
		"simple on terminal":   {outputSimple, true, []string{columns}},
		"json":                 {outputJSON, true, []string{"{\n  \"ids\": [\n    \"00e5b1ff12d3a001\"\n  ],\n  \"url\": \"http://a:1?x=<&>\"\n}\n"}},
		"terminal":             {"", true, []string{"│ ID ", "PEER_URLS", "│ http://b:1 ", long, "needs --user"}},
		"table in a pipe":      {outputTable, false, []string{"│ ID ", "PEER_URLS", "│ http://b:1 ", long, "needs --user"}},
		"json without a tty":   {outputJSON, false, []string{"\"ids\"", "http://a:1?x=<&>"}},
		"simple without a tty": {outputSimple, false, []string{columns}},
	} {
		t.Run(name, func(t *testing.T) {
			env, stdout, _ := testEnv()
			env.StdoutTTY = test.terminal
			if err := env.printTable(test.format, table); err != nil {
				t.Fatal(err)
			}
			got := stdout.String()
			if len(test.want) == 1 && got != test.want[0] {
				t.Errorf("got\n%s\nwant\n%s", got, test.want[0])
			}
			for _, part := range test.want {
				if !strings.Contains(got, part) {
					t.Errorf("%q is missing in\n%s", part, got)
				}
			}
		})
	}
}

func TestVersion(t *testing.T) {
	want := []string{"etcd\t" + etcdversion.Version, "go\t" + runtime.Version()}
	got := run(t, "version")
	for _, line := range want {
		if !strings.Contains(got.stdout, line+"\n") {
			t.Errorf("%q is missing in %+v", line, got)
		}
	}
	got = run(t, "version", "-o", "json")
	var parsed versions
	if err := json.Unmarshal([]byte(got.stdout), &parsed); err != nil {
		t.Fatalf("%v in %+v", err, got)
	}
	if parsed.Etcd != etcdversion.Version || parsed.Go != runtime.Version() || parsed.Etcdops == "" {
		t.Errorf("got %+v", parsed)
	}
}

func TestWantsColor(t *testing.T) {
	for name, test := range map[string]struct {
		mode     string
		terminal bool
		environ  string
		want     bool
	}{
		"terminal":               {"", true, "", true},
		"pipe":                   {"", false, "", false},
		"auto on a terminal":     {colorAuto, true, "", true},
		"NO_COLOR":               {"", true, "NO_COLOR=1", false},
		"NO_COLOR is empty":      {"", true, "NO_COLOR=", true},
		"dumb terminal":          {"", true, "TERM=dumb", false},
		"always in a pipe":       {colorAlways, false, "", true},
		"always beats NO_COLOR":  {colorAlways, false, "NO_COLOR=1", true},
		"never beats a terminal": {colorNever, true, "", false},
	} {
		t.Run(name, func(t *testing.T) {
			env, _, _ := testEnv(test.environ)
			if got := wantsColor(test.mode, test.terminal, env.Getenv); got != test.want {
				t.Errorf("got %v", got)
			}
		})
	}
}

// TestColorOfEachStream shows that a terminal behind standard error does not
// colour what goes into a file, and that --color counts for errors too.
func TestColorOfEachStream(t *testing.T) {
	for name, test := range map[string]struct {
		words          []string
		stdout, stderr bool // whether escape sequences are wanted
	}{
		"help":            {[]string{"--help"}, false, false},
		"forced help":     {[]string{"--help", "--color=always"}, true, false},
		"error":           {[]string{"nonsense"}, false, true},
		"plain error":     {[]string{"--color=never", "nonsense"}, false, false},
		"plain bad color": {[]string{"--color=never", "--color=bad"}, false, false},
	} {
		t.Run(name, func(t *testing.T) {
			env, stdout, stderr := testEnv()
			env.StderrTTY = true
			Run(t.Context(), env, append([]string{programName}, test.words...))
			if got := strings.Contains(stdout.String(), "\x1b["); got != test.stdout {
				t.Errorf("stdout: %q", stdout)
			}
			if got := strings.Contains(stderr.String(), "\x1b["); got != test.stderr {
				t.Errorf("stderr: %q", stderr)
			}
		})
	}
}

func TestMembersTableShowsSkew(t *testing.T) {
	const skew = "version 3.4.23, and m2 has 3.6.16: more than one minor apart"
	var out bytes.Buffer
	env := &Env{Stdout: &out}
	env.setColor("never")
	report := &membersReport{Members: []discover.MemberStatus{{Name: "m1", Reason: "it has no leader", Skew: skew}}}
	if err := env.printTable(outputSimple, membersTable(env, report)); err != nil {
		t.Fatal(err)
	}
	if !strings.HasSuffix(out.String(), "it has no leader; "+skew+"\n") {
		t.Errorf("got %q", out.String())
	}
}
