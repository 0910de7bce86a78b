package commands

import (
	"context"
	"encoding/json"
	"os"
	"os/signal"
	"path/filepath"
	"runtime"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/coreos/go-systemd/v22/daemon"

	"etcdops/promote"
)

// relayed are the signals that etcd gets from us.
var relayed = []os.Signal{
	syscall.SIGINT, syscall.SIGTERM, syscall.SIGHUP, syscall.SIGQUIT, syscall.SIGUSR1, syscall.SIGUSR2,
}

// signalRelay gives the signals of this process to etcd while one runs. Before
// and after that, the first SIGINT, SIGTERM, SIGHUP or SIGQUIT ends ctx.
type signalRelay struct {
	ctx  context.Context
	end  context.CancelFunc
	once sync.Once
	in   chan os.Signal
	done chan struct{}

	etcd  atomic.Pointer[promote.Etcd]
	ended atomic.Bool // etcd was given one that ends it
}

func newSignalRelay(ctx context.Context) *signalRelay {
	r := &signalRelay{in: make(chan os.Signal, len(relayed)), done: make(chan struct{})}
	r.ctx, r.end = context.WithCancel(ctx)
	signal.Notify(r.in, relayed...)
	go r.run()
	return r
}

func (r *signalRelay) run() {
	defer close(r.done)
	for sig := range r.in {
		ends := sig != syscall.SIGUSR1 && sig != syscall.SIGUSR2
		etcd := r.etcd.Load()
		if etcd == nil {
			if ends {
				r.end()
			}
			continue
		}
		if ends {
			r.ended.Store(true)
		}
		_ = etcd.Signal(sig) // it ends by itself if it can't be reached
	}
}

// passed tells whether etcd was asked to end.
func (r *signalRelay) passed() bool { return r.ended.Load() || r.ctx.Err() != nil }

// stop gives the signals their usual meaning again.
func (r *signalRelay) stop() {
	r.once.Do(func() {
		signal.Stop(r.in)
		close(r.in)
		<-r.done
		r.end()
	})
}

// etcdEnd is how long an etcd may take to end whose starter's context ended.
const etcdEnd = 2 * promote.DefaultGrace

// runEtcd runs etcd to its end, in the foreground: its output is ours, and our
// signals are its. The error is how it ended; a signal that ended it ends us
// too.
func (m *memberStart) runEtcd(ctx context.Context, relay *signalRelay) error {
	args, environ, cleanup, err := m.etcdLine()
	if err != nil {
		return fail(ExitFailed, err, "check the rights of "+os.TempDir())
	}
	defer cleanup()
	if m.env.Getenv("NOTIFY_SOCKET") != "" {
		notes, err := promote.RelayNotifications(func(state string) { _, _ = daemon.SdNotify(false, state) })
		if err != nil {
			return fail(ExitFailed, err, "check the rights of "+os.TempDir())
		}
		defer notes.Close()
		environ = append(environ[:len(environ):len(environ)], notes.Variable) // the last one counts
	}
	etcd := &promote.Etcd{
		Path: m.binary.Path, Args: m.binary.Args, Flags: args, Environ: environ, AsIs: true,
		Log: m.env.Stderr, Out: m.env.Stdout, DieWithParent: m.binary.Embedded, DeathSignal: !m.binary.Embedded,
	}
	runtime.LockOSThread() // for DeathSignal
	defer runtime.UnlockOSThread()
	if err := etcd.Start(context.WithoutCancel(ctx)); err != nil {
		return fail(ExitFailed, err, "check that it can be run: "+m.binary.Path+" --version")
	}
	relay.etcd.Store(etcd)
	if relay.ctx.Err() != nil { // a signal came just before
		_ = etcd.Signal(syscall.SIGTERM)
	}
	select {
	case <-etcd.Done():
	case <-ctx.Done():
		if err := etcd.Stop(context.WithoutCancel(ctx), etcdEnd); err != nil {
			return err
		}
	}
	relay.etcd.Store(nil)
	code, sig := etcd.Exit()
	switch {
	case sig != 0:
		cleanup()
		endBySignal(sig)
		return &Failure{Code: 128 + int(sig), Err: etcd.Err(), Hint: "see etcd's log above"}
	case code != 0:
		return &Failure{Code: code, Err: etcd.Err(), Hint: "see etcd's log above"}
	}
	return nil
}

// endBySignal ends this process as etcd was ended, so that whoever waits for it
// sees the same. It returns where that takes too long.
func endBySignal(sig syscall.Signal) {
	signal.Reset(sig)
	_ = syscall.Kill(os.Getpid(), sig)
	time.Sleep(time.Second)
}

// exitingConfig copies etcd's config file with discovery-fallback: exit.
func exitingConfig(path string) (own string, cleanup func(), err error) {
	content, err := os.ReadFile(path)
	if err != nil {
		return "", nil, err
	}
	keys, err := parseYAML(content)
	if err != nil {
		return "", nil, err
	}
	keys[fallbackSetting] = fallbackExit
	changed, err := json.Marshal(keys)
	if err != nil {
		return "", nil, err
	}
	dir, err := os.MkdirTemp("", "etcdops-config-")
	if err != nil {
		return "", nil, err
	}
	cleanup = func() { _ = os.RemoveAll(dir) }
	own = filepath.Join(dir, filepath.Base(path))
	if err := os.WriteFile(own, changed, 0o600); err != nil { // JSON is YAML
		cleanup()
		return "", nil, err
	}
	return own, cleanup, nil
}
