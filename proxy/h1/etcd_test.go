package h1

import (
	"encoding/json"
	"fmt"
	"net/url"
	"os"
	"strings"
	"testing"
	"time"

	"go.etcd.io/etcd/server/v3/embed"
)

// startEtcd runs a real member in this process.
func startEtcd(t *testing.T) string {
	t.Helper()
	cfg := embed.NewConfig()
	cfg.Dir = t.TempDir()
	cfg.LogLevel = "fatal"
	cfg.UnsafeNoFsync = true
	// Its gateway dials the URL as configured, so a drawn port would not do: this
	// process has a loopback address of its own.
	host := fmt.Sprintf("127.%d.200.1", 1+os.Getpid()%250)
	client, peer := []url.URL{{Scheme: "http", Host: host + ":2379"}}, []url.URL{{Scheme: "http", Host: host + ":2380"}}
	cfg.ListenClientUrls, cfg.AdvertiseClientUrls = client, client
	cfg.ListenPeerUrls, cfg.AdvertisePeerUrls = peer, peer
	cfg.InitialCluster = cfg.InitialClusterFromName(cfg.Name)
	e, err := embed.StartEtcd(cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(e.Close)
	waitFor(t, "etcd is ready", e.Server.ReadyNotify())
	return client[0].String()
}

func jsonCall(path, body string) string {
	return fmt.Sprintf("POST %s HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\n\r\n%s", path, len(body), body)
}

func TestRealEtcd(t *testing.T) {
	g := newRig(t, nil, startEtcd(t))

	watch := g.dial(t)
	watch.send(jsonCall("/v3/watch", `{"create_request":{"key":"YQ=="}}`))
	events := json.NewDecoder(watch.head("POST").Body)
	type message struct {
		Result struct {
			Created bool `json:"created"`
			Events  []struct {
				KV struct {
					Value string `json:"value"`
				} `json:"kv"`
			} `json:"events"`
		} `json:"result"`
	}
	next := func() (m message) {
		if err := events.Decode(&m); err != nil {
			t.Fatal(err)
		}
		return m
	}
	if !next().Result.Created {
		t.Fatal("no watch")
	}

	c := g.dial(t)
	best := patience
	for i := range 3 { // a busy machine may stand still once
		start := time.Now()
		c.expect(jsonCall("/v3/kv/put", fmt.Sprintf(`{"key":"YQ==","value":"djE%d"}`, i)), 200, "revision")
		if m := next(); len(m.Result.Events) != 1 || m.Result.Events[0].KV.Value != fmt.Sprintf("djE%d", i) {
			t.Errorf("%+v", m)
		}
		best = min(best, time.Since(start))
		c.expect(jsonCall("/v3/kv/range", `{"key":"YQ=="}`), 200, fmt.Sprintf(`"value":"djE%d"`, i))
	}
	if best > time.Second {
		t.Errorf("an event took %v", best)
	}
	c.expect("GET /health HTTP/1.1\r\nHost: a\r\n\r\n", 200, "true")
	c.expect("GET /version HTTP/1.1\r\nHost: a\r\n\r\n", 200, "etcdserver")
	c.expect("GET /v2/keys/a HTTP/1.1\r\nHost: a\r\n\r\n", 404, "")
	c.expect(jsonCall("/v3/kv/put", "nonsense"), 400, "")

	// A value of 1 MiB there and back.
	big := strings.Repeat("QUJD", 1<<18)
	c.expect(jsonCall("/v3/kv/put", `{"key":"Yg==","value":"`+big+`"}`), 200, "revision")
	c.expect(jsonCall("/v3/kv/range", `{"key":"Yg=="}`), 200, big)
	if r := g.relay; r.Stats.Failed.Load()+r.Retries.Total()+r.Refusals.Total() != 0 {
		t.Errorf("failed %d, retried %d, refused %d", r.Stats.Failed.Load(), r.Retries.Total(), r.Refusals.Total())
	}
}
