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

// TestCompat runs each scenario of testdata/compat with each of the older
// etcds: $ETCD and $ETCDCTL are the programs, and the condition [3.4] holds
// where that is the version. $ETCD34, $ETCDCTL34 and so on are there for
// scenarios with several versions. scripts/test-compat runs it.
func TestCompat(t *testing.T) {
	folder := os.Getenv(etcdsVariable)
	if folder == "" {
		t.Fatalf("$%s is not set: run scripts/test-compat", etcdsVariable)
	}
	for _, version := range oldEtcds {
		t.Run(version, func(t *testing.T) {
			params := scriptParams("testdata/compat")
			params.Setup = func(env *testscript.Env) error {
				for _, other := range oldEtcds {
					number := strings.ReplaceAll(other, ".", "")
					env.Setenv("ETCD"+number, filepath.Join(folder, other, "etcd"))
					env.Setenv("ETCDCTL"+number, filepath.Join(folder, other, "etcdctl"))
				}
				env.Setenv("ETCD", filepath.Join(folder, version, "etcd"))
				env.Setenv("ETCDCTL", filepath.Join(folder, version, "etcdctl"))
				return setUpScript(env)
			}
			params.Condition = func(name string) (bool, error) {
				if !slices.Contains(oldEtcds, name) {
					return false, fmt.Errorf("unknown condition %s", name)
				}
				return name == version, nil
			}
			testscript.Run(t, params)
		})
	}
}
