// Command etcdops puts an etcd endpoint on every machine and looks after the
// cluster behind it.
package main

import (
	"os"

	"etcdops/commands"
)

func main() {
	os.Exit(commands.Main(os.Args, os.Stdin, os.Stdout, os.Stderr))
}
