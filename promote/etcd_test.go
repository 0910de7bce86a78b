package promote

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"go.etcd.io/etcd/server/v3/etcdmain"
)

// roleVariable tells the test binary to be something else than the tests.
const roleVariable = "PROMOTE_TEST_ROLE"

func TestMain(m *testing.M) {
	switch os.Getenv(roleVariable) {
	case "etcd":
		if err := DieWithParent(os.Getenv, os.Unsetenv); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		etcdmain.Main(os.Args)
	case "parent":
		beParent(os.Args[1], os.Args[2])
	default:
		os.Exit(m.Run())
	}
}

// beParent runs one etcd as the demo runs its members, says "healthy", and
// waits to be killed.
func beParent(ip, dir string) {
	e := newEtcd(ip, dir)
	e.DieWithParent = true
	ctx := context.Background()
	err := e.Start(ctx)
	if err == nil {
		err = e.WaitHealthy(ctx, clientURL(ip), nil)
	}
	if err != nil {
		fmt.Println(err)
		os.Exit(1)
	}
	fmt.Println("healthy")
	<-e.Done()
}

// newEtcd describes a one-member cluster: this test binary in the role of
// etcd.
func newEtcd(ip, dir string) *Etcd {
	self, err := os.Executable()
	if err != nil {
		panic(err)
	}
	peerURL := "http://" + ip + ":2380"
	return &Etcd{
		Path: self,
		Flags: []string{
			"--name=m1", "--data-dir=" + filepath.Join(dir, "m1"),
			"--listen-client-urls=" + clientURL(ip), "--advertise-client-urls=" + clientURL(ip),
			"--listen-peer-urls=" + peerURL, "--initial-advertise-peer-urls=" + peerURL,
			"--initial-cluster=m1=" + peerURL, "--unsafe-no-fsync",
		},
		Environ: append(os.Environ(), roleVariable+"=etcd"),
	}
}

func clientURL(ip string) string { return "http://" + ip + ":2379" }

// loopback gives each test an address of its own, so that ports are fixed and
// never collide, also with another run of the tests.
func loopback(test byte) string {
	pid := os.Getpid()
	return net.IPv4(127, byte(1+pid%250), byte(1+pid/250%250), test).String()
}

func TestEtcdServesAndStops(t *testing.T) {
	ip, dir := loopback(1), t.TempDir()
	var log bytes.Buffer
	e := newEtcd(ip, dir)
	e.Log = &log
	e.Environ = append(e.Environ,
		"ETCD_NAME=other", "ETCD_DATA_DIR=/nowhere", "ETCD_CONFIG_FILE=/nowhere.yml",
		"HTTP_PROXY=http://192.0.2.1:1", "http_proxy=http://192.0.2.1:1")
	if err := e.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := e.WaitHealthy(t.Context(), clientURL(ip), nil); err != nil {
		t.Fatal(err)
	}
	if err := e.Start(t.Context()); err == nil {
		t.Error("a second Start of the same value passed")
	}
	if err := e.Err(); err != nil {
		t.Errorf("Err of a running etcd: %v", err)
	}
	if err := e.Stop(t.Context(), DefaultGrace); err != nil {
		t.Fatal(err)
	}
	if err := e.Err(); err != nil {
		t.Errorf("Err of an etcd that we stopped: %v", err)
	}
	if err := e.Stop(t.Context(), DefaultGrace); err != nil {
		t.Errorf("second Stop: %v", err)
	}
	if !strings.Contains(log.String(), "ready to serve client requests") {
		t.Errorf("the log was not passed on: %q", log.String())
	}
}

func TestEtcdSaysWhyItEnded(t *testing.T) {
	busy := loopback(2)
	listener, err := net.Listen("tcp", busy+":2379")
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for name, test := range map[string]struct {
		ip, dir, flag, want string
	}{
		"port in use":              {ip: busy, dir: t.TempDir(), want: busy + ":2379: bind: address already in use"},
		"unknown flag":             {ip: loopback(3), dir: t.TempDir(), flag: "--proxy=on", want: "flag provided but not defined: -proxy"},
		"data directory is a file": {ip: loopback(4), dir: file, want: "not a directory"},
	} {
		t.Run(name, func(t *testing.T) {
			e := newEtcd(test.ip, test.dir)
			if test.flag != "" {
				e.Flags = append(e.Flags, test.flag)
			}
			if err := e.Start(t.Context()); err != nil {
				t.Fatal(err)
			}
			err := e.WaitHealthy(t.Context(), clientURL(test.ip), nil)
			if err == nil || !strings.Contains(err.Error(), test.want) {
				t.Errorf("WaitHealthy: %v, want it to say %q", err, test.want)
			}
			<-e.Done()
			if e.Err() == nil || !errors.Is(err, e.Err()) {
				t.Errorf("Err: %v, want what WaitHealthy wraps: %v", e.Err(), err)
			}
		})
	}
}

