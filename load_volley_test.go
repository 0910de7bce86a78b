package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"net"
	"net/http"
	"slices"
	"strings"
	"sync"

	"go.etcd.io/etcd/api/v3/etcdserverpb"
	"google.golang.org/grpc/status"
)

// volley sends -count requests by gRPC and then as many by HTTP/1.1, over -clients
// connections each. The first of ten puts KEY, the others are reads that a member
// answers alone. Nothing is sent again. It prints how many ended with which status,
// and what those said that were refused.
func (l *load) volley(ctx context.Context) error {
	e, err := newLoadEndpoint(l.url, l, newLedger())
	if err != nil {
		return err
	}
	return errors.Join(l.volleyBy(ctx, "grpc", e.grpcClient), l.volleyBy(ctx, "http", e.httpClient))
}

// shot is one request: a put or a read. It tells the status and what it said.
type shot func(ctx context.Context, put bool, key string) (status, text string)

func (l *load) volleyBy(ctx context.Context, kind string, connect func() (one shot, end func(), err error)) error {
	var all sync.WaitGroup
	var mu sync.Mutex
	ended, said, errs := map[string]int{}, map[string]bool{}, []error{}
	for range l.clients {
		all.Go(func() {
			one, end, err := connect()
			if err != nil {
				mu.Lock()
				defer mu.Unlock()
				errs = append(errs, err)
				return
			}
			defer end()
			for n := range l.count / l.clients {
				limited, cancel := context.WithTimeout(ctx, oneRequest)
				status, text := one(limited, n%10 == 0, l.args[0])
				cancel()
				mu.Lock()
				ended[status]++
				if text != "" {
					said[text] = true
				}
				mu.Unlock()
			}
		})
	}
	all.Wait()
	for _, status := range slices.Sorted(maps.Keys(ended)) {
		fmt.Println(kind, status, ended[status])
	}
	for _, text := range slices.Sorted(maps.Keys(said)) {
		fmt.Println(kind, "said", text)
	}
	return errors.Join(errs...)
}

func (e *loadEndpoint) grpcClient() (shot, func(), error) {
	conn, err := e.conn()
	if err != nil {
		return nil, nil, err
	}
	kv := etcdserverpb.NewKVClient(conn)
	return func(ctx context.Context, put bool, key string) (string, string) {
		var err error
		if put {
			_, err = kv.Put(ctx, &etcdserverpb.PutRequest{Key: []byte(key), Value: []byte("x")})
		} else {
			_, err = kv.Range(ctx, &etcdserverpb.RangeRequest{Key: []byte(key), Serializable: true})
		}
		return status.Code(err).String(), status.Convert(err).Message()
	}, func() { _ = conn.Close() }, nil
}

func (e *loadEndpoint) httpClient() (shot, func(), error) {
	transport := &http.Transport{
		MaxConnsPerHost: 1,
		DialContext:     func(ctx context.Context, _, address string) (net.Conn, error) { return e.dial(ctx, address) },
	}
	return func(ctx context.Context, put bool, key string) (string, string) {
		method, path, body := http.MethodGet, "/version", ""
		if put {
			method, path, body = http.MethodPost, "/v3/kv/put", fmt.Sprintf(`{"key":"%s","value":"eA=="}`, encode(key))
		}
		req, err := http.NewRequestWithContext(ctx, method, "http://localhost"+path, strings.NewReader(body))
		if err != nil {
			return "unsent", err.Error()
		}
		res, err := transport.RoundTrip(req)
		if err != nil {
			return "broken", err.Error()
		}
		defer res.Body.Close()
		text, err := io.ReadAll(res.Body)
		switch {
		case err != nil:
			return "broken", err.Error()
		case res.StatusCode == http.StatusOK:
			text = nil
		}
		return fmt.Sprint(res.StatusCode), string(text)
	}, transport.CloseIdleConnections, nil
}
