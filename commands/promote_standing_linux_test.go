package commands

import (
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"etcdops/promote"
	"etcdops/proxy"
)

func TestPasswordsInURLsAreNotKept(t *testing.T) {
	for name, test := range map[string]struct {
		args, environ []string
		setting       string
		wantArgs      []string
		wantEnviron   []string
		wantSetting   string
	}{
		"none": {
			[]string{"etcd", "--initial-cluster", "m1=http://a:2380"},
			[]string{"ETCD_NAME=x@y"},
			"m1=http://a:2380",
			[]string{"etcd", "--initial-cluster", "m1=http://a:2380"},
			[]string{"ETCD_NAME=x@y"},
			"m1=http://a:2380",
		},
		"in an argument": {
			[]string{"etcd", "--initial-cluster=m1=http://u:secret@a:2380,m2=https://u:secret@b:2380"},
			[]string{"PATH=/bin"},
			"m1=http://u:secret@a:2380,m2=https://u:secret@b:2380",
			nil,
			[]string{"PATH=/bin"},
			"m1=http://***@a:2380,m2=https://***@b:2380",
		},
		"in a variable": {
			[]string{"etcd"},
			[]string{"ETCD_INITIAL_CLUSTER=m1=http://secret@a:2380", "PATH=/bin"},
			"",
			nil,
			[]string{"PATH=/bin"},
			"",
		},
		"a user of discovery": {
			[]string{"etcdops", "proxy", "start", "--discovery-user", "root:secret"}, []string{"PATH=/bin"}, "", nil, []string{"PATH=/bin"}, "",
		},
		"a password of discovery": {
			[]string{"etcdops", "proxy", "start", "--discovery-password=secret"}, nil, "", nil, nil, "",
		},
		"a comma in a password": {
			[]string{"etcd", "--discovery", "http://u:sec,r@et@a:2379/T"}, nil, "http://u:sec,r@et@a:2379/T", nil, nil, "http://***@a:2379/T",
		},
		"two URLs and an at sign later": {
			[]string{"etcd", "http://a:2380/,x@y"}, nil, "", []string{"etcd", "http://a:2380/,x@y"}, nil, "",
		},
	} {
		t.Run(name, func(t *testing.T) {
			s := &promote.Standing{Args: test.args, Environ: test.environ, Settings: map[string]string{"initial-cluster": test.setting}}
			hideSecrets(s)
			if !slices.Equal(s.Args, test.wantArgs) || !slices.Equal(s.Environ, test.wantEnviron) || s.Settings["initial-cluster"] != test.wantSetting {
				t.Errorf("got %q, %q, %q", s.Args, s.Environ, s.Settings)
			}
		})
	}
}

// The process of a proxy is the one that the kernel names, and that of the user
// whose proxy is promoted.
func TestProxyIsFoundByTheKernel(t *testing.T) {
	path := filepath.Join(t.TempDir(), "control.sock")
	l, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	standing := &promote.Standing{UID: uint32(os.Geteuid()), Settings: map[string]string{"drain-timeout": "7s"}}
	c := controlledProxy{proxy.ControlClient{Path: path}, standing}
	if p, found, err := c.Find(t.Context()); err != nil || !found || p.PID != os.Getpid() {
		t.Errorf("got %v, %v, %v", p, found, err)
	}
	if limit := c.drainTimeout(); limit != 7*time.Second {
		t.Errorf("drain limit %v", limit)
	}
	standing.UID++
	if p, found, err := c.Find(t.Context()); err == nil || found || !strings.Contains(err.Error(), "runs as user") {
		t.Errorf("another user's: %v, %v, %v", p, found, err)
	}
	if p, err := processOf(proxy.Peer{PID: os.Getpid(), UID: standing.UID}); err == nil || !strings.Contains(err.Error(), "control socket") {
		t.Errorf("a pid that has passed to another user: %v, %v", p, err)
	}
}
