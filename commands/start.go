package commands

import (
	"context"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"os"
	"os/signal"
	"slices"
	"strings"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/coreos/go-systemd/v22/daemon"
	"github.com/urfave/cli/v2"

	"etcdops/discover"
	"etcdops/promote"
	"etcdops/proxy"
)

func newProxyStartCommand(env *Env) *cli.Command {
	return &cli.Command{
		Name:  "start",
		Usage: "run the proxy: an etcd endpoint on this machine that follows the cluster",
		Description: `A unit that ran "etcd --proxy on ..." needs only its command word changed: flags,
ETCD_ variables and defaults are etcd's. Flags of etcd members are accepted and
mean nothing here. SIGTERM or SIGINT drains and ends it; a second one ends it at
once.

Examples:
  etcdops proxy start --initial-cluster m1=http://127.0.0.1:2380 --data-dir /tmp/proxy.etcd
  etcdops proxy start --discovery-srv example.org --data-dir /tmp/proxy.etcd
  etcdops proxy start --proxy readonly --listen-client-urls http://127.0.0.1:23790
  ETCD_INITIAL_CLUSTER=m1=http://127.0.0.1:2380 etcdops proxy start`,
		Flags: settingFlags(proxySettings()),
		Action: action{OwnSignals: true, Run: func(ctx context.Context, c *cli.Context) error {
			if err := noArguments(c); err != nil {
				return err
			}
			s, err := loadSettings(proxySettings(), setFlags(c), env.Getenv)
			if err != nil {
				return err
			}
			return runProxyStart(ctx, env, s)
		}}.Do,
	}
}

func noArguments(c *cli.Context) error {
	if c.Args().Present() {
		return usageError("this command takes flags only; see "+programName+" "+c.Command.FullName()+" --help",
			"%q is one word too many", c.Args().First())
	}
	return nil
}

func runProxyStart(ctx context.Context, env *Env, s *Settings) error {
	logger, err := newLogger(env.Stderr, s)
	if err != nil {
		return err
	}
	server, reload, err := newProxyServer(env, s, logger)
	if err != nil {
		return err
	}
	drain, kill, stop := twoSignals(ctx)
	defer stop()
	defer reload.start(drain)()
	err = server.Run(drain, kill)
	if err == nil && kill.Err() != nil && ctx.Err() == nil {
		return &Failure{Code: ExitInterrupted, Message: "ended by a second signal, requests under way were cut"}
	}
	return explainStart(s, err)
}

// sameSignal is how soon after the first one a signal counts as the same: GNU
// timeout signals the process and then its group.
const sameSignal = 20 * time.Millisecond

// twoSignals returns a context that the first SIGINT or SIGTERM ends, and one that
// the second ends.
func twoSignals(ctx context.Context) (drain, kill context.Context, stop func()) {
	drain, endDrain := context.WithCancel(ctx)
	kill, endKill := context.WithCancel(ctx)
	signals := make(chan os.Signal, 2)
	signal.Notify(signals, os.Interrupt, syscall.SIGTERM)
	done := make(chan struct{})
	go func() {
		var first time.Time
		for {
			select {
			case <-signals:
				switch {
				case first.IsZero():
					first = time.Now()
					endDrain()
				case time.Since(first) >= sameSignal:
					endKill()
					return
				}
			case <-done:
				return
			}
		}
	}()
	return drain, kill, func() {
		signal.Stop(signals)
		close(done)
		endDrain()
		endKill()
	}
}

