package main

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/rogpeppe/go-internal/testscript"
)

// memberPlan is one etcd member of a script.
type memberPlan struct {
	name, ip string
	initial  string // --initial-cluster
	state    string // --initial-cluster-state
	options  memberOptions
}

// memberOptions are what a script says about the members that it starts.
type memberOptions struct {
	etcd  string   // the program
	tls   string   // folder that "certs" has filled; empty: in the clear
	flags []string // more flags of etcd
}

// builtInEtcd is the program that is compiled in, see TestMain.
const builtInEtcd = "etcd"

// parseMemberOptions reads [etcd=PATH] [tls=DIR] [FLAG...].
func parseMemberOptions(ts *testscript.TestScript, args []string) memberOptions {
	o := memberOptions{etcd: builtInEtcd}
	for len(args) > 0 {
		name, value, _ := strings.Cut(args[0], "=")
		switch name {
		case "etcd":
			o.etcd = value
		case "tls":
			o.tls = ts.MkAbs(value)
		default:
			o.flags = args
			return o
		}
		args = args[1:]
	}
	return o
}

// knows tells whether the etcd has a flag.
func (o *memberOptions) knows(ts *testscript.TestScript, flag string) bool {
	if o.etcd == builtInEtcd {
		return true
	}
	stdout, stderr, err := run(ts, []string{o.etcd, "--help"})
	ts.Check(err)
	return strings.Contains(stdout+stderr, flag)
}

func (o *memberOptions) scheme() string {
	if o.tls != "" {
		return "https"
	}
	return "http"
}

func cmdCluster(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 1 {
		ts.Fatalf("usage: cluster N [etcd=PATH] [tls=DIR] [FLAG...]")
	}
	var n int
	if _, err := fmt.Sscan(args[0], &n); err != nil || n < 1 || n > 9 {
		ts.Fatalf("cluster: %q is not a number from 1 to 9", args[0])
	}
	options := parseMemberOptions(ts, args[1:])
	var plans []memberPlan
	var cluster, endpoints []string
	for i := 1; i <= n; i++ {
		p := memberPlan{
			name: fmt.Sprintf("m%d", i), ip: ts.Getenv(fmt.Sprintf("IP%d", i)), state: "new", options: options,
		}
		plans = append(plans, p)
		cluster = append(cluster, fmt.Sprintf("%s=%s://%s:2380", p.name, options.scheme(), p.ip))
		endpoints = append(endpoints, fmt.Sprintf("%s://%s:2379", options.scheme(), p.ip))
	}
	ts.Setenv("CLUSTER", strings.Join(cluster, ","))
	ts.Setenv("MEMBERS", strings.Join(endpoints, ","))
	for _, p := range plans {
		p.initial = strings.Join(cluster, ",")
		p.start(ts)
	}
	// The first round waits until each serves, and has said where. What a member
	// answers in the second it reads through the quorum, so that it knows of all.
	for range 2 {
		for _, p := range plans {
			waitHealthy(ts, p.name)
		}
	}
}

func (m *memberPlan) start(ts *testscript.TestScript) {
	o := &m.options
	client, peer := o.scheme()+"://"+m.ip+":2379", o.scheme()+"://"+m.ip+":2380"
	line := []string{
		o.etcd, "--name", m.name, "--data-dir", m.name,
		"--listen-client-urls", client, "--advertise-client-urls", client,
		"--listen-peer-urls", peer, "--initial-advertise-peer-urls", peer,
		"--initial-cluster", m.initial, "--initial-cluster-state", m.state, "--initial-cluster-token", ts.Name(),
		"--log-level", "warn",
	}
	if o.knows(ts, "--unsafe-no-fsync") { // 3.4 does not
		line = append(line, "--unsafe-no-fsync")
	}
	if o.tls != "" {
		ca, cert, key := filepath.Join(o.tls, "ca.pem"), filepath.Join(o.tls, "server.pem"), filepath.Join(o.tls, "server-key.pem")
		line = append(line, "--trusted-ca-file", ca, "--cert-file", cert, "--key-file", key,
			"--peer-trusted-ca-file", ca, "--peer-cert-file", cert, "--peer-key-file", key)
	}
	p := startProcess(ts, m.name, append(line, o.flags...))
	p.ip, p.tls = m.ip, o.tls
}

// cmdAdvertise kills a member and starts it again with other client URLs to
// advertise. It listens where it did.
func cmdAdvertise(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 2 {
		ts.Fatalf("usage: advertise NAME URL,...")
	}
	cmdSignal(ts, false, []string{args[0], "KILL"})
	old := scriptProcesses(ts).get(ts, args[0])
	p := startProcess(ts, args[0], append(slices.Clone(old.line), "--advertise-client-urls", args[1])) // the last one counts
	p.ip, p.tls = old.ip, old.tls
}

func cmdHealthy(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) == 0 {
		ts.Fatalf("usage: healthy NAME...")
	}
	for _, name := range args {
		waitHealthy(ts, name)
	}
}

