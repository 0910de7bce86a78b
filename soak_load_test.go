//go:build bench

package main

import (
	"bytes"
	"context"
	"crypto/tls"
	"encoding/base64"
	"fmt"
	"io"
	"maps"
	"math/rand/v2"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/zap"
)

const (
	// soakKeys are read and written.
	soakKeys = 1000
	// soakLife is how long a client keeps its connection at most.
	soakLife = 5 * time.Second
	// soakPause is the time between two requests of a client.
	soakPause = 10 * time.Millisecond
	// soakRequest bounds a request: a lost leader takes some seconds.
	soakRequest = 10 * time.Second
	// soakTogether is how many clients of each kind there are, and how many leavers.
	soakTogether = 8
	// soakBig values of 1 MiB are the answer that takes long.
	soakBig = 8
)

// soakTally counts requests by kind.
type soakTally struct {
	mu           sync.Mutex
	done, failed map[string]int
	errs         map[string]int // by text
}

// count notes a request; one that ended with the load counts as neither.
func (t *soakTally) count(ctx context.Context, kind string, err error) {
	if ctx.Err() != nil {
		return
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.done == nil {
		t.done, t.failed, t.errs = map[string]int{}, map[string]int{}, map[string]int{}
	}
	t.done[kind]++
	if err != nil {
		t.failed[kind]++
		t.errs[err.Error()]++
	}
}

func (t *soakTally) sums() (done, failed int) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for kind, n := range t.done {
		done, failed = done+n, failed+t.failed[kind]
	}
	return done, failed
}

func (t *soakTally) text() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	var b strings.Builder
	for _, kind := range slices.Sorted(maps.Keys(t.done)) {
		fmt.Fprintf(&b, "%s: %d, %d failed\n", kind, t.done[kind], t.failed[kind])
	}
	for _, text := range slices.Sorted(maps.Keys(t.errs)) {
		fmt.Fprintf(&b, "%6d × %s\n", t.errs[text], text)
	}
	return strings.TrimSuffix(b.String(), "\n")
}

// complaints names the kinds of requests of which too many have failed.
func (t *soakTally) complaints() (complaints []string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, kind := range []string{"range", "put", "txn", "lease", "watch", "big range", "JSON range", "JSON put", "leaver"} {
		if t.done[kind] == 0 || float64(t.failed[kind]) > max(soakFailed*float64(t.done[kind]), soakKills) {
			complaints = append(complaints, fmt.Sprintf("%s: %d of %d failed", kind, t.failed[kind], t.done[kind]))
		}
	}
	return complaints
}

// ownCertificate takes what --auto-tls has made.
func ownCertificate() *tls.Config { return &tls.Config{InsecureSkipVerify: true} }

func soakKey() string { return fmt.Sprintf("soak/%d", rand.IntN(soakKeys)) }

func (s *soak) fill(ctx context.Context) error {
	c, err := s.connect(s.clear)
	if err != nil {
		return err
	}
	defer c.Close()
	for n := range soakBig {
		if _, err := c.Put(ctx, fmt.Sprintf("%s%d", leaverBig, n), strings.Repeat("b", mib)); err != nil {
			return fmt.Errorf("put big value: %w", err)
		}
	}
	return nil
}

func (s *soak) connect(e *benchEnd) (*clientv3.Client, error) {
	scheme := "http://"
	if e.tls != nil {
		scheme = "https://"
	}
	return clientv3.New(clientv3.Config{
		Endpoints: []string{scheme + e.address}, TLS: e.tls, Logger: zap.NewNop(), MaxCallRecvMsgSize: 2 * soakBig * mib,
	})
}

// load starts all clients. They end with ctx.
func (s *soak) load(ctx context.Context, all *sync.WaitGroup) {
	for n := range soakTogether {
		end := []*benchEnd{s.clear, s.secure}[n%2]
		all.Go(func() { s.clients(ctx, end, s.calls) })
		all.Go(func() { s.clients(ctx, end, s.watches) })
		all.Go(func() { s.json(ctx, end) })
	}
	all.Go(func() { s.clients(ctx, s.clear, s.bigRanges) })
	come := &leavers{clear: s.clear.address, secure: s.secure.address, kinds: leaverKinds()}
	for n := range soakTogether {
		all.Go(func() {
			for i := n; ctx.Err() == nil; i++ {
				s.work.count(ctx, "leaver", come.one(ctx, i))
			}
		})
	}
}

