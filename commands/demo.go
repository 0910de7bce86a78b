package commands

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"github.com/urfave/cli/v2"

	"etcdops/discover"
	"etcdops/promote"
	"etcdops/proxy"
)

const (
	defaultDemoMembers = 3
	maxDemoMembers     = 9
	// demoPatience is how long the cluster may take to become healthy.
	demoPatience = time.Minute
	// demoRefresh lets a change of the members be seen while one looks on.
	demoRefresh = "5s"
)

type demoOptions struct {
	Members    int
	Keep       string
	ListenURLs string
	Once       bool
}

func newDemoCommand(env *Env) *cli.Command {
	return &cli.Command{
		Name:  "demo",
		Usage: "run a real cluster and a proxy in front of it, on this machine alone",
		Description: `Starts members of the etcd that is built in, and a proxy. Ctrl-C ends and removes
everything. With --once it checks the proxy as your clients use it, with one
member killed half-way, and ends: a smoke test.

Examples:
  etcdops demo
  etcdops demo --once
  etcdops demo --members 5 --listen-client-urls http://127.0.0.1:23790`,
		Flags: []cli.Flag{
			&cli.IntFlag{Name: "members", Value: defaultDemoMembers, Usage: "start `N` members"},
			&cli.StringFlag{Name: "keep", Usage: "keep all data and logs in `DIR`, which must be empty or new"},
			&cli.StringFlag{Name: "listen-client-urls", Usage: "`URLS` of the proxy; if not set, a free port of 127.0.0.1"},
			&cli.BoolFlag{Name: "once", Usage: "check, then end with 0 or 1"},
		},
		Action: action{Run: func(ctx context.Context, c *cli.Context) error {
			if err := noArguments(c); err != nil {
				return err
			}
			return runDemo(ctx, env, demoOptions{
				Members: c.Int("members"), Keep: c.String("keep"),
				ListenURLs: c.String("listen-client-urls"), Once: c.Bool("once"),
			})
		}}.Do,
	}
}

// demo is a running demonstration.
type demo struct {
	env     *Env
	dir     string
	members []*demoMember
	url     string // of the proxy, for clients
	urls    string // all that the proxy listens on
	server  *proxy.Server
	stop    context.CancelFunc
	ended   chan struct{} // the proxy has; err is why
	err     error
}

type demoMember struct {
	name, client, peer string
	log                *os.File
	etcd               *promote.Etcd
}

func runDemo(ctx context.Context, env *Env, opts demoOptions) (err error) {
	if opts.Members < 1 || opts.Members > maxDemoMembers {
		return usageError(fmt.Sprintf("write --members 3, or another number from 1 to %d", maxDemoMembers), "--members: %d is not from 1 to %d", opts.Members, maxDemoMembers)
	}
	if err := checkDemoURLs(opts.ListenURLs); err != nil {
		return err
	}
	ctx, stopWatch := endWithGoRun(ctx)
	defer stopWatch()
	d := &demo{env: env}
	clean, err := d.makeFolder(opts.Keep)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, clean()) }()
	defer d.close()
	began := time.Now()
	for _, step := range []func(context.Context, demoOptions) error{d.startMembers, d.startProxy, d.waitHealthy} {
		if err := step(ctx, opts); err != nil {
			return d.explain(err)
		}
	}
	d.say("everything is healthy after %v", time.Since(began).Round(100*time.Millisecond))
	if err := d.show(ctx); err != nil {
		return err
	}
	if opts.Once {
		return d.check(ctx)
	}
	d.paste()
	d.say("Ctrl-C ends and removes everything")
	select {
	case <-ctx.Done():
		d.say("stopping")
		return nil
	case <-d.ended:
		return d.err
	}
}

// checkDemoURLs refuses bad URLs before anything starts.
func checkDemoURLs(urls string) error {
	if urls == "" {
		return nil
	}
	flag := func(name string) (string, bool) { return urls, name == "listen-client-urls" }
	s, err := loadSettings(proxySettings(), flag, func(string) string { return "" })
	if err != nil {
		return err
	}
	list, err := parseListenURLs(s)
	if err != nil {
		return err
	}
	for _, u := range list {
		if u.Scheme != "http" && u.Scheme != "unix" {
			return usageError("write http:// or unix://; for TLS see etcdops proxy start --help", "--listen-client-urls: the demo has no certificate for %s", u.String())
		}
	}
	return nil
}

func (d *demo) say(format string, args ...any) {
	fmt.Fprintln(d.env.Stderr, d.env.Err.Faint.Sprint("demo: ")+fmt.Sprintf(format, args...))
}