// newProxyServer makes a proxy of its settings, and changes nothing yet.
func newProxyServer(env *Env, s *Settings, logger *slog.Logger) (*proxy.Server, *reloader, error) {
	urls, err := parseListenURLs(s)
	if err != nil {
		return nil, nil, err
	}
	d := map[string]time.Duration{}
	for _, name := range []string{
		"proxy-failure-wait", "proxy-refresh-interval", "proxy-dial-timeout",
		"proxy-write-timeout", "proxy-read-timeout", "drain-timeout",
	} {
		if d[name], err = s.Duration(name); err != nil {
			return nil, nil, err
		}
	}
	if d["proxy-refresh-interval"] == 0 {
		return nil, nil, s.Bad("proxy-refresh-interval", "write a time such as 30000 or 30s", "the list has to be refreshed")
	}
	if err := checkSources(s); err != nil {
		return nil, nil, err
	}
	if err := checkDataDir(s); err != nil {
		return nil, nil, err
	}
	metrics, err := parseMetricsURLs(s)
	if err != nil {
		return nil, nil, err
	}
	ids, err := loadIdentities(s, slices.Concat(urls, metrics), logger)
	if err != nil {
		return nil, nil, err
	}
	if err := ids.checkCommonName(s); err != nil {
		return nil, nil, err
	}
	ids.sayWhoComesIn(s, logger)
	if err := honorEnvironment(env, s, ids, logger); err != nil {
		return nil, nil, err
	}
	server := &proxy.Server{
		ExplainMember: ids.explainMember(s),
		MetricsURLs:   metrics, DialMember: ids.Dial,
		DataDir: s.String("data-dir"), WALDir: s.String("wal-dir"),
		ListenURLs: urls, ListenTLS: ids.Listener, MemberTLS: ids.Members, PeerTLS: ids.Peers,
		Readonly:        s.String("proxy") == "readonly",
		RefreshInterval: d["proxy-refresh-interval"], FailureWait: d["proxy-failure-wait"],
		DialTimeout: d["proxy-dial-timeout"], WriteTimeout: d["proxy-write-timeout"],
		ReadTimeout: d["proxy-read-timeout"], DrainTimeout: d["drain-timeout"],
		RunDir: env.runDirs()[0], Version: readVersions().Etcdops,
		Notify: func(state string) { _, _ = daemon.SdNotify(false, state) },
		Logger: logger,
	}
	if err := setLimits(s, server); err != nil {
		return nil, nil, err
	}
	if most := affordableConnections(); most > 0 && server.MaxConnections > most {
		logger.Warn("more client connections are allowed than the process may open files for", "max_connections", server.MaxConnections, "enough_for", most)
	}
	if s.IsSet("cors") {
		server.CORS = s.List("cors")
	}
	config, err := sourceConfig(s, ids, d["proxy-dial-timeout"], logger)
	if err != nil {
		return nil, nil, err
	}
	config.Waiting = func(w *discover.WaitingError) { server.Waiting(w.Error()) }
	if promote.Unfinished(config.DataDir) {
		// Never dark: it serves beside the member, also where the journal can't
		// be read, and leaves the rest to promote.
		server.BesideMember, config.ReadOnly = true, true
		journal, err := promote.ReadJournal(config.DataDir)
		if err != nil {
			logger.Error("a promotion was cut here", "error", err)
		} else {
			logger.Info("a promotion is under way here: serving beside the member", "name", journal.Plan.Name, "last_entry", journal.Last())
			config.ClusterFile = journal.ClusterFile()
		}
	}
	follower := discover.NewFollower(config)
	server.Hold, server.Release = follower.StopWriting, follower.ResumeWriting
	server.Members = func(ctx context.Context) (proxy.View, error) {
		m, err := follower.Refresh(ctx)
		var wrong *discover.WrongClusterError
		switch {
		case errors.As(err, &wrong):
			return proxy.View{}, &proxy.WrongClusterError{Pinned: wrong.Pinned, Seen: wrong.Seen, PinnedBy: wrong.PinnedBy}
		case err != nil:
			return proxy.View{}, err
		}
		if m.FileErr != nil {
			logger.Warn("cluster file not written", "error", m.FileErr)
		}
		return proxyView(m), nil
	}
	server.Accept = func(ctx context.Context, clusterID uint64) error {
		_, err := follower.Accept(ctx, clusterID)
		var wrong *discover.WrongClusterError
		if errors.As(err, &wrong) {
			return fmt.Errorf("no member answers for cluster %016x, but for cluster %016x", clusterID, wrong.Seen)
		}
		return err
	}
	var inspector atomic.Pointer[discover.Inspector]
	inspector.Store(&discover.Inspector{TLS: ids.Members, Explain: ids.explainMember(s), Dial: ids.Dial, DialTimeout: d["proxy-dial-timeout"]})
	server.Control = map[string]http.HandlerFunc{
		"GET " + standingPath: standingHandler(env, s),
		"GET " + membersPath:  membersHandler(follower, server, &inspector),
	}
	for _, use := range sideUses {
		server.TLSLoaded(use, nil)
	}
	return server, &reloader{
		Settings: s, Listen: slices.Concat(urls, metrics), Server: server, Follower: follower, Members: &inspector, Logger: logger,
		now: *ids,
	}, nil
}

