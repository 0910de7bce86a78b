package commands

import (
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

func TestComplete(t *testing.T) {
	for name, test := range map[string]struct {
		words string // the last one ends at |
		want  []string
	}{
		"commands":                {"|", []string{"proxy", "member", "demo", "etcd", "version", "completion", "help", "group"}},
		"begun command":           {"ver|", []string{"version"}},
		"commands of a group":     {"group |", []string{"show", "start"}},
		"behind a global flag":    {"--color never gr|", []string{"group"}},
		"flags":                   {"group show --|", []string{"--name", "--force", "--count", "--output", "--color", "--help"}},
		"begun flag":              {"group show a --f|", []string{"--force"}},
		"flags of the program":    {"-|", []string{"--color", "--help"}},
		"value":                   {"version --output |", []string{"table", "json", "simple"}},
		"value of a short flag":   {"version -o j|", []string{"json"}},
		"value with equals":       {"version --output=j|", []string{"--output=json"}},
		"value as bash splits it": {"version --output = j|", []string{"json"}},
		"no value, split":         {"version --output =|", []string{"table", "json", "simple"}},
		"flag behind a value":     {"version --output = json --c|", []string{"--color"}},
		"value of a global flag":  {"version --color a|", []string{"auto", "always"}},
		"free value":              {"group show --name |", nil},
		"switch has no value":     {"group show --force --n|", []string{"--name"}},
		"shells":                  {"completion |", []string{"bash", "zsh"}},
		"files for arguments":     {"group show |", nil},
		"etcd's own":              {"etcd --na|", nil},
		"unknown command":         {"qqq --c|", []string{"--color"}},
	} {
		t.Run(name, func(t *testing.T) {
			line := strings.TrimSuffix(test.words, "|")
			words := strings.Split(line, " ")
			got := runSample(t, append([]string{"__complete"}, words...)...)
			if got.code != ExitDone || got.stderr != "" || !slices.Equal(strings.Fields(got.stdout), test.want) {
				t.Errorf("got %+v, want %q", got, test.want)
			}
		})
	}
}

// TestCompletionInBash loads the script into a bash without any set-up.
func TestCompletionInBash(t *testing.T) {
	bash, err := exec.LookPath("bash")
	if err != nil {
		t.Logf("no bash to ask: %v", err)
		return
	}
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	if err := os.Symlink(self, filepath.Join(dir, programName)); err != nil {
		t.Fatal(err)
	}
	for name, test := range map[string]struct{ words, want string }{
		"command":          {"etcdops ver", "version"},
		"by path":          {dir + "/etcdops ver", "version"},
		"from home":        {"~/etcdops ver", "version"},
		"flag":             {"etcdops version --ou", "--output"},
		"value":            {"etcdops version -o js", "json"},
		"value, split":     {"etcdops version --output = js", "json"},
		"argument":         {"etcdops completion z", "zsh"},
		"nothing to offer": {"etcdops version qqq", ""},
	} {
		t.Run(name, func(t *testing.T) {
			script := `source <(etcdops completion bash) || exit
complete -p etcdops || exit
COMP_WORDS=("$@")
COMP_CWORD=$(($# - 1))
_etcdops
printf '%s\n' "${COMPREPLY[@]}"`
			args := append([]string{"--norc", "--noprofile", "-c", script, "bash"}, strings.Fields(test.words)...)
			cmd := exec.CommandContext(t.Context(), bash, args...)
			// The race detector would let each process sleep a second at its end.
			cmd.Env = []string{"PATH=" + dir, "HOME=" + dir, mainVariable + "=1", "GORACE=atexit_sleep_ms=0"}
			output, err := cmd.CombinedOutput()
			if err != nil {
				t.Fatalf("%v: %s", err, output)
			}
			want := "complete -o default -F _etcdops etcdops\n" + test.want + "\n"
			if string(output) != want {
				t.Errorf("got %q, want %q", output, want)
			}
		})
	}
}

func TestCompletionScripts(t *testing.T) {
	for shell, part := range map[string]string{"bash": "complete -o default -F _etcdops etcdops\n", "zsh": "compdef _etcdops etcdops\n"} {
		got := run(t, "completion", shell)
		if got.code != ExitDone || !strings.Contains(got.stdout, part) {
			t.Errorf("%s: %+v", shell, got)
		}
	}
}
