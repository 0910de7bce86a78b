package commands

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net/url"
	"path/filepath"
	"strings"
	"time"

	"github.com/urfave/cli/v2"

	"etcdops/promote"
	"etcdops/proxy"
)

// Values of --etcd, --supervisor and --stage.
const (
	etcdEmbedded = "embedded"
	stageEnv     = "env"
)

type promoteOptions struct {
	Request      promote.Request
	Etcd         string
	PID          int
	DryRun       bool
	Yes          bool
	Continue     bool
	Abort        bool
	StopTimeout  time.Duration
	StallTimeout time.Duration
	EnvFormat    string
	Output       string

	User, PasswordFile, CertFile, KeyFile, CAFile string
}

func newProxyPromoteCommand(env *Env) *cli.Command {
	return &cli.Command{
		Name:      "promote",
		Usage:     "turn the proxy into a member of the cluster, without a failed request",
		ArgsUsage: "NAME [-- etcd's flags]",
		Description: `Adds NAME to the cluster as a learner, prints its variables on standard output,
sets the proxy's folder aside, starts etcd behind the proxy's ports, waits until
it is a voter that serves, hands the ports over, and ends the proxy. Nothing is
changed before you have seen the plan and said yes. Cut at any moment, it goes on
when it is run again, or is undone with --abort.

Listen URLs, cluster and TLS come from the running proxy where not given.

Examples:
  etcdops proxy promote m4 --initial-advertise-peer-urls http://10.0.0.4:2380 --dry-run
  etcdops proxy promote m4 --data-dir /var/lib/etcd --initial-advertise-peer-urls http://10.0.0.4:2380 --yes
  etcdops proxy promote --continue
  etcdops proxy promote --abort --yes`,
		Flags: promoteFlags(),
		Action: action{Run: func(ctx context.Context, c *cli.Context) error {
			opts, err := readPromoteOptions(env, c)
			if err != nil {
				return err
			}
			return runProxyPromote(ctx, env, opts)
		}}.Do,
	}
}

func promoteFlags() []cli.Flag {
	choice := func(name, value, usage string, values ...string) cli.Flag {
		return &ChoiceFlag{StringFlag: cli.StringFlag{Name: name, Value: value, Usage: usage}, Values: values}
	}
	output := &ChoiceFlag{
		StringFlag: cli.StringFlag{
			Name: outputFlagName, Aliases: []string{"o"}, Value: outputTable,
			Usage: "print as `FORMAT`: table prints the variables as env-format says, json one document",
		},
		Values: []string{outputTable, outputJSON},
	}
	return []cli.Flag{
		&cli.StringFlag{Name: "data-dir", Usage: "`DIR` of the proxy, and of the member; if not set, that of the only proxy that runs here"},
		&cli.StringFlag{Name: "initial-advertise-peer-urls", Usage: "`URLS` by which the other members reach this one"},
		&cli.StringFlag{Name: "listen-peer-urls", Usage: "`URLS` to listen on for the other members; if not set, those advertised"},
		&cli.StringFlag{Name: "listen-client-urls", Usage: "`URLS` to listen on for clients; if not set, the proxy's"},
		&cli.StringFlag{Name: "advertise-client-urls", Usage: "`URLS` by which clients reach this member; if not set, those to listen on that others can reach"},
		&cli.BoolFlag{Name: "dry-run", Usage: "show the whole plan and the variables, and change nothing"},
		&cli.BoolFlag{Name: "yes", Usage: "go ahead without asking"},
		&cli.BoolFlag{Name: "continue", Usage: "go on with a promotion that was cut, or end one that was finished by hand"},
		&cli.BoolFlag{Name: "abort", Usage: "undo a promotion that was cut, while the member is a learner"},
		choice("stage", "", "stop after `STAGE`: env adds the member and prints its variables", stageEnv),
		output,
		choice("env-format", promote.FormatShell, "print the variables as `FORMAT`",
			promote.FormatShell, promote.FormatEnvFile, promote.FormatSystemd, promote.FormatJSON),
		&cli.StringFlag{Name: "etcd", Usage: "`PATH` of etcd, or embedded for the one built in; if not set, a native proxy's own, else the one on PATH"},
		choice("supervisor", "", "`WHO` keeps etcd running; if not set, systemd where it runs the proxy", promote.SuperviseSystemd, promote.SuperviseDetach),
		&cli.StringFlag{Name: "unit", Usage: "`NAME` of the unit in which the proxy runs, if it can't be found out"},
		&cli.IntFlag{Name: "pid", Usage: "process `N` is a native etcd --proxy on, to be promoted without hand-over"},
		&cli.BoolFlag{Name: "voter", Usage: "skip the learner's stage; refused where that could cost the quorum"},
		&cli.BoolFlag{Name: "keep-proxy-dir", Usage: "keep the proxy's folder, which is set aside"},
		&cli.DurationFlag{Name: "stop-timeout", Value: promote.DefaultStopTimeout, Usage: "`TIME` that the proxy may take to drain, and then to end before it is killed"},
		&cli.DurationFlag{Name: "stall-timeout", Value: promote.DefaultStallTimeout, Usage: "`TIME` without progress of the learner after which everything is undone; a voter may take as long to serve, and is not undone"},
		&cli.StringFlag{Name: "user", Usage: "`NAME` or NAME:PASSWORD of an etcd user with the root role, for a cluster with auth on"},
		&cli.StringFlag{Name: "password-file", Usage: "`FILE` whose first line is the user's password"},
		&cli.StringFlag{Name: "cert", Usage: "certificate `FILE` towards members, if not the proxy's"},
		&cli.StringFlag{Name: "key", Usage: "key `FILE` towards members, if not the proxy's"},
		&cli.StringFlag{Name: "cacert", Usage: "CA `FILE` that signed the members' certificates, if not the proxy's"},
	}
}

