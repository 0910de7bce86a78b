//go:build bench

package main

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"go.etcd.io/etcd/api/v3/etcdserverpb"
	"google.golang.org/grpc"
)

const (
	watchedKey = "bench/watched"
	// watchPeriod is the time between two writes.
	watchPeriod = time.Second
	// leastWrites are measured in each round, however short it is.
	leastWrites = 3
	// watchRounds are enough: to open all streams takes longer than the writes.
	watchRounds = 11
	// allWatched is how long the streams may take to be made, and the last event of
	// a write to arrive.
	allWatched = 2 * time.Minute
)

// runWatch writes once a second to a key that all streams watch. An event's latency
// counts from when the write began.
func runWatch(ctx context.Context, b *bench, l *benchLoad) (*benchResult, error) {
	own := *b
	own.rounds = min(b.rounds, watchRounds)
	result, err := l.rounds(ctx, &own, func(ctx context.Context, e *benchEnd, profile func() error) (*benchSample, error) {
		ctx, cancel := context.WithCancelCause(ctx)
		defer cancel(nil)
		// The meter starts after a first write, which is the warm-up.
		w := &watchLoad{writes: 1 + max(leastWrites, int(b.time/watchPeriod)), fail: cancel}
		defer w.close()
		if err := w.open(ctx, e, l.rate); err != nil {
			return nil, err
		}
		return w.measure(ctx, e, profile)
	})
	if err == nil {
		result.notes = append(result.notes, fmt.Sprintf("%d rounds of %d writes, behind a first one to warm up.", own.rounds, max(leastWrites, int(b.time/watchPeriod))))
	}
	return result, err
}

type watchLoad struct {
	writes    int
	fail      context.CancelCauseFunc
	conns     []*grpc.ClientConn
	began     []time.Time // of each write
	seen      []watchSeen // of each write
	mu        sync.Mutex  // of what follows
	latencies []time.Duration
	streams   sync.WaitGroup
}

// watchSeen is closed when every stream has seen a write.
type watchSeen struct {
	left atomic.Int32 // streams that have not
	all  chan struct{}
}

func (s *watchSeen) done() {
	if s.left.Add(-1) == 0 {
		close(s.all)
	}
}

func (w *watchLoad) close() {
	for _, c := range w.conns {
		_ = c.Close()
	}
	w.streams.Wait()
}

// open makes all streams and returns when etcd has confirmed each.
func (w *watchLoad) open(ctx context.Context, e *benchEnd, r *rateLoad) error {
	limit := time.AfterFunc(allWatched, func() { w.fail(fmt.Errorf("not all streams are confirmed after %v", allWatched)) })
	defer limit.Stop()
	w.began, w.seen = make([]time.Time, w.writes), make([]watchSeen, w.writes)
	for n := range w.seen {
		w.seen[n].all = make(chan struct{})
		w.seen[n].left.Store(int32(r.conns * r.streams))
	}
	var confirmed sync.WaitGroup
	for range r.conns {
		conn, err := e.dial()
		if err != nil {
			return err
		}
		w.conns = append(w.conns, conn)
		for range r.streams {
			stream, err := openWatch(ctx, conn, watchedKey)
			if err != nil {
				return fmt.Errorf("open watch: %w", causeOr(ctx, err))
			}
			confirmed.Add(1)
			w.streams.Go(func() {
				err := confirmWatch(stream)
				confirmed.Done()
				if err == nil {
					err = w.watch(stream)
				}
				if err != nil {
					w.fail(err)
				}
			})
		}
	}
	confirmed.Wait()
	return context.Cause(ctx)
}

func openWatch(ctx context.Context, conn *grpc.ClientConn, key string) (etcdserverpb.Watch_WatchClient, error) {
	stream, err := etcdserverpb.NewWatchClient(conn).Watch(ctx)
	if err != nil {
		return nil, err
	}
	return stream, stream.Send(&etcdserverpb.WatchRequest{RequestUnion: &etcdserverpb.WatchRequest_CreateRequest{
		CreateRequest: &etcdserverpb.WatchCreateRequest{Key: []byte(key)},
	}})
}

func confirmWatch(stream etcdserverpb.Watch_WatchClient) error {
	res, err := stream.Recv()
	if err == nil && (!res.Created || res.Canceled || len(res.Events) != 0) {
		err = fmt.Errorf("instead of a confirmation: %v", res)
	}
	if err != nil {
		return fmt.Errorf("open watch: %w", err)
	}
	return nil
}

// watch sees each write once and in order, and none besides.
func (w *watchLoad) watch(stream etcdserverpb.Watch_WatchClient) error {
	took := make([]time.Duration, 0, w.writes)
	for len(took) < w.writes {
		res, err := stream.Recv()
		if err != nil {
			return fmt.Errorf("watch: %w", err)
		}
		now := time.Now()
		for _, event := range res.Events {
			n := len(took)
			if n == w.writes || string(event.Kv.Value) != benchValue(watchedKey, n) {
				return fmt.Errorf("event %d of a watch is %v", n, event)
			}
			took = append(took, now.Sub(w.began[n]))
			if n == w.writes-1 { // before the last one is told
				w.mu.Lock()
				w.latencies = append(w.latencies, took[1:]...)
				w.mu.Unlock()
			}
			w.seen[n].done()
		}
	}
	return nil
}

// measure writes, and waits for the last event. The writes do not go through the proxy.
func (w *watchLoad) measure(ctx context.Context, e *benchEnd, profile func() error) (*benchSample, error) {
	conn, err := (&benchEnd{address: e.direct}).dial()
	if err != nil {
		return nil, err
	}
	defer conn.Close()
	kv := kvOf(conn)
	if err := w.write(ctx, kv, 0); err != nil {
		return nil, err
	}
	if err := w.await(ctx, 0); err != nil {
		return nil, err
	}
	m, err := startMeter(e)
	if err != nil {
		return nil, err
	}
	if err := profile(); err != nil {
		return nil, err
	}
	beats := time.NewTicker(watchPeriod)
	defer beats.Stop()
	for n := 1; n < w.writes; n++ {
		if err := w.write(ctx, kv, n); err != nil {
			return nil, err
		}
		<-beats.C
	}
	if err := w.await(ctx, w.writes-1); err != nil {
		return nil, err
	}
	sample, err := m.stop()
	if err != nil {
		return nil, err
	}
	sample.hears(w.latencies)
	return sample, nil
}

func (w *watchLoad) write(ctx context.Context, kv etcdserverpb.KVClient, n int) error {
	w.began[n] = time.Now()
	_, err := kv.Put(ctx, &etcdserverpb.PutRequest{Key: []byte(watchedKey), Value: []byte(benchValue(watchedKey, n))})
	if err != nil {
		return fmt.Errorf("write %d: %w", n, causeOr(ctx, err))
	}
	return nil
}

// await returns when every stream has seen write n.
func (w *watchLoad) await(ctx context.Context, n int) error {
	limit := time.NewTimer(allWatched)
	defer limit.Stop()
	select {
	case <-w.seen[n].all:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	case <-limit.C:
		return fmt.Errorf("write %d was not seen by all watches after %v", n, allWatched)
	}
}
