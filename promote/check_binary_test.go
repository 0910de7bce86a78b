package promote

import (
	"context"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"go.etcd.io/etcd/api/v3/version"

	"etcdops/discover"
)

// FindBinary asks a real etcd: this test binary in the role of one.
func TestFindBinary(t *testing.T) {
	t.Setenv(roleVariable, "etcd")
	t.Setenv("ETCD_NONSENSE", "x")
	t.Setenv("ETCD_CONFIG_FILE", "/nowhere") // would end etcd at once
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	t.Setenv("PATH", filepath.Dir(self))
	for name, path := range map[string]string{"by path": self, "by name": filepath.Base(self)} {
		t.Run(name, func(t *testing.T) {
			b, err := FindBinary(t.Context(), Asker{}, path)
			if err != nil {
				t.Fatal(err)
			}
			if b.Path != self || b.Version != version.Version || !b.Embedded {
				t.Errorf("got %+v", b)
			}
			for _, flag := range []string{"socket-reuse-port", "data-dir", "peer-trusted-ca-file", "force-new-cluster", "max-learners"} {
				if !b.Knows(flag) {
					t.Errorf("it does not know --%s", flag)
				}
			}
			if b.Knows("proxy") || b.Knows("") {
				t.Error("it knows too much")
			}
		})
	}
}

func TestFindBinaryThatIsNone(t *testing.T) {
	dir := t.TempDir()
	script := func(name, body string) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte("#!/bin/sh\n"+body+"\n"), 0o755); err != nil {
			t.Fatal(err)
		}
		return path
	}
	for _, test := range []struct{ name, path, want string }{
		{"not there", filepath.Join(dir, "gone"), "no such file"},
		{"not on PATH", "etcd-of-nobody", "executable file not found"},
		{"a folder", dir, "find etcd"},
		{"another program", script("other", "echo hello"), "is not etcd: its --version says \"hello"},
		{"version alone", script("half", "echo etcd Version: 3.5.1"), "names no --data-dir"},
		{"no program", script("bad", "exit 127"), "is not etcd"},
	} {
		t.Run(test.name, func(t *testing.T) {
			if _, err := FindBinary(t.Context(), Asker{}, test.path); err == nil || !strings.Contains(err.Error(), test.want) {
				t.Errorf("got %v, want %q", err, test.want)
			}
		})
	}
	t.Run("not there, as an error", func(t *testing.T) {
		if _, err := FindBinary(t.Context(), Asker{}, "etcd-of-nobody"); !errors.Is(err, exec.ErrNotFound) {
			t.Errorf("got %v", err)
		}
	})
	t.Run("never answers", func(t *testing.T) {
		ctx, cancel := context.WithCancelCause(t.Context())
		cancel(errors.New("given up"))
		if _, err := FindBinary(ctx, Asker{}, script("hung", "sleep 60")); err == nil || !strings.Contains(err.Error(), "given up") {
			t.Errorf("got %v", err)
		}
	})
}

