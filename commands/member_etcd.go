package commands

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/signal"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/coreos/go-systemd/v22/daemon"

	"etcdops/promote"
)

// relayed are the signals that etcd gets from us, but for those that we were
// started without, as by nohup.
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
	asked atomic.Bool // somebody wants etcd, or us, to end
}

func newSignalRelay(ctx context.Context) *signalRelay {
	r := &signalRelay{in: make(chan os.Signal, len(relayed)), done: make(chan struct{})}
	r.ctx, r.end = context.WithCancel(ctx)
	if heard := slices.DeleteFunc(slices.Clone(relayed), signal.Ignored); len(heard) > 0 { // none would mean all
		signal.Notify(r.in, heard...)
	}
	go r.run()
	return r
}

func (r *signalRelay) run() {
	defer close(r.done)
	for sig := range r.in {
		ends := sig != syscall.SIGUSR1 && sig != syscall.SIGUSR2
		if ends {
			r.asked.Store(true)
		}
		switch etcd := r.etcd.Load(); {
		case etcd != nil:
			_ = etcd.Signal(sig) // it has ended if it can't be reached
		case ends:
			r.end()
		}
	}
}

// stop gives the signals their usual meaning again, and tells whether one of
// them asked for the end.
func (r *signalRelay) stop() (asked bool) {
	r.once.Do(func() {
		signal.Stop(r.in)
		close(r.in)
		<-r.done
		r.end()
	})
	return r.asked.Load()
}

// etcdEnd is how long an etcd may take to end whose starter's context ended.
const etcdEnd = 2 * promote.DefaultGrace

// runEtcd runs etcd to its end, in the foreground: its output is ours, and our
// signals are its. The error is how it ended; a signal that ended it ends us
// too.
func (m *memberStart) runEtcd(ctx context.Context, relay *signalRelay) error {
	etcd, err := m.joiningEtcd()
	if err != nil {
		return fail(ExitFailed, err, "check the rights of "+os.TempDir())
	}
	for _, file := range etcd.Files {
		defer file.Close()
	}
	endNotes := m.relayNotifications(etcd)
	defer endNotes()
	runtime.LockOSThread() // for DeathSignal
	defer runtime.UnlockOSThread()
	if err := etcd.Start(context.WithoutCancel(ctx)); err != nil {
		return fail(ExitFailed, err, "check that it can be run: "+m.binary.Path+" --version")
	}
	relay.etcd.Store(etcd)
	select {
	case <-etcd.Done():
	case <-relay.ctx.Done(): // a signal came just before etcd did, or ctx ended
		if err := etcd.Stop(context.WithoutCancel(ctx), etcdEnd); err != nil {
			return err
		}
	}
	relay.etcd.Store(nil)
	code, sig := etcd.Exit()
	switch {
	case sig != 0:
		endNotes()
		endBySignal(sig)
		return &Failure{Code: 128 + int(sig), Message: "etcd ended by signal: " + sig.String(), Hint: "see etcd's log above"}
	case code != 0:
		return &Failure{Code: code, Err: etcd.Err(), Hint: "see etcd's log above"}
	}
	return nil
}

// relayNotifications gives what etcd says to the service manager as ours, if
// there is one. Without it etcd runs all the same.
func (m *memberStart) relayNotifications(etcd *promote.Etcd) (end func()) {
	if m.env.Getenv("NOTIFY_SOCKET") == "" {
		return func() {}
	}
	notes, err := promote.RelayNotifications(func(state string) { _, _ = daemon.SdNotify(false, state) })
	if err != nil {
		m.logger.Warn("the service manager will not hear that etcd is ready", "error", err)
		return func() {}
	}
	etcd.Environ = append(etcd.Environ[:len(etcd.Environ):len(etcd.Environ)], notes.Variable) // the last one counts
	return sync.OnceFunc(notes.Close)
}

// endBySignal ends this process as etcd was ended, so that whoever waits for it
// sees the same. It returns where that takes too long.
func endBySignal(sig syscall.Signal) {
	signal.Reset(sig)
	_ = syscall.Kill(os.Getpid(), sig)
	time.Sleep(time.Second)
}

// joiningEtcd is etcd for a start that may fail because the cluster is full: it
// must end then, whatever its own --discovery-fallback says, and not become a
// proxy of its own.
func (m *memberStart) joiningEtcd() (*promote.Etcd, error) {
	etcd := &promote.Etcd{
		Path: m.binary.Path, Args: m.binary.Args, Flags: m.opts.Args, Environ: m.env.Environ, AsIs: true,
		Log: m.env.Stderr, Out: m.env.Stdout, DieWithParent: m.binary.Embedded, DeathSignal: !m.binary.Embedded,
	}
	if !m.binary.Knows(fallbackSetting) {
		return etcd, nil
	}
	path := m.settings.String(configFileSetting)
	if path == "" {
		etcd.Flags = append(withoutFlags(etcd.Flags, fallbackSetting), dashed(fallbackSetting)+"="+fallbackExit)
		etcd.Environ = withoutVariables(etcd.Environ, fallbackSetting)
		return etcd, nil
	}
	config, err := exitingConfig(path)
	if err != nil {
		return nil, fmt.Errorf("prepare etcd's config file: %w", err)
	}
	etcd.Files = []*os.File{config}
	etcd.Flags = append(withoutFlags(etcd.Flags, configFileSetting), fmt.Sprintf("--%s=/dev/fd/%d", configFileSetting, promote.FirstFile))
	etcd.Environ = withoutVariables(etcd.Environ, configFileSetting)
	return etcd, nil
}

// exitingConfig copies etcd's config file with discovery-fallback: exit. The copy
// has no name any more: nothing of it is left, however we end.
func exitingConfig(path string) (*os.File, error) {
	content, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	keys, err := parseYAML(content, false)
	if err != nil {
		return nil, err
	}
	keys[fallbackSetting] = fallbackExit
	changed, err := json.Marshal(keys) // JSON is YAML
	if err != nil {
		return nil, err
	}
	file, err := os.CreateTemp("", "etcdops-config-")
	if err != nil {
		return nil, err
	}
	if err = os.Remove(file.Name()); err == nil {
		_, err = file.WriteAt(changed, 0)
	}
	if err != nil {
		_ = file.Close()
		return nil, err
	}
	return file, nil
}
