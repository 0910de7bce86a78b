package commands

import (
	"bufio"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"github.com/urfave/cli/v2"
	"golang.org/x/term"

	"etcdops/discover"
	"etcdops/proxy"
)

// membersPath is where the control socket tells of the members.
const membersPath = "/v1/members"

type membersOptions struct {
	Settings  *Settings
	Endpoints []string
	// Given says that a flag named the cluster or the proxy, so that no running
	// proxy is looked for.
	Given        bool
	DataDirGiven bool
	User         string
	PasswordFile string
	CertFile     string
	KeyFile      string
	CAFile       string
	Check        bool
	Output       string
	Env          *Env
}

// membersReport is what proxy members prints.
type membersReport struct {
	Via          string                  `json:"via"` // who was asked
	ClusterID    string                  `json:"cluster_id"`
	ListAt       time.Time               `json:"list_at"` // when the member list was got
	RefreshError string                  `json:"refresh_error,omitempty"`
	Members      []discover.MemberStatus `json:"members"`

	// byProxy says that the proxy asked the members, with its own TLS files.
	byProxy bool
}

func newProxyMembersCommand(env *Env) *cli.Command {
	return &cli.Command{
		Name:  "members",
		Usage: "show the cluster as the proxy sees it",
		Description: `Without flags the proxy that runs on this machine is asked. It needs no quorum:
what can't be learnt is shown as such, with the reason.

Examples:
  etcdops proxy members
  etcdops proxy members --data-dir /tmp/proxy.etcd
  etcdops proxy members --endpoints http://127.0.0.1:2379 -o json
  etcdops proxy members --check`,
		Flags: append([]cli.Flag{
			&cli.StringFlag{Name: "endpoints", Usage: "client `URLS` to ask instead of a proxy, with commas between"},
			&cli.StringFlag{Name: "user", Usage: "`NAME` or NAME:PASSWORD of an etcd user, for a cluster with auth on"},
			&cli.StringFlag{Name: "password-file", Usage: "`FILE` whose first line is the user's password"},
			&cli.StringFlag{Name: "cert", Usage: "certificate `FILE` towards members"},
			&cli.StringFlag{Name: "key", Usage: "key `FILE` towards members"},
			&cli.StringFlag{Name: "cacert", Usage: "CA `FILE` that signed the members' certificates"},
			&cli.BoolFlag{Name: "check", Usage: "exit with 1 unless every member is started, healthy and reachable and there is a leader"},
			outputFlag(),
		}, settingFlags(sourceSettings())...),
		Action: action{Run: func(ctx context.Context, c *cli.Context) error {
			if err := noArguments(c); err != nil {
				return err
			}
			s, err := loadSettings(proxySettings(), setFlags(c), env.Getenv)
			if err != nil {
				return err
			}
			return runProxyMembers(ctx, env, membersOptions{
				Settings: s, Endpoints: splitList(c.String("endpoints")),
				Given: slices.ContainsFunc(append([]string{configFileSetting}, sourceNames...), c.IsSet), DataDirGiven: c.IsSet("data-dir"),
				User: c.String("user"), PasswordFile: c.String("password-file"),
				CertFile: c.String("cert"), KeyFile: c.String("key"), CAFile: c.String("cacert"),
				Check: c.Bool("check"), Output: c.String(outputFlagName), Env: env,
			})
		}}.Do,
	}
}

func splitList(text string) []string {
	return strings.FieldsFunc(text, func(r rune) bool { return r == ',' || r == ' ' })
}

func runProxyMembers(ctx context.Context, env *Env, opts membersOptions) error {
	user, password, err := readUser(env, opts)
	if err != nil {
		return err
	}
	report, err := findMembers(ctx, env, opts, user, password)
	if err != nil {
		return err
	}
	if err := env.printTable(opts.Output, membersTable(env, report)); err != nil {
		return err
	}
	if report.RefreshError != "" {
		fmt.Fprintf(env.Stderr, "note: the list is %v old, the last refresh failed: %s\n",
			time.Since(report.ListAt).Round(time.Second), oneLine(report.RefreshError))
	}
	for _, m := range report.Members {
		if user != "" && m.NeedsUser {
			return &Failure{
				Code: ExitFailed, Message: fmt.Sprintf("user %s, at member %s: %s", user, m.Name, m.Reason),
				Hint: "check --user and --password-file",
			}
		}
	}
	if healthy, problem := discover.AllHealthy(report.Members); opts.Check && !healthy {
		flags := ownTrustFlags
		if report.byProxy {
			flags = proxyTrustFlags
		}
		hint := cmp.Or(flags.hint(problem), "see that member's own log; etcdops proxy members shows all of them")
		return &Failure{Code: ExitFailed, Message: "check failed: " + problem, Hint: hint}
	}
	return nil
}

