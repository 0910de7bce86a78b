package commands

import (
	"context"
	"runtime"
	"runtime/debug"

	"github.com/urfave/cli/v2"
	etcdversion "go.etcd.io/etcd/api/v3/version"
)

// developmentVersion is our version where the build does not know one.
const developmentVersion = "0.1.0-dev"

type versionOptions struct {
	Output string
}

func newVersionCommand(env *Env) *cli.Command {
	return &cli.Command{
		Name:  "version",
		Usage: "print the versions of etcdops, of the etcd in it, and of Go",
		Description: `Examples:
  etcdops version
  etcdops version -o json`,
		Flags: []cli.Flag{outputFlag()},
		Action: action{Run: func(ctx context.Context, c *cli.Context) error {
			return runVersion(ctx, env, versionOptions{Output: c.String(outputFlagName)})
		}}.Do,
	}
}

func runVersion(_ context.Context, env *Env, opts versionOptions) error {
	v := readVersions()
	return env.printTable(opts.Output, Table{
		Header: []string{"PART", "VERSION"},
		Rows: [][]string{
			{programName, v.Etcdops},
			{"etcd", v.Etcd},
			{"go", v.Go},
		},
		Value: v,
	})
}

// versions is what the binary is made of.
type versions struct {
	Etcdops  string `json:"etcdops"`
	Revision string `json:"revision,omitempty"` // of the source, where the build knows it
	Etcd     string `json:"etcd"`
	Go       string `json:"go"`
}

func readVersions() versions {
	v := versions{Etcdops: developmentVersion, Etcd: etcdversion.Version, Go: runtime.Version()}
	build, ok := debug.ReadBuildInfo()
	if !ok {
		return v
	}
	if build.Main.Version != "" && build.Main.Version != "(devel)" {
		v.Etcdops = build.Main.Version
	}
	for _, setting := range build.Settings {
		if setting.Key == "vcs.revision" {
			v.Revision = setting.Value
		}
	}
	return v
}
