package h2

import (
	"context"
	"fmt"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/Shopify/toxiproxy/v2"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/rs/zerolog"
	clientv3 "go.etcd.io/etcd/client/v3"
)

const (
	linkRoundTrip = 50 * time.Millisecond
	linkSpeed     = 16 << 10 // KiB a second: a link that is slower than the race detector
	linkKeys      = 64
	linkValue     = 1 << 20
)

// startLink is a way to an address that takes half of linkRoundTrip and linkSpeed in
// each direction. It returns the address of its near end.
func startLink(t *testing.T, upstream string) string {
	t.Helper()
	server := toxiproxy.NewServer(toxiproxy.NewMetricsContainer(prometheus.NewRegistry()), zerolog.Nop())
	link := toxiproxy.NewProxy(server, t.Name(), "127.0.0.1:0", upstream)
	for _, stream := range []string{"upstream", "downstream"} {
		for _, toxic := range []string{
			fmt.Sprintf(`{"type":"latency","stream":%q,"attributes":{"latency":%d}}`, stream, linkRoundTrip.Milliseconds()/2),
			fmt.Sprintf(`{"type":"bandwidth","stream":%q,"attributes":{"rate":%d}}`, stream, linkSpeed),
		} {
			if _, err := link.Toxics.AddToxicJson(strings.NewReader(toxic)); err != nil {
				t.Fatal(err)
			}
		}
	}
	if err := link.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(link.Stop)
	return link.Listen
}

// leastOfDirect is the share of a direct connection's throughput that is to be
// reached.
const leastOfDirect = 0.8

// A big answer by a long link, on either side of us, comes about as fast as directly
// by the same link: windows grow where they are what holds it up.
func TestLongLink(t *testing.T) {
	member := startEtcd(t)
	u, err := url.Parse(member)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Minute)
	defer cancel()
	filler, value := newClient(t, u.Host), strings.Repeat("v", linkValue)
	for i := range linkKeys {
		if _, err := filler.Put(ctx, fmt.Sprintf("big/%d", i), value); err != nil {
			t.Fatal(err)
		}
	}
	far := startRig(t, "http://"+startLink(t, u.Host))
	ends := []struct{ name, addr string }{
		{"direct", startLink(t, u.Host)},
		{"link to the client", startLink(t, startRig(t, member).addr)},
		{"link to the member", far.addr},
	}
	best := make([]time.Duration, len(ends))
	for round := range 3 {
		good := true
		for i, e := range ends {
			c := newClient(t, e.addr) // a new connection has to find out how long the link is
			began := time.Now()
			res, err := c.Get(ctx, "big/", clientv3.WithPrefix())
			if err != nil || len(res.Kvs) != linkKeys {
				t.Fatal(e.name, err)
			}
			if took := time.Since(began); best[i] == 0 || took < best[i] {
				best[i] = took
			}
			share := best[0].Seconds() / best[i].Seconds()
			t.Logf("%s: %v, %.2f of direct's throughput", e.name, best[i], share)
			good = good && share >= leastOfDirect
			if err := c.Close(); err != nil {
				t.Fatal(err)
			}
		}
		if good {
			break
		}
		if round == 2 {
			t.Errorf("less than %v of direct's throughput", leastOfDirect)
		}
	}
	for _, m := range far.relay.poolList()[0].list() {
		m.mu.Lock()
		trip, learned := m.path.trip, m.path.learned
		m.mu.Unlock()
		if least := linkSpeed << 10 * int64(linkRoundTrip) / int64(time.Second); trip < linkRoundTrip || learned != 0 && learned < least || learned > maxStreamWindow {
			t.Errorf("a round trip is taken for %v, %d bytes of window for enough", trip, learned)
		}
	}
}
