//go:build bench

package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"

	"go.etcd.io/etcd/api/v3/etcdserverpb"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"
)

// dial makes a gRPC connection of the kind that clientv3 has, without clientv3 on top
// and without any repetition.
func (e *benchEnd) dial(more ...grpc.DialOption) (*grpc.ClientConn, error) {
	secure := insecure.NewCredentials()
	if e.tls != nil {
		secure = credentials.NewTLS(e.tls)
	}
	return grpc.NewClient("passthrough:///"+e.address, append([]grpc.DialOption{
		grpc.WithTransportCredentials(secure), grpc.WithDisableRetry(), grpc.WithDisableServiceConfig(), grpc.WithNoProxy(),
		grpc.WithContextDialer(func(ctx context.Context, address string) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, "tcp", address)
		}),
	}, more...)...)
}

func kvOf(conn *grpc.ClientConn) etcdserverpb.KVClient { return etcdserverpb.NewKVClient(conn) }

// benchClient is one stream of requests, one after the other; do makes one and
// looks at the answer.
type benchClient interface {
	do(ctx context.Context) error
	// finish looks at what is left behind when the load is over.
	finish(ctx context.Context) error
	close()
}

// clientKind makes the clients of one connection; prepare makes what they read.
type clientKind struct {
	prepare func(ctx context.Context, e *benchEnd) error
	connect func(e *benchEnd, number, streams int) ([]benchClient, error)
}

const (
	// benchKeys is how many keys are read.
	benchKeys = 1000
	// benchValueBytes is how long each value is.
	benchValueBytes = 64
)

func benchKey(n int) string { return fmt.Sprintf("bench/%06d", n%benchKeys) }

// benchValue tells key and number of a write.
func benchValue(key string, number int) string {
	value := fmt.Sprintf("%s:%d:", key, number)
	return value + string(bytes.Repeat([]byte("x"), benchValueBytes-len(value)))
}

var (
	rangeOne = &clientKind{prepare: fillV3, connect: func(e *benchEnd, number, streams int) ([]benchClient, error) {
		return connectV3(e, number, streams, func(c *clientV3) benchClient { return (*ranger)(c) })
	}}
	putOne = &clientKind{prepare: fillV3, connect: func(e *benchEnd, number, streams int) ([]benchClient, error) {
		return connectV3(e, number, streams, func(c *clientV3) benchClient { return (*putter)(c) })
	}}
)

func fillV3(ctx context.Context, e *benchEnd) error {
	conn, err := e.dial()
	if err != nil {
		return err
	}
	defer conn.Close()
	kv := kvOf(conn)
	for n := range benchKeys {
		key := benchKey(n)
		if _, err := kv.Put(ctx, &etcdserverpb.PutRequest{Key: []byte(key), Value: []byte(benchValue(key, 0))}); err != nil {
			return fmt.Errorf("put %s: %w", key, err)
		}
	}
	return nil
}

// clientV3 is one stream of a connection.
type clientV3 struct {
	conn  *grpc.ClientConn // nil: another stream closes it
	kv    etcdserverpb.KVClient
	key   string
	ask   etcdserverpb.RangeRequest
	value []byte // that is read, or was written last
	put   int    // writes
	last  int64  // revision
}

func connectV3(e *benchEnd, number, streams int, as func(*clientV3) benchClient) ([]benchClient, error) {
	conn, err := e.dial()
	if err != nil {
		return nil, err
	}
	kv := kvOf(conn)
	clients := make([]benchClient, streams)
	for i := range clients {
		c := &clientV3{kv: kv, key: benchKey(number*streams + i)}
		c.ask.Key, c.value = []byte(c.key), []byte(benchValue(c.key, 0))
		if i == 0 {
			c.conn = conn
		}
		clients[i] = as(c)
	}
	return clients, nil
}

func (c *clientV3) close() {
	if c.conn != nil {
		_ = c.conn.Close()
	}
}

// read is a linearizable range of one key, whose value must be there.
func (c *clientV3) read(ctx context.Context) error {
	res, err := c.kv.Range(ctx, &c.ask)
	switch {
	case err != nil:
		return fmt.Errorf("range %s: %w", c.key, err)
	case len(res.Kvs) != 1 || res.Count != 1 || string(res.Kvs[0].Key) != c.key:
		return fmt.Errorf("range %s: %v", c.key, res)
	case !bytes.Equal(res.Kvs[0].Value, c.value):
		return fmt.Errorf("range %s: the value is %q and not %q", c.key, res.Kvs[0].Value, c.value)
	}
	return nil
}

// ranger reads its key.
type ranger clientV3

func (c *ranger) do(ctx context.Context) error { return (*clientV3)(c).read(ctx) }
func (c *ranger) finish(context.Context) error { return nil }
func (c *ranger) close()                       { (*clientV3)(c).close() }

// putter writes its key, which nobody else writes, a new value each time.
type putter clientV3

func (c *putter) do(ctx context.Context) error {
	c.put++
	c.value = []byte(benchValue(c.key, c.put))
	res, err := c.kv.Put(ctx, &etcdserverpb.PutRequest{Key: c.ask.Key, Value: c.value})
	if err != nil {
		return fmt.Errorf("put %s: %w", c.key, err)
	}
	if res.Header == nil || res.Header.Revision <= c.last {
		return fmt.Errorf("put %s: %v, and the revision before was %d", c.key, res, c.last)
	}
	c.last = res.Header.Revision
	return nil
}

// finish reads what was written last.
func (c *putter) finish(ctx context.Context) error {
	if c.put == 0 {
		return errors.New("nothing was put")
	}
	return (*clientV3)(c).read(ctx)
}

func (c *putter) close() { (*clientV3)(c).close() }
