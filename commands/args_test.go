package commands

import (
	"strings"
	"testing"
)

func TestFlagsStandAnywhere(t *testing.T) {
	for name, test := range map[string]struct{ line, want string }{
		"no flags":                 {"group show", "show name= force=false count=0 output= color=auto args=[]"},
		"before the argument":      {"group show --name n1 --force a b", `show name=n1 force=true count=0 output= color=auto args=["a" "b"]`},
		"behind the argument":      {"group show a b --name n1 --force", `show name=n1 force=true count=0 output= color=auto args=["a" "b"]`},
		"on both sides":            {"group show --force a --name=n1 b", `show name=n1 force=true count=0 output= color=auto args=["a" "b"]`},
		"one dash":                 {"group show -name n1 -force a", `show name=n1 force=true count=0 output= color=auto args=["a"]`},
		"short name":               {"group show a -n n1 -o json", `show name=n1 force=false count=0 output=json color=auto args=["a"]`},
		"short name with equals":   {"group show a -n=n1", `show name=n1 force=false count=0 output= color=auto args=["a"]`},
		"value with equals":        {"group show --name=a=http://b", `show name=a=http://b force=false count=0 output= color=auto args=[]`},
		"empty value":              {"group show --name= a", `show name= force=false count=0 output= color=auto args=["a"]`},
		"value with a dash":        {"group show --name -x a", `show name=-x force=false count=0 output= color=auto args=["a"]`},
		"switch takes no word":     {"group show --force true", `show name= force=true count=0 output= color=auto args=["true"]`},
		"switch off":               {"group show --force=false a", `show name= force=false count=0 output= color=auto args=["a"]`},
		"last one wins":            {"group show --name a --name b", `show name=b force=false count=0 output= color=auto args=[]`},
		"number":                   {"group show --count 3", `show name= force=false count=3 output= color=auto args=[]`},
		"global before the group":  {"--color never group show a", `show name= force=false count=0 output= color=never args=["a"]`},
		"global inside the group":  {"group --color=never show a", `show name= force=false count=0 output= color=never args=["a"]`},
		"global at the end":        {"group show a --color never", `show name= force=false count=0 output= color=never args=["a"]`},
		"double dash":              {"group show -- --name n1 --", `show name= force=false count=0 output= color=auto args=["--name" "n1" "--"]`},
		"double dash in the midst": {"group show a --force -- --unknown -h", `show name= force=true count=0 output= color=auto args=["a" "--unknown" "-h"]`},
		"a dash alone":             {"group show - a", `show name= force=false count=0 output= color=auto args=["-" "a"]`},
		"argument named help":      {"group show help", `show name= force=false count=0 output= color=auto args=["help"]`},
		"argument like a flag":     {"group show force --force", `show name= force=true count=0 output= color=auto args=["force"]`},
		"hidden switch":            {"group show --enable-v2 a", `show name= force=false count=0 output= color=auto args=["a"]`},
		"hidden command":           {"group secret", `secret name= force=false count=0 output= color=auto args=[]`},
	} {
		t.Run(name, func(t *testing.T) {
			got := runSample(t, strings.Fields(test.line)...)
			if got.code != ExitDone || got.stdout != test.want+"\n" || got.stderr != "" {
				t.Errorf("got %+v\nwant %s", got, test.want)
			}
		})
	}
}

func TestEtcdGetsItsLineRaw(t *testing.T) {
	for name, test := range map[string]struct{ line, want string }{
		"nothing":            {"etcd", `["etcd"]`},
		"its flags":          {"etcd --name m1 -data-dir=d --unknown", `["etcd" "--name" "m1" "-data-dir=d" "--unknown"]`},
		"help":               {"etcd --help", `["etcd" "--help"]`},
		"double dash":        {"etcd -- a --", `["etcd" "--" "a" "--"]`},
		"our flags are its":  {"etcd --color never", `["etcd" "--color" "never"]`},
		"our flags before":   {"--color never etcd gateway start", `["etcd" "gateway" "start"]`},
		"a command of etcd":  {"etcd grpc-proxy start --endpoints=a", `["etcd" "grpc-proxy" "start" "--endpoints=a"]`},
		"a word named later": {"etcd version", `["etcd" "version"]`},
	} {
		t.Run(name, func(t *testing.T) {
			got := run(t, strings.Fields(test.line)...)
			if want := "etcd runs " + test.want + "\n"; got.code != ExitDone || got.stdout != want {
				t.Errorf("got %+v, want %s", got, want)
			}
		})
	}
}

func TestNearest(t *testing.T) {
	names := []string{"start", "members", "discover", "o", "proxy-dial-timeout"}
	for name, test := range map[string]struct{ typed, want string }{
		"swapped letters":   {"satrt", "start"},
		"missing letter":    {"member", "members"},
		"missing dash":      {"proxydial-timeout", "proxy-dial-timeout"},
		"nothing like it":   {"zzzzzz", ""},
		"one letter":        {"x", ""},
		"empty":             {"", ""},
		"far, but in order": {"promote", ""},
	} {
		t.Run(name, func(t *testing.T) {
			if got := nearest(test.typed, names); got != test.want {
				t.Errorf("got %q, want %q", got, test.want)
			}
		})
	}
}
