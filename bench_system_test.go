//go:build bench

package main

import (
	"fmt"
	"os"
	"runtime"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// cpu is the CPU time of all threads of the process, those that have ended too, in
// user and system mode: its clock as by clock_getcpuclockid(3), in nanoseconds.
// (The sum of /proc/PID/task/*/schedstat is the same but for threads that have
// ended; /proc/PID/stat has it in ticks of 10 ms.) nil has none.
func (p *benchProcess) cpu() (time.Duration, error) {
	if p == nil {
		return 0, nil
	}
	const ofScheduler = 2 // CPUCLOCK_SCHED, linux/posix-timers.h
	return readClock(int32(^p.pid()<<3 | ofScheduler))
}

func ownCPU() (time.Duration, error) { return readClock(unix.CLOCK_PROCESS_CPUTIME_ID) }

func readClock(id int32) (time.Duration, error) {
	var ts unix.Timespec
	if err := unix.ClockGettime(id, &ts); err != nil {
		return 0, fmt.Errorf("read CPU clock: %w", err)
	}
	return time.Duration(ts.Nano()), nil
}

// tick is the unit of /proc/stat.
const tick = time.Second / 100

// machineCPU is the time that the machine's cores were busy, and stolen time, in
// which a hypervisor let them wait.
func machineCPU() (time.Duration, error) {
	text, err := os.ReadFile("/proc/stat")
	if err != nil {
		return 0, err
	}
	line, _, _ := strings.Cut(string(text), "\n")
	fields := strings.Fields(line) // cpu user nice system idle iowait irq softirq steal …
	if len(fields) < 9 {
		return 0, fmt.Errorf("/proc/stat begins with %q", line)
	}
	var sum time.Duration
	for i, field := range fields[1:9] {
		n, err := strconv.ParseInt(field, 10, 64)
		if err != nil {
			return 0, err
		}
		if i != 3 && i != 4 {
			sum += time.Duration(n) * tick
		}
	}
	return sum, nil
}

// memory is a figure of /proc/PID/status in bytes: VmRSS, what is resident, or
// VmHWM, what was at most since resetPeak.
func (p *benchProcess) memory(name string) (float64, error) {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", p.pid()))
	if err != nil {
		return 0, err
	}
	for line := range strings.Lines(string(text)) {
		fields := strings.Fields(line)
		if len(fields) == 3 && fields[0] == name+":" {
			kib, err := strconv.ParseFloat(fields[1], 64)
			return kib * 1024, err
		}
	}
	return 0, fmt.Errorf("%s: no %s", p.name, name)
}

// resetPeak makes the peak what is resident now (proc(5), clear_refs).
func (p *benchProcess) resetPeak() error {
	return os.WriteFile(fmt.Sprintf("/proc/%d/clear_refs", p.pid()), []byte("5"), 0o200)
}

// meter takes the clocks at both ends of a measurement.
type meter struct {
	end                     *benchEnd
	began                   time.Time
	proxy, etcd, own, total time.Duration
}

func startMeter(end *benchEnd) (*meter, error) {
	m := &meter{end: end}
	now, err := m.read()
	if err != nil {
		return nil, err
	}
	now.end = end
	return now, nil
}

func (m *meter) read() (*meter, error) {
	now := &meter{began: time.Now()}
	var err error
	if now.proxy, err = m.end.proxy.cpu(); err != nil {
		return nil, err
	}
	if now.etcd, err = m.end.etcd.cpu(); err != nil {
		return nil, err
	}
	if now.own, err = ownCPU(); err != nil {
		return nil, err
	}
	now.total, err = machineCPU()
	return now, err
}

// stop says what was used since the start.
func (m *meter) stop() (*benchSample, error) {
	now, err := m.read()
	if err != nil {
		return nil, err
	}
	s := &benchSample{elapsed: now.began.Sub(m.began), proxyCPU: now.proxy - m.proxy, etcdCPU: now.etcd - m.etcd, clientCPU: now.own - m.own}
	others := now.total - m.total - s.proxyCPU - s.etcdCPU - s.clientCPU
	s.others = max(0, others.Seconds()/s.elapsed.Seconds()/float64(runtime.NumCPU()))
	return s, nil
}
