package commands

import "github.com/urfave/cli/v2"

func newProxyCommand(env *Env) *cli.Command {
	return &cli.Command{
		Name:  "proxy",
		Usage: "run the proxy, look at what it sees, make it a member",
		Description: `The proxy finds the cluster by the peer URLs that it is given, follows its
membership for ever, and passes every request of your clients to a live member.

Examples:
  etcdops proxy start --initial-cluster m1=http://127.0.0.1:2380
  etcdops proxy discover --initial-cluster m1=http://127.0.0.1:2380
  etcdops proxy members
  etcdops proxy promote m4 --initial-advertise-peer-urls http://10.0.0.4:2380 --dry-run`,
		Subcommands: []*cli.Command{
			newProxyStartCommand(env),
			newProxyStatusCommand(env),
			newProxyMembersCommand(env),
			newProxyDiscoverCommand(env),
			newProxyAcceptClusterCommand(env),
			newProxyPromoteCommand(env),
		},
	}
}
