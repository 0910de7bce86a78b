package commands

import (
	"encoding/json"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// standingPath is where the control socket tells how the proxy was started.
const standingPath = "/v1/standing"

// standingReport is how a proxy was started: what a member in its place needs,
// and what it takes to start the proxy again.
type standingReport struct {
	Settings map[string]string `json:"settings"` // those that somebody has set; paths absolute
	Args     []string          `json:"args"`
	Dir      string            `json:"dir"`
	Environ  []string          `json:"environ"`
}

// standingHandler serves standingPath in the proxy's process.
func standingHandler(env *Env, s *Settings) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		dir, err := os.Getwd()
		if err != nil {
			http.Error(w, err.Error(), http.StatusInternalServerError)
			return
		}
		w.Header().Set("Content-Type", "application/json")
		_ = json.NewEncoder(w).Encode(standingReport{
			Settings: setSettings(s, dir), Args: os.Args, Dir: dir, Environ: plainEnviron(env.Environ),
		})
	}
}

// setSettings lists the settings that are not defaults, with absolute paths.
func setSettings(s *Settings, dir string) map[string]string {
	set := map[string]string{}
	for name := range s.table {
		if !s.IsSet(name) || isSecret(variable(name)) {
			continue
		}
		value := s.String(name)
		if isPath := strings.HasSuffix(name, "-file") || strings.HasSuffix(name, "-dir"); isPath && value != "" && !filepath.IsAbs(value) {
			value = filepath.Join(dir, value)
		}
		set[name] = value
	}
	return set
}

// plainEnviron is the part of an environment that a proxy needs to be started
// again and that holds no secret.
func plainEnviron(environ []string) []string {
	return slices.DeleteFunc(slices.Clone(environ), func(entry string) bool {
		name, _, _ := strings.Cut(entry, "=")
		switch name {
		case "PATH", "HOME", "TZ", "LANG", "XDG_RUNTIME_DIR", "TMPDIR", "GOMAXPROCS", "GOMEMLIMIT", "GODEBUG":
			return false
		}
		return !strings.HasPrefix(name, "ETCD_") || isSecret(name)
	})
}

func isSecret(name string) bool {
	return slices.ContainsFunc([]string{"PASSWORD", "SECRET", "PRIVATE", "DISCOVERY_USER"}, func(word string) bool { return strings.Contains(name, word) })
}
