package commands

import (
	"context"
	"os"

	"github.com/urfave/cli/v2"
	"go.etcd.io/etcd/server/v3/etcdmain"

	"etcdops/promote"
)

func newEtcdCommand(env *Env) *cli.Command {
	return &cli.Command{
		Name:      "etcd",
		Usage:     "run the etcd that is built in, with etcd's own flags",
		ArgsUsage: "[etcd's flags]",
		Description: `Everything behind the word etcd goes to etcd as it stands, --help too.

Examples:
  etcdops etcd --name m1 --data-dir m1.etcd
  etcdops etcd --help`,
		SkipFlagParsing: true,
		// etcd closes its database when it is signalled, and ends the
		// process itself.
		Action: action{OwnSignals: true, Run: func(ctx context.Context, c *cli.Context) error {
			return runEtcd(ctx, env, c.Args().Slice())
		}}.Do,
	}
}

func runEtcd(_ context.Context, env *Env, args []string) error {
	if err := promote.DieWithParent(env.Getenv, os.Unsetenv); err != nil {
		return err
	}
	env.Etcd(append([]string{"etcd"}, args...))
	return nil
}

// runEmbeddedEtcd sets os.Args besides, because etcd's gateway and grpc-proxy
// commands read that and not their argument.
func runEmbeddedEtcd(argv []string) {
	os.Args = argv
	etcdmain.Main(argv)
}
