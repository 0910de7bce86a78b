//go:build bench

package main

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// benchMachine is what the figures depend on.
type benchMachine struct {
	lines [][2]string
}

func describeMachine(ctx context.Context, b *bench) (*benchMachine, error) {
	m := &benchMachine{}
	add := func(name, value string) { m.lines = append(m.lines, [2]string{name, value}) }

	average, err := os.ReadFile("/proc/loadavg")
	if err != nil {
		return nil, err
	}
	var system unix.Utsname
	if err := unix.Uname(&system); err != nil {
		return nil, err
	}
	add("date", time.Now().UTC().Format("2006-01-02 15:04 MST"))
	add("load average at the start", strings.Join(strings.Fields(string(average))[:3], " "))
	add("processor", fmt.Sprintf("%d cores, %s%s", runtime.NumCPU(), fieldOf("/proc/cpuinfo", "model name"), hypervisor()))
	add("memory", fieldOf("/proc/meminfo", "MemTotal"))
	add("kernel", unix.ByteSliceToString(system.Sysname[:])+" "+unix.ByteSliceToString(system.Release[:])+" "+runtime.GOARCH)
	add("data of etcd on", filesystem(b.work))
	add("Go", runtime.Version())
	add("etcdops", firstLine(ctx, "git", "describe", "--always", "--dirty", "--tags"))
	add("etcd, gateway, grpc-proxy", firstLine(ctx, b.etcdops, "etcd", "--version"))
	add("etcd with v2, v2-proxy", firstLine(ctx, b.etcd35, "--version"))
	if b.haproxy == "" {
		add("HAProxy", "none")
	} else {
		add("HAProxy", firstLine(ctx, b.haproxy, "-v"))
	}
	return m, nil
}

func fieldOf(file, name string) string {
	text, _ := os.ReadFile(file)
	for line := range strings.Lines(string(text)) {
		if key, value, ok := strings.Cut(line, ":"); ok && strings.TrimSpace(key) == name {
			return strings.TrimSpace(value)
		}
	}
	return "unknown"
}

func hypervisor() string {
	if strings.Contains(" "+fieldOf("/proc/cpuinfo", "flags")+" ", " hypervisor ") {
		return ", a virtual machine"
	}
	return ""
}

// filesystem names the kind that a folder lies on: tmpfs makes an fsync free.
func filesystem(dir string) string {
	var stat unix.Statfs_t
	if err := unix.Statfs(dir, &stat); err != nil {
		return err.Error()
	}
	if stat.Type == unix.TMPFS_MAGIC {
		return "tmpfs (an fsync costs nothing)"
	}
	return fmt.Sprintf("a disk, type %#x", stat.Type)
}

func firstLine(ctx context.Context, program string, args ...string) string {
	out, err := exec.CommandContext(ctx, program, args...).Output()
	if err != nil {
		return "unknown: " + err.Error()
	}
	line, _, _ := bytes.Cut(out, []byte("\n"))
	return string(line)
}

func (m *benchMachine) text() string {
	var b strings.Builder
	rows := make([][]string, 0, len(m.lines))
	for _, l := range m.lines {
		rows = append(rows, l[:])
	}
	writeTable(&b, []string{"machine", ""}, rows)
	return b.String()
}

// benchReport is a whole run.
type benchReport struct {
	machine *benchMachine
	rounds  int
	time    time.Duration
	results []*benchResult
}

// summary counts the bars and names those that were missed.
func (r *benchReport) summary() string {
	var missed, unknown, disturbed []string
	all := 0
	for _, result := range r.results {
		if result.disturbed {
			disturbed = append(disturbed, result.name)
		}
		for _, v := range result.verdicts {
			all++
			switch line := fmt.Sprintf("- %s: %s; it is %s\n", result.name, v.bar, v.got); {
			case v.unknown:
				unknown = append(unknown, line)
			case !v.reached:
				missed = append(missed, line)
			}
		}
	}
	var b strings.Builder
	fmt.Fprintf(&b, "## Bars\n\n%d of %d bars are reached.\n", all-len(missed)-len(unknown), all)
	if len(disturbed) > 0 {
		fmt.Fprintf(&b, "\n**Other processes took more than %.0f %% of the machine during %s: what is said of these loads means little.**\n",
			100*quietShare, strings.Join(disturbed, ", "))
	}
	if len(missed) > 0 {
		fmt.Fprintf(&b, "\nNot reached:\n\n%s", strings.Join(missed, ""))
	}
	if len(unknown) > 0 {
		fmt.Fprintf(&b, "\nNot known:\n\n%s", strings.Join(unknown, ""))
	}
	return b.String()
}

// page is docs/benchmarks.md.
func (r *benchReport) page() string {
	var b strings.Builder
	fmt.Fprintf(&b, pageHead, r.rounds, r.time, r.time/2)
	b.WriteString("## Machine\n\n" + r.machine.text() + "\n" + r.summary())
	for _, result := range r.results {
		b.WriteString("\n" + result.text())
	}
	return b.String()
}

const pageHead = `# Benchmarks

` + "`scripts/bench`" + ` wrote this page; nothing in it is typed by hand. It measures
` + "`etcdops proxy start`" + ` beside its rivals in one run, on one machine: client, proxy and a
cluster of one etcd share its cores. So the ratios say something, the figures little.

- Each load starts etcd and all proxies anew. The variants take short turns (A B C A
  B C …), because the machine's own pace moves within seconds: %d rounds of %v each,
  with a warm-up of %v before each, where no others are named below. Each figure is the
  median of the rounds; a ratio is the median of the rounds' ratios.
- direct is etcd without a proxy. gateway is ` + "`etcd gateway`" + `, which passes bytes on;
  grpc-proxy is ` + "`etcd grpc-proxy`" + `; v2-proxy is ` + "`etcd --proxy on`" + ` of 3.5; haproxy is HAProxy with
  a thread for each core, in h2 mode for gRPC, in HTTP mode for v2.
- direct-few is direct with the load's streams on as many connections as there are cores,
  which is what etcdops makes of them: the least that etcd itself can take for the load.
- "etcdops ÷ it" is our figure over that of the row.
- CPU is the process's CPU clock (clock_getcpuclockid(3): all threads, user and system)
  from the end of the warm-up to the end of the measurement, over the requests answered
  in between. What the kernel does in softirqs is charged to whom it interrupts.
- The client is grpc-go without clientv3, and HTTP/1.1 by hand for v2. It looks at every
  answer; one that is wrong or missing ends the run. Keys have values of 64 bytes; each
  stream of a put load has a key of its own, which is read back at the end.

`
