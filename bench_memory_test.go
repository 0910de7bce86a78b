//go:build bench

package main

import (
	"bufio"
	"context"
	"crypto/tls"
	"fmt"
	"math"
	"net"
	"net/http"
	"sync"
	"time"

	"go.etcd.io/etcd/api/v3/etcdserverpb"
	"google.golang.org/grpc"
)

const (
	kib = 1 << 10
	mib = 1 << 20

	// memoryConns is how many idle connections are counted.
	memoryConns = 1000
	// memoryWatches is how many idle watches, on how many connections.
	memoryWatches, memoryWatchConns = 10000, 100
	// memoryRounds is how often each is looked at: these figures hardly differ.
	memoryRounds = 5
	// memorySettles is how long a proxy is left alone before it is looked at.
	memorySettles = 3 * time.Second
)

// memoryItem is a row of the table of memory.
type memoryItem struct {
	what, unit string
	bytes      float64 // of the unit
	limit      float64 // in units; 0: ratio to gateway
	ratio      float64 // to gateway's figure
	listen     string  // of etcdops, with %s; "": in the clear
	sink       bool    // what takes and gives long bodies is behind it
	// take returns bytes, for each of what is counted.
	take func(ctx context.Context, ends []*benchEnd) ([]float64, error)
}

func memoryItems() []memoryItem {
	const secure = "https://%s"
	return []memoryItem{
		{what: "idle", unit: "MiB", bytes: mib, ratio: 1.3, take: idleMemory},
		{what: "idle watch", unit: "KiB", bytes: kib, limit: 2, take: watchMemory},
		{what: "idle client connection, gRPC", unit: "KiB", bytes: kib, limit: 24, take: grpcMemory},
		{what: "idle client connection, HTTP/1.1", unit: "KiB", bytes: kib, limit: 24, take: httpMemory},
		{what: "idle client connection, gRPC with TLS", unit: "KiB", bytes: kib, limit: 40, listen: secure, take: grpcMemory},
		{what: "idle client connection, HTTP/1.1 with TLS", unit: "KiB", bytes: kib, limit: 40, listen: secure, take: httpMemory},
		{what: "a request with a body of 1 GiB", unit: "KiB", bytes: kib, limit: 1024, sink: true, take: uploadMemory},
		{what: "an answer with a body of 1 GiB", unit: "KiB", bytes: kib, limit: 1024, sink: true, take: downloadMemory},
		{what: "stalled reader of 1 GiB, HTTP/1.1", unit: "KiB", bytes: kib, limit: 1024, sink: true, take: stalledHTTPMemory},
		{what: "stalled reader of 16 MiB, gRPC", unit: "KiB", bytes: kib, limit: 1024, take: stalledGRPCMemory},
	}
}

// runMemory looks at each item in each round with fresh processes.
func runMemory(ctx context.Context, b *bench, _ *benchLoad) (*benchResult, error) {
	result := &benchResult{
		header: []string{"what", "etcdops", "gateway", "unit"},
		notes: []string{fmt.Sprintf("Resident memory by /proc/PID/status: what it has grown by, over how many were opened (%d connections, %d watches on %d connections, %d stalled readers), "+
			"%v later, with the garbage that nobody has collected yet; for bodies and stalled readers the peak (VmHWM). Medians of %d rounds, each with fresh processes. "+
			"What the kernel keeps in sockets is not in it.", memoryConns, memoryWatches, memoryWatchConns, stalledReaders, memorySettles, memoryRounds)},
	}
	for _, item := range memoryItems() {
		var own, gateway []float64
		for range memoryRounds {
			figures, err := item.round(ctx, b)
			if err != nil {
				return nil, fmt.Errorf("%s: %w", item.what, err)
			}
			own = append(own, figures[0]/item.bytes)
			if len(figures) > 1 {
				gateway = append(gateway, figures[1]/item.bytes)
			}
		}
		row := []string{item.what, fmt.Sprintf("%.1f", medianOf(own)), "–", item.unit}
		if len(gateway) > 0 {
			row[2] = fmt.Sprintf("%.1f", medianOf(gateway))
		}
		result.rows = append(result.rows, row)
		result.verdicts = append(result.verdicts, item.judge(medianOf(own), medianOf(gateway)))
	}
	return result, nil
}

func (item *memoryItem) judge(own, gateway float64) benchVerdict {
	if item.ratio != 0 {
		got := math.Round(own/gateway*100) / 100
		return benchVerdict{bar: fmt.Sprintf("%s ≤ %v × gateway", item.what, item.ratio), got: ratioWord(got), reached: got <= item.ratio}
	}
	return benchVerdict{
		bar: fmt.Sprintf("%s ≤ %v %s", item.what, item.limit, item.unit), got: fmt.Sprintf("%.1f %s", own, item.unit),
		reached: math.Round(own*10)/10 <= item.limit,
	}
}