func readPromoteOptions(env *Env, c *cli.Context) (*promoteOptions, error) {
	opts := &promoteOptions{
		Request: promote.Request{
			InitialAdvertisePeerURLs: splitList(c.String("initial-advertise-peer-urls")),
			ListenPeerURLs:           splitList(c.String("listen-peer-urls")),
			ListenClientURLs:         splitList(c.String("listen-client-urls")),
			AdvertiseClientURLs:      splitList(c.String("advertise-client-urls")),
			Voter:                    c.Bool("voter"), Supervisor: c.String("supervisor"), Unit: c.String("unit"),
			KeepProxyDir: c.Bool("keep-proxy-dir"), StageEnv: c.String("stage") == stageEnv, Environ: env.Environ,
		},
		Etcd: c.String("etcd"), PID: c.Int("pid"), DryRun: c.Bool("dry-run"), Yes: c.Bool("yes"),
		Continue: c.Bool("continue"), Abort: c.Bool("abort"),
		StopTimeout: c.Duration("stop-timeout"), StallTimeout: c.Duration("stall-timeout"),
		EnvFormat: c.String("env-format"), Output: c.String(outputFlagName),
		User: c.String("user"), PasswordFile: c.String("password-file"),
		CertFile: c.String("cert"), KeyFile: c.String("key"), CAFile: c.String("cacert"),
	}
	words := c.Args().Slice()
	if len(words) > 0 && !strings.HasPrefix(words[0], "-") {
		opts.Request.Name, words = words[0], words[1:]
	}
	if len(words) > 0 && !strings.HasPrefix(words[0], "-") {
		return nil, usageError("one name for the member; etcd's own flags go behind --", "%q is one word too many", words[0])
	}
	opts.Request.EtcdFlags = words
	if dir := c.String("data-dir"); dir != "" {
		abs, err := filepath.Abs(dir)
		if err != nil {
			return nil, usageError("name a directory", "--data-dir: %v", err)
		}
		opts.Request.DataDir = abs
	}
	return opts, opts.check()
}

// check finds what is wrong with the command line alone.
func (o *promoteOptions) check() error {
	r := &o.Request
	switch {
	case o.Continue && o.Abort:
		return usageError("choose one", "--continue and --abort contradict each other")
	case o.Continue && r.StageEnv:
		return usageError("leave out --stage to go on; to see the variables again, leave out --continue", "--stage env and --continue contradict each other")
	case o.Abort && o.DryRun:
		return usageError("run --abort without it: it asks before it changes anything", "--dry-run has no meaning with --abort")
	case o.PID < 0:
		return usageError("find it with: pgrep -a etcd", "--pid: %d is not a process", o.PID)
	case o.PID > 0 && r.DataDir == "":
		return usageError("add --data-dir with the data directory of that proxy", "--pid: there is no --data-dir to it")
	case o.StopTimeout <= 0:
		return usageError("write a time such as 30s", "--stop-timeout: %v is no time", o.StopTimeout)
	case o.StallTimeout <= 0:
		return usageError("write a time such as 10m", "--stall-timeout: %v is no time", o.StallTimeout)
	case o.CertFile != "" && o.KeyFile == "":
		return usageError("add --key with the key of the certificate", "--cert: there is no --key to it")
	case o.CertFile == "" && o.KeyFile != "":
		return usageError("add --cert with the certificate of the key", "--key: there is no --cert to it")
	}
	for _, list := range []struct {
		flag string
		urls []string
		unix bool
	}{
		{"initial-advertise-peer-urls", r.InitialAdvertisePeerURLs, false},
		{"listen-peer-urls", r.ListenPeerURLs, false},
		{"listen-client-urls", r.ListenClientURLs, true},
		{"advertise-client-urls", r.AdvertiseClientURLs, true},
	} {
		for _, raw := range list.urls {
			if err := checkMemberURL(list.flag, raw, list.unix); err != nil {
				return err
			}
		}
	}
	if strings.ContainsAny(r.Name, " \t\n\"'=,/%$\\") {
		return usageError("choose letters, digits, dots and dashes", "%q is not a name for a member", r.Name)
	}
	return nil
}

