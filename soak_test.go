//go:build bench

package main

import (
	"bufio"
	"context"
	"errors"
	"flag"
	"fmt"
	"math/rand/v2"
	"net/http"
	"os"
	"os/signal"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

var soakFlag = flag.Duration("soak", 10*time.Minute, "how long the load of TestSoak lasts")

const (
	// soakSamples is how many looks are taken at the proxy while the load lasts.
	soakSamples = 60
	// soakMembers is the size of the cluster, soakKills how often one of them is
	// killed, soakDown for how long it is away.
	soakMembers, soakKills, soakDown = 3, 8, 5 * time.Second
	// soakRests is how long the proxy may take to be as before when the load is over.
	soakRests = time.Minute
	// soakFailed is the share of requests that may fail, since members are killed.
	soakFailed = 0.01
)

// soak is a cluster, a proxy before it, and what its clients have seen.
type soak struct {
	lab           *benchLab
	members       []*soakMember
	proxy         *benchProcess
	clear, secure *benchEnd
	metrics       string // URL
	work          soakTally
}

// soakMember is an etcd that is killed and started again.
type soakMember struct {
	*benchProcess
	args []string
}

// soakSample is one look at the proxy.
type soakSample struct {
	at                             time.Duration
	rss, heap                      float64 // bytes; heap is what is allocated, garbage too
	goroutines, files, connections float64
}

// TestSoak keeps a proxy under a mixed load while members are killed and come back, and
// fails if its memory, goroutines or open files grow. scripts/soak runs it.
func TestSoak(t *testing.T) {
	b := &bench{etcdops: os.Getenv("ETCDOPS"), work: t.TempDir()}
	if b.etcdops == "" {
		t.Fatal("$ETCDOPS is not set: run scripts/soak")
	}
	ctx, stop := signal.NotifyContext(t.Context(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	lab, err := b.lab()
	if err != nil {
		t.Fatal(err)
	}
	defer lab.close()
	s := &soak{lab: lab}
	if err := s.start(ctx); err != nil {
		t.Fatal(err)
	}
	samples, err := s.run(ctx, *soakFlag)
	if err != nil {
		t.Fatal(err)
	}
	fmt.Println(s.work.text())
	for _, complaint := range append(judgeSoak(samples), s.work.complaints()...) {
		t.Error(complaint)
	}
	if err := s.rests(ctx, samples[0]); err != nil {
		t.Error(err)
	}
}

func (s *soak) start(ctx context.Context) error {
	var hosts, initial []string
	for n := range soakMembers {
		hosts = append(hosts, s.lab.host())
		initial = append(initial, fmt.Sprintf("m%d=http://%s:2380", n+1, hosts[n]))
	}
	for n, host := range hosts {
		name := fmt.Sprintf("m%d", n+1)
		m := &soakMember{args: []string{
			"etcd", "--name", name, "--data-dir", name + ".etcd", "--log-level", "error",
			"--listen-client-urls", "http://" + host + ":2379", "--advertise-client-urls", "http://" + host + ":2379",
			"--listen-peer-urls", "http://" + host + ":2380", "--initial-advertise-peer-urls", "http://" + host + ":2380",
			"--initial-cluster", strings.Join(initial, ","), "--auto-compaction-mode", "revision", "--auto-compaction-retention", "1000",
		}}
		if err := m.begin(s.lab, name); err != nil {
			return err
		}
		s.members = append(s.members, m)
	}
	host, err := s.lab.host(), error(nil)
	s.clear, s.metrics = &benchEnd{name: "proxy", address: host + ":2379"}, "http://"+host+":2381"
	s.proxy, err = s.lab.start("proxy", s.lab.etcdops, "proxy", "start", "--initial-cluster", strings.Join(initial, ","),
		"--listen-client-urls", "http://"+host+":2379,https://"+host+":4001", "--auto-tls",
		"--listen-metrics-urls", s.metrics, "--data-dir", "proxy.etcd")
	if err != nil {
		return err
	}
	s.clear.proxy = s.proxy
	s.secure = &benchEnd{name: "proxy", address: host + ":4001", proxy: s.proxy, tls: ownCertificate()}
	if err := errors.Join(s.clear.awaits(ctx, askV3), s.secure.awaits(ctx, askV3)); err != nil {
		return err
	}
	return s.fill(ctx)
}

func (m *soakMember) begin(lab *benchLab, name string) (err error) {
	m.benchProcess, err = lab.start(name, lab.etcdops, m.args...)
	return err
}

// run returns a sample from before the load and those under it.
func (s *soak) run(ctx context.Context, length time.Duration) ([]soakSample, error) {
	ctx, stop := context.WithCancel(ctx)
	var all sync.WaitGroup
	defer all.Wait()
	defer stop()
	before, err := s.look(ctx, 0)
	if err != nil {
		return nil, err
	}
	samples := []soakSample{before}
	fmt.Println("       time   RSS MiB  heap MiB  goroutines  files  connections  requests  failed")
	s.print(before)
	began := time.Now()
	s.load(ctx, &all)
	kills := make(chan error, 1)
	all.Go(func() { kills <- s.kill(ctx, length/(soakKills+1)) })
	tick := time.NewTicker(length / soakSamples)
	defer tick.Stop()
	for len(samples) <= soakSamples {
		select {
		case <-tick.C:
		case err := <-kills:
			return nil, err
		case <-ctx.Done():
			return nil, context.Cause(ctx)
		}
		sample, err := s.look(ctx, time.Since(began))
		if err != nil {
			return nil, errors.Join(err, s.proxy.alive())
		}
		s.print(sample)
		samples = append(samples, sample)
	}
	return samples, nil
}

// kill ends a member each period, as a power cut would, and starts it again.
func (s *soak) kill(ctx context.Context, period time.Duration) error {
	for {
		if pause(ctx, period) != nil {
			return nil
		}
		n := rand.IntN(len(s.members))
		m := s.members[n]
		m.stop()
		fmt.Printf("m%d was killed\n", n+1)
		if pause(ctx, min(soakDown, period/2)) != nil {
			return nil
		}
		if err := m.begin(s.lab, fmt.Sprintf("m%d", n+1)); err != nil {
			return err
		}
	}
}

func (s *soak) look(ctx context.Context, at time.Duration) (soakSample, error) {
	sample := soakSample{at: at}
	var err error
	if sample.rss, err = s.proxy.memory("VmRSS"); err != nil {
		return sample, err
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, s.metrics+"/metrics", nil)
	if err != nil {
		return sample, err
	}
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		return sample, fmt.Errorf("read metrics: %w", err)
	}
	defer res.Body.Close()
	into := map[string]*float64{
		"go_memstats_heap_alloc_bytes": &sample.heap, "go_goroutines": &sample.goroutines,
		"process_open_fds": &sample.files, "etcdops_proxy_client_connections": &sample.connections,
	}
	seen := map[string]bool{}
	lines := bufio.NewScanner(res.Body)
	for lines.Scan() {
		series, figure, _ := strings.Cut(lines.Text(), " ")
		name, _, _ := strings.Cut(series, "{")
		if sum := into[name]; sum != nil {
			value, err := strconv.ParseFloat(figure, 64)
			if err != nil {
				return sample, fmt.Errorf("read metrics: %w", err)
			}
			*sum += value
			seen[name] = true
		}
	}
	if len(seen) != len(into) {
		return sample, fmt.Errorf("/metrics has only %v", seen)
	}
	return sample, lines.Err()
}

func (s *soak) print(p soakSample) {
	done, failed := s.work.sums()
	fmt.Printf("%11v  %8.1f  %8.1f  %10.0f  %5.0f  %11.0f  %8d  %6d\n",
		p.at.Round(time.Second), p.rss/mib, p.heap/mib, p.goroutines, p.files, p.connections, done, failed)
}

// rests waits until the proxy has as few goroutines and files as before the load.
func (s *soak) rests(ctx context.Context, before soakSample) error {
	ctx, cancel := context.WithTimeout(ctx, soakRests)
	defer cancel()
	for {
		now, err := s.look(ctx, 0)
		if err != nil {
			return err
		}
		// Connections to members may stay, each with a goroutine.
		const some = 30
		if now.connections == 0 && now.goroutines <= before.goroutines+some && now.files <= before.files+some {
			fmt.Printf("after the load: %.0f goroutines (before: %.0f), %.0f files (%.0f), RSS %.1f MiB (%.1f)\n",
				now.goroutines, before.goroutines, now.files, before.files, now.rss/mib, before.rss/mib)
			return nil
		}
		if pause(ctx, time.Second) != nil {
			return fmt.Errorf("a minute after the load there are %.0f connections, %.0f goroutines (before: %.0f), %.0f files (%.0f)",
				now.connections, now.goroutines, before.goroutines, now.files, before.files)
		}
	}
}
