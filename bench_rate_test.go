//go:build bench

package main

import (
	"context"
	"fmt"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"
	"time"
)

// rateLoad is a load that counts requests.
type rateLoad struct {
	conns, streams int // streams of each connection
	kind           *clientKind
	v2             bool
	added          bool   // the table says what a proxy adds to the mean latency
	few            bool   // direct by few connections is measured too
	unit           string // "": request
	bars           []benchBar
}

// hangs is how long a measurement may take besides its own time before the
// requests that are open have failed.
const hangs = time.Minute

// runRate is a closed loop: each stream sends the next request when it has the
// answer. The variants take turns in each round, each after a warm-up of its own.
func runRate(ctx context.Context, b *bench, l *benchLoad) (*benchResult, error) {
	return l.rounds(ctx, b, func(ctx context.Context, e *benchEnd, profile func() error) (*benchSample, error) {
		return l.rate.closedLoop(ctx, b, e, profile)
	})
}

// measure takes one sample of a variant. It calls profile when the load is warm.
type measure func(ctx context.Context, e *benchEnd, profile func() error) (*benchSample, error)

// rounds starts all variants and measures each once a round.
func (l *benchLoad) rounds(ctx context.Context, b *bench, take measure) (*benchResult, error) {
	lab, ends, err := l.start(ctx, b)
	if err != nil {
		return nil, err
	}
	defer lab.close()
	return l.roundsOf(ctx, b, ends, take)
}

func (l *benchLoad) start(ctx context.Context, b *bench) (lab *benchLab, ends []*benchEnd, err error) {
	if lab, err = b.lab(); err != nil {
		return nil, nil, err
	}
	begin := lab.variantsV3
	if l.rate.v2 {
		begin = lab.variantsV2
	}
	if ends, err = begin(ctx); err == nil && l.rate.kind != nil {
		err = l.rate.kind.prepare(ctx, ends[0])
	}
	if err != nil {
		lab.close()
		return nil, nil, err
	}
	if l.rate.few {
		few := *ends[0]
		few.name, few.few = fewVariant, true
		ends = slices.Insert(ends, 1, &few)
	}
	return lab, ends, nil
}

func (l *benchLoad) roundsOf(ctx context.Context, b *bench, ends []*benchEnd, take measure) (*benchResult, error) {
	var rounds []benchRound
	var failures []string
	for n := range b.rounds {
		round := benchRound{}
		for _, e := range ends {
			sample, err := take(ctx, e, func() error { return nil })
			if err == nil && sample.requests == 0 {
				err = fmt.Errorf("nothing was answered in %v", sample.elapsed)
			}
			switch {
			case err == nil:
				round[e.name] = sample
			case e.rival() && ctx.Err() == nil:
				failures = append(failures, fmt.Sprintf("%s failed in round %d, which has no figures of it: %v.", e.name, n+1, err))
			default:
				return nil, fmt.Errorf("%s: %w", e.name, err)
			}
		}
		rounds = append(rounds, round)
	}
	if err := b.profiles(ctx, l.name, ends, take); err != nil {
		return nil, err
	}
	result := rateResult(l.rate, ends, rounds)
	result.notes = append(result.notes, failures...)
	return result, nil
}

// closedLoop is one measurement of one variant.
func (r *rateLoad) closedLoop(ctx context.Context, b *bench, e *benchEnd, profile func() error) (*benchSample, error) {
	// No deadline but a timer: a deadline would go to etcd with each request.
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	limit := time.AfterFunc(b.warm()+b.time+hangs, func() { cancel(fmt.Errorf("requests hang")) })
	defer limit.Stop()
	clients, err := r.clients(ctx, e)
	if err != nil {
		return nil, err
	}
	defer closeClients(clients)
	defer context.AfterFunc(ctx, func() { closeClients(clients) })()

	loop := &closedLoop{latencies: make([][]time.Duration, len(clients)), fail: cancel}
	var all sync.WaitGroup
	for i, c := range clients {
		all.Go(func() { loop.run(ctx, i, c) })
	}
	sample, err := loop.measure(ctx, b, e, profile)
	loop.phase.Store(loopEnds)
	all.Wait()
	if cause := context.Cause(ctx); cause != nil {
		return nil, cause // before err: what a failed load was measured to be is nothing
	}
	if err != nil {
		return nil, err
	}
	for _, c := range clients {
		if err := c.finish(ctx); err != nil {
			return nil, fmt.Errorf("after the load: %w", err)
		}
	}
	var latencies []time.Duration
	for _, l := range loop.latencies {
		latencies = append(latencies, l...)
	}
	sample.hears(latencies)
	return sample, nil
}

// clients connects them, and has each make a first request.
func (r *rateLoad) clients(ctx context.Context, e *benchEnd) ([]benchClient, error) {
	var clients []benchClient
	conns, streams := r.conns, r.streams
	if e.few {
		conns, streams = runtime.NumCPU(), conns*streams/runtime.NumCPU()
	}
	for n := range conns {
		more, err := r.kind.connect(e, n, streams)
		if err != nil {
			closeClients(clients)
			return nil, fmt.Errorf("connect: %w", err)
		}
		clients = append(clients, more...)
		if err := more[0].do(ctx); err != nil {
			closeClients(clients)
			return nil, fmt.Errorf("first request of connection %d: %w", n, err)
		}
	}
	return clients, nil
}

func closeClients(clients []benchClient) {
	for _, c := range clients {
		c.close()
	}
}

// warm is how long a variant works before it is measured.
func (b *bench) warm() time.Duration { return b.time / 2 }

// A loop warms up, is measured and ends.
const (
	loopWarms int32 = iota
	loopMeasures
	loopEnds
)

type closedLoop struct {
	phase     atomic.Int32
	latencies [][]time.Duration // of each client, answered while it is measured
	fail      context.CancelCauseFunc
}

func (c *closedLoop) run(ctx context.Context, number int, client benchClient) {
	for c.phase.Load() != loopEnds {
		began := time.Now()
		if err := client.do(ctx); err != nil {
			c.fail(err) // the first one stays the cause
			return
		}
		if c.phase.Load() == loopMeasures {
			c.latencies[number] = append(c.latencies[number], time.Since(began))
		}
	}
}

func (c *closedLoop) measure(ctx context.Context, b *bench, e *benchEnd, profile func() error) (*benchSample, error) {
	if err := pause(ctx, b.warm()); err != nil {
		return nil, err
	}
	m, err := startMeter(e)
	if err != nil {
		return nil, err
	}
	c.phase.Store(loopMeasures)
	if err := profile(); err != nil {
		return nil, err
	}
	if err := pause(ctx, b.time); err != nil {
		return nil, err
	}
	c.phase.Store(loopEnds)
	return m.stop()
}

// pause returns after d, or with the cause when ctx ends before.
func pause(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// causeOr is why ctx has ended, or err if it has not.
func causeOr(ctx context.Context, err error) error {
	if cause := context.Cause(ctx); cause != nil {
		return cause
	}
	return err
}
