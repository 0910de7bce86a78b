package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/rogpeppe/go-internal/testscript"
)

// The commands that the scripts have besides testscript's own:
//
//	start NAME CMD [ARG...]    runs CMD in the background, its output in $WORK/NAME.log; killed at the end
//	cluster N [FLAG...]        starts members m1..mN at $IP1..$IPN, clients at :2379, peers at :2380, and waits until healthy
//	join NAME IP [FLAG...]     adds a member by $IP1's cluster and starts it, as etcd's documentation has it
//	signal NAME SIG            sends INT, TERM, KILL, STOP or CONT to what start or cluster started
//	exited NAME CODE           waits until it has ended and compares the exit code; "signal" for one that a signal ended
//	until TIME [!] CMD [ARG…]  runs CMD again and again until it succeeds (fails); its output is that of the last run
//	untillog TIME NAME REGEXP  waits until NAME.log matches
//	http METHOD URL [BODY]     prints the status line, the headers and the body
//
// A name that begins with $ is an environment variable, as everywhere.
var scriptCommands = map[string]func(ts *testscript.TestScript, neg bool, args []string){
	"start":    cmdStart,
	"cluster":  cmdCluster,
	"join":     cmdJoin,
	"signal":   cmdSignal,
	"exited":   cmdExited,
	"until":    cmdUntil,
	"untillog": cmdUntilLog,
	"http":     cmdHTTP,
}

var networks atomic.Uint32

// setUpScript gives each script a loopback network of its own, so that its
// ports are fixed and never collide, and a run folder.
func setUpScript(env *testscript.Env) error {
	net := networks.Add(1)
	for i := 1; i <= 9; i++ {
		env.Setenv(fmt.Sprintf("IP%d", i), fmt.Sprintf("127.%d.%d.%d", 1+os.Getpid()%250, net, i))
	}
	env.Setenv("XDG_RUNTIME_DIR", filepath.Join(env.WorkDir, "run"))
	env.Setenv("NO_COLOR", "1")
	env.Setenv("ETCDCTL_DIAL_TIMEOUT", "2s")
	s := &processes{running: map[string]*process{}}
	env.Values[processesKey{}] = s
	env.Defer(s.killAll)
	return os.Mkdir(filepath.Join(env.WorkDir, "run"), 0o700)
}

type processesKey struct{}

// processes are the background processes of one script.
type processes struct {
	mu      sync.Mutex
	running map[string]*process
}

type process struct {
	cmd  *exec.Cmd
	log  string
	done chan struct{}
	err  error
}

func (s *processes) get(ts *testscript.TestScript, name string) *process {
	s.mu.Lock()
	defer s.mu.Unlock()
	p := s.running[name]
	if p == nil {
		ts.Fatalf("nothing named %s was started", name)
	}
	return p
}

func (s *processes) killAll() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, p := range s.running {
		_ = p.cmd.Process.Kill()
		<-p.done
	}
}

func scriptProcesses(ts *testscript.TestScript) *processes {
	return ts.Value(processesKey{}).(*processes)
}

func cmdStart(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 2 {
		ts.Fatalf("usage: start NAME CMD [ARG...]")
	}
	startProcess(ts, args[0], args[1], args[2:]...)
}

