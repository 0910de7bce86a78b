package promote

import (
	"path/filepath"
	"slices"
	"strings"
)

// FindLike looks for a native etcd proxy that was started again as this one
// was: by the same user, with the same command line in the same folder, and as
// a proxy of this data directory. The command line alone says too little: all
// etcds that are configured by their environment have the same. A proxy whose command line is not known is not found.
func FindLike(standing *Standing, dataDir string) (Process, bool, error) {
	if len(standing.Args) == 0 {
		return Process{}, false, nil
	}
	pids, err := runningPIDs()
	if err != nil {
		return Process{}, false, err
	}
	for _, pid := range pids {
		p, err := FindProcess(pid)
		if err != nil {
			continue // it has just ended
		}
		if standing.isLike(p, dataDir) && p.Alive() {
			return p, true, nil
		}
	}
	return Process{}, false, nil
}

// isLike tells whether the process is this proxy's next life. What can't be
// looked at is not.
func (s *Standing) isLike(p Process, dataDir string) bool {
	args, err := p.Args()
	if err != nil || len(args) != len(s.Args) || !slices.Equal(args[1:], s.Args[1:]) {
		return false
	}
	// Args[0] may be the path of what was started by its name alone.
	if exe, err := p.Exe(); filepath.Base(args[0]) != filepath.Base(s.Args[0]) && (err != nil || exe != s.Args[0]) {
		return false
	}
	if uid, _, err := p.Owner(); err != nil || uid != s.UID {
		return false
	}
	dir, err := p.Dir()
	if err != nil || dir != s.Dir {
		return false
	}
	environ, err := p.Environ()
	return err == nil && proxiesFor(args[1:], environ, dir) == filepath.Clean(dataDir)
}

// proxiesFor is the data directory of a native etcd proxy with these arguments
// and this environment in this folder. It is "" for an etcd that is no proxy, as
// the one that takes its place, and where none is named.
func proxiesFor(args, environ []string, dir string) string {
	typed := flagValues(args)
	get := func(flag string) string { // a flag beats its variable (pkg/flags/flag.go)
		if value, ok := typed[flag]; ok {
			return value
		}
		prefix := variableName(flag) + "="
		for _, entry := range environ {
			if value, ok := strings.CutPrefix(entry, prefix); ok {
				return value
			}
		}
		return ""
	}
	if mode := get("proxy"); mode != "on" && mode != "readonly" {
		return ""
	}
	dataDir := get("data-dir")
	switch {
	case dataDir == "":
		return ""
	case filepath.IsAbs(dataDir):
		return filepath.Clean(dataDir)
	}
	return filepath.Join(dir, dataDir)
}
