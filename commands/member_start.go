package commands

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"syscall"

	"github.com/urfave/cli/v2"

	"etcdops/discover"
	"etcdops/promote"
)

// Values of --discovery-fallback (etcd 3.5, server/etcdmain/config.go).
const (
	fallbackSetting = "discovery-fallback"
	fallbackProxy   = "proxy"
	fallbackExit    = "exit"
)

type memberStartOptions struct {
	Etcd     string   // a path, embedded, or empty for the etcd on PATH
	Fallback string   // fallbackProxy, fallbackExit, or empty for what etcd's flags say
	Args     []string // etcd's own
}

func newMemberStartCommand(env *Env) *cli.Command {
	return &cli.Command{
		Name:      "start",
		Usage:     "run etcd as it is; where its discovery is full, become a proxy",
		ArgsUsage: "-- [etcd's flags]",
		Description: `etcd gets its flags, its ETCD_ variables and every signal, and this command ends as
it ends. With --discovery (etcd 3.4 to 3.6) or --discovery-token (3.6 and later), where
as many members as the token wants are registered already, this becomes a readwrite
proxy with the same discovery, client URLs and data directory, and is one again at the
next start. With --discovery-fallback=exit it exits with 6 instead.

Examples:
  etcdops member start --etcd embedded -- --name m1 --data-dir /tmp/m1.etcd
  etcdops member start -- --name m1 --discovery-token T --discovery-endpoints http://10.0.0.1:2379 --initial-advertise-peer-urls http://10.0.0.2:2380
  etcdops member start --discovery-fallback=exit -- --config-file /etc/etcd.yml`,
		Flags: []cli.Flag{
			&cli.StringFlag{Name: "etcd", Usage: "`PATH` of etcd, or embedded for the one built in; if not set, the one on PATH"},
			&ChoiceFlag{
				StringFlag: cli.StringFlag{Name: fallbackSetting, Usage: "what to do where the cluster is full; if not set, what etcd's flags say, else proxy"},
				Values:     []string{fallbackProxy, fallbackExit},
			},
		},
		Action: action{OwnSignals: true, Run: func(ctx context.Context, c *cli.Context) error {
			return runMemberStart(ctx, env, memberStartOptions{
				Etcd: c.String("etcd"), Fallback: c.String(fallbackSetting), Args: c.Args().Slice(),
			})
		}}.Do,
	}
}

// memberStart is one run of the command.
type memberStart struct {
	env      *Env
	opts     memberStartOptions
	settings *Settings // those of etcd
	config   discover.Config
	binary   promote.Binary
	fallback string
	logger   *slog.Logger
}

// runMemberStart decides what this machine is to be. The cases, in their order:
//
//	data directory                  discovery  registry          what happens
//	a promotion is under way in it  any        not read          a proxy, which serves beside the member
//	holds a member's log            any        not read          etcd, whatever else is wrong
//	holds proxy/                    set        not read          a proxy (with exit: see the rows below)
//	holds proxy/                    not set    –                 refused: etcd would not start there
//	any other                       not set    –                 etcd
//	any other                       set        full without us   a proxy (with exit: 6)
//	holds proxy/                    set        has room for us   refused (exit alone comes here)
//	any other                       set        has room for us   etcd; if it fails, the registry is read again:
//	                                                             full without us: a proxy (with exit: 6); else as etcd ended
//	any other                       set        unknown token …   exit 3, nothing was started
//	any other                       set        can't be read now etcd, which tries for ever
func runMemberStart(ctx context.Context, env *Env, opts memberStartOptions) error {
	m := &memberStart{env: env, opts: opts}
	dataDir, walDir := m.folders()
	isMember, err := promote.HasLog(dataDir, walDir)
	if err != nil {
		return fail(ExitRefused, fmt.Errorf("look into the data directory: %w", err), "run it as a user who can look there")
	}
	promoting := promote.Unfinished(dataDir)
	if isMember && !promoting {
		return m.becomeEtcd(ctx)
	}
	if err := m.readSettings(); err != nil {
		return err
	}
	wasProxy := exists(filepath.Join(dataDir, "proxy"))
	switch {
	case promoting:
		return m.becomeProxy(ctx)
	case wasProxy && m.discovers() && m.fallback == fallbackProxy:
		m.logger.Info("this was a proxy before, and is one again", "folder", filepath.Join(dataDir, "proxy"))
		return m.becomeProxy(ctx)
	case wasProxy && !m.discovers():
		return m.refuseProxyFolder()
	case !m.discovers():
		return m.becomeEtcd(ctx)
	}
	if err := m.findEtcd(ctx); err != nil {
		return err
	}
	if err := m.checkDiscovery(ctx); err != nil {
		return err
	}
	return m.tryToJoin(ctx, wasProxy)
}

// etcdSettings are what etcd is told by flags and variables, or where there is a
// config file, by that alone (server/etcdmain/config.go, parse). The file is not
// read yet.
func (m *memberStart) etcdSettings() *Settings {
	s := &Settings{table: map[string]Setting{}, flag: readArgs(m.opts.Args), getenv: m.env.Getenv, others: true}
	for _, setting := range proxySettings() {
		setting.Ignored = false
		s.table[setting.Name] = setting
	}
	if path := s.String(configFileSetting); path != "" {
		s.flag = readArgs([]string{"--" + configFileSetting + "=" + path})
		s.getenv = func(string) string { return "" }
	}
	return s
}

