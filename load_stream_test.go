package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"slices"

	"go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/server/v3/etcdserver/api/v3lock/v3lockpb"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"
)

// fewest and most are how many of 300 new connections each of three members
// may get; the figures scale with the count.
const (
	spreadOf = 300
	fewest   = 70
	most     = 130
)

// spread holds all connections until the end: those that end at once would say
// nothing about the choice by load.
func (l *load) spread(ctx context.Context) error {
	reached := map[string]int{}
	for range l.count {
		ask := l.memberByGRPC
		if l.http {
			ask = l.memberByHTTP
		}
		id, hangUp, err := ask(ctx)
		if err != nil {
			return err
		}
		defer hangUp()
		reached[id]++
	}
	for _, id := range slices.Sorted(maps.Keys(reached)) {
		fmt.Printf("member %s: %d\n", id, reached[id])
		if n := reached[id] * spreadOf; n < fewest*l.count || n > most*l.count {
			return fmt.Errorf("member %s got %d of %d connections", id, reached[id], l.count)
		}
	}
	fmt.Printf("%d members reached\n", len(reached))
	return nil
}

func (l *load) dial() (*grpc.ClientConn, error) {
	return grpc.NewClient("passthrough:///"+host(l.url), grpc.WithTransportCredentials(insecure.NewCredentials()))
}

func (l *load) memberByGRPC(ctx context.Context) (id string, hangUp func(), err error) {
	conn, err := l.dial()
	if err != nil {
		return "", nil, err
	}
	hangUp = func() { _ = conn.Close() }
	res, err := etcdserverpb.NewMaintenanceClient(conn).Status(ctx, &etcdserverpb.StatusRequest{})
	if err != nil {
		return "", nil, err
	}
	return fmt.Sprint(res.Header.MemberId), hangUp, nil
}

func (l *load) memberByHTTP(ctx context.Context) (id string, hangUp func(), err error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, l.url+"/v3/maintenance/status", bytes.NewReader([]byte("{}")))
	if err != nil {
		return "", nil, err
	}
	transport := &http.Transport{}
	res, err := transport.RoundTrip(req)
	if err != nil {
		return "", nil, err
	}
	defer res.Body.Close()
	var answer struct {
		Header struct {
			MemberID string `json:"member_id"`
		}
	}
	if err := json.NewDecoder(res.Body).Decode(&answer); err != nil {
		return "", nil, fmt.Errorf("read answer with status %s: %w", res.Status, err)
	}
	return answer.Header.MemberID, transport.CloseIdleConnections, nil
}

// watch is etcd's stream as it stands: clientv3 would resume it and hide how it
// ends.
func (l *load) watch(ctx context.Context) error {
	conn, err := l.dial()
	if err != nil {
		return err
	}
	defer conn.Close()
	stream, err := etcdserverpb.NewWatchClient(conn).Watch(ctx)
	if err != nil {
		return err
	}
	err = stream.Send(&etcdserverpb.WatchRequest{RequestUnion: &etcdserverpb.WatchRequest_CreateRequest{
		CreateRequest: &etcdserverpb.WatchCreateRequest{Key: []byte(l.args[0])},
	}})
	if err != nil && !errors.Is(err, io.EOF) { // EOF: it has ended, Recv knows why
		return err
	}
	for {
		res, err := stream.Recv()
		if err != nil {
			fmt.Printf("ended: %s: %s\n", status.Code(err), status.Convert(err).Message())
			return nil
		}
		if res.Created {
			fmt.Println("watching")
		}
		for _, e := range res.Events {
			fmt.Printf("event: %s %s=%s\n", e.Type, e.Kv.Key, e.Kv.Value)
		}
	}
}

func (l *load) lock(ctx context.Context) error {
	conn, err := l.dial()
	if err != nil {
		return err
	}
	defer conn.Close()
	res, err := v3lockpb.NewLockClient(conn).Lock(ctx, &v3lockpb.LockRequest{Name: []byte(l.args[0])})
	if err != nil {
		return err
	}
	fmt.Printf("locked %s\n", res.Key)
	return nil
}