func TestEtcdEndsWithItsContext(t *testing.T) {
	ip := loopback(5)
	ctx, cancel := context.WithCancel(t.Context())
	e := newEtcd(ip, t.TempDir())
	if err := e.Start(ctx); err != nil {
		t.Fatal(err)
	}
	if err := e.WaitHealthy(ctx, clientURL(ip), nil); err != nil {
		t.Fatal(err)
	}
	cancel()
	<-e.Done()
	if err := e.Err(); err != nil {
		t.Errorf("Err: %v", err)
	}
	if err := e.WaitHealthy(t.Context(), clientURL(ip), nil); err == nil || !strings.Contains(err.Error(), "stopped") {
		t.Errorf("WaitHealthy of a stopped etcd: %v", err)
	}
}

func TestEtcdStartFails(t *testing.T) {
	e := &Etcd{Path: filepath.Join(t.TempDir(), "absent"), DieWithParent: true}
	if err := e.Start(t.Context()); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("Start: %v", err)
	}
	if err := e.Stop(t.Context(), time.Second); err != nil {
		t.Errorf("Stop of what never started: %v", err)
	}
	if pid := e.Pid(); pid != 0 {
		t.Errorf("Pid: %d", pid)
	}
}

func TestEtcdDiesWithItsParent(t *testing.T) {
	ip := loopback(6)
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	parent := exec.CommandContext(t.Context(), self, ip, t.TempDir())
	parent.Env = append(os.Environ(), roleVariable+"=parent")
	said, err := parent.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := parent.Start(); err != nil {
		t.Fatal(err)
	}
	answer := make([]byte, 512)
	n, _ := said.Read(answer)
	if got := string(answer[:n]); got != "healthy\n" {
		t.Fatalf("the parent said %q", got)
	}
	if err := parent.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = parent.Wait()

	ticker := time.NewTicker(20 * time.Millisecond)
	defer ticker.Stop()
	limit := time.After(20 * time.Second)
	for {
		conn, err := net.DialTimeout("tcp", ip+":2379", time.Second)
		if err != nil {
			return
		}
		conn.Close()
		select {
		case <-ticker.C:
		case <-limit:
			t.Fatal("etcd still listens 20 s after its parent was killed")
		}
	}
}

func TestEnvironment(t *testing.T) {
	got := Environment([]string{
		"PATH=/bin", "ETCD_NAME=a", "ETCD_UNSUPPORTED_ARCH=arm", "ETCDCTL_API=3", "HTTP_PROXY=p", "https_proxy=p",
		"No_Proxy=p", "ALL_PROXY=p", "ETCDOPS_PARENT_PIPE=9", "HOME=/h=1",
	})
	want := []string{"PATH=/bin", "ETCDCTL_API=3", "HOME=/h=1"}
	if !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
}

func TestDieWithParentRefuses(t *testing.T) {
	file, err := os.Open(os.DevNull)
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	for name, test := range map[string]struct{ value, want string }{
		"no variable":      {value: ""},
		"not a number":     {value: "three", want: "not a descriptor"},
		"not open":         {value: "987654", want: "bad file descriptor"},
		"not a pipe":       {value: fmt.Sprint(file.Fd()), want: "not a pipe"},
		"negative":         {value: "-1", want: "bad file descriptor"},
		"number and words": {value: "3 ", want: "not a descriptor"},
	} {
		t.Run(name, func(t *testing.T) {
			unset := false
			err := DieWithParent(
				func(string) string { return test.value },
				func(string) error { unset = true; return nil })
			if test.want == "" {
				if err != nil || unset {
					t.Errorf("got %v, unset %v", err, unset)
				}
				return
			}
			if err == nil || !strings.Contains(err.Error(), test.want) || !unset {
				t.Errorf("got %v, unset %v, want %q and true", err, unset, test.want)
			}
		})
	}
}

