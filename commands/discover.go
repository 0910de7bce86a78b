package commands

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"syscall"
	"time"

	"github.com/urfave/cli/v2"

	"etcdops/discover"
)

type discoverOptions struct {
	Settings *Settings
	Output   string
}

func newProxyDiscoverCommand(env *Env) *cli.Command {
	return &cli.Command{
		Name:  "discover",
		Usage: "show how the proxy would find its cluster, and why",
		Description: `The flags are those of proxy start. Every source is shown in the order in which it
is tried, then each peer that was asked, then the client URLs. Nothing is
changed. It exits with 3 where no cluster is found.

Examples:
  etcdops proxy discover --initial-cluster m1=http://127.0.0.1:2380
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
	ids, err := loadIdentities(s, nil, nil)
	if err != nil {
		return err
	}
	dial, err := s.Duration("proxy-dial-timeout")
	if err != nil {
		return err
	}
	resolution, err := discover.New(sourceConfig(s, ids, dial, nil)).Resolve(ctx)
	if err != nil && !errors.Is(err, discover.ErrNoCluster) {
		return err
	}
	if printErr := env.printTables(opts.Output, resolutionTables(env, resolution), resolution); printErr != nil {
		return printErr
	}
	if err != nil {
		return fail(ExitNoCluster, err, "start a member that one of these peer URLs names, or correct --initial-cluster")
	}
	return nil
}

// resolutionTables are the three parts of a resolution: sources, peers, client
// URLs.
func resolutionTables(env *Env, r *discover.Resolution) []Table {
	sources := Table{Name: "source", Header: []string{"SOURCE", "STATE", "PEER URLS", "TIME", "WHY"}}
	for _, s := range r.Sources {
		sources.Rows = append(sources.Rows, []string{
			s.Name, paintSource(env.Out, s.State), strings.Join(s.PeerURLs, "\n"), duration(s.Took), oneLine(s.Reason),
		})
	}
	peers := Table{Name: "peer", Header: []string{"PEER URL", "ANSWER", "TIME", "CLUSTER ID", "MEMBERS", "WHY"}}
	for _, p := range r.Peers {
		count := ""
		if p.Members > 0 {
			count = fmt.Sprint(p.Members)
		}
		peers.Rows = append(peers.Rows, []string{p.URL, paintSource(env.Out, p.State), duration(p.Took), p.ClusterID, count, oneLine(p.Reason)})
	}
	clients := Table{Name: "client", Header: []string{"CLIENT URL", "MEMBER", "MEMBER ID", "USED", "WHY"}}
	for _, c := range r.Clients {
		name := c.Member
		if name == "" {
			name = "unstarted"
		}
		clients.Rows = append(clients.Rows, []string{c.URL, name, c.MemberID, yesNo(c.Used), c.Why})
	}
	return []Table{sources, peers, clients}
}

func paintSource(p Palette, state string) string {
	switch state {
	case discover.SourceUsed, discover.PeerAnswered:
		return p.Good.Sprint(state)
	case discover.SourceFailed, discover.PeerRefused:
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
