package commands

import (
	"strings"
	"testing"
)

func TestStatusOfNoProxy(t *testing.T) {
	for _, line := range []string{"proxy status", "proxy accept-cluster cdf818194e3a8c32"} {
		got := run(t, strings.Fields(line)...)
		want := "etcdops: no proxy is registered on this machine\nhint: name its --data-dir, or start one with: etcdops proxy start\n"
		if got.code != ExitFailed || got.stdout != "" || got.stderr != want {
			t.Errorf("%s: exit code %d, %q, %q", line, got.code, got.stdout, got.stderr)
		}
	}
}
