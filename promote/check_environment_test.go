package promote

import (
	"slices"
	"testing"
)

func TestCheckEnvironment(t *testing.T) {
	for _, test := range []refusalCase{
		{"clean", func(c *Candidate) { c.Environ = []string{"PATH=/bin", "HOME=/root", "odd"} }, "", "", ""},
		{"variables that we set too", func(c *Candidate) {
			c.Environ = []string{"ETCD_NAME=x", "ETCD_DATA_DIR=/x", "ETCD_INITIAL_CLUSTER=a=b", "ETCD_INITIAL_CLUSTER_STATE=existing"}
		}, "", "", ""},
		{"harmless", func(c *Candidate) {
			c.Environ = []string{"ETCD_PROXY=off", "ETCD_DISCOVERY=", "ETCD_DISCOVERY_FALLBACK=proxy", "ETCD_FORCE_NEW_CLUSTER=false", "ETCD_QUOTA_BACKEND_BYTES=1"}
		}, "", "", ""},
		{"proxy", func(c *Candidate) { c.Environ = []string{"ETCD_PROXY=on"} }, "environment", "ETCD_PROXY makes a proxy", "unset ETCD_PROXY"},
		{"discovery", func(c *Candidate) { c.Environ = []string{"ETCD_DISCOVERY=http://x/token"} }, "environment", "ETCD_DISCOVERY ", "unset ETCD_DISCOVERY"},
		{"discovery by DNS", func(c *Candidate) { c.Environ = []string{"ETCD_DISCOVERY_SRV=example.org"} }, "environment", "ETCD_DISCOVERY_SRV", "unset ETCD_DISCOVERY_SRV"},
		{"discovery of 3.6", func(c *Candidate) { c.Environ = []string{"ETCD_DISCOVERY_TOKEN=x"} }, "environment", "ETCD_DISCOVERY_TOKEN", "unset"},
		{"new cluster", func(c *Candidate) { c.Environ = []string{"ETCD_INITIAL_CLUSTER_STATE=new"} }, "environment", `is "new"`, "unset"},
		{"forced new cluster", func(c *Candidate) { c.Environ = []string{"ETCD_FORCE_NEW_CLUSTER=1"} }, "environment", "cluster of its own", "unset"},
		{"config file", func(c *Candidate) { c.Environ = []string{"ETCD_CONFIG_FILE=/etc/etcd.yml"} }, "environment", "ignore all flags", "unset"},
		{"log elsewhere", func(c *Candidate) { c.Environ, c.WALDir = []string{"ETCD_WAL_DIR=/a"}, "/b" }, "environment", "/a", "unset"},
		{"log where it was looked at", func(c *Candidate) { c.Environ, c.WALDir = []string{"ETCD_WAL_DIR=/a"}, "/a" }, "", "", ""},
		{"flag and variable", func(c *Candidate) {
			c.Environ, c.EtcdFlags = []string{"ETCD_QUOTA_BACKEND_BYTES=1"}, []string{"--quota-backend-bytes", "2"}
		}, "environment", "--quota-backend-bytes", "unset ETCD_QUOTA_BACKEND_BYTES"},
		{"process 1", func(c *Candidate) { c.ProxyNamespacePID = 1 }, "proxy-pid-1", "pid 4711", "--stage env"},
		{"in a pod", func(c *Candidate) { c.ProxyNamespacePID, c.ProxyInPod = 1, true }, "proxy-in-pod", "pid 4711", "--stage env"},
		{"in a pod, etcd started elsewhere", func(c *Candidate) { c.ProxyNamespacePID, c.ProxyInPod, c.StageEnv = 1, true, true }, "", "", ""},
		{"no proxy runs", func(c *Candidate) { c.ProxyPID, c.ProxyNamespacePID = 0, 0 }, "", "", ""},
	} {
		t.Run(test.name, func(t *testing.T) {
			c := goodCandidate(t)
			test.change(c)
			expectOne(t, c.CheckEnvironment(), test.check, test.problem, test.hint)
		})
	}
}

// TestCheckPlace is for a promotion that began with --stage env, which is let
// pass in these places.
func TestCheckPlace(t *testing.T) {
	process := Process{PID: 4711}
	for _, test := range []struct {
		name, check string
		proxy       Standing
	}{
		{"on a host", "", Standing{Process: process, NamespacePID: 4711}},
		{"in a pod", "proxy-in-pod", Standing{Process: process, NamespacePID: 7, Pod: true}},
		{"process 1", "proxy-pid-1", Standing{Process: process, NamespacePID: 1}},
	} {
		t.Run(test.name, func(t *testing.T) {
			expectOne(t, (&Plan{Proxy: test.proxy}).CheckPlace(), test.check, "pid 4711", "--stage env")
		})
	}
}

func TestEtcdFlags(t *testing.T) {
	for _, test := range []struct {
		name          string
		args          []string
		flags, strays []string
	}{
		{"none", nil, nil, nil},
		{"both forms", []string{"--a=1", "-b", "2", "--c"}, []string{"a", "b", "c"}, nil},
		{"value with a sign", []string{"--a", "-1"}, []string{"a"}, nil},
		{"value that holds =", []string{"--a=b=c"}, []string{"a"}, nil},
		{"two words", []string{"--a", "1", "2"}, []string{"a"}, []string{"2"}},
		{"a word first", []string{"start", "--a=1"}, []string{"a"}, []string{"start"}},
		{"dashes alone", []string{"--", "-"}, nil, []string{"--", "-"}},
	} {
		t.Run(test.name, func(t *testing.T) {
			flags, strays := etcdFlags(test.args)
			if !slices.Equal(flags, test.flags) || !slices.Equal(strays, test.strays) {
				t.Errorf("got %q, %q", flags, strays)
			}
		})
	}
}