// round starts a cluster, etcdops and, where the item is in the clear, gateway before it.
func (item *memoryItem) round(ctx context.Context, b *bench) ([]float64, error) {
	lab, err := b.lab()
	if err != nil {
		return nil, err
	}
	defer lab.close()
	cluster, ask, hangUp, err := item.cluster(ctx, lab)
	if err != nil {
		return nil, err
	}
	defer hangUp()
	listen, more := "http://%s", []string(nil)
	if item.listen != "" {
		listen, more = item.listen, []string{"--auto-tls"}
	}
	own, err := lab.proxyWith(cluster, listen, more...)
	if err != nil {
		return nil, err
	}
	ends := []*benchEnd{own}
	if item.listen == "" {
		gateway, err := lab.gateway(cluster)
		if err != nil {
			return nil, err
		}
		ends = append(ends, gateway)
	} else {
		own.tls = &tls.Config{InsecureSkipVerify: true} // it has made its certificate itself
	}
	for _, e := range ends {
		if err := e.awaits(ctx, ask); err != nil {
			return nil, err
		}
	}
	return item.take(ctx, ends)
}

// cluster starts what is behind the proxies; ask is how one knows that they serve.
func (item *memoryItem) cluster(ctx context.Context, lab *benchLab) (cluster *benchEnd, ask func(context.Context, *benchEnd) error, hangUp func(), err error) {
	if item.sink {
		cluster, hangUp, err = lab.sink(ctx)
		return cluster, askVersion, hangUp, err
	}
	if cluster, err = lab.etcd37(); err != nil {
		return nil, nil, nil, err
	}
	if err = cluster.awaits(ctx, askV3); err == nil {
		err = fillV3(ctx, cluster)
	}
	return cluster, askV3, func() {}, err
}

func idleMemory(ctx context.Context, ends []*benchEnd) ([]float64, error) {
	if err := pause(ctx, memorySettles); err != nil {
		return nil, err
	}
	return residents(ends)
}

func residents(ends []*benchEnd) ([]float64, error) {
	figures := make([]float64, len(ends))
	for i, e := range ends {
		var err error
		if figures[i], err = e.proxy.memory("VmRSS"); err != nil {
			return nil, err
		}
	}
	return figures, nil
}

// growth is what count of something add to the memory of each end, when settled.
func growth(ctx context.Context, ends []*benchEnd, count float64, open func(e *benchEnd) error) ([]float64, error) {
	before, err := idleMemory(ctx, ends)
	if err != nil {
		return nil, err
	}
	for _, e := range ends {
		if err := open(e); err != nil {
			return nil, fmt.Errorf("%s: %w", e.name, err)
		}
	}
	after, err := idleMemory(ctx, ends)
	if err != nil {
		return nil, err
	}
	for i := range after {
		after[i] = (after[i] - before[i]) / count
	}
	return after, nil
}

// grpcMemory has connections that have made one request each.
func grpcMemory(ctx context.Context, ends []*benchEnd) ([]float64, error) {
	var clients []benchClient
	defer func() { closeClients(clients) }()
	r := &rateLoad{conns: memoryConns, streams: 1, kind: rangeOne}
	return growth(ctx, ends, memoryConns, func(e *benchEnd) error {
		more, err := r.clients(ctx, e)
		clients = append(clients, more...)
		return err
	})
}

func httpMemory(ctx context.Context, ends []*benchEnd) ([]float64, error) {
	var conns []net.Conn
	defer func() {
		for _, c := range conns {
			_ = c.Close()
		}
	}()
	return growth(ctx, ends, memoryConns, func(e *benchEnd) error {
		for range memoryConns {
			c, err := e.dialHTTP(ctx)
			if err != nil {
				return err
			}
			conns = append(conns, c)
			if err := e.askVersionBy(c); err != nil {
				return err
			}
		}
		return nil
	})
}

func (e *benchEnd) dialHTTP(ctx context.Context) (net.Conn, error) {
	if e.tls != nil {
		return (&tls.Dialer{Config: e.tls}).DialContext(ctx, "tcp", e.address)
	}
	return new(net.Dialer).DialContext(ctx, "tcp", e.address)
}

func readOK(r *bufio.Reader) error {
	res, err := http.ReadResponse(r, nil)
	if err != nil {
		return err
	}
	defer res.Body.Close()
	if res.StatusCode != http.StatusOK {
		return fmt.Errorf("status %s", res.Status)
	}
	return nil
}

// watchMemory opens the connections first: only the watches count.
func watchMemory(ctx context.Context, ends []*benchEnd) ([]float64, error) {
	ctx, cancel := context.WithTimeout(ctx, allWatched)
	defer cancel()
	conns := map[*benchEnd][]*grpc.ClientConn{}
	for _, e := range ends {
		for range memoryWatchConns {
			conn, err := e.dial()
			if err != nil {
				return nil, err
			}
			defer conn.Close()
			conns[e] = append(conns[e], conn)
			if _, err := kvOf(conn).Range(ctx, &etcdserverpb.RangeRequest{Key: []byte(watchedKey)}); err != nil {
				return nil, err
			}
		}
	}
	return growth(ctx, ends, memoryWatches, func(e *benchEnd) error {
		var all sync.WaitGroup
		errs := make(chan error, memoryWatches)
		for n := range memoryWatches {
			stream, err := openWatch(ctx, conns[e][n%memoryWatchConns], watchedKey)
			if err != nil {
				return err
			}
			all.Go(func() {
				if err := confirmWatch(stream); err != nil {
					errs <- err
				}
			})
		}
		all.Wait()
		close(errs)
		return <-errs
	})
}
