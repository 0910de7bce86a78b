package commands

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net/url"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/urfave/cli/v2"

	"etcdops/discover"
	"etcdops/proxy"
)

// bootstrapWait is how long a command that shows something waits for a cluster
// that has not bootstrapped yet. proxy start waits for ever.
const bootstrapWait = 10 * time.Second

type discoverOptions struct {
	Settings *Settings
	Output   string
}

func newProxyDiscoverCommand(env *Env) *cli.Command {
	return &cli.Command{
		Name:  "discover",
		Usage: "show how the proxy would find its cluster, and why",
		Description: `The flags are those of proxy start. Every source is shown in the order in which it
is tried, with what the DNS and the discovery service answered; then each peer that
was asked, then the client URLs. Nothing is registered, written or changed. It exits
with 3 where no cluster is found, and where one has not bootstrapped within 10 s.

Examples:
  etcdops proxy discover --initial-cluster m1=http://127.0.0.1:2380
  etcdops proxy discover --discovery-srv example.org
  etcdops proxy discover --discovery-token T --discovery-endpoints http://127.0.0.1:2379
  etcdops proxy discover --data-dir /tmp/proxy.etcd -o json`,
		Flags: append([]cli.Flag{outputFlag()}, settingFlags(proxySettings())...),
		Action: action{Run: func(ctx context.Context, c *cli.Context) error {
			if err := noArguments(c); err != nil {
				return err
			}
			s, err := loadSettings(proxySettings(), setFlags(c), env.Getenv)
			if err != nil {
				return err
			}
			return runProxyDiscover(ctx, env, discoverOptions{Settings: s, Output: c.String(outputFlagName)})
		}}.Do,
	}
}

func runProxyDiscover(ctx context.Context, env *Env, opts discoverOptions) error {
	s := opts.Settings
	if err := checkSources(s); err != nil {
		return err
	}
	if err := checkDataDir(s); err != nil {
		return err
	}
	listen, err := parseListenURLs(s)
	if err != nil {
		return err
	}
	ids, err := loadIdentities(s, nil, nil)
	if err != nil {
		return err
	}
	dial, err := s.Duration("proxy-dial-timeout")
	if err != nil {
		return err
	}
	if err := honorEnvironment(env, s, ids, nil); err != nil {
		return err
	}
	config, err := sourceConfig(s, ids, dial, nil)
	if err != nil {
		return err
	}
	config.AskAll, config.BootstrapWait, config.Waiting = true, bootstrapWait, sayWaiting(env)
	resolution, err := discover.New(config).Resolve(ctx)
	if err != nil && !errors.Is(err, discover.ErrNoCluster) {
		return err
	}
	leaveOutOwn(ctx, listen, resolution.Clients)
	if printErr := env.printTables(opts.Output, resolutionTables(env, resolution), resolution); printErr != nil {
		return printErr
	}
	if err != nil {
		return fail(ExitNoCluster, err, noClusterHint(s, resolution, err))
	}
	return nil
}

// noClusterHint is what to type next where no source led to a cluster.
func noClusterHint(s *Settings, r *discover.Resolution, err error) string {
	var waiting *discover.WaitingError
	var wrong *discover.WrongClusterError
	switch {
	case errors.As(err, &wrong):
		return fmt.Sprintf("if that cluster is right, as after a restore: etcdops proxy accept-cluster %016x, where the proxy runs", wrong.Seen)
	case errors.As(err, &waiting):
		return "start the members that are missing; proxy start waits for them as long as it takes"
	case !namesSource(s):
		return "name a source: --initial-cluster, --discovery, --discovery-token or --discovery-srv"
	case slices.ContainsFunc(r.Peers, func(p discover.PeerAnswer) bool { return strings.Contains(p.Reason, ": see ") }):
		return "peers are there: mend the TLS settings that the lines of the peers name"
	case len(r.Peers) > 0:
		return "start a member that one of these peer URLs names, or correct the source that should name others"
	case s.String("discovery") != "":
		u, _ := discover.ParseDiscoveryURL(s.String("discovery")) // checkSources has passed
		return "look at the token with: curl -i " + u.Redacted() + "/_config/size"
	case s.String("discovery-token") != "":
		return fmt.Sprintf("look at the token with: etcdctl --endpoints %s get --prefix /_etcd/registry/%s",
			strings.Join(s.List("discovery-endpoints"), ","), s.String("discovery-token"))
	default:
		return "look at the records with: dig +short SRV _etcd-server._tcp." + s.String("discovery-srv")
	}
}

// sayWaiting prints how far a bootstrap has come, each state once.
func sayWaiting(env *Env) func(*discover.WaitingError) {
	said := ""
	return func(w *discover.WaitingError) {
		if text := w.Error(); text != said {
			said = text
			fmt.Fprintf(env.Stderr, "note: %s\n", oneLine(text))
		}
	}
}

// leaveOutOwn marks the client URLs that lead back to the proxy itself.
func leaveOutOwn(ctx context.Context, listen []url.URL, clients []discover.ClientURL) {
	own := proxy.OwnURLs(ctx, listen)
	for i := range clients {
		if c := &clients[i]; c.Used && own(c.URL) {
			c.Used, c.Why = false, "it is this proxy's own address"
		}
	}
}

