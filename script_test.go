package main

import (
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/rogpeppe/go-internal/testscript"
)

// The commands that the scripts have besides testscript's own:
//
//	start NAME [VAR=VALUE...] CMD [ARG...]  runs CMD in the background, its output in $WORK/NAME.log; killed at the end
//	crowd N NAME FIRST CMD [ARG...]         starts NAME1 to NAMEN at the same time; in the arguments %n is the number and %ip
//	                                        the address: $IP<FIRST> for number 1, and so on
//	again NAME [VAR=VALUE...]               starts once more what has ended, with the same arguments
//	restart NAME...                         ends all of them by TERM, and starts them again at the same time
//	pid NAME VAR                            puts its process id into $VAR
//	signal NAME SIG                         sends INT, TERM, KILL, STOP or CONT to it
//	signaletcd DIR SIG                      sends a signal to the etcd that the promotion under way in DIR has started
//	exited NAME CODE                        waits until it has ended and compares the exit code; "signal" if a signal ended it
//	cluster N [etcd=PATH] [tls=DIR] [FLAG...]
//	                                        starts members m1..mN at $IP1..$IPN, clients at :2379, peers at :2380, and waits until healthy
//	advertise NAME URL,...                  kills a member and starts it again, which then advertises other client URLs
//	healthy NAME...                         waits until members of cluster or join are healthy
//	join NAME IP ENDPOINT [etcd=PATH] [tls=DIR] [FLAG...]
//	                                        adds a member by the cluster's endpoint and starts it, as etcd's documentation has it
//	leader VAR                              names the leader of the cluster, m1 to mN, in $VAR
//	auth ENDPOINT [tls=DIR]                 switches authentication on; root's password is "secret"
//	snapshotstate FILE [user=NAME:PASSWORD] [but=GLOB]... DIR...
//	                                        writes down the members of the cluster, what is in the folders (but for GLOB, as
//	                                        p.etcd/etcdops/x*), the processes of this script and who listens where
//	same [restarted] FILE1 FILE2            compares two of those; "restarted": pids may differ
//	until TIME [!] CMD [ARG…]               runs CMD again and again until it succeeds (fails); its output is that of the last run
//	untillog TIME NAME REGEXP [COUNT]       waits until NAME.log matches, COUNT times
//	hostaddress VAR                         names an address of this machine's network, not loopback, in $VAR
//	publicdir VAR                           makes a folder that every user can read and names it in $VAR
//
// And these programs: etcdops, etcd, etcdctl, etcdutl, load, http, certs, forward,
// notified, nobody, grpc, calls, bypass, dns, processes, flood, leavers,
// neighbours, tunnel, differential.
var scriptCommands = map[string]func(ts *testscript.TestScript, neg bool, args []string){
	"start":      cmdStart,
	"crowd":      cmdCrowd,
	"again":      cmdAgain,
	"restart":    cmdRestart,
	"pid":        cmdPID,
	"signal":     cmdSignal,
	"signaletcd": cmdSignalEtcd,
	"exited":     cmdExited,
	"cluster":    cmdCluster,
	"advertise":  cmdAdvertise,
	"healthy":    cmdHealthy,
	"join":       cmdJoin,
	"leader":     cmdLeader,
	"auth":       cmdAuth,
	"until":      cmdUntil,
	"untillog":   cmdUntilLog,
	"publicdir":  cmdPublicDir,

	"hostaddress": cmdHostAddress,

	"snapshotstate": cmdSnapshotState,
	"same":          cmdSame,
}

// patience is how long a process may take to become ready or to end on a busy
// machine.
const patience = 40 * time.Second

var (
	networks    atomic.Uint32
	networkMark net.Listener // kept, or it would be closed as garbage
)

// ownNetwork is the N of 127.N.0.0/16 that is ours, whoever runs these tests
// beside us: a port of its own marks it, which lives as long as this process.
var ownNetwork = sync.OnceValue(func() int {
	for i := range 250 {
		n := 1 + (os.Getpid()+i)%250
		if l, err := net.Listen("tcp", fmt.Sprintf("127.%d.0.1:2378", n)); err == nil {
			networkMark = l
			return n
		}
	}
	panic("no loopback network is free")
})

