package promote

import (
	"os"
	"os/exec"
	"path/filepath"
	"testing"
)

// Two etcds that are configured by their environment have the same command line.
func TestFindLike(t *testing.T) {
	dir, program := t.TempDir(), "sleep"
	dataDir := filepath.Join(dir, "p.etcd")
	for name, test := range map[string]struct {
		environ []string
		change  func(*Standing)
		want    bool
	}{
		"the proxy":              {environ: []string{"ETCD_PROXY=on", "ETCD_DATA_DIR=" + dataDir}, want: true},
		"a relative path":        {environ: []string{"ETCD_PROXY=readonly", "ETCD_DATA_DIR=p.etcd/"}, want: true},
		"a member":               {environ: []string{"ETCD_DATA_DIR=" + dataDir}},
		"a proxy that is off":    {environ: []string{"ETCD_PROXY=off", "ETCD_DATA_DIR=" + dataDir}},
		"the promotion's etcd":   {environ: []string{"ETCD_NAME=m2", "ETCD_INITIAL_CLUSTER_STATE=existing", "ETCD_DATA_DIR=" + dataDir}},
		"a proxy elsewhere":      {environ: []string{"ETCD_PROXY=on", "ETCD_DATA_DIR=" + dataDir + "2"}},
		"no data directory":      {environ: []string{"ETCD_PROXY=on"}},
		"another user's":         {environ: []string{"ETCD_PROXY=on", "ETCD_DATA_DIR=" + dataDir}, change: func(s *Standing) { s.UID++ }},
		"another folder":         {environ: []string{"ETCD_PROXY=on", "ETCD_DATA_DIR=" + dataDir}, change: func(s *Standing) { s.Dir = "/" }},
		"other arguments":        {environ: []string{"ETCD_PROXY=on", "ETCD_DATA_DIR=" + dataDir}, change: func(s *Standing) { s.Args = []string{"etcd", "1001"} }},
		"arguments with secrets": {environ: []string{"ETCD_PROXY=on", "ETCD_DATA_DIR=" + dataDir}, change: func(s *Standing) { s.Args = nil }},
	} {
		t.Run(name, func(t *testing.T) {
			cmd := exec.Command(program, "1000")
			cmd.Args[0], cmd.Dir, cmd.Env = "etcd", dir, test.environ
			if err := cmd.Start(); err != nil {
				t.Fatal(err)
			}
			defer func() {
				_ = cmd.Process.Kill()
				_ = cmd.Wait()
			}()
			becomes(t, mustFind(t, cmd.Process.Pid), "etcd", "1000")
			s := &Standing{Args: []string{"/usr/bin/etcd", "1000"}, Dir: dir, UID: uint32(os.Geteuid())}
			if test.change != nil {
				test.change(s)
			}
			p, found, err := FindLike(s, dataDir)
			if err != nil || found != test.want || found && p.PID != cmd.Process.Pid {
				t.Errorf("got %v, %v, %v", p, found, err)
			}
		})
	}
}

func TestProxiesFor(t *testing.T) {
	for name, test := range map[string]struct {
		args, environ []string
		want          string
	}{
		"flags":                      {args: []string{"--proxy=on", "--data-dir", "/d/"}, want: "/d"},
		"flags beat variables":       {args: []string{"-proxy", "on", "-data-dir=x"}, environ: []string{"ETCD_PROXY=off", "ETCD_DATA_DIR=/y"}, want: "/work/x"},
		"a flag turns the proxy off": {args: []string{"--proxy", "off"}, environ: []string{"ETCD_PROXY=on", "ETCD_DATA_DIR=/y"}},
		"one of each":                {args: []string{"--proxy", "readonly"}, environ: []string{"ETCD_DATA_DIR=y"}, want: "/work/y"},
		"a name that ends so":        {environ: []string{"XETCD_PROXY=on", "ETCD_PROXY_X=on", "ETCD_DATA_DIR=/y"}},
		"nothing":                    {},
	} {
		t.Run(name, func(t *testing.T) {
			if got := proxiesFor(test.args, test.environ, "/work"); got != test.want {
				t.Errorf("got %q, want %q", got, test.want)
			}
		})
	}
}
