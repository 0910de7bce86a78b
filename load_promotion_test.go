package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"sync"
	"time"

	"go.etcd.io/etcd/api/v3/etcdserverpb"
	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/zap"
	"google.golang.org/grpc/status"
)

const (
	// turnPause is the time between two requests of one loop: clients that work
	// all the time, and leave some of the machine to the others.
	turnPause = 5 * time.Millisecond
	// lastEvents is how long the watches may take, after the last request, to
	// get all events.
	lastEvents = 10 * time.Second
)

// promotion is the load that a promotion must not disturb: at each of the URLS
//
//   - two clients with one long gRPC connection each, as users have them,
//   - two loops that make a new gRPC connection for each request, and do not
//     retry,
//   - a loop that makes a new HTTP/1.1 connection for each request,
//   - a watch by clientv3, which resumes by itself,
//   - a raw watch, which does not.
//
// The loops put a new key and then read it, linearizably, in turn. It prints
// "loading" when all of them work. What fails is printed at once, with its
// time; after SIGINT comes one line:
//
//	requests 12345 failed 0 refused 0 events 678 lost 0 doubled 0 longest 123ms
//
// "refused" are connections that could not be made; each is a failed request
// too, where the client does not try again. "longest" is the longest time from
// the start of a request to its success.
func (l *load) promotion(ctx context.Context) error {
	started := time.Now()
	p := &promotionLoad{
		load: l, book: newLedger(),
		prefix: fmt.Sprintf("%s/%d-%d/", l.args[0], os.Getpid(), started.UnixNano()),
	}
	loops, watches := sync.WaitGroup{}, sync.WaitGroup{}
	watching, stopWatching := context.WithCancel(context.WithoutCancel(ctx))
	defer stopWatching()
	for _, url := range strings.Split(l.url, ",") {
		e, err := newLoadEndpoint(url, l, p.book)
		if err != nil {
			return err
		}
		from, err := p.revision(ctx, e)
		if err != nil {
			return fmt.Errorf("ask %s for the revision: %w", url, err)
		}
		resumed := p.book.watcher("watch "+e.address, from+1, true)
		watches.Go(func() { p.watch(watching, e, resumed) })
		raw := p.book.watcher("raw watch "+e.address, from+1, false)
		watches.Go(func() { p.rawWatch(watching, e, raw) })
		for i, kv := range []keyspace{&longClient{loadEndpoint: e}, &longClient{loadEndpoint: e}, newClient{e}, newClient{e}, newHTTP{e}} {
			p.working.Add(1)
			loops.Go(func() { p.loop(ctx, kv, fmt.Sprintf("%s/%d", e.address, i)) })
		}
		p.working.Add(2) // the watches
	}
	go func() {
		p.working.Wait()
		fmt.Println("loading")
	}()
	loops.Wait()
	p.book.awaitEvents(lastEvents)
	stopWatching()
	watches.Wait()
	return p.book.close(l.slowest)
}

type promotionLoad struct {
	*load
	book    *ledger
	prefix  string         // of all keys, new for each run
	working sync.WaitGroup // until each loop and watch has worked once
}

// keyspace is one way to etcd.
type keyspace interface {
	name() string
	// put returns the revision of the put.
	put(ctx context.Context, key string) (int64, error)
	// has tells whether the key is there, by a linearizable read.
	has(ctx context.Context, key string) (bool, error)
	close()
}

func (p *promotionLoad) revision(ctx context.Context, e *loadEndpoint) (int64, error) {
	ctx, cancel := context.WithTimeout(ctx, oneRequest)
	defer cancel()
	c, err := e.client()
	if err != nil {
		return 0, err
	}
	defer c.Close()
	res, err := c.Get(ctx, p.prefix)
	if err != nil {
		return 0, err
	}
	return res.Header.Revision, nil
}

// loop puts and reads until ctx ends; the request that is under way then is
// not cut.
func (p *promotionLoad) loop(ctx context.Context, kv keyspace, name string) {
	defer kv.close()
	name = kv.name() + " " + name
	working := sync.OnceFunc(p.working.Done)
	pause := time.NewTicker(turnPause)
	defer pause.Stop()
	for i := 0; ctx.Err() == nil; i++ {
		key := fmt.Sprintf("%s%s/%d", p.prefix, name, i)
		p.request(ctx, name+" put", func(ctx context.Context) error {
			revision, err := kv.put(ctx, key)
			if err == nil {
				p.book.acknowledge(revision, key)
			}
			return err
		})
		<-pause.C
		put := p.book.wasAcknowledged(key)
		p.request(ctx, name+" get", func(ctx context.Context) error {
			there, err := kv.has(ctx, key)
			if err == nil && put && !there {
				return fmt.Errorf("%s was put and is not there", key)
			}
			return err
		})
		working()
		<-pause.C
	}
}

