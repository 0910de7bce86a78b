//go:build bench

package main

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"go.etcd.io/etcd/api/v3/etcdserverpb"
)

// benchLab is the processes of one load, on loopback addresses of their own.
type benchLab struct {
	*bench
	dir     string
	network uint32
	hosts   int
	started []*benchProcess
}

// benchProcess is an etcd or a proxy.
type benchProcess struct {
	name string
	cmd  *exec.Cmd
	log  string
	done chan struct{}
}

// benchEnd is a way to the cluster: etcd itself or through a proxy.
type benchEnd struct {
	name    string
	address string
	proxy   *benchProcess // nil: direct
	etcd    *benchProcess
	direct  string      // address of etcd
	peer    string      // peer URL of etcd
	tls     *tls.Config // nil: in the clear
	few     bool        // all streams go over as many connections as there are cores
}

func (b *bench) lab() (*benchLab, error) {
	dir, err := os.MkdirTemp(b.work, "lab-")
	return &benchLab{bench: b, dir: dir, network: networks.Add(1)}, err
}

// host is an address that nobody has yet.
func (l *benchLab) host() string {
	l.hosts++
	return fmt.Sprintf("127.%d.%d.%d", ownNetwork(), l.network, l.hosts)
}

// start runs a program in the lab's folder, its output in a log of its own.
func (l *benchLab) start(name, program string, args ...string) (*benchProcess, error) {
	p := &benchProcess{name: name, log: filepath.Join(l.dir, name+".log"), done: make(chan struct{})}
	log, err := os.OpenFile(p.log, os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
	if err != nil {
		return nil, err
	}
	defer log.Close()
	p.cmd = exec.Command(program, args...)
	p.cmd.Dir, p.cmd.Stdout, p.cmd.Stderr = l.dir, log, log
	for _, variable := range os.Environ() { // ETCD_… would be a setting
		if !strings.HasPrefix(variable, "ETCD") {
			p.cmd.Env = append(p.cmd.Env, variable)
		}
	}
	p.cmd.Env = append(p.cmd.Env, "XDG_RUNTIME_DIR="+l.dir)
	// It must not outlive us, however we end. (The signal comes when our thread
	// ends; Go ends none that it may use again.)
	p.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := p.cmd.Start(); err != nil {
		return nil, fmt.Errorf("start %s: %w", name, err)
	}
	go func() {
		defer close(p.done)
		_ = p.cmd.Wait()
	}()
	l.started = append(l.started, p)
	return p, nil
}

// close kills what the lab has started and removes its folder.
func (l *benchLab) close() {
	for _, p := range l.started {
		p.stop()
	}
	_ = os.RemoveAll(l.dir)
}

func (p *benchProcess) stop() {
	_ = p.cmd.Process.Kill()
	<-p.done
}

func (p *benchProcess) pid() int { return p.cmd.Process.Pid }

// alive is an error that shows the log of a process that has ended.
func (p *benchProcess) alive() error {
	select {
	case <-p.done:
		log, _ := os.ReadFile(p.log)
		return fmt.Errorf("%s has ended:\n%s", p.name, log[max(0, len(log)-2000):])
	default:
		return nil
	}
}

// etcd starts a cluster of one member. Its data lies where temporary files do.
func (l *benchLab) etcd(name string, command []string, more ...string) (*benchEnd, error) {
	host := l.host()
	client, peer := "http://"+host+":2379", "http://"+host+":2380"
	args := append(command[1:], "--name", name, "--data-dir", name+".etcd", "--log-level", "error",
		"--listen-client-urls", client, "--listen-peer-urls", peer, "--initial-advertise-peer-urls", peer,
		"--initial-cluster", name+"="+peer, "--quota-backend-bytes", "8589934592")
	if !strings.Contains(strings.Join(more, " "), "--advertise-client-urls") {
		more = append(more, "--advertise-client-urls", client)
	}
	p, err := l.start(name, command[0], append(args, more...)...)
	if err != nil {
		return nil, err
	}
	return &benchEnd{name: "direct", address: host + ":2379", etcd: p, direct: host + ":2379", peer: peer}, nil
}

// etcd37 starts the etcd that is built into etcdops.
func (l *benchLab) etcd37(more ...string) (*benchEnd, error) {
	return l.etcd("m1", []string{l.etcdops, "etcd"}, more...)
}

// through starts a proxy in front of a cluster. args may have %s, its address.
func (l *benchLab) through(cluster *benchEnd, name, program string, args ...string) (*benchEnd, error) {
	address := l.host() + ":2379"
	for i, arg := range args {
		args[i] = strings.ReplaceAll(arg, "%s", address)
	}
	p, err := l.start(name, program, args...)
	if err != nil {
		return nil, err
	}
	return &benchEnd{name: name, address: address, proxy: p, etcd: cluster.etcd, direct: cluster.direct, peer: cluster.peer}, nil
}

// awaits returns when the end answers ask.
func (e *benchEnd) awaits(ctx context.Context, ask func(ctx context.Context, e *benchEnd) error) error {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	for {
		err := ask(ctx, e)
		if err == nil {
			return nil
		}
		for _, p := range []*benchProcess{e.etcd, e.proxy} {
			if p != nil {
				err = errors.Join(err, p.alive())
			}
		}
		if ctx.Err() != nil {
			return fmt.Errorf("%s is not ready: %w", e.name, err)
		}
		time.Sleep(tryPause)
	}
}

// askV3 is one range by a connection of its own.
func askV3(ctx context.Context, e *benchEnd) error {
	ctx, cancel := context.WithTimeout(ctx, time.Second)
	defer cancel()
	conn, err := e.dial()
	if err != nil {
		return err
	}
	defer conn.Close()
	_, err = kvOf(conn).Range(ctx, &etcdserverpb.RangeRequest{Key: []byte("ready")})
	return err
}

// askV2 is one GET by a connection of its own.
func askV2(ctx context.Context, e *benchEnd) error {
	ctx, cancel := context.WithTimeout(ctx, time.Second)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+e.address+"/v2/keys", nil)
	if err != nil {
		return err
	}
	res, err := (&http.Transport{DisableKeepAlives: true}).RoundTrip(req)
	if err != nil {
		return err
	}
	defer res.Body.Close()
	if _, err := io.Copy(io.Discard, res.Body); err != nil {
		return err
	}
	if res.StatusCode != http.StatusOK {
		return fmt.Errorf("status %s", res.Status)
	}
	return nil
}
