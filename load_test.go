package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"strings"
	"syscall"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/zap"
)

// loadMain is the program "load" of the scenarios: a client that works through
// an endpoint until SIGINT and then says what it saw.
//
//	load read URL KEY            reads KEY in a loop; a failed read is an error
//	load write URL PREFIX        puts PREFIX/0, PREFIX/1 …, prints each acknowledged number
//	load verify URL PREFIX FILE  every number in FILE is there, written exactly once
func loadMain(args []string) int {
	flags := flag.NewFlagSet("load", flag.ContinueOnError)
	if err := flags.Parse(args); err != nil || flags.NArg() < 3 {
		fmt.Fprintln(os.Stderr, "usage: load read|write|verify URL KEY [FILE]")
		return 2
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	client, err := clientv3.New(clientv3.Config{
		Endpoints: strings.Split(flags.Arg(1), ","), DialTimeout: 10 * time.Second, Logger: zap.NewNop(),
	})
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer client.Close()
	run := map[string]func(context.Context, *clientv3.Client, []string) error{
		"read": loadRead, "write": loadWrite, "verify": loadVerify,
	}[flags.Arg(0)]
	if run == nil {
		fmt.Fprintf(os.Stderr, "load: unknown job %s\n", flags.Arg(0))
		return 2
	}
	if err := run(ctx, client, flags.Args()[2:]); err != nil {
		fmt.Fprintln(os.Stderr, "load:", err)
		return 1
	}
	return 0
}

// oneRequest bounds one request of the load.
const oneRequest = 15 * time.Second

func loadRead(ctx context.Context, c *clientv3.Client, args []string) error {
	n, slowest := 0, time.Duration(0)
	for ctx.Err() == nil {
		one, cancel := context.WithTimeout(context.WithoutCancel(ctx), oneRequest)
		began := time.Now()
		res, err := c.Get(one, args[0])
		cancel()
		if err != nil {
			return fmt.Errorf("read %d failed after %v: %w", n, time.Since(began), err)
		}
		if len(res.Kvs) != 1 {
			return fmt.Errorf("read %d found %d keys", n, len(res.Kvs))
		}
		slowest = max(slowest, time.Since(began))
		n++
		if n == 1 {
			fmt.Println("reading")
		}
	}
	fmt.Printf("%d reads, none failed, slowest %v\n", n, slowest)
	return nil
}

func loadWrite(ctx context.Context, c *clientv3.Client, args []string) error {
	failed := 0
	for i := 0; ctx.Err() == nil; i++ {
		one, cancel := context.WithTimeout(context.WithoutCancel(ctx), oneRequest)
		_, err := c.Put(one, fmt.Sprintf("%s/%d", args[0], i), "x")
		cancel()
		if err != nil {
			failed++
			fmt.Printf("failed %d: %v\n", i, err)
			continue
		}
		fmt.Println("acknowledged", i)
	}
	fmt.Printf("%d writes failed\n", failed)
	return nil
}

// loadVerify looks at the version of each key: 1 means that it was put once.
func loadVerify(ctx context.Context, c *clientv3.Client, args []string) error {
	if len(args) != 2 {
		return errors.New("usage: load verify URL PREFIX FILE")
	}
	text, err := os.ReadFile(args[1])
	if err != nil {
		return err
	}
	res, err := c.Get(ctx, args[0]+"/", clientv3.WithPrefix())
	if err != nil {
		return err
	}
	there := map[string]int64{}
	for _, kv := range res.Kvs {
		there[string(kv.Key)] = kv.Version
		if kv.Version != 1 {
			return fmt.Errorf("%s was written %d times", kv.Key, kv.Version)
		}
	}
	n := 0
	for line := range strings.Lines(string(text)) {
		if number, ok := strings.CutPrefix(strings.TrimSpace(line), "acknowledged "); ok {
			if there[args[0]+"/"+number] == 0 {
				return fmt.Errorf("acknowledged write %s is lost", number)
			}
			n++
		}
	}
	if n == 0 {
		return errors.New("nothing was acknowledged")
	}
	fmt.Printf("%d acknowledged writes, each there once\n", n)
	return nil
}