// addresses is how many loopback addresses a script has.
const addresses = 12

// setUpScript gives each script a loopback network of its own, so that its
// ports are fixed and never collide, one port for all addresses, and a run
// folder.
func setUpScript(env *testscript.Env) error {
	number := networks.Add(1)
	for i := 1; i <= addresses; i++ {
		env.Setenv(fmt.Sprintf("IP%d", i), fmt.Sprintf("127.%d.%d.%d", ownNetwork(), number, i))
	}
	// For who listens on every address: a port that no other script of this run
	// has, below those that the system gives out.
	env.Setenv("ANYPORT", strconv.Itoa(20000+os.Getpid()%250*50+int(number%50)))
	env.Setenv("XDG_RUNTIME_DIR", filepath.Join(env.WorkDir, "run"))
	docs, err := filepath.Abs("docs")
	if err != nil {
		return err
	}
	env.Setenv("DOCS", docs)
	env.Setenv("TABLES", filepath.Join(filepath.Dir(docs), "testdata", "readonly"))
	env.Setenv("SHAPES", filepath.Join(filepath.Dir(docs), "testdata", "differential"))
	env.Setenv("NO_COLOR", "1")
	env.Setenv("ETCDCTL_DIAL_TIMEOUT", "2s")
	env.Setenv("GORACE", "atexit_sleep_ms=0")
	if err := takePlainPrograms(env); err != nil {
		return err
	}
	s := &processes{environ: slices.Clone(env.Vars), running: map[string]*process{}}
	env.Values[processesKey{}] = s
	work, err := filepath.EvalSymlinks(env.WorkDir)
	if err != nil {
		return err
	}
	env.Defer(func() {
		s.killAll()
		killStrays(work)
		if race := s.race(); race != "" {
			env.T().Fatal(race)
		}
		if t, ok := env.T().(interface{ Failed() bool }); ok && t.Failed() {
			env.T().Log(s.tails())
		}
	})
	return os.Mkdir(filepath.Join(env.WorkDir, "run"), 0o700)
}

type processesKey struct{}

// processes are the background processes of one script.
type processes struct {
	environ []string // of each of them; "env" in a script does not reach them
	mu      sync.Mutex
	running map[string]*process
}

type process struct {
	line []string // VAR=VALUE..., the program and its arguments
	ip   string   // of a member
	tls  string   // folder of a member's certificates
	cmd  *exec.Cmd
	log  string
	done chan struct{}
	err  error
}

func scriptProcesses(ts *testscript.TestScript) *processes {
	return ts.Value(processesKey{}).(*processes)
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

// tailLines is how much of a log is shown beside a failure.
const tailLines = 12

// tails are the last lines of all logs.
func (s *processes) tails() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	var text strings.Builder
	for name, p := range s.running {
		log, _ := os.ReadFile(p.log)
		lines := strings.Split(strings.TrimSpace(string(log)), "\n")
		fmt.Fprintf(&text, "-- %s.log --\n%s\n", name, strings.Join(lines[max(0, len(lines)-tailLines):], "\n"))
	}
	return text.String()
}

// race returns the first report of the race detector in the logs.
func (s *processes) race() string {
	for name, p := range s.running {
		log, _ := os.ReadFile(p.log)
		if i := strings.Index(string(log), "WARNING: DATA RACE"); i >= 0 {
			return name + ": " + string(log[i:])
		}
	}
	return ""
}

func cmdStart(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 2 {
		ts.Fatalf("usage: start NAME [VAR=VALUE...] CMD [ARG...]")
	}
	startProcess(ts, args[0], args[1:])
}

func cmdCrowd(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 4 {
		ts.Fatalf("usage: crowd N NAME FIRST CMD [ARG...]")
	}
	count, err := strconv.Atoi(args[0])
	ts.Check(err)
	first, err := strconv.Atoi(args[2])
	ts.Check(err)
	for n := range count {
		fill := strings.NewReplacer("%n", strconv.Itoa(n+1), "%ip", ts.Getenv(fmt.Sprintf("IP%d", first+n)))
		line := make([]string, 0, len(args)-3)
		for _, word := range args[3:] {
			line = append(line, fill.Replace(word))
		}
		startProcess(ts, fmt.Sprintf("%s%d", args[1], n+1), line)
	}
}

