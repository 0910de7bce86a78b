package commands

import (
	"slices"
	"strings"
)

// etcdFlag is one flag of an etcd command line.
type etcdFlag struct {
	name, value string
	words       []string // as it was written
}

// parseEtcdArgs reads an etcd command line, without the program's name. A flag
// that we do not know has no value where another flag follows it. What is no
// flag has no name.
func parseEtcdArgs(args []string) []etcdFlag {
	switches, known := map[string]bool{}, map[string]bool{}
	for _, s := range proxySettings() {
		switches[s.Name], known[s.Name] = s.Bool, true
	}
	var flags []etcdFlag
	for len(args) > 0 {
		word := args[0]
		args = args[1:]
		name := strings.TrimPrefix(strings.TrimPrefix(word, "-"), "-")
		if name == word || name == "" {
			flags = append(flags, etcdFlag{words: []string{word}})
			continue
		}
		name, value, has := strings.Cut(name, "=")
		words := []string{word}
		switch {
		case has:
		case switches[name], !known[name] && (len(args) == 0 || strings.HasPrefix(args[0], "-")):
			value = "true"
		case len(args) > 0:
			value, words, args = args[0], append(words, args[0]), args[1:]
		}
		flags = append(flags, etcdFlag{name, value, words})
	}
	return flags
}

// readArgs finds the values of flags in an etcd command line, of which the last
// one counts.
func readArgs(args []string) func(name string) (string, bool) {
	values := map[string]string{}
	for _, flag := range parseEtcdArgs(args) {
		values[flag.name] = flag.value
	}
	return func(name string) (string, bool) {
		value, found := values[name]
		return value, found
	}
}

// withoutFlags is the command line without the flags of these names.
func withoutFlags(args []string, names ...string) []string {
	var left []string
	for _, flag := range parseEtcdArgs(args) {
		if !slices.Contains(names, flag.name) {
			left = append(left, flag.words...)
		}
	}
	return left
}

// withoutVariables is the environment without the variables of these flags.
func withoutVariables(environ []string, names ...string) []string {
	return slices.DeleteFunc(slices.Clone(environ), func(entry string) bool {
		name, _, _ := strings.Cut(entry, "=")
		return slices.ContainsFunc(names, func(flag string) bool { return variable(flag) == name })
	})
}