func TestLastLinesCause(t *testing.T) {
	for name, test := range map[string]struct{ log, want string }{
		"nothing": {log: "", want: ""},
		"only talk": {
			log: `{"level":"info","msg":"starting"}` + "\n" + `{"level":"warn","msg":"slow"}` + "\n", want: "",
		},
		"last error wins": {
			log:  `{"level":"error","msg":"first","error":"a"}` + "\n" + `{"level":"fatal","msg":"second","error":"b"}` + "\n",
			want: "second: b",
		},
		"start failed": {
			log:  `{"level":"fatal","msg":"discovery failed","error":"listen tcp 127.0.0.1:2379: bind: address already in use"}` + "\n",
			want: "listen tcp 127.0.0.1:2379: bind: address already in use",
		},
		"message alone":   {log: `{"level":"panic","msg":"broken"}` + "\n", want: "broken"},
		"line not ended":  {log: `{"level":"fatal","msg":"cut"}`, want: "cut"},
		"locked database": {log: `{"level":"info","msg":"db file is flocked by another process, or taking too long"}` + "\n", want: "the data directory is in use by another process"},
		"go panic":        {log: "panic: oh\n\ngoroutine 1 [running]:\n", want: "panic: oh"},
		"flags refused": {
			log:  `{"level":"warn","msg":"failed to verify flags","error":"--a and --b"}` + "\n",
			want: "--a and --b",
		},
		"3.4": {
			log:  "2026-11-22 17:44:15.9 I | etcdmain: starting\n2026-11-22 17:44:15.917775 E | etcdmain: error verifying flags, a: b. See 'etcd --help'.\n",
			want: "error verifying flags, a: b. See 'etcd --help'.",
		},
		"3.4, fatal":   {log: "2026-11-22 17:44:15.917775 C | etcdmain: listen tcp 127.0.0.1:2379: bind: address already in use\n", want: "listen tcp 127.0.0.1:2379: bind: address already in use"},
		"unknown flag": {log: "flag provided but not defined: -x\nUsage:\n", want: "flag provided but not defined: -x"},
	} {
		t.Run(name, func(t *testing.T) {
			var passed bytes.Buffer
			l := &lastLines{Next: &passed}
			for _, b := range []byte(test.log) {
				if _, err := l.Write([]byte{b}); err != nil {
					t.Fatal(err)
				}
			}
			if got := l.cause(); got != test.want {
				t.Errorf("got %q, want %q", got, test.want)
			}
			if passed.String() != test.log {
				t.Errorf("passed on %q", passed.String())
			}
		})
	}
}

func TestLogEndIsOfTheLastRun(t *testing.T) {
	const first = `{"level":"info","msg":"recognized and used environment variable","variable-name":"ETCD_ADVERTISE_CLIENT_URLS"}` + "\n"
	const failed, frozen = `{"level":"fatal","msg":"failed"}` + "\n", `{"level":"info","msg":"starting"}` + "\n"
	for name, test := range map[string]struct {
		log   string
		cause string
		lines int
	}{
		"nothing":        {},
		"one run":        {log: first + failed, cause: "failed", lines: 2},
		"an earlier one": {log: first + failed + first + frozen, lines: 2},
		"begin cut off":  {log: frozen + failed, cause: "failed", lines: 2},
		"3.4 in the old format": {
			log: failed + "2026-01-02 I | pkg/flags: recognized and used environment variable ETCD_ADVERTISE_CLIENT_URLS=http://x\n" + frozen, lines: 2,
		},
	} {
		t.Run(name, func(t *testing.T) {
			cause, lines := logEnd([]byte(test.log))
			if cause != test.cause || len(lines) != test.lines {
				t.Errorf("got %q and %d lines %q, want %q and %d", cause, len(lines), lines, test.cause, test.lines)
			}
		})
	}
}

func TestLastLinesStaysSmall(t *testing.T) {
	l := &lastLines{Next: new(bytes.Buffer)}
	for range 3 * keptLines {
		_, _ = l.Write([]byte(strings.Repeat("x", 3*keptLineSize) + "\n"))
	}
	if len(l.lines) != keptLines || len(l.lines[0]) != keptLineSize {
		t.Errorf("kept %d lines of %d bytes", len(l.lines), len(l.lines[0]))
	}
}
