//go:build bench

package main

import (
	"context"
	"fmt"
	"runtime"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// runOpen sends at a rate that does not depend on the answers: half of what direct
// reaches in a closed loop with the same connections. A request's latency counts from
// when it was to be sent, so a way that is slow is not asked more gently.
func runOpen(ctx context.Context, b *bench, l *benchLoad) (*benchResult, error) {
	lab, ends, err := l.start(ctx, b)
	if err != nil {
		return nil, err
	}
	defer lab.close()
	var most []float64
	for range b.rounds {
		sample, err := l.rate.closedLoop(ctx, b, ends[0], func() error { return nil })
		if err != nil {
			return nil, fmt.Errorf("find out what direct can do: %w", err)
		}
		most = append(most, float64(sample.requests)/sample.elapsed.Seconds())
	}
	rate := medianOf(most) / 2
	late := &lateness{}
	result, err := l.roundsOf(ctx, b, ends, func(ctx context.Context, e *benchEnd, profile func() error) (*benchSample, error) {
		return l.rate.openLoop(ctx, b, e, rate, late, profile)
	})
	if err != nil {
		return nil, err
	}
	result.notes = append(result.notes, fmt.Sprintf("Direct reached %.0f requests/s at most, so the rate is %.0f/s. The client was late by %.3f ms in the mean, "+
		"which every latency contains.", medianOf(most), rate, late.mean()))
	return result, nil
}

// lateness is how far behind its plan the pacer was.
type lateness struct {
	sum   time.Duration
	count int
}

func (l *lateness) mean() float64 { return micros(l.sum) / float64(max(1, l.count)) / 1000 }

// queued is how many requests may wait for their stream before the load gives up: about
// a minute's at 10,000 a second and 100 streams.
const queued = 6000

// openLoop is one measurement of one variant. The streams take turns; a stream that
// still waits for an answer keeps its next requests in a queue.
func (r *rateLoad) openLoop(ctx context.Context, b *bench, e *benchEnd, rate float64, late *lateness, profile func() error) (*benchSample, error) {
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

	p := &pacer{gap: time.Duration(float64(time.Second) / rate), late: late, queues: make([]chan time.Time, len(clients))}
	latencies := make([][]time.Duration, len(clients))
	var all sync.WaitGroup
	began := time.Now()
	from := began.Add(b.warm())
	for i, c := range clients {
		p.queues[i] = make(chan time.Time, queued)
		all.Go(func() {
			for intended := range p.queues[i] {
				if err := c.do(ctx); err != nil {
					cancel(err)
					return
				}
				if !intended.Before(from) {
					latencies[i] = append(latencies[i], time.Since(intended))
				}
			}
		})
	}
	all.Go(func() {
		if err := p.run(ctx, began, b.warm()+b.time); err != nil {
			cancel(err)
		}
	})
	m, err := meterOpen(ctx, b, e, profile)
	if err != nil {
		cancel(err)
	}
	all.Wait()
	if cause := context.Cause(ctx); cause != nil {
		return nil, cause
	}
	sample, err := m.stop() // with the last answer, however late it was
	if err != nil {
		return nil, err
	}
	var heard []time.Duration
	for _, l := range latencies {
		heard = append(heard, l...)
	}
	sample.hears(heard)
	return sample, nil
}

// meterOpen starts the meter when the load is warm, and returns at the load's end.
func meterOpen(ctx context.Context, b *bench, e *benchEnd, profile func() error) (*meter, error) {
	if err := pause(ctx, b.warm()); err != nil {
		return nil, err
	}
	m, err := startMeter(e)
	if err != nil {
		return nil, err
	}
	if err := profile(); err != nil {
		return nil, err
	}
	return m, pause(ctx, b.time)
}

// pacer hands out the times at which requests are to be sent.
type pacer struct {
	gap    time.Duration
	late   *lateness
	queues []chan time.Time
}

// run has a thread of its own that sleeps in the kernel: Go's timers are exact to a
// millisecond only while nothing else happens.
func (p *pacer) run(ctx context.Context, began time.Time, d time.Duration) error {
	defer func() {
		for _, q := range p.queues {
			close(q)
		}
	}()
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	if err := unix.Prctl(unix.PR_SET_TIMERSLACK, 1, 0, 0, 0); err != nil {
		return fmt.Errorf("set timer slack: %w", err)
	}
	for n := 0; ctx.Err() == nil; n++ {
		intended := began.Add(time.Duration(n) * p.gap)
		if intended.Sub(began) >= d {
			return nil
		}
		for wait := time.Until(intended); wait > 0; wait = time.Until(intended) {
			ts := unix.NsecToTimespec(int64(wait))
			_ = unix.Nanosleep(&ts, nil) // a signal may end it early
		}
		p.late.sum += max(0, time.Since(intended))
		p.late.count++
		select {
		case p.queues[n%len(p.queues)] <- intended:
		default:
			return fmt.Errorf("%d requests wait for one stream", queued)
		}
	}
	return nil
}