func (d *demo) explain(err error) error {
	var failure *Failure
	if errors.As(err, &failure) {
		return err
	}
	return fail(ExitFailed, err, "see the members' logs: run it again with --keep DIR")
}

// startMembers starts the cluster: this binary as etcd, one process a member.
func (d *demo) startMembers(ctx context.Context, opts demoOptions) error {
	exe, err := os.Executable()
	if err != nil {
		return fmt.Errorf("find our own binary: %w", err)
	}
	ports, err := freePorts(ctx, 2*opts.Members)
	if err != nil {
		return err
	}
	var cluster []string
	for i := range opts.Members {
		m := &demoMember{
			name:   fmt.Sprintf("m%d", i+1),
			client: "http://" + ports[2*i], peer: "http://" + ports[2*i+1],
		}
		d.members = append(d.members, m)
		cluster = append(cluster, m.name+"="+m.peer)
	}
	for _, m := range d.members {
		log, err := os.OpenFile(filepath.Join(d.dir, m.name+".log"), os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
		if err != nil {
			return fmt.Errorf("make a log: %w", err)
		}
		m.log = log
		m.etcd = &promote.Etcd{
			Path: exe, Args: []string{"etcd"}, Environ: d.env.Environ, Log: log, DieWithParent: true,
			Flags: []string{
				"--name", m.name, "--data-dir", filepath.Join(d.dir, m.name),
				"--listen-client-urls", m.client, "--advertise-client-urls", m.client,
				"--listen-peer-urls", m.peer, "--initial-advertise-peer-urls", m.peer,
				"--initial-cluster", strings.Join(cluster, ","), "--initial-cluster-token", filepath.Base(d.dir),
				"--log-level", "warn",
			},
		}
		// The process outlives a Ctrl-C until the proxy has drained.
		if err := m.etcd.Start(context.WithoutCancel(ctx)); err != nil {
			return fmt.Errorf("start member %s: %w", m.name, err)
		}
		d.say("member %s starts: process %d, clients at %s", m.name, m.etcd.Pid(), m.client)
	}
	return nil
}

// freePorts finds addresses of 127.0.0.1 that nobody listens on.
func freePorts(ctx context.Context, n int) ([]string, error) {
	var addrs []string
	for range n {
		var lc net.ListenConfig
		l, err := lc.Listen(ctx, "tcp", "127.0.0.1:0")
		if err != nil {
			return nil, fmt.Errorf("find a free port: %w", err)
		}
		defer l.Close() // held until all are found, so that no two are the same
		addrs = append(addrs, l.Addr().String())
	}
	return addrs, nil
}

// startProxy runs the proxy in this process, as proxy start would, with nothing
// of the environment.
func (d *demo) startProxy(ctx context.Context, opts demoOptions) error {
	d.urls = opts.ListenURLs
	if d.urls == "" {
		ports, err := freePorts(ctx, 1)
		if err != nil {
			return err
		}
		d.urls = "http://" + ports[0]
	}
	var peers []string
	for _, m := range d.members {
		peers = append(peers, m.name+"="+m.peer)
	}
	flags := map[string]string{
		"listen-client-urls": d.urls, "initial-cluster": strings.Join(peers, ","),
		"data-dir": filepath.Join(d.dir, "proxy.etcd"), "name": "demo",
		"proxy-refresh-interval": demoRefresh,
	}
	bare := func(name string) string {
		if name == "XDG_RUNTIME_DIR" { // where the proxy registers itself
			return d.env.Getenv(name)
		}
		return ""
	}
	flag := func(name string) (string, bool) { v, ok := flags[name]; return v, ok }
	s, err := loadSettings(proxySettings(), flag, bare)
	if err != nil {
		return err
	}
	log, err := os.OpenFile(filepath.Join(d.dir, "proxy.log"), os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
	if err != nil {
		return fmt.Errorf("make a log: %w", err)
	}
	env := *d.env
	env.Environ = nil
	if dir := bare("XDG_RUNTIME_DIR"); dir != "" {
		env.Environ = []string{"XDG_RUNTIME_DIR=" + dir}
	}
	d.server, _, err = newProxyServer(&env, s, slog.New(slog.NewTextHandler(log, nil)))
	if err != nil {
		_ = log.Close()
		return err
	}
	d.server.Notify = nil
	d.url = d.server.ListenURLs[0].String()
	var serve context.Context
	serve, d.stop = context.WithCancel(context.WithoutCancel(ctx))
	d.ended = make(chan struct{})
	go func() {
		defer log.Close()
		defer close(d.ended)
		d.err = explainStart(s, d.server.Run(serve, context.WithoutCancel(ctx)))
	}()
	d.say("proxy starts: clients at %s", d.urls)
	return nil
}

// waitHealthy waits until each member is, and the proxy answers for them.
func (d *demo) waitHealthy(ctx context.Context, _ demoOptions) error {
	ctx, cancel := context.WithTimeout(ctx, demoPatience)
	defer cancel()
	began := time.Now()
	for _, m := range d.members {
		if err := m.etcd.WaitHealthy(ctx, m.client, nil); err != nil {
			return fmt.Errorf("member %s: %w", m.name, err)
		}
		d.say("member %s is healthy after %v", m.name, time.Since(began).Round(100*time.Millisecond))
	}
	last := "it was not asked"
	for {
		problem := d.problem(ctx)
		if problem == "" {
			return nil
		}
		if ctx.Err() == nil { // else it is the end of the question
			last = problem
		}
		select {
		case <-d.ended:
			return d.err
		case <-ctx.Done():
			return fmt.Errorf("the proxy did not become healthy: %s: %w", last, ctx.Err())
		case <-time.After(50 * time.Millisecond):
		}
	}
}

// problem is why the proxy does not serve for each member yet, or "". What a
// member says of itself does not prove it: the proxy's list may be older.
func (d *demo) problem(ctx context.Context) string {
	body, err := httpGet(ctx, d.server.ListenURLs[0], "/health")
	switch {
	case err != nil:
		return err.Error()
	case !strings.Contains(body, "true"):
		return oneLine(body)
	}
	report, err := membersByControl(ctx, d.control(), "", "")
	if err != nil {
		return err.Error()
	}
	if healthy, problem := discover.AllHealthy(report.Members); !healthy {
		return problem
	}
	for _, m := range report.Members {
		if !m.Used {
			return fmt.Sprintf("member %s is not used: %s", m.Name, m.Why)
		}
	}
	return ""
}

// show prints the members and how the proxy found them.
func (d *demo) show(ctx context.Context) error {
	report, err := membersByControl(ctx, d.control(), "", "")
	if err != nil {
		return err
	}
	resolution, err := discover.New(discover.Config{
		InitialCluster: d.initialCluster(), DialTimeout: discover.DefaultDialTimeout,
	}).Resolve(ctx)
	if err != nil {
		return err
	}
	if err := d.env.printTable(outputTable, membersTable(d.env, report)); err != nil {
		return err
	}
	fmt.Fprintln(d.env.Stdout)
	return d.env.printTables(outputTable, resolutionTables(d.env, resolution), nil)
}

func (d *demo) control() string { return proxy.ControlPath(d.server.DataDir) }

func (d *demo) initialCluster() string {
	var parts []string
	for _, m := range d.members {
		parts = append(parts, m.name+"="+m.peer)
	}
	return strings.Join(parts, ",")
}

// paste prints commands to try, as they have to be typed here.
func (d *demo) paste() {
	own := programName
	if exe, err := os.Executable(); err == nil {
		own = exe
		if fromGoRun(exe) {
			own = "go run ."
		}
	}
	w := d.env.Stdout
	fmt.Fprintf(w, "\n# write and read by JSON (keys and values are base64)\n")
	fmt.Fprintf(w, "curl -s %s/v3/kv/put -d '{\"key\":\"Zm9v\",\"value\":\"YmFy\"}'; echo; curl -s %s/v3/kv/range -d '{\"key\":\"Zm9v\"}'; echo\n", d.url, d.url)
	if path, err := exec.LookPath("etcdctl"); err == nil {
		fmt.Fprintf(w, "# write and read by gRPC\n%s --endpoints %s put foo bar; %s --endpoints %s get foo\n", path, d.url, path, d.url)
	}
	fmt.Fprintf(w, "# the cluster as the proxy sees it\n%s proxy members --data-dir %s\n", own, d.server.DataDir)
	fmt.Fprintf(w, "# what the proxy does\n%s proxy status --data-dir %s\n", own, d.server.DataDir)
	fmt.Fprintf(w, "# how a proxy finds it\n%s proxy discover --initial-cluster %s\n\n", own, d.initialCluster())
}

// close stops the proxy, which drains, and then the members.
func (d *demo) close() {
	if d.stop != nil {
		d.stop()
		<-d.ended
	}
	for _, m := range d.members {
		if m.etcd != nil {
			_ = m.etcd.Kill() // its data goes with the folder
		}
		if m.log != nil {
			_ = m.log.Close()
		}
	}
}
