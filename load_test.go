package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/zap"
)

// oneRequest bounds one request of the load.
const oneRequest = 15 * time.Second

// load is the program "load" of the scenarios: clients that work through an
// endpoint and then say what they saw.
//
//	load read [-clients N] [-slowest D] URL KEY   reads KEY until SIGINT; a failed read is an error, and so is a slow one
//	load write [-clients N] [-count N] URL PREFIX puts PREFIX/client/0, 1 … until SIGINT, prints each acknowledged key
//	load verify URL PREFIX FILE                   every key that FILE calls acknowledged is there, written exactly once
//	load fill [-count N] [-size N] URL PREFIX     puts N keys with a value of N bytes
//	load list [-count N] [-size N] URL PREFIX     reads them in one answer, by gRPC, and compares
//	load list-json …                              the same by JSON
//	load stall URL PREFIX                         asks for them by gRPC and stops reading in the midst, until SIGINT
//	load stall-http URL PREFIX                    the same by HTTP/1.1
//	load spread [-count N] [-http] URL            says how many of N new connections reach each member
//	load watch URL KEY                            one gRPC watch that is not resumed: prints events and how it ends
//	load lock URL NAME                            one gRPC Lock, which waits for its turn
//	load volley [-count N] [-clients N] URL KEY   N requests by gRPC and N by HTTP/1.1, a tenth of them puts, and says how they ended
//	load gap URL KEY                              puts by new connections and says for how long at the most none succeeded
//	load promotion [-user U:P] [-cacert F] [-cert F -key F] [-slowest D] URL,… PREFIX
//	                                              what must go on undisturbed during a promotion, see promotion
type load struct {
	clients, count, size int
	slowest              time.Duration
	http                 bool
	user, ca, cert, key  string // of load promotion
	url                  string
	args                 []string
}

func loadMain(args []string) int {
	if len(args) == 0 {
		fmt.Fprintln(os.Stderr, "usage: load JOB [FLAG...] URL [ARG...]")
		return 2
	}
	var l load
	flags := flag.NewFlagSet("load", flag.ContinueOnError)
	flags.IntVar(&l.clients, "clients", 1, "how many clients, each with a connection of its own")
	flags.IntVar(&l.count, "count", 0, "how many; 0: until SIGINT")
	flags.IntVar(&l.size, "size", 1<<20, "bytes of a value")
	flags.DurationVar(&l.slowest, "slowest", oneRequest, "how long a request may take")
	flags.BoolVar(&l.http, "http", false, "by HTTP/1.1")
	flags.StringVar(&l.user, "user", "", "user and password: NAME:PASSWORD")
	flags.StringVar(&l.ca, "cacert", "", "CA file")
	flags.StringVar(&l.cert, "cert", "", "certificate file")
	flags.StringVar(&l.key, "key", "", "key file")
	if err := flags.Parse(args[1:]); err != nil || flags.NArg() < 1 {
		fmt.Fprintln(os.Stderr, "usage: load JOB [FLAG...] URL [ARG...]")
		return 2
	}
	l.url, l.args = flags.Arg(0), append(flags.Args()[1:], "", "")
	job := map[string]func(context.Context) error{
		"read": l.read, "write": l.write, "verify": l.verify, "fill": l.fill, "list": l.list, "list-json": l.listJSON,
		"stall": l.stall, "stall-http": l.stallHTTP, "spread": l.spread, "watch": l.watch, "lock": l.lock, "promotion": l.promotion, "gap": l.longestGap, "volley": l.volley,
	}[args[0]]
	if job == nil {
		fmt.Fprintf(os.Stderr, "load: unknown job %s\n", args[0])
		return 2
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := job(ctx); err != nil {
		fmt.Fprintln(os.Stderr, "load:", err)
		return 1
	}
	return 0
}

func (l *load) connect() (*clientv3.Client, error) {
	return clientv3.New(clientv3.Config{
		Endpoints: strings.Split(l.url, ","), DialTimeout: 10 * time.Second, Logger: zap.NewNop(),
	})
}

// each runs f for every client at the same time, each on its own connection.
func (l *load) each(f func(number int, c *clientv3.Client) error) error {
	var all sync.WaitGroup
	errs := make([]error, l.clients)
	for i := range l.clients {
		all.Go(func() {
			c, err := l.connect()
			if err != nil {
				errs[i] = err
				return
			}
			defer c.Close()
			errs[i] = f(i, c)
		})
	}
	all.Wait()
	return errors.Join(errs...)
}

// goesOn says whether there is a request number i.
func (l *load) goesOn(ctx context.Context, i int) bool {
	return ctx.Err() == nil && (l.count == 0 || i < l.count)
}

func (l *load) read(ctx context.Context) error {
	var reads, slowest atomic.Int64
	err := l.each(func(number int, c *clientv3.Client) error {
		for i := 0; l.goesOn(ctx, i); i++ {
			one, cancel := context.WithTimeout(context.WithoutCancel(ctx), oneRequest)
			began := time.Now()
			res, err := c.Get(one, l.args[0])
			cancel()
			took := time.Since(began)
			switch {
			case err != nil:
				return fmt.Errorf("read %d failed after %v: %w", i, took, err)
			case len(res.Kvs) != 1:
				return fmt.Errorf("read %d found %d keys", i, len(res.Kvs))
			case took > l.slowest:
				return fmt.Errorf("read %d took %v", i, took)
			}
			for old := slowest.Load(); old < int64(took) && !slowest.CompareAndSwap(old, int64(took)); {
				old = slowest.Load()
			}
			reads.Add(1)
			if i == 0 {
				fmt.Println("reading", number)
			}
		}
		return nil
	})
	fmt.Printf("%d reads, slowest %v\n", reads.Load(), time.Duration(slowest.Load()))
	if err == nil {
		fmt.Println("no read failed")
	}
	return err
}

func (l *load) write(ctx context.Context) error {
	var acknowledged, failed atomic.Int64
	err := l.each(func(number int, c *clientv3.Client) error {
		for i := 0; l.goesOn(ctx, i); i++ {
			key := fmt.Sprintf("%s/%d/%d", l.args[0], number, i)
			one, cancel := context.WithTimeout(context.WithoutCancel(ctx), oneRequest)
			_, err := c.Put(one, key, "x")
			cancel()
			if err != nil {
				failed.Add(1)
				fmt.Printf("failed %s: %v\n", key, err)
				continue
			}
			acknowledged.Add(1)
			fmt.Println("acknowledged", key)
		}
		return nil
	})
	fmt.Printf("%d writes acknowledged, %d failed\n", acknowledged.Load(), failed.Load())
	return err
}

// verify looks at the version of each key: 1 means that it was put once.
func (l *load) verify(ctx context.Context) error {
	text, err := os.ReadFile(l.args[1])
	if err != nil {
		return err
	}
	c, err := l.connect()
	if err != nil {
		return err
	}
	defer c.Close()
	res, err := c.Get(ctx, l.args[0]+"/", clientv3.WithPrefix())
	if err != nil {
		return err
	}
	there := map[string]bool{}
	for _, kv := range res.Kvs {
		there[string(kv.Key)] = true
		if kv.Version != 1 {
			return fmt.Errorf("%s was written %d times", kv.Key, kv.Version)
		}
	}
	n := 0
	for line := range strings.Lines(string(text)) {
		if key, ok := strings.CutPrefix(strings.TrimSpace(line), "acknowledged "); ok {
			if !there[key] {
				return fmt.Errorf("acknowledged write of %s is lost", key)
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
