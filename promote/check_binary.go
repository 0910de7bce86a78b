package promote

import (
	"os"
	"path/filepath"
	"slices"
	"strings"

	"etcdops/discover"
)

// goBuildFolder begins the name of the folders in which go run and go test put
// what they have built for this once.
const goBuildFolder = "go-build"

// CheckBinary looks at the etcd that is to be started: whether it may join
// those members, whether it will still be there tomorrow, and whether it takes
// the flags behind --.
func (c *Candidate) CheckBinary(members []discover.MemberStatus) []Refusal {
	var found refusals
	c.checkVersion(&found, members)
	if c.Binary.Embedded && c.temporary(c.Binary.Path) {
		found.add("temporary-binary", "copy it to a lasting place, as /usr/local/bin, or give --etcd PATH",
			"the etcd that is built into %s lies in a temporary folder and would be gone after a reboot", c.Binary.Path)
	}
	if script, err := isScript(c.Binary.Path); err == nil && script && !c.StageEnv {
		found.add("script", "name the etcd binary itself with --etcd PATH",
			"%s is a script: the process that it starts can't be told from another's", c.Binary.Path)
	}
	c.checkFlags(&found)
	return found
}

// checkVersion wants one minor version in the whole cluster. etcd itself lets
// an older one in only as far as the cluster's version goes, and a newer one
// always (server/etcdserver/cluster_util.go, isCompatibleWithCluster).
func (c *Candidate) checkVersion(found *refusals, members []discover.MemberStatus) {
	versions := map[string][]string{}
	for _, m := range members {
		if m.Version != "" {
			versions[minor(m.Version)] = append(versions[minor(m.Version)], nameOf(m))
		}
	}
	if len(versions) > 1 {
		var said []string
		for _, version := range sortedKeys(versions) {
			said = append(said, version+" at "+strings.Join(versions[version], ", "))
		}
		found.add("mixed-versions", "bring the upgrade of the members to its end first",
			"the members are of different versions: %s", strings.Join(said, "; "))
		return
	}
	for version := range versions {
		if c.Binary.Version != "" && c.Binary.Minor() != version {
			found.add("version-skew", "give an etcd "+version+" with --etcd PATH",
				"%s is etcd %s, the members are %s", c.Binary.Path, c.Binary.Version, version)
		}
	}
}

// temporary tells whether a path lies where things do not last.
func (c *Candidate) temporary(path string) bool {
	real := resolved(path)
	if c.TemporaryFolders != nil {
		return slices.ContainsFunc(c.TemporaryFolders, func(folder string) bool { return lies(real, resolved(folder)) })
	}
	return lies(real, resolved(os.TempDir())) ||
		slices.ContainsFunc(strings.Split(real, string(filepath.Separator)), func(part string) bool { return strings.HasPrefix(part, goBuildFolder) })
}

// resolved is a path without symbolic links, as far as it exists.
func resolved(path string) string {
	if real, err := filepath.EvalSymlinks(path); err == nil {
		return real
	}
	return filepath.Clean(path)
}

// lies tells whether a path is below a folder.
func lies(path, folder string) bool {
	relative, err := filepath.Rel(folder, path)
	return err == nil && relative != ".." && !strings.HasPrefix(relative, ".."+string(filepath.Separator))
}

// ownFlags are those that we set, each with what to give instead.
var ownFlags = map[string]string{
	"name":                        "give it as the NAME of promote",
	"data-dir":                    "give --data-dir to promote, in front of --",
	"wal-dir":                     "give --wal-dir to the proxy when it is started, or leave it out: the log is then inside the data directory",
	"initial-advertise-peer-urls": "give --initial-advertise-peer-urls to promote, in front of --",
	"listen-peer-urls":            "give --listen-peer-urls to promote, in front of --",
	"listen-client-urls":          "give --listen-client-urls to promote, in front of --",
	"advertise-client-urls":       "give --advertise-client-urls to promote, in front of --",
	"initial-cluster":             "leave it out: it is built from the cluster's own list",
	"initial-cluster-state":       "leave it out: a member that joins is always told existing",
	"initial-cluster-token":       "leave it out: only a new cluster has one",
	"force-new-cluster":           "leave it out: it would make a cluster of its own",
	"config-file":                 "give its settings as flags: with a config file etcd takes nothing else",
	"socket-reuse-port":           "leave it out: it is set while the ports are handed over",
	"version":                     "leave it out: etcd would end at once",
	"help":                        "leave it out: etcd would end at once",
	"h":                           "leave it out: etcd would end at once",
}

// ownFlagHint says what to give instead of a flag that we set; ok is false for
// any other flag.
func ownFlagHint(flag string) (hint string, ok bool) {
	if hint, ok := ownFlags[flag]; ok {
		return hint, true
	}
	if flag == "proxy" || strings.HasPrefix(flag, "proxy-") || strings.HasPrefix(flag, "discovery") {
		return "leave it out: it belongs to the proxy that the member replaces", true
	}
	return "", false
}

// checkFlags looks at the flags behind --.
func (c *Candidate) checkFlags(found *refusals) {
	flags, strays := etcdFlags(c.EtcdFlags)
	for _, stray := range strays {
		found.add("stray-argument", "flags of etcd are written --name=value", "%q behind -- is no flag: etcd would not start", stray)
	}
	for _, flag := range flags {
		if hint, ok := ownFlagHint(flag); ok {
			found.add("flag-collision", hint, "--%s behind -- collides with what promote sets", flag)
			continue
		}
		// Without a binary, etcd is started elsewhere.
		if c.Binary.Path != "" && !c.Binary.Knows(flag) {
			found.add("unknown-flag", "see what it knows: "+strings.Join(append([]string{c.Binary.Path}, c.Binary.Args...), " ")+" --help",
				"etcd %s knows no --%s", c.Binary.Version, flag)
		}
	}
}

// etcdFlags are the names of the flags in args, without dashes, and what is
// neither a flag nor, as far as can be told, the value of one. Which flags take
// a value of their own we don't know: one word behind each is let pass.
func etcdFlags(args []string) (flags, strays []string) {
	mayBeValue := false
	for _, arg := range args {
		name, _, hasValue := strings.Cut(strings.TrimPrefix(strings.TrimPrefix(arg, "-"), "-"), "=")
		negative := name != "" && name[0] >= '0' && name[0] <= '9'
		switch {
		case strings.HasPrefix(arg, "-") && name != "" && !negative:
			flags = append(flags, name)
			mayBeValue = !hasValue
		case mayBeValue:
			mayBeValue = false
		default:
			strays = append(strays, arg)
		}
	}
	return flags, strays
}

// flagValues are the flags in args with their values; what has none is a switch.
func flagValues(args []string) map[string]string {
	flags, _ := etcdFlags(args)
	values := map[string]string{}
	for i, arg := range args {
		name, value, hasValue := strings.Cut(strings.TrimPrefix(strings.TrimPrefix(arg, "-"), "-"), "=")
		if !strings.HasPrefix(arg, "-") || !slices.Contains(flags, name) {
			continue
		}
		if !hasValue {
			value = "true"
			if i+1 < len(args) && !strings.HasPrefix(args[i+1], "-") {
				value = args[i+1]
			}
		}
		values[name] = value
	}
	return values
}
