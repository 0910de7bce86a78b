//go:build bench

package main

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httputil"
	"net/url"
	"sync"
	"time"

	"go.etcd.io/etcd/api/v3/etcdserverpb"
	"google.golang.org/grpc"
)

const (
	bodyPath  = "/bench/body"
	bodyBytes = 1 << 30

	// stalledReaders stop reading at the same time, each after stalledAfter bytes.
	stalledReaders, stalledAfter = 10, 1 << 20
	// bigKeys of bigValue bytes are what a stalled gRPC reader has asked for.
	bigPrefix         = "big/"
	bigKeys, bigValue = 16, 1 << 20
	// bodyTakes is how long a body may take.
	bodyTakes = 5 * time.Minute
)

// sink is an etcd whose client URL is ours: what is asked for bodyPath takes any body or
// gives a long one, which no etcd does; the rest goes on to etcd. It is for HTTP/1.1
// alone.
func (l *benchLab) sink(ctx context.Context) (cluster *benchEnd, hangUp func(), err error) {
	address := l.host() + ":2379"
	if cluster, err = l.etcd37("--advertise-client-urls", "http://"+address); err != nil {
		return nil, nil, err
	}
	if err := cluster.awaits(ctx, askV3); err != nil {
		return nil, nil, err
	}
	listener, err := net.Listen("tcp", address)
	if err != nil {
		return nil, nil, err
	}
	mux := http.NewServeMux()
	mux.HandleFunc("PUT "+bodyPath, takeBody)
	mux.HandleFunc("GET "+bodyPath, giveBody)
	mux.Handle("/", httputil.NewSingleHostReverseProxy(&url.URL{Scheme: "http", Host: cluster.direct}))
	server := &http.Server{Handler: mux}
	served := make(chan struct{})
	go func() {
		defer close(served)
		_ = server.Serve(listener)
	}()
	behind := *cluster
	behind.direct = address
	return &behind, func() {
		_ = server.Close()
		<-served
	}, nil
}

func takeBody(w http.ResponseWriter, r *http.Request) {
	n, err := io.Copy(io.Discard, r.Body)
	if err != nil || n != bodyBytes {
		http.Error(w, fmt.Sprintf("%d bytes arrived: %v", n, err), http.StatusBadRequest)
	}
}

func giveBody(w http.ResponseWriter, _ *http.Request) {
	w.Header().Set("Content-Length", fmt.Sprint(bodyBytes))
	_, _ = io.CopyN(w, zeros{}, bodyBytes) // a reader that stalls never takes it all
}

// zeros never ends.
type zeros struct{}

func (zeros) Read(p []byte) (int, error) {
	clear(p)
	return len(p), nil
}

// peakGrowth is what the peak of each end's memory is above what it had when idle; load
// is called for one after the other.
func peakGrowth(ctx context.Context, ends []*benchEnd, count float64, load func(e *benchEnd) error) ([]float64, error) {
	before, err := idleMemory(ctx, ends)
	if err != nil {
		return nil, err
	}
	for i, e := range ends {
		if err := e.proxy.resetPeak(); err != nil {
			return nil, err
		}
		if err := load(e); err != nil {
			return nil, fmt.Errorf("%s: %w", e.name, err)
		}
		peak, err := e.proxy.memory("VmHWM")
		if err != nil {
			return nil, err
		}
		before[i] = (peak - before[i]) / count
	}
	return before, nil
}

func uploadMemory(ctx context.Context, ends []*benchEnd) ([]float64, error) {
	return peakGrowth(ctx, ends, 1, func(e *benchEnd) error {
		c, err := e.dialBody(ctx)
		if err != nil {
			return err
		}
		defer c.Close()
		if _, err := fmt.Fprintf(c, "PUT %s HTTP/1.1\r\nHost: %s\r\nContent-Length: %d\r\n\r\n", bodyPath, e.address, bodyBytes); err != nil {
			return err
		}
		if _, err := io.CopyN(c, zeros{}, bodyBytes); err != nil {
			return err
		}
		return readOK(bufio.NewReader(c))
	})
}

func downloadMemory(ctx context.Context, ends []*benchEnd) ([]float64, error) {
	return peakGrowth(ctx, ends, 1, func(e *benchEnd) error {
		c, err := e.dialBody(ctx)
		if err != nil {
			return err
		}
		defer c.Close()
		return e.download(c, bodyBytes)
	})
}

func (e *benchEnd) dialBody(ctx context.Context) (net.Conn, error) {
	c, err := e.dialHTTP(ctx)
	if err == nil {
		err = c.SetDeadline(time.Now().Add(bodyTakes))
	}
	return c, err
}