// checkDataDir finds out, without making anything, whether the data directory
// can be used.
func checkDataDir(s *Settings) error {
	dir := s.String("data-dir")
	info, err := os.Stat(dir)
	switch {
	case errors.Is(err, os.ErrNotExist):
		return nil
	case err != nil:
		return s.Bad("data-dir", "check the path and the rights with: ls -ld "+dir, "can't use %s: %v", dir, errors.Unwrap(err))
	case !info.IsDir():
		return s.Bad("data-dir", "name a directory, or one that does not exist yet", "%s is not a directory", dir)
	}
	if _, err := os.ReadDir(dir); err != nil {
		return s.Bad("data-dir", "check the rights with: ls -ld "+dir, "can't read %s: %v", dir, errors.Unwrap(err))
	}
	return nil
}

func proxyView(m discover.Membership) proxy.View {
	v := proxy.View{ClusterID: m.ClusterID, PeerURLs: m.PeerURLs, At: m.At}
	for _, d := range m.Members {
		v.Members = append(v.Members, proxy.Member{ID: d.ID, Name: d.Name, ClientURLs: d.ClientURLs, Learner: d.IsLearner})
	}
	return v
}

// explainStart gives the errors of a proxy's start their exit code and hint.
func explainStart(s *Settings, err error) error {
	var listen *proxy.ListenError
	var locked *proxy.LockedError
	var member *proxy.MemberDataError
	switch {
	case errors.As(err, &listen) && listen.InUse():
		return fail(ExitFailed, err, "another process listens there: find it with ss -ltnp, or choose another "+listen.Setting)
	case errors.As(err, &listen) && strings.HasPrefix(listen.URL, "unix"):
		return fail(ExitFailed, err, "name a path in "+listen.Setting+" where a socket can be made")
	case errors.As(err, &listen):
		return fail(ExitFailed, err, "choose an address of this host in "+listen.Setting)
	case errors.As(err, &locked):
		return fail(ExitLocked, err, "one proxy a data directory: stop that process, or give this one another --data-dir")
	case errors.As(err, &member):
		return fail(ExitRefused, err, "this is a member, start etcd there; or give the proxy another --data-dir")
	case err != nil:
		return fail(ExitFailed, err, "check the rights of "+s.String("data-dir")+", then start again")
	}
	return nil
}

// newLogger makes the log of a daemon.
func newLogger(w io.Writer, s *Settings) (*slog.Logger, error) {
	level, err := s.Level("log-level")
	if err != nil {
		return nil, err
	}
	opts := &slog.HandlerOptions{Level: level}
	if s.String("log-format") == "json" {
		return slog.New(slog.NewJSONHandler(w, opts)), nil
	}
	return slog.New(slog.NewTextHandler(w, opts)), nil
}

// pemBody is the content of a PEM file's first block, or the file itself.
func pemBody(file []byte) []byte {
	if block, _ := pem.Decode(file); block != nil {
		return block.Bytes
	}
	return file
}
