package promote

import (
	"bytes"
	"encoding/json"
	"os/exec"
	"slices"
	"strings"
	"testing"
)

// nasty are values that each format must quote in its own way.
var nasty = Variables{
	{"ETCD_NAME", "plain"},
	{"ETCD_INITIAL_CLUSTER", "m1=http://10.0.0.1:2380,m2=https://[fe80::1%eth0]:2380"},
	{"N_EMPTY", ""},
	{"N_BLANKS", "  two  blanks  "},
	{"N_SINGLE", "it's 'quoted'"},
	{"N_SINGLE_FIRST", "'quoted'"},
	{"N_DOUBLE", `say "hi"`},
	{"N_DOUBLE_FIRST", `"hi" he said`},
	{"N_BOTH", ` both ' and " and \ and ` + "`" + `id` + "`" + ` and $HOME and ${HOME} `},
	{"N_DOLLAR", "$HOME ${HOME} $(id) $$"},
	{"N_PERCENT", "100% %n %% %"},
	{"N_BACKSLASH", `C:\dir\n\\ends\`},
	{"N_HASH", "# not a comment ; nor this"},
	{"N_EQUALS", "=a=b="},
	{"N_SHELL", "a; rm -rf / & | > < * ? ~ ! \\"},
	{"N_OTHERS", "Größe 大 🐙"},
}

var nastyUnset = []string{"ETCD_PROXY", "ETCD_DISCOVERY"}

func format(t *testing.T, v Variables, name string) string {
	t.Helper()
	var text bytes.Buffer
	if err := v.Format(&text, name, nastyUnset); err != nil {
		t.Fatal(err)
	}
	return text.String()
}

func TestVariablesInShells(t *testing.T) {
	text := format(t, nasty, FormatShell)
	for _, shell := range []string{"sh", "bash", "dash"} {
		path, err := exec.LookPath(shell)
		if err != nil && shell != "sh" {
			continue // there is one shell everywhere
		}
		t.Run(shell, func(t *testing.T) {
			cmd := exec.CommandContext(t.Context(), path, "-euc", text+"exec env -0")
			cmd.Env = []string{"PATH=/usr/bin:/bin", "ETCD_PROXY=on", "ETCD_DISCOVERY=http://x", "HOME=/root"}
			output, err := cmd.Output()
			if err != nil {
				t.Fatal(err)
			}
			environ := strings.Split(string(output), "\x00")
			wantEnviron(t, environ)
		})
	}
}

// wantEnviron checks that all nasty values have arrived, and that nothing is
// set that was to be unset.
func wantEnviron(t *testing.T, environ []string) {
	t.Helper()
	for _, want := range nasty.Environ() {
		if !slices.Contains(environ, want) {
			t.Errorf("missing %q", want)
		}
	}
	for _, entry := range environ {
		if name, _, _ := strings.Cut(entry, "="); slices.Contains(nastyUnset, name) {
			t.Errorf("still set: %s", entry)
		}
	}
	if t.Failed() {
		t.Logf("got %q", environ)
	}
}

// TestVariablesInEnvFile reads by the rules of systemd.exec; the tests of
// scripts/test-systemd let systemd itself read.
func TestVariablesInEnvFile(t *testing.T) {
	var environ []string
	for line := range strings.Lines(format(t, nasty, FormatEnvFile)) {
		line = strings.TrimSuffix(line, "\n")
		if strings.HasPrefix(line, "#") {
			continue
		}
		name, value, _ := strings.Cut(line, "=")
		environ = append(environ, name+"="+readEnvFileValue(value))
	}
	wantEnviron(t, environ)
}

func readEnvFileValue(raw string) string {
	raw = strings.TrimSpace(raw)
	switch {
	case strings.HasPrefix(raw, "'"):
		return strings.TrimSuffix(raw[1:], "'")
	case strings.HasPrefix(raw, `"`):
		return strings.NewReplacer(`\\`, `\`, `\"`, `"`, "\\`", "`", `\$`, `$`).Replace(strings.TrimSuffix(raw[1:], `"`))
	}
	return raw // ours has no backslash here
}

// TestVariablesPlainInEnvFile pins the form that docker and podman read too.
func TestVariablesPlainInEnvFile(t *testing.T) {
	got := format(t, nasty[:2], FormatEnvFile)
	want := "# must not be set: ETCD_PROXY\n# must not be set: ETCD_DISCOVERY\nETCD_NAME=plain\n" +
		"ETCD_INITIAL_CLUSTER=m1=http://10.0.0.1:2380,m2=https://[fe80::1%eth0]:2380\n"
	if got != want {
		t.Errorf("got\n%s, want\n%s", got, want)
	}
}

func TestVariablesInUnit(t *testing.T) {
	got := format(t, Variables{{"A", `%n "x" \ $y 'z'`}}, FormatSystemd)
	want := "UnsetEnvironment=ETCD_PROXY ETCD_DISCOVERY\n" + `Environment="A=%%n \"x\" \\ $y 'z'"` + "\n"
	if got != want {
		t.Errorf("got\n%s, want\n%s", got, want)
	}
}

func TestVariablesInJSON(t *testing.T) {
	text := format(t, nasty, FormatJSON)
	var read struct {
		Variables map[string]string
		Unset     []string
	}
	if err := json.Unmarshal([]byte(text), &read); err != nil {
		t.Fatal(err)
	}
	var environ []string
	last := -1
	for _, v := range nasty {
		environ = append(environ, v.Name+"="+read.Variables[v.Name])
		at := strings.Index(text, `"`+v.Name+`":`)
		if at < last {
			t.Errorf("%s is out of order", v.Name)
		}
		last = at
	}
	wantEnviron(t, environ)
	if !slices.Equal(read.Unset, nastyUnset) {
		t.Errorf("unset %q", read.Unset)
	}
	var empty bytes.Buffer
	if err := Variables(nil).Format(&empty, FormatJSON, nil); err != nil || empty.String() != `{"variables":{},"unset":[]}`+"\n" {
		t.Errorf("without any: %q, %v", empty.String(), err)
	}
}

func TestVariablesRefused(t *testing.T) {
	for name, test := range map[string]struct {
		variables Variables
		unset     []string
		format    string
		want      string
	}{
		"line break":     {variables: Variables{{"A", "x\ny"}}, format: FormatShell, want: "the value of A has a control character"},
		"not UTF-8":      {variables: Variables{{"A", "\xff"}}, format: FormatJSON, want: "the value of A is not UTF-8"},
		"name":           {variables: Variables{{"A B", "x"}}, format: FormatSystemd, want: `"A B" is no name of a variable`},
		"name to unset":  {unset: []string{"$(id)"}, format: FormatShell, want: `"$(id)" is no name of a variable`},
		"unknown format": {format: "toml", want: `unknown format "toml"`},
	} {
		t.Run(name, func(t *testing.T) {
			var text bytes.Buffer
			err := test.variables.Format(&text, test.format, test.unset)
			if err == nil || !strings.Contains(err.Error(), test.want) {
				t.Errorf("got %v, want it to say %q", err, test.want)
			}
			if text.Len() > 0 {
				t.Errorf("wrote %q", text.String())
			}
		})
	}
}

func TestVariablesWith(t *testing.T) {
	before := Variables{{"A", "1"}, {"B", "2"}}
	got := before.With(Variable{"C", "3"}, Variable{"A", "4"})
	if want := (Variables{{"A", "4"}, {"B", "2"}, {"C", "3"}}); !slices.Equal(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
	if before[0].Value != "1" {
		t.Error("the original was changed")
	}
}