// request notes how one request went.
func (p *promotionLoad) request(ctx context.Context, what string, do func(ctx context.Context) error) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), oneRequest)
	defer cancel()
	began := time.Now()
	err := do(ctx)
	p.book.request(what, time.Since(began), err)
}

// watch is the one that users have: clientv3 resumes it. Where even that ends,
// it is a failure, and a new one goes on behind the last event.
func (p *promotionLoad) watch(ctx context.Context, e *loadEndpoint, seen *watcher) {
	working := sync.OnceFunc(p.working.Done)
	c, err := e.client()
	if err != nil {
		p.book.fail(seen.name, err)
		return
	}
	defer c.Close()
	for ctx.Err() == nil {
		one, cancel := context.WithCancel(clientv3.WithRequireLeader(ctx))
		for res := range c.Watch(one, p.prefix, clientv3.WithPrefix(), clientv3.WithRev(seen.next()), clientv3.WithCreatedNotify()) {
			if err := res.Err(); err != nil {
				p.book.fail(seen.name, err)
				continue
			}
			working()
			for _, event := range res.Events {
				seen.see(event.Kv.ModRevision, event.Kv.Version, string(event.Kv.Key))
			}
		}
		cancel()
	}
}

// rawWatch is one stream of the protocol. How it ends is printed; that it ends
// is no failure, as long as it saw all events until then.
func (p *promotionLoad) rawWatch(ctx context.Context, e *loadEndpoint, seen *watcher) {
	working := sync.OnceFunc(p.working.Done)
	err := func() error {
		conn, err := e.conn()
		if err != nil {
			return err
		}
		defer conn.Close()
		ctx, err := e.authorize(ctx)
		if err != nil {
			return err
		}
		stream, err := etcdserverpb.NewWatchClient(conn).Watch(ctx)
		if err != nil {
			return err
		}
		err = stream.Send(&etcdserverpb.WatchRequest{RequestUnion: &etcdserverpb.WatchRequest_CreateRequest{
			CreateRequest: &etcdserverpb.WatchCreateRequest{
				Key: []byte(p.prefix), RangeEnd: []byte(clientv3.GetPrefixRangeEnd(p.prefix)), StartRevision: seen.from,
			},
		}})
		if err != nil {
			return err
		}
		for {
			res, err := stream.Recv()
			if err != nil {
				return err
			}
			if res.Canceled {
				return errors.New("cancelled by the server: " + res.CancelReason)
			}
			working()
			for _, event := range res.Events {
				seen.see(event.Kv.ModRevision, event.Kv.Version, string(event.Kv.Key))
			}
		}
	}()
	if ctx.Err() == nil {
		p.book.say("%s ended: %s: %s", seen.name, status.Code(err), status.Convert(err).Message())
	}
}

// longClient is clientv3 as users have it.
type longClient struct {
	*loadEndpoint
	c *clientv3.Client
}

func (*longClient) name() string { return "client" }

func (k *longClient) put(ctx context.Context, key string) (int64, error) {
	if err := k.connect(); err != nil {
		return 0, err
	}
	res, err := k.c.Put(ctx, key, "x")
	if err != nil {
		return 0, err
	}
	return res.Header.Revision, nil
}

func (k *longClient) has(ctx context.Context, key string) (bool, error) {
	if err := k.connect(); err != nil {
		return false, err
	}
	res, err := k.c.Get(ctx, key)
	return err == nil && len(res.Kvs) == 1, err
}

func (k *longClient) connect() (err error) {
	if k.c == nil {
		k.c, err = k.client()
	}
	return err
}

func (k *longClient) close() {
	if k.c != nil {
		_ = k.c.Close()
	}
}

// client makes a clientv3.Client for the endpoint.
func (e *loadEndpoint) client() (*clientv3.Client, error) {
	return clientv3.New(clientv3.Config{
		Endpoints: []string{e.raw}, DialTimeout: oneRequest, Logger: zap.NewNop(), TLS: e.tls,
		Username: e.user, Password: e.password, DialOptions: e.dialOptions(),
	})
}