func TestCheckBinary(t *testing.T) {
	dir := t.TempDir()
	script := filepath.Join(dir, "etcd.sh")
	if err := os.WriteFile(script, []byte("#!/bin/sh\n"), 0o755); err != nil {
		t.Fatal(err)
	}
	for _, test := range []struct {
		refusalCase
		versions []string // of the members; nil = 3.7.1
	}{
		{refusalCase{"good", func(*Candidate) {}, "", "", ""}, nil},
		{refusalCase{"older patch", func(c *Candidate) { c.Binary.Version = "3.7.0-rc.1" }, "", "", ""}, nil},
		{refusalCase{"newer", func(*Candidate) {}, "version-skew", "is etcd 3.7.3, the members are 3.6", "give an etcd 3.6"}, []string{"3.6.5", "3.6.16"}},
		{refusalCase{"tenth minor", func(*Candidate) {}, "version-skew", "the members are 3.70", "give an etcd 3.70"}, []string{"3.70.1"}},
		{refusalCase{"half upgraded", func(*Candidate) {}, "mixed-versions", "3.6 at member m1 (0000000000000001); 3.7 at member m2", "upgrade"}, []string{"3.6.16", "3.7.3"}},
		{refusalCase{"a version unknown", func(*Candidate) {}, "", "", ""}, []string{"", "3.7.1"}},
		{refusalCase{"a script", func(c *Candidate) { c.Binary.Path = script }, "script", script, "--etcd PATH"}, nil},
		{refusalCase{"a script that promote does not start", func(c *Candidate) { c.Binary.Path, c.StageEnv = script, true }, "", "", ""}, nil},
		{refusalCase{"built in, to stay", func(c *Candidate) {
			c.Binary.Embedded, c.Binary.Path = true, "/usr/local/bin/etcdops"
		}, "", "", ""}, nil},
		{refusalCase{"built in, in a temporary folder", func(c *Candidate) {
			c.Binary.Embedded, c.Binary.Path = true, filepath.Join(dir, "etcdops")
		}, "temporary-binary", dir, "/usr/local/bin"}, nil},
		{refusalCase{"built in, by go run", func(c *Candidate) {
			c.Binary.Embedded, c.Binary.Path = true, "/home/me/.cache/go-build123/b001/exe/etcdops"
		}, "temporary-binary", "go-build123", "/usr/local/bin"}, nil},
		{refusalCase{"all folders are lasting", func(c *Candidate) {
			c.Binary.Embedded, c.Binary.Path, c.TemporaryFolders = true, filepath.Join(dir, "etcdops"), []string{}
		}, "", "", ""}, nil},
		{refusalCase{"a folder named as temporary", func(c *Candidate) {
			c.Binary.Embedded, c.Binary.Path, c.TemporaryFolders = true, "/scratch/etcdops", []string{"/scratch/"}
		}, "temporary-binary", "/scratch/etcdops", ""}, nil},
		{refusalCase{"beside a folder named as temporary", func(c *Candidate) {
			c.Binary.Embedded, c.Binary.Path, c.TemporaryFolders = true, "/scratch2/etcdops", []string{"/scratch"}
		}, "", "", ""}, nil},
		{refusalCase{"flags that it knows", func(c *Candidate) {
			c.EtcdFlags = []string{"--quota-backend-bytes=1", "-pre-vote", "--auto-compaction-retention", "-1"}
		}, "", "", ""}, nil},
		{refusalCase{"unknown flag", func(c *Candidate) { c.EtcdFlags = []string{"--enable-v2=true"} }, "unknown-flag", "etcd 3.7.3 knows no --enable-v2", "/usr/bin/etcd --help"}, nil},
		{refusalCase{"the name again", func(c *Candidate) { c.EtcdFlags = []string{"--name", "x"} }, "flag-collision", "--name", "NAME of promote"}, nil},
		{refusalCase{"listening elsewhere", func(c *Candidate) { c.EtcdFlags = []string{"-listen-client-urls=x"} }, "flag-collision", "--listen-client-urls", "in front of --"}, nil},
		{refusalCase{"the log elsewhere", func(c *Candidate) { c.EtcdFlags = []string{"--wal-dir=/x"} }, "flag-collision", "--wal-dir", "give --wal-dir to the proxy"}, nil},
		{refusalCase{"state new", func(c *Candidate) { c.EtcdFlags = []string{"--initial-cluster-state=new"} }, "flag-collision", "--initial-cluster-state", "existing"}, nil},
		{refusalCase{"proxy", func(c *Candidate) { c.EtcdFlags = []string{"--proxy=on"} }, "flag-collision", "--proxy", "leave it out"}, nil},
		{refusalCase{"discovery", func(c *Candidate) { c.EtcdFlags = []string{"--discovery-srv=x"} }, "flag-collision", "--discovery-srv", "leave it out"}, nil},
		{refusalCase{"word", func(c *Candidate) { c.EtcdFlags = []string{"gateway"} }, "stray-argument", `"gateway"`, "--name=value"}, nil},
		{refusalCase{"no binary here", func(c *Candidate) { c.Binary, c.EtcdFlags, c.StageEnv = Binary{}, []string{"--x=1"}, true }, "", "", ""}, nil},
	} {
		t.Run(test.name, func(t *testing.T) {
			c := goodCandidate(t)
			test.change(c)
			var members []discover.MemberStatus
			for i, v := range test.versions {
				members = append(members, goodMembers(i + 1)[i])
				members[i].Version = v
			}
			if members == nil {
				members = goodMembers(3)
			}
			expectOne(t, c.CheckBinary(members), test.check, test.problem, test.hint)
		})
	}
}
