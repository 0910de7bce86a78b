package commands

import (
	"slices"
	"strings"
	"testing"
)

func TestEtcdArgs(t *testing.T) {
	for _, test := range []struct {
		name, line  string
		flag, value string // value "-" = not there
		without     string // the line without that flag
	}{
		{"behind =", "--name=m1 --data-dir d", "name", "m1", "--data-dir d"},
		{"in the next word", "--data-dir d --name m1", "name", "m1", "--data-dir d"},
		{"one dash", "-name m1", "name", "m1", ""},
		{"the last one counts", "--name m1 --name=m2", "name", "m2", ""},
		{"a switch has no value behind it", "--enable-v2 --name m1", "name", "m1", "--enable-v2"},
		{"a switch that we do not know", "--from-tomorrow --name m1", "name", "m1", "--from-tomorrow"},
		{"a value that we do not know", "--from-tomorrow x --name m1", "name", "m1", "--from-tomorrow x"},
		{"a value that looks like a flag", "--name -x --data-dir d", "name", "-x", "--data-dir d"},
		{"not there", "--data-dir d", "name", "-", "--data-dir d"},
		{"a word that is no flag", "gateway start --name m1", "name", "m1", "gateway start"},
		{"at the end, without its value", "--name", "name", "", ""},
	} {
		t.Run(test.name, func(t *testing.T) {
			args := strings.Fields(test.line)
			value, found := readArgs(args)(test.flag)
			if !found {
				value = "-"
			}
			if value != test.value {
				t.Errorf("got %q, want %q", value, test.value)
			}
			if got := withoutFlags(args, test.flag); !slices.Equal(got, strings.Fields(test.without)) {
				t.Errorf("without it: %q, want %q", got, test.without)
			}
		})
	}
	environ := []string{"ETCD_NAME=a", "ETCD_NAMES=b", "ETCD_DISCOVERY_FALLBACK=proxy"}
	if got := withoutVariables(environ, "name", "discovery-fallback"); !slices.Equal(got, []string{"ETCD_NAMES=b"}) {
		t.Errorf("got %q", got)
	}
}
