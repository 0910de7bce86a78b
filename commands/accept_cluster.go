package commands

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"

	"github.com/urfave/cli/v2"

	"etcdops/proxy"
)

type acceptOptions struct {
	ClusterID string
	DataDir   string // "" where none was given
	Output    string
}

func newProxyAcceptClusterCommand(env *Env) *cli.Command {
	return &cli.Command{
		Name:  "accept-cluster",
		Usage: "make the running proxy follow another cluster at its members' addresses",
		Description: `A proxy follows one cluster for ever, by its ID. After a restore from a snapshot
the members have another one: requests then get 503, which names it. This command
accepts it, without a restart, if a member answers for it.

Examples:
  etcdops proxy accept-cluster cdf818194e3a8c32
  etcdops proxy accept-cluster cdf818194e3a8c32 --data-dir /tmp/proxy.etcd`,
		ArgsUsage: "HEX",
		Flags: []cli.Flag{
			&cli.StringFlag{Name: "data-dir", Usage: "`DIR` of the proxy, if several run here"},
			outputFlag(),
		},
		Action: action{Run: func(ctx context.Context, c *cli.Context) error {
			if c.Args().Len() != 1 {
				return usageError("name the cluster by its ID: etcdops proxy accept-cluster HEX; a request that is refused with 503 shows it",
					"one cluster ID is wanted, not %d", c.Args().Len())
			}
			return runProxyAcceptCluster(ctx, env, acceptOptions{
				ClusterID: c.Args().First(), DataDir: c.String("data-dir"), Output: c.String(outputFlagName),
			})
		}}.Do,
	}
}

func runProxyAcceptCluster(ctx context.Context, env *Env, opts acceptOptions) error {
	id, err := parseClusterID(opts.ClusterID)
	if err != nil {
		return usageError(clusterIDHint(opts.ClusterID), "%q is not the ID of a cluster", opts.ClusterID)
	}
	path, err := runningProxy(ctx, env, opts.DataDir, "etcdops proxy accept-cluster "+opts.ClusterID)
	if err != nil {
		return err
	}
	client := proxy.ControlClient{Path: path}
	var answer proxy.AcceptAnswer
	err = client.Post(ctx, proxy.AcceptPath, proxy.AcceptRequest{ClusterID: fmt.Sprintf("%016x", id)}, &answer)
	var refused *proxy.RefusedError
	switch {
	case errors.As(err, &refused):
		return fail(ExitRefused, err, "nothing was changed; see who answers with: etcdops proxy status"+forDataDir(opts.DataDir))
	case err != nil:
		return controlFailure(opts.DataDir, err)
	}
	noteClusterID(ctx, env, client, id)
	return env.printTable(opts.Output, Table{
		Header: []string{"CLUSTER ID", "BEFORE", "MEMBERS", "ENDPOINTS"},
		Rows:   [][]string{{answer.ClusterID, answer.Before, strconv.Itoa(answer.Members), strconv.Itoa(answer.Endpoints)}},
		Value:  answer,
	})
}

// clusterIDHint tells how to write what is no ID, or one in decimal.
func clusterIDHint(text string) string {
	if n, err := strconv.ParseUint(text, 10, 64); err == nil {
		return fmt.Sprintf("in hex the decimal number %d is %016x", n, n)
	}
	return "write it as etcdops proxy members does: 1 to 16 hex digits"
}

// noteClusterID says where the proxy's own --cluster-id speaks against what it was
// told now.
func noteClusterID(ctx context.Context, env *Env, client proxy.ControlClient, id uint64) {
	var standing standingReport
	if err := client.Get(ctx, standingPath, nil, &standing); err != nil {
		return // it was accepted, and that is what was asked
	}
	value := standing.Settings["cluster-id"]
	if set, err := parseClusterID(value); err == nil && set != id {
		fmt.Fprintf(env.Stderr, "note: that proxy was started with --cluster-id %s: change it, or its next start refuses this cluster\n", value)
	}
}

// forDataDir is what a hint adds where a data directory was named.
func forDataDir(dataDir string) string {
	if dataDir == "" {
		return ""
	}
	return " --data-dir " + dataDir
}

// parseClusterID reads an ID as etcd and our tables write it, in hex.
func parseClusterID(text string) (uint64, error) {
	id, err := strconv.ParseUint(strings.TrimPrefix(strings.ToLower(text), "0x"), 16, 64)
	if err == nil && id == 0 {
		err = errors.New("0 is no cluster")
	}
	return id, err
}

// runningProxy is the control socket of the proxy in a data directory, or of the
// only one that runs here. command is what to type again where several do.
func runningProxy(ctx context.Context, env *Env, dataDir, command string) (path string, err error) {
	if dataDir != "" {
		return proxy.ControlPath(dataDir), nil
	}
	switch running := proxy.Registered(ctx, env.runDirs()); len(running) {
	case 0:
		return "", &Failure{
			Code: ExitFailed, Message: "no proxy is registered on this machine",
			Hint: "name its --data-dir, or start one with: etcdops proxy start",
		}
	case 1:
		return running[0].Control, nil
	default:
		return "", severalRun(running, command)
	}
}

// controlFailure explains why a control socket gave no answer.
func controlFailure(dataDir string, err error) error {
	switch {
	case noProxyThere(err) && dataDir != "":
		return &Failure{
			Code: ExitFailed, Message: "no proxy runs in " + dataDir,
			Hint: "name the --data-dir of one that does, or start it with: etcdops proxy start --data-dir " + dataDir,
		}
	case errors.Is(err, os.ErrPermission):
		return fail(ExitFailed, err, "run it as the proxy's user or root")
	case noProxyThere(err):
		return fail(ExitFailed, err, "no proxy runs there: name the --data-dir of one that does, or start it with: etcdops proxy start")
	}
	return fail(ExitFailed, err, "look at its log, and whether its process lives")
}