// findMembers asks who knows best: what the flags name, else the proxy that
// runs here, else the sources.
func findMembers(ctx context.Context, env *Env, opts membersOptions, user, password string) (*membersReport, error) {
	switch {
	case len(opts.Endpoints) > 0:
		return membersByEndpoints(ctx, opts, opts.Endpoints, user, password)
	case opts.DataDirGiven && !opts.Given:
		path := proxy.ControlPath(opts.Settings.String("data-dir"))
		report, err := membersByControl(ctx, path, user, password)
		if err == nil || !noProxyThere(err) {
			return report, err
		}
		if err := checkMemory(opts.Settings); err != nil {
			return nil, err
		}
		fmt.Fprintf(env.Stderr, "note: no proxy runs in %s; this is what its cluster file leads to\n", opts.Settings.String("data-dir"))
		return membersBySources(ctx, opts, user, password)
	case opts.Given:
		return membersBySources(ctx, opts, user, password)
	}
	running := proxy.Registered(ctx, env.runDirs())
	switch {
	case len(running) > 1:
		return nil, severalRun(running, "etcdops proxy members")
	case len(running) == 1 && running[0].Forbidden:
		fmt.Fprintf(env.Stderr, "note: the proxy's control socket is not open to this user, asking its client port %s\n",
			strings.Join(running[0].ListenClientURLs, ","))
		return membersByEndpoints(ctx, opts, running[0].ListenClientURLs, user, password)
	case len(running) == 1:
		return membersByControl(ctx, running[0].Control, user, password)
	}
	return membersBySources(ctx, opts, user, password)
}

// severalRun asks which of the proxies is meant by a command.
func severalRun(running []proxy.Registration, command string) error {
	var dirs []string
	for _, r := range running {
		dirs = append(dirs, fmt.Sprintf("%s (process %d)", r.DataDir, r.PID))
	}
	return usageError("say which one, for instance: "+command+" --data-dir "+running[0].DataDir,
		"%d proxies run here: %s", len(running), strings.Join(dirs, ", "))
}

// checkMemory refuses a data directory, named without a source, in which no proxy
// has ever found a cluster: the default peers are not what was asked for.
func checkMemory(s *Settings) error {
	dir := s.String("data-dir")
	file := filepath.Join(dir, "proxy", "cluster")
	if _, err := os.Stat(file); namesSource(s) || !errors.Is(err, os.ErrNotExist) {
		return nil
	}
	return &Failure{
		Code: ExitNoCluster, Message: fmt.Sprintf("no proxy runs in %s, and there is no %s", dir, file),
		Hint: "name the proxy's --data-dir, or the cluster with --initial-cluster or --endpoints",
	}
}

func noProxyThere(err error) bool {
	return errors.Is(err, os.ErrNotExist) || isRefused(err)
}

func membersByControl(ctx context.Context, path, user, password string) (*membersReport, error) {
	report := membersReport{byProxy: true}
	client := proxy.ControlClient{Path: path}
	err := client.Get(ctx, membersPath, func(r *http.Request) {
		if user != "" {
			r.SetBasicAuth(user, password)
		}
	}, &report)
	if errors.Is(err, os.ErrPermission) {
		return nil, fail(ExitFailed, err, "run it as the proxy's user or root, or name a client URL with --endpoints")
	}
	if err == nil && report.ClusterID == "" {
		return nil, fail(ExitNoCluster, fmt.Errorf("%s has found no cluster yet: %s", report.Via, report.RefreshError),
			"see why with: etcdops proxy discover, and the flags of that proxy")
	}
	return &report, err
}

// membersHandler serves membersPath in the proxy's process, with the proxy's
// identity and its way to the members.
func membersHandler(follower *discover.Follower, server *proxy.Server, inspector *atomic.Pointer[discover.Inspector]) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		status := server.Status()
		report := membersReport{
			Via:       fmt.Sprintf("proxy process %d (%s)", status.PID, status.DataDir),
			ClusterID: status.ClusterID, RefreshError: cmp.Or(status.RefreshError, status.Waiting),
		}
		if status.ListAt != nil {
			report.ListAt = *status.ListAt
			ask := *inspector.Load()
			ask.Username, ask.Password, _ = r.BasicAuth()
			report.Members = ask.Inspect(r.Context(), follower.Last().Members)
			markUsed(report.Members, status.Endpoints)
		}
		w.Header().Set("Content-Type", "application/json")
		_ = json.NewEncoder(w).Encode(report)
	}
}

// markUsed says of each member what the running proxy makes of its URLs.
func markUsed(members []discover.MemberStatus, endpoints []proxy.Endpoint) {
	for i := range members {
		m := &members[i]
		m.Used, m.Why = false, ""
		var why []string
		for _, e := range endpoints {
			if e.MemberID != m.ID {
				continue
			}
			switch {
			case e.Used && e.Healthy:
				m.Used = true
			case e.Foreign != "":
				m.Reason = "" // that of a stranger
				why = append(why, e.URL+": "+e.Why+"; see: etcdops proxy accept-cluster --help")
			case e.Used && m.Reason != "": // which says the same at greater length
				why = append(why, "left out by the probe")
			case e.Used:
				why = append(why, "left out by the probe: "+e.Why)
			default:
				why = append(why, strings.TrimSpace(e.URL+" "+e.Why))
			}
		}
		m.Why = strings.Join(why, "; ")
	}
}

