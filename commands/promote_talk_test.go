package commands

import (
	"strings"
	"testing"
	"time"

	"etcdops/promote"
)

func TestProgressOnATerminalIsABar(t *testing.T) {
	env, stdout, stderr := testEnv()
	env.StderrTTY = true
	talk := &promoteTalk{env: env, opts: &promoteOptions{}, prep: &promote.Preparation{}}
	talk.progress(promote.Progress{Learner: true, Unknown: true, SnapshotBytes: 25 << 20, SnapshotTotal: 100 << 20, Rate: 5 << 20, Left: 15 * time.Second})
	talk.progress(promote.Progress{Learner: true, Behind: 4000, Rate: 2000, Left: 2 * time.Second})
	talk.progress(promote.Progress{Learner: true, Behind: 1000, Rate: 2000})
	talk.progress(promote.Progress{}) // it is a voter
	talk.say("member is a voter")
	lines := strings.Split(stderr.String(), "\n")
	if len(lines) != 3 || lines[1] != "member is a voter" {
		t.Fatalf("stderr: %q, want the bar on one line and then what was said", stderr)
	}
	for _, want := range []string{"26 MB of 105 MB received, 5.2 MB/s, about 15s left", "4,000 entries behind, 2,000/s, about 2s left", "1,000 entries behind", "[", "]"} {
		if !strings.Contains(lines[0], want) {
			t.Errorf("the bar %q has no %q", lines[0], want)
		}
	}
	if strings.Count(lines[0], "\r") < 2 {
		t.Errorf("the bar %q is not drawn over itself", lines[0])
	}
	if stdout.Len() > 0 {
		t.Errorf("stdout: %q", stdout)
	}
}

func TestProgressInAPipeIsALineNowAndThen(t *testing.T) {
	env, _, stderr := testEnv()
	talk := &promoteTalk{env: env, opts: &promoteOptions{}, prep: &promote.Preparation{}}
	for range 3 {
		talk.progress(promote.Progress{Learner: true, Behind: 4000, Rate: 2000})
	}
	if got, want := stderr.String(), "catching up: 4,000 entries behind, 2,000/s\n"; got != want {
		t.Errorf("stderr: %q, want %q", got, want)
	}
}
