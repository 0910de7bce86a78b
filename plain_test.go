package main

import (
	"errors"
	"maps"
	"os"
	"path/filepath"
	"slices"

	"github.com/rogpeppe/go-internal/testscript"
)

// plainVariable names this binary as it is built without the race detector
// (scripts/test does). The scripts' programs are then taken of that one, all but
// etcdops: it is the one that the detector is to look at, and an etcd with the
// detector in it takes up to seven times as long.
const plainVariable = "PLAIN_PROGRAMS"

// takePlainPrograms puts the plain programs, if there are any, before the others.
func takePlainPrograms(env *testscript.Env) error {
	binary := os.Getenv(plainVariable)
	if binary == "" {
		return nil
	}
	folder, err := plainPrograms(binary)
	if err != nil {
		return err
	}
	env.Setenv("PATH", folder+string(filepath.ListSeparator)+env.Getenv("PATH"))
	return nil
}

// plainPrograms is a folder with all programs but etcdops.
func plainPrograms(binary string) (string, error) {
	names := slices.Collect(maps.Keys(programs))
	return linkPrograms(binary, slices.DeleteFunc(names, func(name string) bool { return name == "etcdops" }))
}

// linkPrograms makes a folder beside the binary with the binary under those names.
func linkPrograms(binary string, names []string) (string, error) {
	folder := filepath.Join(filepath.Dir(binary), "bin")
	if err := os.MkdirAll(folder, 0o755); err != nil {
		return "", err
	}
	for _, name := range names {
		if err := os.Link(binary, filepath.Join(folder, name)); err != nil && !errors.Is(err, os.ErrExist) {
			return "", err
		}
	}
	return folder, nil
}
