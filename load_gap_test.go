package main

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"time"
)

const (
	// gapTry is how long a client of the job waits for one answer before it
	// connects anew.
	gapTry = 250 * time.Millisecond
	// gapPause is the time between two requests of one client.
	gapPause = 5 * time.Millisecond
)

// longestGap is what a client notices when an endpoint goes away and comes back: each
// request has a new connection, gRPC in one loop and HTTP/1.1 in another, a
// short limit, and is tried again until it succeeds. After SIGINT it prints the
// longest time without a success. An answer that only a learner gives is a
// failure: it must never be the one who is asked.
func (l *load) longestGap(ctx context.Context) error {
	e, err := newLoadEndpoint(l.url, l, newLedger())
	if err != nil {
		return err
	}
	g := &gap{endpoint: e, key: l.args[0]}
	var loops, working sync.WaitGroup
	for _, kv := range []keyspace{newClient{e}, newHTTP{e}} {
		working.Add(1)
		loops.Go(func() { g.loop(ctx, kv, sync.OnceFunc(working.Done)) })
	}
	go func() {
		working.Wait()
		fmt.Println("loading")
	}()
	loops.Wait()
	fmt.Printf("requests %d tries %d longest gap %v\n", g.requests, g.tries, g.longest.Round(time.Millisecond))
	if g.learner != nil {
		return fmt.Errorf("the learner was asked: %w", g.learner)
	}
	return nil
}

type gap struct {
	endpoint *loadEndpoint
	key      string

	mu              sync.Mutex
	requests, tries int
	longest         time.Duration
	learner         error
}

func (g *gap) loop(ctx context.Context, kv keyspace, works func()) {
	defer kv.close()
	pause := time.NewTicker(gapPause)
	defer pause.Stop()
	last := time.Now()
	for ctx.Err() == nil {
		err := g.try(ctx, kv)
		g.mu.Lock()
		g.tries++
		if err == nil {
			g.requests++
			g.longest = max(g.longest, time.Since(last))
			last = time.Now()
			works()
		} else if strings.Contains(err.Error(), "learner") {
			g.learner = err
		}
		g.mu.Unlock()
		<-pause.C
	}
}

func (g *gap) try(ctx context.Context, kv keyspace) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), gapTry)
	defer cancel()
	_, err := kv.put(ctx, g.key)
	return err
}
