package h2

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"net"
	"runtime"
	"sync"
	"testing"
	"time"

	"golang.org/x/net/http2"

	"etcdops/proxy/director"
	"etcdops/proxy/policy"
)

// fuzzStage is a relay, and a member whose connections the test plays.
type fuzzStage struct {
	relay  *Relay
	far    chan *net.TCPConn // connections to the member, without those of the probe
	before int               // goroutines
}

func newFuzzStage(f *testing.F) *fuzzStage {
	ctx, cancel := context.WithCancel(f.Context())
	log := slog.New(slog.DiscardHandler)
	d := &director.Director{DialTimeout: time.Second, Logger: log}
	stage := &fuzzStage{far: make(chan *net.TCPConn, 100)}
	stage.relay = &Relay{Director: d, Instance: policy.NewInstance(), DialTimeout: 50 * time.Millisecond, Stats: &Stats{}, Logger: log}
	stage.relay.HTTP1 = func(_ context.Context, c net.Conn) { _, _ = io.Copy(io.Discard, c); c.Close() }
	var wg sync.WaitGroup
	for _, run := range []func(context.Context, chan<- struct{}){d.Run, stage.relay.Run} {
		ready := make(chan struct{})
		wg.Go(func() { run(ctx, ready) })
		<-ready
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		f.Fatal(err)
	}
	wg.Go(func() {
		for {
			nc, err := l.Accept()
			if err != nil {
				return
			}
			go stage.accept(nc.(*net.TCPConn))
		}
	})
	f.Cleanup(func() { l.Close(); cancel(); wg.Wait() })
	d.Update([]director.Member{{ID: 1, Name: "m", ClientURLs: []string{"http://" + l.Addr().String()}}})
	stage.before = runtime.NumGoroutine()
	return stage
}

// accept answers the probe and hands every other connection to the play.
func (stage *fuzzStage) accept(nc *net.TCPConn) {
	first := make([]byte, len(Preface))
	if _, err := io.ReadFull(nc, first); err != nil || string(first) != Preface {
		_, _ = io.WriteString(nc, "HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 2\r\n\r\n{}")
		nc.Close()
		return
	}
	_ = http2.NewFramer(nc, nil).WriteSettings()
	stage.far <- nc
}

// member is the connection that the relay has opened.
func (stage *fuzzStage) member() *fuzzEnd {
	select {
	case nc := <-stage.far:
		e := newFuzzEnd(nc)
		go e.listen()
		return e
	case <-time.After(fuzzOpens):
		return nil
	}
}

// bounded says whether a queue holds more than the window that its sender was given.
func (stage *fuzzStage) bounded() error {
	for _, p := range stage.relay.poolList() {
		for _, m := range p.list() {
			m.mu.Lock()
			for _, sd := range m.streams {
				if n := sd.waiting(); n > clientWindow {
					m.mu.Unlock()
					return fmt.Errorf("%d bytes wait for a member", n)
				}
			}
			m.mu.Unlock()
		}
	}
	for _, cc := range stage.relay.clientList() {
		cc.mu.Lock()
		queued, streams := cc.queued, len(cc.streams)
		cc.mu.Unlock()
		if queued > streams*streamWindow+int(granted.Load()) {
			return fmt.Errorf("%d bytes wait for a client of %d streams, %d are granted besides", queued, streams, granted.Load())
		}
	}
	return nil
}

// waits waits until something is so.
func (stage *fuzzStage) waits(what string, so func() bool) error {
	for limit := time.Now().Add(fuzzEnds); !so(); time.Sleep(100 * time.Microsecond) {
		if time.Now().After(limit) {
			return fmt.Errorf("never: %s: %d streams, %d bytes of window granted, %d of requests kept, %d goroutines more\n%s",
				what, memberStreams(stage.relay), granted.Load(), policy.Kept.Load(), runtime.NumGoroutine()-stage.before, stacks())
		}
	}
	return nil
}

// memberStreams counts the streams that members have.
func memberStreams(r *Relay) (n int) {
	for _, p := range r.poolList() {
		for _, m := range p.list() {
			m.mu.Lock()
			n += len(m.streams)
			m.mu.Unlock()
		}
	}
	return n
}

// empty says whether nothing is left of the play.
func (stage *fuzzStage) empty() bool {
	for len(stage.far) > 0 { // opened for requests that nobody answers any more
		(<-stage.far).Close()
	}
	for _, p := range stage.relay.poolList() {
		if len(p.list()) > 0 {
			return false
		}
	}
	return granted.Load() == 0 && policy.Kept.Load() == 0 && runtime.NumGoroutine() <= stage.before+fuzzGoroutines
}