// checkNew finds what is missing for a promotion that begins.
func (o *promoteOptions) checkNew() error {
	r := &o.Request
	if r.Name == "" {
		return usageError("write for instance: etcdops proxy promote m4 --initial-advertise-peer-urls http://10.0.0.4:2380", "the new member has no name")
	}
	if len(r.InitialAdvertisePeerURLs) == 0 && len(r.ListenPeerURLs) == 0 {
		return usageError("add --initial-advertise-peer-urls with the URL by which the other members reach this machine, as in http://10.0.0.4:2380", "the new member has no peer URL")
	}
	if len(r.InitialAdvertisePeerURLs) == 0 {
		r.InitialAdvertisePeerURLs = r.ListenPeerURLs
	}
	if len(r.ListenPeerURLs) == 0 {
		r.ListenPeerURLs = r.InitialAdvertisePeerURLs
	}
	return nil
}

// checkMemberURL refuses what etcd would not take as a URL
// (client/pkg/types/urls.go).
func checkMemberURL(flag, raw string, unix bool) error {
	const hint = "write scheme, host and port, as in http://10.0.0.4:2380"
	u, err := url.Parse(raw)
	switch {
	case err != nil || u.Scheme == "" || !strings.Contains(raw, "://"):
		return usageError(hint, "--%s: %q has no scheme", flag, raw)
	case unix && (u.Scheme == "unix" || u.Scheme == "unixs"):
		if u.Host+u.Path == "" {
			return usageError("write a path, as in unix:///run/etcd.sock", "--%s: %q names no socket", flag, raw)
		}
		return nil
	case u.Scheme != "http" && u.Scheme != "https":
		return usageError(hint, "--%s: %q has none of the schemes http, https", flag, raw)
	case u.Hostname() == "" || u.Port() == "":
		return usageError(hint, "--%s: %q has no host or no port", flag, raw)
	case !validPort(u.Port()):
		return usageError(hint, "--%s: %q has a port over 65535", flag, raw)
	case u.Path != "" && u.Path != "/" || u.RawQuery != "" || u.User != nil:
		return usageError(hint, "--%s: %q has more than scheme, host and port", flag, raw)
	}
	return nil
}

func runProxyPromote(ctx context.Context, env *Env, opts *promoteOptions) error {
	if err := opts.findDataDir(ctx, env); err != nil {
		return err
	}
	journal, err := promote.ReadJournal(opts.Request.DataDir)
	var untrusted *promote.UntrustedError
	switch {
	case err == nil:
		return resumePromotion(ctx, env, opts, journal)
	case errors.As(err, &untrusted):
		return fail(ExitRefused, err, fmt.Sprintf("run it as the user who began it (setpriv --reuid %d --clear-groups); if nobody did, look at the file and remove it", untrusted.UID))
	case errors.Is(err, fs.ErrPermission):
		return fail(ExitRefused, err, "run it as the proxy's user or root")
	case !errors.Is(err, fs.ErrNotExist):
		return fail(ExitRefused, err, "the journal can't be read: mend or remove it by hand, after a look at etcdops proxy members")
	}
	if done, found := promote.LastDone(opts.Request.DataDir); found && !opts.Abort && (opts.Request.Name == "" || opts.Request.Name == done.Plan.Name) {
		fmt.Fprintf(env.Stderr, "%s was promoted: it is member %s of cluster %s, in %s\n", oneLine(done.Plan.Name), oneLine(done.Facts.MemberID), oneLine(done.Plan.ClusterID), opts.Request.DataDir)
		talk := &promoteTalk{env: env, opts: opts, prep: &promote.Preparation{Plan: done.Plan}}
		return talk.document("promoted", done.Variables())
	}
	if opts.Continue || opts.Abort {
		return &Failure{Code: ExitRefused, Message: "no promotion is under way in " + opts.Request.DataDir, Hint: "see the members with: etcdops proxy members"}
	}
	if err := opts.checkNew(); err != nil {
		return err
	}
	return newPromotion(ctx, env, opts)
}

// findDataDir takes the data directory of the only proxy that runs here, where
// none is named.
func (o *promoteOptions) findDataDir(ctx context.Context, env *Env) error {
	if o.Request.DataDir != "" {
		return nil
	}
	running := proxy.Registered(ctx, env.runDirs())
	switch len(running) {
	case 0:
		return usageError("name the proxy's data directory with --data-dir", "no running proxy is registered here")
	case 1:
		o.Request.DataDir = running[0].DataDir
		return nil
	}
	return severalRun(running, strings.TrimSpace("etcdops proxy promote "+o.Request.Name))
}