// download asks for the long body and reads so many bytes of it.
func (e *benchEnd) download(c net.Conn, bytes int64) error {
	if _, err := fmt.Fprintf(c, "GET %s HTTP/1.1\r\nHost: %s\r\n\r\n", bodyPath, e.address); err != nil {
		return err
	}
	res, err := http.ReadResponse(bufio.NewReader(c), nil)
	if err != nil {
		return err
	}
	if res.StatusCode != http.StatusOK || res.ContentLength != bodyBytes {
		return fmt.Errorf("status %s with %d bytes", res.Status, res.ContentLength)
	}
	_, err = io.CopyN(io.Discard, res.Body, bytes) // and no Close, which would read the rest
	return err
}

func stalledHTTPMemory(ctx context.Context, ends []*benchEnd) ([]float64, error) {
	return peakGrowth(ctx, ends, stalledReaders, func(e *benchEnd) error {
		for range stalledReaders {
			c, err := e.dialBody(ctx)
			if err != nil {
				return err
			}
			defer c.Close()
			if err := e.download(c, stalledAfter); err != nil {
				return err
			}
		}
		return pause(ctx, memorySettles)
	})
}

// stalledGRPCMemory has readers whose windows are wide open: it is their sockets that
// take no more.
func stalledGRPCMemory(ctx context.Context, ends []*benchEnd) ([]float64, error) {
	if err := fillBig(ctx, ends[0]); err != nil {
		return nil, err
	}
	return peakGrowth(ctx, ends, stalledReaders, func(e *benchEnd) error {
		ctx, cancel := context.WithCancel(ctx)
		var all sync.WaitGroup
		defer all.Wait()
		defer cancel()
		errs := make(chan error, stalledReaders)
		stalled := make(chan struct{}, stalledReaders)
		for range stalledReaders {
			all.Go(func() { errs <- stallRange(ctx, e, stalled) })
		}
		for range stalledReaders {
			select {
			case <-stalled:
			case err := <-errs:
				return fmt.Errorf("an answer ended before it stalled: %w", err)
			}
		}
		return pause(ctx, memorySettles)
	})
}

func fillBig(ctx context.Context, e *benchEnd) error {
	conn, err := e.dial()
	if err != nil {
		return err
	}
	defer conn.Close()
	value := make([]byte, bigValue)
	for n := range bigKeys {
		if _, err := kvOf(conn).Put(ctx, &etcdserverpb.PutRequest{Key: fmt.Appendf(nil, "%s%d", bigPrefix, n), Value: value}); err != nil {
			return fmt.Errorf("put big value: %w", err)
		}
	}
	return nil
}

func stallRange(ctx context.Context, e *benchEnd, stalled chan<- struct{}) error {
	conn, err := e.dial(grpc.WithInitialWindowSize(64*mib), grpc.WithInitialConnWindowSize(64*mib),
		grpc.WithContextDialer(func(ctx context.Context, address string) (net.Conn, error) {
			c, err := new(net.Dialer).DialContext(ctx, "tcp", address)
			return &stallableConn{Conn: c, left: stalledAfter, stalled: stalled, closed: make(chan struct{})}, err
		}))
	if err != nil {
		return err
	}
	defer conn.Close()
	_, err = kvOf(conn).Range(ctx, &etcdserverpb.RangeRequest{Key: []byte(bigPrefix), RangeEnd: []byte("big0")}, grpc.MaxCallRecvMsgSize(bodyBytes))
	return err
}

// stallableConn reads so much and then nothing until it is closed.
type stallableConn struct {
	net.Conn
	left    int
	stalled chan<- struct{}
	once    sync.Once
	closed  chan struct{}
}

func (c *stallableConn) Read(p []byte) (int, error) {
	if c.left <= 0 {
		c.stalled <- struct{}{}
		<-c.closed
		return 0, net.ErrClosed
	}
	n, err := c.Conn.Read(p)
	c.left -= n
	return n, err
}

func (c *stallableConn) Close() error {
	c.once.Do(func() { close(c.closed) })
	return c.Conn.Close()
}

// askVersion is one request by HTTP/1.1.
func askVersion(ctx context.Context, e *benchEnd) error {
	c, err := e.dialHTTP(ctx)
	if err != nil {
		return err
	}
	defer c.Close()
	return e.askVersionBy(c)
}

func (e *benchEnd) askVersionBy(c net.Conn) error {
	if _, err := fmt.Fprintf(c, "GET /version HTTP/1.1\r\nHost: %s\r\n\r\n", e.address); err != nil {
		return err
	}
	return readOK(bufio.NewReader(c))
}