// clients are gRPC clients one after the other, each for a while.
func (s *soak) clients(ctx context.Context, e *benchEnd, work func(ctx context.Context, c *clientv3.Client)) {
	for ctx.Err() == nil {
		c, err := s.connect(e)
		if err != nil {
			s.work.count(ctx, "client", err)
			return
		}
		life, end := context.WithTimeout(ctx, rand.N(soakLife))
		work(life, c)
		end()
		_ = c.Close()
	}
}

func (s *soak) calls(ctx context.Context, c *clientv3.Client) {
	kinds := map[string]func(ctx context.Context) error{
		"range": func(ctx context.Context) error {
			_, err := c.Get(ctx, soakKey())
			return err
		},
		"put": func(ctx context.Context) error {
			_, err := c.Put(ctx, soakKey(), strings.Repeat("v", 1+rand.IntN(4*kib)))
			return err
		},
		"txn": func(ctx context.Context) error {
			key := soakKey()
			_, err := c.Txn(ctx).If(clientv3.Compare(clientv3.Version(key), ">", 0)).
				Then(clientv3.OpGet(key)).Else(clientv3.OpPut(key, "x")).Commit()
			return err
		},
		"lease": func(ctx context.Context) error {
			lease, err := c.Grant(ctx, 60)
			if err == nil {
				_, err = c.Revoke(ctx, lease.ID)
			}
			return err
		},
	}
	for pause(ctx, soakPause) == nil {
		for kind, call := range kinds { // in any order
			one, cancel := context.WithTimeout(context.WithoutCancel(ctx), soakRequest)
			s.work.count(ctx, kind, call(one))
			cancel()
		}
	}
}

func (s *soak) watches(ctx context.Context, c *clientv3.Client) {
	for res := range c.Watch(ctx, "soak/", clientv3.WithPrefix()) {
		s.work.count(ctx, "watch", res.Err())
	}
}

func (s *soak) bigRanges(ctx context.Context, c *clientv3.Client) {
	for pause(ctx, time.Second) == nil {
		one, cancel := context.WithTimeout(context.WithoutCancel(ctx), soakRequest)
		res, err := c.Get(one, leaverBig, clientv3.WithPrefix())
		cancel()
		if err == nil && len(res.Kvs) != soakBig {
			err = fmt.Errorf("%d values instead of %d", len(res.Kvs), soakBig)
		}
		s.work.count(ctx, "big range", err)
	}
}

// json is clients of the JSON gateway one after the other.
func (s *soak) json(ctx context.Context, e *benchEnd) {
	scheme := "http://"
	if e.tls != nil {
		scheme = "https://"
	}
	for ctx.Err() == nil {
		transport := &http.Transport{TLSClientConfig: e.tls.Clone()}
		life, end := context.WithTimeout(ctx, rand.N(soakLife))
		for pause(life, soakPause) == nil {
			key := base64.StdEncoding.EncodeToString([]byte(soakKey()))
			s.work.count(life, "JSON range", post(life, transport, scheme+e.address+"/v3/kv/range", fmt.Sprintf(`{"key":%q}`, key)))
			s.work.count(life, "JSON put", post(life, transport, scheme+e.address+"/v3/kv/put", fmt.Sprintf(`{"key":%q,"value":"eA=="}`, key)))
		}
		end()
		transport.CloseIdleConnections()
	}
}

func post(ctx context.Context, transport *http.Transport, url, body string) error {
	ctx, cancel := context.WithTimeout(ctx, soakRequest)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, url, bytes.NewReader([]byte(body)))
	if err != nil {
		return err
	}
	res, err := transport.RoundTrip(req)
	if err != nil {
		return err
	}
	defer res.Body.Close()
	answer, err := io.ReadAll(res.Body)
	if err == nil && res.StatusCode != http.StatusOK {
		err = fmt.Errorf("%s: %s", res.Status, answer)
	}
	return err
}
