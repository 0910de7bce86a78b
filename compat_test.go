//go:build compat

package main

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"
)

// etcdsVariable names the folder that scripts/etcds prints.
const etcdsVariable = "ETCDS"

// oldEtcds are the versions that we are compatible with, beside the one that
// is compiled in.
var oldEtcds = []string{"3.4", "3.5", "3.6"}

// nativeProxies are those of them that have etcd --proxy.
var nativeProxies = []string{"3.4", "3.5"}

// compatFolders are the scenarios, with the versions that each is for.
var compatFolders = map[string][]string{
	"testdata/compat":        oldEtcds,
	"testdata/compat/native": nativeProxies,
}

// TestCompat runs the scenarios with each of the older etcds that they are for:
// $ETCD and $ETCDCTL are the programs, and the condition [3.4] holds where that
// is the version. $ETCD34, $ETCDCTL34 and so on are there for scenarios with
// several versions. scripts/test-compat runs it.
func TestCompat(t *testing.T) {
	etcds := os.Getenv(etcdsVariable)
	if etcds == "" {
		t.Fatalf("$%s is not set: run scripts/test-compat", etcdsVariable)
	}
	for folder, versions := range compatFolders {
		for _, version := range versions {
			t.Run(version+"/"+filepath.Base(folder), func(t *testing.T) {
				t.Parallel()
				testscript.Run(t, compatParams(folder, etcds, version))
			})
		}
	}
}

// TestCompatAlone runs the scenarios that hold a time against a promise, one
// after the other, with the versions that can share a port.
func TestCompatAlone(t *testing.T) {
	etcds := os.Getenv(etcdsVariable)
	if etcds == "" {
		t.Fatalf("$%s is not set: run scripts/test-compat", etcdsVariable)
	}
	for _, version := range []string{"3.5", "3.6"} {
		t.Run(version, func(t *testing.T) {
			testscript.Run(t, compatParams("testdata/compat/alone", etcds, version))
		})
	}
}

func compatParams(folder, etcds, version string) testscript.Params {
	params := scriptParams(folder)
	params.Setup = func(env *testscript.Env) error {
		for _, other := range oldEtcds {
			number := strings.ReplaceAll(other, ".", "")
			env.Setenv("ETCD"+number, filepath.Join(etcds, other, "etcd"))
			env.Setenv("ETCDCTL"+number, filepath.Join(etcds, other, "etcdctl"))
		}
		env.Setenv("ETCD", filepath.Join(etcds, version, "etcd"))
		env.Setenv("ETCDCTL", filepath.Join(etcds, version, "etcdctl"))
		return setUpScript(env)
	}
	params.Condition = func(name string) (bool, error) {
		if !slices.Contains(oldEtcds, name) {
			return false, fmt.Errorf("unknown condition %s", name)
		}
		return name == version, nil
	}
	return params
}
