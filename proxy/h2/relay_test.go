package h2

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/url"
	"sync"
	"testing"
	"time"

	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"
	"go.etcd.io/etcd/server/v3/embed"
	"go.uber.org/zap"

	"etcdops/proxy/director"
	"etcdops/proxy/policy"
	"etcdops/proxy/socket"
	"etcdops/proxy/stats"
)

// startEtcd runs a one-member cluster in this process and returns its client URL.
func startEtcd(t *testing.T) string {
	t.Helper()
	cfg := embed.NewConfig()
	cfg.Dir = t.TempDir()
	cfg.LogLevel = "fatal"
	cfg.UnsafeNoFsync = true
	cfg.MaxRequestBytes = 64 << 20
	client, peer := freeURL(t), freeURL(t)
	cfg.ListenClientUrls, cfg.AdvertiseClientUrls = []url.URL{client}, []url.URL{client}
	cfg.ListenPeerUrls, cfg.AdvertisePeerUrls = []url.URL{peer}, []url.URL{peer}
	cfg.InitialCluster = cfg.InitialClusterFromName(cfg.Name)
	e, err := embed.StartEtcd(cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(e.Close)
	select {
	case <-e.Server.ReadyNotify():
	case <-time.After(20 * time.Second):
		t.Fatal("etcd not ready in 20 s")
	}
	return client.String()
}

func freeURL(t *testing.T) url.URL {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return url.URL{Scheme: "http", Host: l.Addr().String()}
}

// rig is a relay with a listener, in front of the given client URLs.
type rig struct {
	relay    *Relay
	director *director.Director
	addr     string
	stop     func()
}

func startRig(t *testing.T, urls ...string) *rig {
	t.Helper()
	return startRigWith(t, nil, urls...)
}

// startRigWith lets change set the relay's fields.
func startRigWith(t *testing.T, change func(r *Relay), urls ...string) *rig {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	log := slog.New(slog.NewTextHandler(testWriter{t}, &slog.HandlerOptions{Level: slog.LevelDebug}))
	d := &director.Director{DialTimeout: time.Second, FailureWait: 200 * time.Millisecond, Logger: log}
	r := &Relay{Director: d, Instance: policy.NewInstance(), DialTimeout: time.Second, Stats: &Stats{}, Refusals: &stats.Refusals{}, Retries: &stats.Retries{}, Answers: &stats.Answers{}, Logger: log}
	d.OnDown, d.OnLeft = r.EndpointDown, r.EndpointLeft
	if change != nil {
		change(r)
	}
	var wg sync.WaitGroup
	for _, run := range []func(context.Context, chan<- struct{}){d.Run, r.Run} {
		ready := make(chan struct{})
		wg.Go(func() { run(ctx, ready) })
		<-ready
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	wg.Go(func() {
		for {
			nc, err := l.Accept()
			if err != nil {
				return
			}
			wg.Go(func() {
				c, err := socket.New(nc, nil)
				if err != nil {
					panic(err)
				}
				first := make([]byte, len(Preface))
				for n := 0; n < len(first); {
					k, err := c.Read(first[n:])
					if err != nil {
						nc.Close()
						return
					}
					n += k
				}
				r.Serve(ctx, c, first)
			})
		}
	})
	members := []director.Member{}
	for i, u := range urls {
		members = append(members, director.Member{ID: uint64(i + 1), Name: fmt.Sprintf("m%d", i+1), ClientURLs: []string{u}})
	}
	d.Update(members)
	var once sync.Once
	stop := func() { once.Do(func() { cancel(); l.Close(); wg.Wait() }) }
	t.Cleanup(stop)
	return &rig{r, d, l.Addr().String(), stop}
}

type testWriter struct{ t *testing.T }

func (w testWriter) Write(p []byte) (int, error) {
	if testing.Verbose() {
		w.t.Output().Write(p)
	}
	return len(p), nil
}

func newClient(t *testing.T, addr string) *clientv3.Client {
	t.Helper()
	c, err := clientv3.New(clientv3.Config{
		Endpoints: []string{"http://" + addr}, DialTimeout: 5 * time.Second, Logger: zap.NewNop(),
		MaxCallSendMsgSize: 80 << 20, MaxCallRecvMsgSize: 80 << 20,
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return c
}

func TestRealEtcd(t *testing.T) {
	r := startRig(t, startEtcd(t))
	c := newClient(t, r.addr)
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()

	t.Run("put and get", func(t *testing.T) {
		if _, err := c.Put(ctx, "a", "1"); err != nil {
			t.Fatal(err)
		}
		res, err := c.Get(ctx, "a")
		if err != nil || string(res.Kvs[0].Value) != "1" {
			t.Fatal(res, err)
		}
	})
	t.Run("error trailers", func(t *testing.T) {
		_, err := c.Put(ctx, "", "x")
		if err == nil || err.Error() != "etcdserver: key is not provided" {
			t.Fatalf("got %v", err)
		}
	})
	t.Run("watch", func(t *testing.T) {
		wctx, cancel := context.WithCancel(ctx)
		defer cancel()
		w := c.Watch(wctx, "w", clientv3.WithCreatedNotify())
		<-w
		if _, err := c.Put(ctx, "w", "2"); err != nil {
			t.Fatal(err)
		}
		if ev := <-w; string(ev.Events[0].Kv.Value) != "2" {
			t.Fatal(ev)
		}
	})
	t.Run("lease", func(t *testing.T) {
		l, err := c.Grant(ctx, 60)
		if err != nil {
			t.Fatal(err)
		}
		if ka, err := c.KeepAliveOnce(ctx, l.ID); err != nil || ka.TTL != 60 {
			t.Fatal(ka, err)
		}
	})
	t.Run("big value both ways", func(t *testing.T) {
		v := bytes.Repeat([]byte("0123456789abcdef"), 63<<16) // 63 MiB: with the rest of it, a message of 64
		_, err := c.Put(ctx, "big", string(v))
		for errors.Is(err, rpctypes.ErrTimeout) { // etcd with the race detector on a slow machine
			_, err = c.Put(ctx, "big", string(v))
		}
		if err != nil {
			t.Fatal(err)
		}
		res, err := c.Get(ctx, "big")
		if err != nil || !bytes.Equal(res.Kvs[0].Value, v) {
			t.Fatal("value differs", err)
		}
	})
	t.Run("many at once", func(t *testing.T) {
		var wg sync.WaitGroup
		for i := range 50 {
			wg.Go(func() {
				for j := range 20 {
					k := fmt.Sprintf("k%d-%d", i, j)
					if _, err := c.Put(ctx, k, k); err != nil {
						t.Error(err)
						return
					}
					if res, err := c.Get(ctx, k); err != nil || len(res.Kvs) != 1 || string(res.Kvs[0].Value) != k {
						t.Error(res, err)
						return
					}
				}
			})
		}
		wg.Wait()
	})
}