func cmdAgain(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 1 {
		ts.Fatalf("usage: again NAME [VAR=VALUE...]")
	}
	old := scriptProcesses(ts).get(ts, args[0])
	p := startProcess(ts, args[0], append(args[1:], old.line...))
	p.ip, p.tls = old.ip, old.tls
}

func cmdRestart(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 1 {
		ts.Fatalf("usage: restart NAME...")
	}
	s := scriptProcesses(ts)
	for _, name := range args {
		ts.Check(s.get(ts, name).cmd.Process.Signal(syscall.SIGTERM))
	}
	for _, name := range args {
		waitForEnd(ts, name)
	}
	for _, name := range args {
		cmdAgain(ts, false, []string{name})
	}
}

func startProcess(ts *testscript.TestScript, name string, line []string) *process {
	p := &process{line: line, log: ts.MkAbs(name + ".log"), done: make(chan struct{})}
	log, err := os.OpenFile(p.log, os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
	ts.Check(err)
	defer log.Close()
	p.cmd = command(ts, line)
	p.cmd.Stdout, p.cmd.Stderr = log, log
	s := scriptProcesses(ts)
	s.mu.Lock()
	defer s.mu.Unlock()
	if old := s.running[name]; old != nil {
		select {
		case <-old.done:
		default:
			ts.Fatalf("%s runs already", name)
		}
	}
	ts.Check(p.cmd.Start())
	go func() {
		defer close(p.done)
		p.err = p.cmd.Wait()
	}()
	s.running[name] = p
	return p
}

var assignment = regexp.MustCompile(`^[A-Za-z_][A-Za-z0-9_]*=`)

// command makes a command of VAR=VALUE..., a program and its arguments.
func command(ts *testscript.TestScript, line []string) *exec.Cmd {
	n := 0
	for n < len(line)-1 && assignment.MatchString(line[n]) {
		n++
	}
	path := line[n]
	if !strings.Contains(path, "/") {
		path = lookPath(ts, path)
	}
	cmd := exec.Command(path, line[n+1:]...)
	cmd.Dir, cmd.Env = ts.MkAbs("."), append(slices.Clone(scriptProcesses(ts).environ), line[:n]...)
	return cmd
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

func cmdPID(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 2 {
		ts.Fatalf("usage: pid NAME VAR")
	}
	ts.Setenv(args[1], strconv.Itoa(scriptProcesses(ts).get(ts, args[0]).cmd.Process.Pid))
}

var signals = map[string]syscall.Signal{
	"INT": syscall.SIGINT, "TERM": syscall.SIGTERM, "HUP": syscall.SIGHUP, "KILL": syscall.SIGKILL, "STOP": syscall.SIGSTOP, "CONT": syscall.SIGCONT,
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
	p := waitForEnd(ts, args[0])
	got := fmt.Sprint(p.cmd.ProcessState.ExitCode())
	if got == "-1" {
		got = "signal"
	}
	if got != args[1] {
		log, _ := os.ReadFile(p.log)
		ts.Fatalf("%s ended with %s, not %s\n%s", args[0], got, args[1], log)
	}
}

func waitForEnd(ts *testscript.TestScript, name string) *process {
	p := scriptProcesses(ts).get(ts, name)
	select {
	case <-p.done:
	case <-time.After(patience):
		log, _ := os.ReadFile(p.log)
		ts.Fatalf("%s still runs after %v\n%s", name, patience, log)
	}
	return p
}

func cmdPublicDir(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 1 {
		ts.Fatalf("usage: publicdir VAR")
	}
	dir, err := os.MkdirTemp("/tmp", "etcdops-script-")
	ts.Check(err)
	ts.Defer(func() {
		killStrays(dir)
		_ = os.RemoveAll(dir)
	})
	ts.Check(os.Chmod(dir, 0o755))
	ts.Setenv(args[0], dir)
}
