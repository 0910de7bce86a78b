package main

import (
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"time"

	"github.com/rogpeppe/go-internal/testscript"
)

// memberPlan is one etcd member of a script.
type memberPlan struct {
	name, ip string
	initial  string // --initial-cluster
	state    string // --initial-cluster-state
	tls      string // folder that "certs" has filled; empty: in the clear
	more     []string
}

func cmdCluster(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 1 {
		ts.Fatalf("usage: cluster N [tls=DIR] [FLAG...]")
	}
	var n int
	if _, err := fmt.Sscan(args[0], &n); err != nil || n < 1 || n > 9 {
		ts.Fatalf("cluster: %q is not a number from 1 to 9", args[0])
	}
	more, tls, scheme := args[1:], "", "http"
	if len(more) > 0 {
		if dir, ok := strings.CutPrefix(more[0], "tls="); ok {
			more, tls, scheme = more[1:], ts.MkAbs(dir), "https"
		}
	}
	var plans []memberPlan
	var cluster, endpoints []string
	for i := 1; i <= n; i++ {
		p := memberPlan{
			name: fmt.Sprintf("m%d", i), ip: ts.Getenv(fmt.Sprintf("IP%d", i)), state: "new", tls: tls, more: more,
		}
		plans = append(plans, p)
		cluster = append(cluster, fmt.Sprintf("%s=%s://%s:2380", p.name, scheme, p.ip))
		endpoints = append(endpoints, fmt.Sprintf("%s://%s:2379", scheme, p.ip))
	}
	ts.Setenv("CLUSTER", strings.Join(cluster, ","))
	ts.Setenv("MEMBERS", strings.Join(endpoints, ","))
	for _, p := range plans {
		p.initial = strings.Join(cluster, ",")
		p.start(ts)
	}
	for _, p := range plans {
		waitHealthy(ts, p.name)
	}
}

func (m *memberPlan) start(ts *testscript.TestScript) {
	scheme := "http"
	if m.tls != "" {
		scheme = "https"
	}
	client, peer := scheme+"://"+m.ip+":2379", scheme+"://"+m.ip+":2380"
	line := []string{
		"etcd", "--name", m.name, "--data-dir", m.name,
		"--listen-client-urls", client, "--advertise-client-urls", client,
		"--listen-peer-urls", peer, "--initial-advertise-peer-urls", peer,
		"--initial-cluster", m.initial, "--initial-cluster-state", m.state, "--initial-cluster-token", ts.Name(),
		"--log-level", "warn", "--unsafe-no-fsync",
	}
	if m.tls != "" {
		ca, cert, key := filepath.Join(m.tls, "ca.pem"), filepath.Join(m.tls, "server.pem"), filepath.Join(m.tls, "server-key.pem")
		line = append(line, "--trusted-ca-file", ca, "--cert-file", cert, "--key-file", key,
			"--peer-trusted-ca-file", ca, "--peer-cert-file", cert, "--peer-key-file", key)
	}
	p := startProcess(ts, m.name, append(line, m.more...))
	p.ip, p.tls = m.ip, m.tls
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

var printedCluster = regexp.MustCompile(`ETCD_INITIAL_CLUSTER="([^"]*)"`)

// cmdJoin adds a member. A started cluster refuses for its first 5 seconds
// ("unhealthy cluster"), so the add is tried again.
func cmdJoin(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 3 {
		ts.Fatalf("usage: join NAME IP ENDPOINT [FLAG...]")
	}
	name, ip, endpoint := args[0], args[1], args[2]
	limit := time.Now().Add(patience)
	for {
		stdout, stderr, err := run(ts, []string{
			"etcdctl", "--endpoints", endpoint, "member", "add", name, "--peer-urls", "http://" + ip + ":2380",
		})
		if err == nil {
			m := printedCluster.FindStringSubmatch(stdout)
			if m == nil {
				ts.Fatalf("member add printed %s", stdout)
			}
			plan := memberPlan{name: name, ip: ip, initial: m[1], state: "existing", more: args[3:]}
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