// resolutionTables are the parts of a resolution, in the order in which one led
// to the other.
func resolutionTables(env *Env, r *discover.Resolution) []Table {
	return []Table{
		sourcesTable(env, r.Sources), fileTable(r.Sources), dnsTable(env, r.Sources), registryTable(r.Sources),
		peersTable(env, r.Peers), clientsTable(r.Clients),
	}
}

func sourcesTable(env *Env, sources []discover.Source) Table {
	table := Table{Name: "source", Header: []string{"SOURCE", "STATE", "PEER URLS", "TIME", "WHY"}}
	for _, s := range sources {
		table.Rows = append(table.Rows, []string{
			s.Name, paintSource(env.Out, s.State), strings.Join(s.PeerURLs, "\n"), duration(s.Took), oneLine(s.Reason),
		})
	}
	return table
}

func fileTable(sources []discover.Source) Table {
	table := Table{Name: "file", Header: []string{"CLUSTER FILE", "AGE", "CLUSTER ID", "WRITTEN FOR"}}
	for _, s := range sources {
		if s.File == nil {
			continue
		}
		age, flags := "", ""
		if s.File.AgeSeconds != nil {
			age = (time.Duration(*s.File.AgeSeconds) * time.Second).String()
		}
		if s.File.Flags != nil {
			flags = *s.File.Flags
		}
		table.Rows = append(table.Rows, []string{s.File.Path, age, s.File.ClusterID, oneLine(flags)})
	}
	return table
}

// dnsTable has a row for each record, and one for each name without any.
func dnsTable(env *Env, sources []discover.Source) Table {
	table := Table{Name: "dns", Header: []string{"DNS NAME", "STATE", "TARGET", "PRIORITY", "ADDRESSES", "PEER URL", "TIME", "WHY"}}
	for _, s := range sources {
		for _, name := range s.DNS {
			state, took := paintSource(env.Out, name.State), duration(name.Took)
			if len(name.Records) == 0 {
				table.Rows = append(table.Rows, []string{name.Name, state, "", "", "", "", took, name.Reason})
			}
			for _, r := range name.Records {
				why := r.Reason
				if why == "" && name.State == discover.DNSNearMiss {
					why = name.Reason
				}
				table.Rows = append(table.Rows, []string{
					name.Name, state, fmt.Sprintf("%s:%d", r.Target, r.Port), fmt.Sprint(r.Priority),
					strings.Join(r.Addresses, "\n"), r.PeerURL, took, why,
				})
			}
		}
	}
	return table
}

func registryTable(sources []discover.Source) Table {
	table := Table{Name: "registered", Header: []string{"REGISTERED", "NAME", "PEER URLS", "CREATED", "OF THE CLUSTER", "WHY NOT"}}
	for _, s := range sources {
		if s.Registry == nil {
			continue
		}
		for _, m := range s.Registry.Members {
			why := m.Problem
			if why == "" && !m.InCluster {
				why = fmt.Sprintf("the first %d by creation are the cluster", s.Registry.Size)
			}
			table.Rows = append(table.Rows, []string{
				m.ID, m.Name, strings.Join(m.PeerURLs, "\n"), fmt.Sprint(m.Created), yesNo(m.InCluster), why,
			})
		}
	}
	return table
}

func peersTable(env *Env, peers []discover.PeerAnswer) Table {
	table := Table{Name: "peer", Header: []string{"PEER URL", "ANSWER", "TIME", "CLUSTER ID", "MEMBERS", "WHY", "CERTIFICATE"}}
	for _, p := range peers {
		count, certificate := "", ""
		if p.Members > 0 {
			count = fmt.Sprint(p.Members)
		}
		if p.Certificate != nil {
			certificate = fmt.Sprintf("%s\nuntil %s", cmp.Or(p.Certificate.Subject, strings.Join(p.Certificate.Names, " ")), p.Certificate.NotAfter.UTC().Format(time.RFC3339))
		}
		table.Rows = append(table.Rows, []string{
			p.URL, paintSource(env.Out, p.State), duration(p.Took), p.ClusterID, count, oneLine(p.Reason), certificate,
		})
	}
	return table
}

func clientsTable(clients []discover.ClientURL) Table {
	table := Table{Name: "client", Header: []string{"CLIENT URL", "MEMBER", "MEMBER ID", "USED", "WHY"}}
	for _, c := range clients {
		name := c.Member
		if name == "" {
			name = "unstarted"
		}
		table.Rows = append(table.Rows, []string{c.URL, name, c.MemberID, yesNo(c.Used), c.Why})
	}
	return table
}

func paintSource(p Palette, state string) string {
	switch state {
	case discover.SourceUsed, discover.PeerAnswered, discover.DNSFound:
		return p.Good.Sprint(state)
	case discover.SourceFailed, discover.PeerRefused, discover.DNSNearMiss:
		return p.Bad.Sprint(state)
	}
	return p.Faint.Sprint(state)
}

// duration is short text for the time that something took; none for what was
// not done.
func duration(d time.Duration) string {
	if d == 0 {
		return ""
	}
	return d.Round(10 * time.Microsecond).String()
}

func isRefused(err error) bool { return errors.Is(err, syscall.ECONNREFUSED) }
