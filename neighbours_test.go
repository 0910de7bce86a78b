package main

import (
	"context"
	"flag"
	"fmt"
	"io"
	"net"
	"os"
	"os/signal"
	"slices"
	"sync"
	"syscall"
	"time"

	"go.etcd.io/etcd/api/v3/etcdserverpb"
	"google.golang.org/grpc"
)

const (
	// neighbourPause is the time between two requests of a neighbour, neighbourSpan how
	// long its latency is taken.
	neighbourPause, neighbourSpan = 100 * time.Millisecond, 3 * time.Second
	// neighbourRounds are the calm spans, and those with the stalled clients.
	neighbourRounds = 3
	// slowerHalf and slowerMost are how many times as slow the half of a neighbour's
	// requests, and 99 of 100, may be beside stalled clients: a machine that has other
	// work makes that much. A frozen connection makes a hundred times.
	slowerHalf, slowerMost = 2, 5
)

// stalledKind is one way to stop in the midst.
type stalledKind struct {
	name  string
	says  []byte
	reads int64 // bytes, and then none
}

// stalledKinds ask for the values under big by gRPC and those under json by JSON.
func stalledKinds(big, json string) []stalledKind {
	const path, wide, narrow = "/etcdserverpb.KV/Range", 1<<30 - 1, 1 << 10
	ask := &etcdserverpb.RangeRequest{Key: []byte(big + "/"), RangeEnd: []byte(big + "0")}
	put := firstCall("/etcdserverpb.KV/Put", &etcdserverpb.PutRequest{Key: []byte("half"), Value: make([]byte, 1<<20)}, true, wide)
	l := load{args: []string{json}}
	return []stalledKind{
		{name: "gRPC, stops reading", says: firstCall(path, ask, true, wide), reads: stalledBytes},
		{name: "gRPC, gives no window", says: firstCall(path, ask, true, narrow), reads: narrow},
		{name: "gRPC, stops sending", says: put[:len(put)/2]},
		{name: "HTTP/1.1, stops reading", says: leaverPost("/v3/kv/range", string(l.rangeJSON())), reads: stalledBytes},
		{name: "HTTP/1.1, stops sending", says: leaverUpload()},
	}
}

// neighbours are clients that go on beside stalled ones.
type neighbours struct {
	address string
	conns   []*grpc.ClientConn
	each    int // stalled clients of each kind
	kinds   []stalledKind
}

// neighboursMain is the program "neighbours" of the scenarios: N clients read KEY at
// ADDRESS, host:port, at a steady pace, alone and beside M clients of each kind that
// stop in the midst of a big answer or request, by turns. BIG and JSON are prefixes of
// "load fill". It prints both latencies, fails where they differ, and then holds the
// stalled clients until SIGINT.
//
//	neighbours [-clients N] [-each M] ADDRESS KEY BIG JSON
func neighboursMain(args []string) int {
	flags := flag.NewFlagSet("neighbours", flag.ContinueOnError)
	clients := flags.Int("clients", 100, "neighbours")
	each := flags.Int("each", 2, "stalled clients of each kind")
	if err := flags.Parse(args); err != nil || flags.NArg() != 4 {
		fmt.Fprintln(os.Stderr, "usage: neighbours [-clients N] [-each M] ADDRESS KEY BIG JSON")
		return 2
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	n := &neighbours{address: flags.Arg(0), each: *each, kinds: stalledKinds(flags.Arg(2), flags.Arg(3))}
	defer n.hangUp()
	if err := n.run(ctx, *clients, flags.Arg(1)); err != nil {
		fmt.Fprintln(os.Stderr, "neighbours:", err)
		return 1
	}
	return 0
}

func (n *neighbours) run(ctx context.Context, clients int, key string) error {
	for range clients {
		conn, err := (&load{url: "http://" + n.address}).dial()
		if err != nil {
			return err
		}
		n.conns = append(n.conns, conn)
	}
	var half, most []float64
	for round := range neighbourRounds {
		calm, err := n.span(ctx, key)
		if err != nil {
			return err
		}
		stalled, err := n.stall(ctx)
		if err != nil {
			return err
		}
		beside, err := n.span(ctx, key)
		if err != nil {
			return err
		}
		fmt.Printf("%d requests: half within %v, 99 of 100 within %v; %d beside %d stalled clients: %v, %v\n",
			len(calm), middle(calm, 50), middle(calm, 99), len(beside), len(stalled), middle(beside, 50), middle(beside, 99))
		half = append(half, float64(middle(beside, 50))/float64(middle(calm, 50)))
		most = append(most, float64(middle(beside, 99))/float64(middle(calm, 99)))
		if round == neighbourRounds-1 {
			defer hangUpAll(stalled)
		} else {
			hangUpAll(stalled)
		}
	}
	slices.Sort(half)
	slices.Sort(most)
	slower, slowerTail := half[len(half)/2], most[len(most)/2]
	fmt.Printf("%.2f times as long for half, %.2f times for 99 of 100\n", slower, slowerTail)
	if slower > slowerHalf || slowerTail > slowerMost {
		return fmt.Errorf("more than %d times, or %d times", slowerHalf, slowerMost)
	}
	fmt.Println("held")
	<-ctx.Done()
	return nil
}

func middle(sorted []time.Duration, percent int) time.Duration {
	return sorted[(len(sorted)*percent-1)/100]
}

// span returns the latencies of all neighbours, sorted.
func (n *neighbours) span(ctx context.Context, key string) ([]time.Duration, error) {
	var mu sync.Mutex
	var took []time.Duration
	var first error
	var all sync.WaitGroup
	end := time.Now().Add(neighbourSpan)
	for i, conn := range n.conns {
		all.Go(func() {
			// They come one after the other and not all at once.
			tick := time.NewTimer(neighbourPause * time.Duration(i) / time.Duration(len(n.conns)))
			defer tick.Stop()
			for time.Now().Before(end) {
				<-tick.C
				tick.Reset(neighbourPause)
				began := time.Now()
				one, cancel := context.WithTimeout(ctx, oneRequest)
				_, err := etcdserverpb.NewKVClient(conn).Range(one, &etcdserverpb.RangeRequest{Key: []byte(key)})
				cancel()
				mu.Lock()
				took = append(took, time.Since(began))
				if err != nil && first == nil {
					first = fmt.Errorf("a neighbour's request: %w", err)
				}
				mu.Unlock()
			}
		})
	}
	all.Wait()
	slices.Sort(took)
	return took, first
}

// stall opens the clients that stop, and returns when each has.
func (n *neighbours) stall(ctx context.Context) ([]net.Conn, error) {
	var stalled []net.Conn
	for _, kind := range n.kinds {
		for range n.each {
			c, err := new(net.Dialer).DialContext(ctx, "tcp", n.address)
			if err != nil {
				return stalled, err
			}
			stalled = append(stalled, c)
			if err := c.SetDeadline(time.Now().Add(patience)); err != nil {
				return stalled, err
			}
			if _, err := c.Write(kind.says); err != nil {
				return stalled, fmt.Errorf("%s: %w", kind.name, err)
			}
			if _, err := io.CopyN(io.Discard, c, kind.reads); err != nil {
				return stalled, fmt.Errorf("%s: %w", kind.name, err)
			}
		}
	}
	return stalled, nil
}

func hangUpAll(conns []net.Conn) {
	for _, c := range conns {
		_ = c.Close()
	}
}

func (n *neighbours) hangUp() {
	for _, c := range n.conns {
		_ = c.Close()
	}
}