func membersByEndpoints(ctx context.Context, opts membersOptions, endpoints []string, user, password string) (*membersReport, error) {
	inspector, _, err := opts.inspector(user, password)
	if err != nil {
		return nil, err
	}
	id, members, err := inspector.List(ctx, endpoints)
	if errors.Is(err, discover.ErrNeedsUser) {
		return nil, fail(ExitFailed, err, "add --user NAME and --password-file FILE")
	}
	if err != nil {
		return nil, fail(ExitNoCluster, err, cmp.Or(ownTrustFlags.hint(err.Error()), "check the URLs with: curl "+endpoints[0]+"/version"))
	}
	return &membersReport{
		Via: strings.Join(endpoints, ","), ClusterID: fmt.Sprintf("%016x", id), ListAt: time.Now(),
		Members: inspector.Inspect(ctx, members),
	}, nil
}

func membersBySources(ctx context.Context, opts membersOptions, user, password string) (*membersReport, error) {
	if err := checkSources(opts.Settings); err != nil {
		return nil, err
	}
	inspector, ids, err := opts.inspector(user, password)
	if err != nil {
		return nil, err
	}
	config, err := sourceConfig(opts.Settings, ids, inspector.DialTimeout, nil)
	if err != nil {
		return nil, err
	}
	config.BootstrapWait = bootstrapWait
	config.PreferFile = opts.DataDirGiven && !opts.Given
	resolution, err := discover.New(config).Resolve(ctx)
	if err != nil {
		return nil, fail(ExitNoCluster, err, "see each step with: etcdops proxy discover; or name a source with --initial-cluster, --data-dir or --endpoints")
	}
	via := "sources"
	for _, s := range resolution.Sources {
		if s.State == discover.SourceUsed {
			via = s.Name
		}
	}
	return &membersReport{
		Via: via, ClusterID: resolution.ClusterID, ListAt: time.Now(),
		Members: inspector.Inspect(ctx, resolution.Members),
	}, nil
}

// inspector asks members with the TLS files of etcdctl's flags or of the
// proxy's.
func (o *membersOptions) inspector(user, password string) (*discover.Inspector, *identities, error) {
	switch {
	case o.CertFile != "" && o.KeyFile == "":
		return nil, nil, usageError("add --key with the key of the certificate", "--cert: there is no --key to it")
	case o.CertFile == "" && o.KeyFile != "":
		return nil, nil, usageError("add --cert with the certificate of the key", "--key: there is no --cert to it")
	}
	s := o.Settings.with(map[string]ownFlag{
		"client-cert-file": {"--cert", o.CertFile}, "client-key-file": {"--key", o.KeyFile}, "trusted-ca-file": {"--cacert", o.CAFile},
	})
	ids, err := loadIdentities(s, nil, nil)
	if err != nil {
		return nil, nil, err
	}
	dial, err := s.Duration("proxy-dial-timeout")
	if err != nil {
		return nil, nil, err
	}
	if err := honorEnvironment(o.Env, s, ids, nil); err != nil {
		return nil, nil, err
	}
	inspector := &discover.Inspector{TLS: ids.Members, Explain: ids.explainMember(s), Dial: ids.Dial, Username: user, Password: password, DialTimeout: dial}
	if len(ids.Members.Certificates) == 0 && ids.Members.RootCAs == nil {
		inspector.TLS = nil // so that an endpoint without a scheme means http, as to etcdctl
	}
	return inspector, ids, nil
}

// readUser reads the user, and the password from where it is: behind a colon,
// in a file, or typed.
func readUser(env *Env, opts membersOptions) (user, password string, err error) {
	user, password, inLine := strings.Cut(opts.User, ":")
	switch {
	case user == "" && opts.PasswordFile != "":
		return "", "", usageError("add --user NAME", "--password-file: there is no --user to it")
	case user == "" || inLine:
		return user, password, nil
	case opts.PasswordFile != "":
		f, err := os.Open(opts.PasswordFile)
		if err != nil {
			return "", "", usageError("check the path and the rights with: ls -l "+opts.PasswordFile, "--password-file: %v", err)
		}
		defer f.Close()
		line, err := bufio.NewReader(f).ReadString('\n')
		if err != nil && !errors.Is(err, io.EOF) {
			return "", "", usageError("name a file that can be read", "--password-file: %v", err)
		}
		if line = strings.TrimRight(line, "\r\n"); line == "" {
			return "", "", usageError("write the password into its first line", "--password-file: there is no password in %s", opts.PasswordFile)
		}
		return user, line, nil
	}
	stdin, ok := env.Stdin.(*os.File)
	if !ok || !env.StdinTTY {
		return "", "", usageError("add --password-file FILE", "--user: there is no password, and no terminal to ask for it")
	}
	fmt.Fprintf(env.Stderr, "password of %s: ", user)
	typed, err := term.ReadPassword(int(stdin.Fd()))
	fmt.Fprintln(env.Stderr)
	return user, string(typed), err
}
