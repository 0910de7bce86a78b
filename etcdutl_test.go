package main

import (
	"os"

	"github.com/spf13/cobra"
	"go.etcd.io/etcd/etcdutl/v3/etcdutl"
)

// etcdutlMain is the program "etcdutl" of the scenarios, with its snapshot commands.
func etcdutlMain(args []string) int {
	root := &cobra.Command{Use: "etcdutl", SilenceUsage: true}
	root.PersistentFlags().StringVarP(&etcdutl.OutputFormat, "write-out", "w", "simple", "")
	root.AddCommand(etcdutl.NewSnapshotCommand())
	root.SetArgs(args)
	root.SetOut(os.Stdout)
	if root.Execute() != nil {
		return 1
	}
	return 0
}