// folders are etcd's --data-dir and --wal-dir. Nothing else is judged: a member
// must start again with whatever etcd puts up with.
func (m *memberStart) folders() (dataDir, walDir string) {
	s := m.etcdSettings()
	s.file = map[string]string{}
	if path := s.String(configFileSetting); path != "" {
		content, _ := os.ReadFile(path) // what can't be read is etcd's to name
		keys, _ := parseYAML(content, false)
		for _, name := range []string{"name", "data-dir", "wal-dir"} {
			if value, ok := keys[name].(string); ok {
				s.file[name] = value
			}
		}
	}
	return s.String("data-dir"), s.String("wal-dir")
}

// readSettings reads all that etcd will read.
func (m *memberStart) readSettings() error {
	s := m.etcdSettings()
	if err := s.readConfigFile(); err != nil {
		return err
	}
	m.settings = s
	switch mode := s.String("proxy"); {
	case !s.IsSet("proxy"), mode == "off", mode == "false": // YAML's off
	default:
		return s.Bad("proxy", "take it out, or run etcdops proxy start with these flags", "this starts a member, not a proxy")
	}
	if err := checkEtcdArgs(m.opts.Args); err != nil {
		return err
	}
	m.fallback = cmp.Or(m.opts.Fallback, s.String(fallbackSetting), fallbackProxy)
	if m.discovers() && m.fallback != fallbackProxy && m.fallback != fallbackExit {
		return s.Bad(fallbackSetting, "write proxy or exit", "%q is neither proxy nor exit", m.fallback)
	}
	var err error
	m.logger, err = newLogger(m.env.Stderr, s)
	return err
}

// checkEtcdArgs refuses what etcd would not take for a flag, before a proxy is
// made of a line that no member could be started with.
func checkEtcdArgs(args []string) error {
	for _, flag := range parseEtcdArgs(args) {
		switch flag.name {
		case "":
			return usageError("etcd's flags begin with --, as in: etcdops member start -- --name m1", "%q is not a flag of etcd", flag.words[0])
		case "etcd":
			return usageError("write it before the --, as in: etcdops member start --etcd PATH -- --name m1", "--etcd is not a flag of etcd")
		}
	}
	return nil
}

// ourselves are who asks an etcd here.
func ourselves() promote.Asker {
	return promote.Asker{UID: uint32(os.Geteuid()), GID: uint32(os.Getegid())}
}

func (m *memberStart) findEtcd(ctx context.Context) error {
	var err error
	m.binary, err = etcdBinary(ctx, m.opts.Etcd, ourselves())
	return err
}

// discovers tells whether etcd asks a discovery service.
func (m *memberStart) discovers() bool {
	return m.settings.String("discovery") != "" || m.settings.String("discovery-token") != ""
}

// checkDiscovery refuses a discovery that this etcd does not know, before etcd
// has made a folder that is hard to explain.
func (m *memberStart) checkDiscovery(ctx context.Context) error {
	s := m.settings
	for _, d := range []struct{ name, hint string }{
		{"discovery", "use v3 discovery: --discovery-token and --discovery-endpoints"},
		{"discovery-token", "use a discovery URL: --discovery http://host:2379/v2/keys/_etcd/registry/TOKEN"},
	} {
		if s.String(d.name) == "" {
			continue
		}
		takes, err := m.binary.Takes(ctx, ourselves(), d.name)
		if err != nil {
			return fail(ExitRefused, err, "name an etcd that runs here with --etcd PATH")
		}
		if !takes {
			return s.Bad(d.name, d.hint, "etcd %s has no %s", m.binary.Version, dashed(d.name))
		}
	}
	for _, other := range []string{"discovery-srv", "initial-cluster"} {
		if s.String(other) != "" {
			return s.Bad(other, "leave it out, or leave the discovery out", "etcd takes either that or a discovery")
		}
	}
	if err := checkSources(s); err != nil {
		return err
	}
	ids := &identities{}
	if err := ids.loadDiscovery(s); err != nil {
		return err
	}
	config, err := sourceConfig(s, ids, 0, m.logger)
	m.config = config
	return err
}

func (m *memberStart) refuseProxyFolder() error {
	folder := filepath.Join(m.settings.String("data-dir"), "proxy")
	return &Failure{
		Code: ExitRefused, Message: folder + " says that this is a proxy, and etcd does not start beside it",
		Hint: "make it a member with: etcdops proxy promote; or move that folder away",
	}
}

// becomeProxy runs a readwrite proxy with etcd's own settings.
func (m *memberStart) becomeProxy(ctx context.Context) error {
	return runProxyStart(ctx, m.env, m.settings.with(map[string]ownFlag{"proxy": {"--proxy", defaultProxyMode}}))
}

// becomeEtcd replaces this process by etcd: nothing is left for it to do.
func (m *memberStart) becomeEtcd(ctx context.Context) error {
	if err := m.findEtcd(ctx); err != nil {
		return err
	}
	argv := append(append([]string{m.binary.Path}, m.binary.Args...), m.opts.Args...)
	if err := syscall.Exec(m.binary.Path, argv, m.env.Environ); err != nil {
		return fail(ExitFailed, fmt.Errorf("start %s: %w", m.binary.Path, err), "check that it can be run: "+m.binary.Path+" --version")
	}
	return nil
}

func exists(path string) bool {
	_, err := os.Lstat(path)
	return !errors.Is(err, os.ErrNotExist)
}