func startProcess(ts *testscript.TestScript, name, program string, args ...string) {
	path := program
	if !strings.Contains(program, "/") {
		path = lookPath(ts, program)
	}
	logPath := ts.MkAbs(name + ".log")
	log, err := os.OpenFile(logPath, os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
	ts.Check(err)
	defer log.Close()
	cmd := exec.Command(path, args...)
	cmd.Dir, cmd.Env = ts.MkAbs("."), scriptEnviron(ts)
	cmd.Stdout, cmd.Stderr = log, log
	ts.Check(cmd.Start())
	p := &process{cmd: cmd, log: logPath, done: make(chan struct{})}
	go func() {
		defer close(p.done)
		p.err = cmd.Wait()
	}()
	s := scriptProcesses(ts)
	s.mu.Lock()
	defer s.mu.Unlock()
	if old := s.running[name]; old != nil {
		select {
		case <-old.done:
		default:
			_ = cmd.Process.Kill()
			<-p.done
			ts.Fatalf("%s runs already", name)
		}
	}
	s.running[name] = p
}

func lookPath(ts *testscript.TestScript, program string) string {
	for _, dir := range filepath.SplitList(ts.Getenv("PATH")) {
		path := filepath.Join(dir, program)
		if info, err := os.Stat(path); err == nil && info.Mode()&0o111 != 0 && !info.IsDir() {
			return path
		}
	}
	ts.Fatalf("%s is not in PATH", program)
	return ""
}

// scriptEnviron is the script's environment. testscript keeps it to itself, so
// the variables that matter are named here; "env" in a script adds to them by
// the prefix of what etcd and we read.
func scriptEnviron(ts *testscript.TestScript) []string {
	out := []string{}
	for _, kv := range os.Environ() {
		name, _, _ := strings.Cut(kv, "=")
		if v := ts.Getenv(name); v != "" {
			out = append(out, name+"="+v)
		}
	}
	for _, name := range []string{
		"HOME", "PATH", "TMPDIR", "WORK", "XDG_RUNTIME_DIR", "NO_COLOR", "ETCDCTL_DIAL_TIMEOUT", "NOTIFY_SOCKET",
		"ETCD_NAME", "ETCD_DATA_DIR", "ETCD_CONFIG_FILE", "ETCD_INITIAL_CLUSTER", "ETCD_LISTEN_CLIENT_URLS",
		"ETCD_PROXY", "ETCD_PROXY_REFRESH_INTERVAL", "ETCD_LISTEN_PEER_URLS", "HTTP_PROXY", "http_proxy", "HTTPS_PROXY",
	} {
		if v := ts.Getenv(name); v != "" {
			out = append(out, name+"="+v)
		}
	}
	return out
}

func cmdCluster(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 1 {
		ts.Fatalf("usage: cluster N [FLAG...]")
	}
	var n int
	if _, err := fmt.Sscan(args[0], &n); err != nil || n < 1 || n > 9 {
		ts.Fatalf("cluster: %q is not a number from 1 to 9", args[0])
	}
	var cluster []string
	for i := 1; i <= n; i++ {
		cluster = append(cluster, fmt.Sprintf("m%d=http://%s:2380", i, ts.Getenv(fmt.Sprintf("IP%d", i))))
	}
	initial := strings.Join(cluster, ",")
	ts.Setenv("CLUSTER", initial)
	for i := 1; i <= n; i++ {
		startMember(ts, fmt.Sprintf("m%d", i), ts.Getenv(fmt.Sprintf("IP%d", i)), initial, "new", args[1:])
	}
	for i := 1; i <= n; i++ {
		waitHealthy(ts, fmt.Sprintf("m%d", i), ts.Getenv(fmt.Sprintf("IP%d", i)))
	}
}

func startMember(ts *testscript.TestScript, name, ip, initial, state string, more []string) {
	args := []string{
		"--name", name, "--data-dir", name,
		"--listen-client-urls", "http://" + ip + ":2379", "--advertise-client-urls", "http://" + ip + ":2379",
		"--listen-peer-urls", "http://" + ip + ":2380", "--initial-advertise-peer-urls", "http://" + ip + ":2380",
		"--initial-cluster", initial, "--initial-cluster-state", state, "--initial-cluster-token", ts.Name(),
		"--log-level", "warn", "--unsafe-no-fsync",
	}
	startProcess(ts, name, "etcd", append(args, more...)...)
}

// patience is how long a member may take to become healthy on a busy machine.
const patience = 40 * time.Second

func waitHealthy(ts *testscript.TestScript, name, ip string) {
	p := scriptProcesses(ts).get(ts, name)
	limit := time.Now().Add(patience)
	for {
		if body, err := get("http://" + ip + ":2379/health"); err == nil && strings.Contains(body, `"true"`) {
			return
		}
		select {
		case <-p.done:
			log, _ := os.ReadFile(p.log)
			ts.Fatalf("%s ended: %v\n%s", name, p.err, log)
		case <-time.After(20 * time.Millisecond):
		}
		if time.Now().After(limit) {
			ts.Fatalf("%s is not healthy after %v", name, patience)
		}
	}
}

func get(url string) (string, error) {
	c := http.Client{Timeout: 2 * time.Second, Transport: &http.Transport{DisableKeepAlives: true}}
	res, err := c.Get(url)
	if err != nil {
		return "", err
	}
	defer res.Body.Close()
	body, err := io.ReadAll(res.Body)
	return string(body), err
}

// cmdJoin adds a member. A started cluster refuses for its first 5 seconds
// ("unhealthy cluster"), so the add is tried again.
func cmdJoin(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 3 {
		ts.Fatalf("usage: join NAME IP ENDPOINT [FLAG...]")
	}
	name, ip, endpoint := args[0], args[1], args[2]
	limit := time.Now().Add(patience)
	for {
		stdout, stderr, err := runIn(ts, "etcdctl", "--endpoints", endpoint, "member", "add", name, "--peer-urls", "http://"+ip+":2380")
		if err == nil {
			m := regexp.MustCompile(`ETCD_INITIAL_CLUSTER="([^"]*)"`).FindStringSubmatch(stdout)
			if m == nil {
				ts.Fatalf("member add printed %s", stdout)
			}
			startMember(ts, name, ip, m[1], "existing", args[3:])
			waitHealthy(ts, name, ip)
			return
		}
		if time.Now().After(limit) || !strings.Contains(stderr, "unhealthy cluster") {
			ts.Fatalf("member add %s: %v %s", name, err, stderr)
		}
		time.Sleep(100 * time.Millisecond) // between two tries
	}
}

func runIn(ts *testscript.TestScript, program string, args ...string) (stdout, stderr string, err error) {
	cmd := exec.Command(lookPath(ts, program), args...)
	cmd.Dir, cmd.Env = ts.MkAbs("."), scriptEnviron(ts)
	var out, errOut bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errOut
	err = cmd.Run()
	return out.String(), errOut.String(), err
}

var signals = map[string]syscall.Signal{
	"INT": syscall.SIGINT, "TERM": syscall.SIGTERM, "KILL": syscall.SIGKILL, "STOP": syscall.SIGSTOP, "CONT": syscall.SIGCONT,
}

func cmdSignal(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 2 || signals[args[1]] == 0 {
		ts.Fatalf("usage: signal NAME INT|TERM|KILL|STOP|CONT")
	}
	p := scriptProcesses(ts).get(ts, args[0])
	ts.Check(p.cmd.Process.Signal(signals[args[1]]))
	if args[1] == "KILL" {
		<-p.done
	}
}

func cmdExited(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 2 {
		ts.Fatalf("usage: exited NAME CODE")
	}
	p := scriptProcesses(ts).get(ts, args[0])
	select {
	case <-p.done:
	case <-time.After(patience):
		ts.Fatalf("%s still runs after %v", args[0], patience)
	}
	got := fmt.Sprint(p.cmd.ProcessState.ExitCode())
	if got == "-1" {
		got = "signal"
	}
	if got != args[1] {
		log, _ := os.ReadFile(p.log)
		ts.Fatalf("%s ended with %s, not %s\n%s", args[0], got, args[1], log)
	}
}

func cmdUntil(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 2 {
		ts.Fatalf("usage: until TIME [!] CMD [ARG...]")
	}
	within, err := time.ParseDuration(args[0])
	ts.Check(err)
	args = args[1:]
	wantFail := args[0] == "!"
	if wantFail {
		args = args[1:]
	}
	for limit := time.Now().Add(within); ; time.Sleep(20 * time.Millisecond) { // between two tries
		stdout, stderr, err := runIn(ts, args[0], args[1:]...)
		if (err != nil) == wantFail {
			fmt.Fprint(ts.Stdout(), stdout)
			fmt.Fprint(ts.Stderr(), stderr)
			return
		}
		if time.Now().After(limit) {
			ts.Fatalf("not so after %v: %s: %v\n%s%s", within, strings.Join(args, " "), err, stdout, stderr)
		}
	}
}

func cmdUntilLog(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 3 {
		ts.Fatalf("usage: untillog TIME NAME REGEXP")
	}
	within, err := time.ParseDuration(args[0])
	ts.Check(err)
	want, err := regexp.Compile(args[2])
	ts.Check(err)
	p := scriptProcesses(ts).get(ts, args[1])
	for limit := time.Now().Add(within); ; time.Sleep(10 * time.Millisecond) { // between two looks
		log, err := os.ReadFile(p.log)
		ts.Check(err)
		if want.Match(log) {
			return
		}
		if time.Now().After(limit) {
			ts.Fatalf("%s.log does not match %s after %v:\n%s", args[1], args[2], within, log)
		}
	}
}

func cmdHTTP(ts *testscript.TestScript, neg bool, args []string) {
	if len(args) < 2 || len(args) > 3 {
		ts.Fatalf("usage: http METHOD URL [BODY]")
	}
	var body io.Reader
	if len(args) == 3 {
		body = strings.NewReader(args[2])
	}
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, args[0], args[1], body)
	ts.Check(err)
	res, err := (&http.Transport{DisableKeepAlives: true}).RoundTrip(req)
	if neg {
		if err == nil {
			res.Body.Close()
			ts.Fatalf("%s %s was answered", args[0], args[1])
		}
		return
	}
	ts.Check(err)
	defer res.Body.Close()
	fmt.Fprintf(ts.Stdout(), "%s\n", res.Status)
	var names []string
	for name := range res.Header {
		names = append(names, name)
	}
	slices.Sort(names)
	for _, name := range names {
		fmt.Fprintf(ts.Stdout(), "%s: %s\n", name, strings.Join(res.Header[name], ", "))
	}
	fmt.Fprintln(ts.Stdout())
	if _, err := io.Copy(ts.Stdout(), res.Body); err != nil && !errors.Is(err, context.Canceled) {
		ts.Fatalf("read answer: %v", err)
	}
	fmt.Fprintln(ts.Stdout())
}
