package main

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"time"

	"go.etcd.io/etcd/api/v3/etcdserverpb"
	clientv3 "go.etcd.io/etcd/client/v3"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
)

// value is what fill puts under key number i: no two are the same.
func (l *load) value(i int) []byte {
	return bytes.Repeat([]byte(fmt.Sprintf("%08d", i)), l.size/8+1)[:l.size]
}

func (l *load) fill(ctx context.Context) error {
	c, err := l.connect()
	if err != nil {
		return err
	}
	defer c.Close()
	for i := range l.count {
		if _, err := c.Put(ctx, fmt.Sprintf("%s/%04d", l.args[0], i), string(l.value(i))); err != nil {
			return fmt.Errorf("put number %d: %w", i, err)
		}
	}
	return nil
}

func (l *load) list(ctx context.Context) error {
	c, err := l.connect()
	if err != nil {
		return err
	}
	defer c.Close()
	began := time.Now()
	res, err := c.Get(ctx, l.args[0]+"/", clientv3.WithPrefix())
	if err != nil {
		return err
	}
	var values [][]byte
	for _, kv := range res.Kvs {
		values = append(values, kv.Value)
	}
	return l.compare(values, began)
}

func (l *load) listJSON(ctx context.Context) error {
	began := time.Now()
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, l.url+"/v3/kv/range", bytes.NewReader(l.rangeJSON()))
	if err != nil {
		return err
	}
	res, err := (&http.Transport{DisableKeepAlives: true}).RoundTrip(req)
	if err != nil {
		return err
	}
	defer res.Body.Close()
	var answer struct {
		Kvs []struct{ Value []byte }
	}
	if err := json.NewDecoder(res.Body).Decode(&answer); err != nil {
		return fmt.Errorf("read answer with status %s: %w", res.Status, err)
	}
	var values [][]byte
	for _, kv := range answer.Kvs {
		values = append(values, kv.Value)
	}
	return l.compare(values, began)
}

func (l *load) rangeJSON() []byte {
	code := base64.StdEncoding.EncodeToString
	return []byte(fmt.Sprintf(`{"key":%q,"range_end":%q}`, code([]byte(l.args[0]+"/")), code([]byte(l.args[0]+"0"))))
}

func (l *load) compare(values [][]byte, began time.Time) error {
	if len(values) != l.count {
		return fmt.Errorf("%d values instead of %d", len(values), l.count)
	}
	for i, v := range values {
		if !bytes.Equal(v, l.value(i)) {
			return fmt.Errorf("value number %d is not what was put", i)
		}
	}
	fmt.Printf("%d values of %d bytes, all right, in %v\n", len(values), l.size, time.Since(began))
	return nil
}

// stalledBytes is how much of the answer is read before reading stops.
const stalledBytes = 1 << 20

// stall asks by gRPC on a connection that stops reading: no window update will
// ever come from there.
func (l *load) stall(ctx context.Context) error {
	conn, err := grpc.NewClient("passthrough:///"+host(l.url), grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithInitialWindowSize(64<<20), grpc.WithInitialConnWindowSize(64<<20),
		grpc.WithContextDialer(func(ctx context.Context, address string) (net.Conn, error) {
			c, err := new(net.Dialer).DialContext(ctx, "tcp", address)
			return &stallingConn{Conn: c, left: stalledBytes}, err
		}))
	if err != nil {
		return err
	}
	defer conn.Close()
	_, err = etcdserverpb.NewKVClient(conn).Range(ctx,
		&etcdserverpb.RangeRequest{Key: []byte(l.args[0] + "/"), RangeEnd: []byte(l.args[0] + "0")},
		grpc.MaxCallRecvMsgSize(1<<30))
	fmt.Println("ended:", err)
	return nil
}

// stallingConn stops reading for good.
type stallingConn struct {
	net.Conn
	left int
}

func (c *stallingConn) Read(p []byte) (int, error) {
	if c.left <= 0 {
		fmt.Println("stalled")
		select {}
	}
	n, err := c.Conn.Read(p)
	c.left -= n
	return n, err
}

func (l *load) stallHTTP(ctx context.Context) error {
	c, err := new(net.Dialer).DialContext(ctx, "tcp", host(l.url))
	if err != nil {
		return err
	}
	defer c.Close()
	body := l.rangeJSON()
	fmt.Fprintf(c, "POST /v3/kv/range HTTP/1.1\r\nHost: %s\r\nContent-Length: %d\r\n\r\n%s", host(l.url), len(body), body)
	if _, err := io.CopyN(io.Discard, c, stalledBytes); err != nil {
		return err
	}
	fmt.Println("stalled")
	<-ctx.Done()
	return nil
}

func host(raw string) string {
	u, err := url.Parse(raw)
	if err != nil {
		return raw
	}
	return u.Host
}