func waitHealthy(ts *testscript.TestScript, name string) {
	p := scriptProcesses(ts).get(ts, name)
	url := "http://" + p.ip + ":2379/health"
	transport := &http.Transport{DisableKeepAlives: true}
	if p.tls != "" {
		url = "https://" + p.ip + ":2379/health"
		conf, err := readTLS(filepath.Join(p.tls, "ca.pem"), filepath.Join(p.tls, "client.pem"), filepath.Join(p.tls, "client-key.pem"))
		ts.Check(err)
		transport.TLSClientConfig = conf
	}
	c := &http.Client{Timeout: 2 * time.Second, Transport: transport}
	limit := time.Now().Add(patience)
	for {
		if body, err := getText(c, url); err == nil && strings.Contains(body, `"true"`) {
			return
		}
		select {
		case <-p.done:
			log, _ := os.ReadFile(p.log)
			ts.Fatalf("%s ended: %v\n%s", name, p.err, log)
		case <-time.After(20 * time.Millisecond):
		}
		if time.Now().After(limit) {
			log, _ := os.ReadFile(p.log)
			ts.Fatalf("%s is not healthy after %v\n%s", name, patience, log)
		}
	}
}

func getText(c *http.Client, url string) (string, error) {
	res, err := c.Get(url)
	if err != nil {
		return "", err
	}
	defer res.Body.Close()
	body, err := io.ReadAll(res.Body)
	return string(body), err
}

// etcdctl begins its command line; tls as in memberOptions.
func etcdctl(endpoints, tls string) []string {
	line := []string{"etcdctl", "--endpoints", endpoints}
	if tls != "" {
		line = append(line, "--cacert", filepath.Join(tls, "ca.pem"),
			"--cert", filepath.Join(tls, "client.pem"), "--key", filepath.Join(tls, "client-key.pem"))
	}
	return line
}

var printedCluster = regexp.MustCompile(`ETCD_INITIAL_CLUSTER="([^"]*)"`)

// cmdJoin adds a member. A started cluster refuses for its first 5 seconds
// ("unhealthy cluster"), so the add is tried again.
func cmdJoin(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 3 {
		ts.Fatalf("usage: join NAME IP ENDPOINT [etcd=PATH] [tls=DIR] [FLAG...]")
	}
	name, ip, endpoint := args[0], args[1], args[2]
	options := parseMemberOptions(ts, args[3:])
	limit := time.Now().Add(patience)
	for {
		stdout, stderr, err := run(ts, append(
			etcdctl(endpoint, options.tls), "member", "add", name, "--peer-urls", options.scheme()+"://"+ip+":2380"))
		if err == nil {
			m := printedCluster.FindStringSubmatch(stdout)
			if m == nil {
				ts.Fatalf("member add printed %s", stdout)
			}
			plan := memberPlan{name: name, ip: ip, initial: m[1], state: "existing", options: options}
			plan.start(ts)
			waitHealthy(ts, name)
			return
		}
		if time.Now().After(limit) || !strings.Contains(stderr, "unhealthy cluster") {
			ts.Fatalf("member add %s: %v %s", name, err, stderr)
		}
		time.Sleep(tryPause)
	}
}

// cmdLeader asks the members that "cluster" has started.
func cmdLeader(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 1 {
		ts.Fatalf("usage: leader VAR")
	}
	stdout, stderr, err := run(ts, append(etcdctl(ts.Getenv("MEMBERS"), scriptProcesses(ts).get(ts, "m1").tls), "endpoint", "status", "-w", "json"))
	if err != nil {
		ts.Fatalf("endpoint status: %v %s", err, stderr)
	}
	var members []struct {
		Status struct {
			Header struct {
				MemberID uint64 `json:"member_id"`
			}
			Leader uint64
		}
	}
	ts.Check(json.Unmarshal([]byte(stdout), &members))
	for i, m := range members {
		if m.Status.Leader == m.Status.Header.MemberID {
			ts.Setenv(args[0], fmt.Sprintf("m%d", i+1))
			return
		}
	}
	ts.Fatalf("no member is the leader: %s", stdout)
}

// rootPassword is root's after the command auth.
const rootPassword = "secret"

// cmdAuth switches authentication on.
func cmdAuth(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 1 {
		ts.Fatalf("usage: auth ENDPOINT [tls=DIR]")
	}
	begin := etcdctl(args[0], parseMemberOptions(ts, args[1:]).tls)
	for _, words := range [][]string{
		{"user", "add", "root:" + rootPassword}, {"role", "add", "root"}, {"user", "grant-role", "root", "root"}, {"auth", "enable"},
	} {
		if _, stderr, err := run(ts, append(slices.Clone(begin), words...)); err != nil {
			ts.Fatalf("%s: %v %s", strings.Join(words, " "), err, stderr)
		}
	}
}
