package commands

import "github.com/urfave/cli/v2"

func newMemberCommand(env *Env) *cli.Command {
	return &cli.Command{
		Name:  "member",
		Usage: "start an etcd member, or a proxy where the cluster has all its members",
		Description: `Ten machines with the same discovery token of size 5 become five members and five
proxies.

Examples:
  etcdops member start -- --name m1 --data-dir /tmp/m1.etcd
  etcdops member start --etcd embedded -- --name m1 --discovery-token T --discovery-endpoints http://10.0.0.1:2379`,
		Subcommands: []*cli.Command{newMemberStartCommand(env)},
	}
}
