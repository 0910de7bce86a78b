package h2

import (
	"context"
	"strings"
	"testing"
	"time"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"etcdops/proxy/director"
	"etcdops/proxy/policy"
)

// A request that comes back to us is refused at its first return.
func TestLoopIsRefused(t *testing.T) {
	r := startRig(t)
	r.director.Update(members(&fakeMember{url: "http://" + r.addr}))
	c := dialRig(t, r.addr)
	for n := int64(1); n <= 3; n++ {
		o := c.wait(c.open(pathPut, false))
		if o.fields["grpc-status"] != "9" || !strings.Contains(o.fields["grpc-message"], "came back") {
			t.Fatalf("got %+v", o)
		}
		if got := r.relay.Stats.Requests.Load(); got != 2*n {
			t.Fatalf("%d requests were %d", n, got)
		}
	}
}

// The same, with another proxy between.
func TestLoopOverAnotherProxy(t *testing.T) {
	one, two := startRig(t), startRig(t)
	one.director.Update(members(&fakeMember{url: "http://" + two.addr}))
	two.director.Update(members(&fakeMember{url: "http://" + one.addr}))
	c := dialRig(t, one.addr)
	for n := int64(1); n <= 3; n++ {
		if o := c.wait(c.open(pathPut, false)); o.fields["grpc-status"] != "9" || !strings.Contains(o.fields["grpc-message"], "came back") {
			t.Fatalf("got %+v", o)
		}
		if a, b := one.relay.Stats.Requests.Load(), two.relay.Stats.Requests.Load(); a != 2*n || b != n {
			t.Fatalf("%d requests were %d at the first proxy and %d at the second", n, a, b)
		}
	}
}

// TestLoopGoesOn walks the rows of doc.go on loops: what a member answers with our
// refusal goes on to another one, a write too, and the next ones go there at once.
func TestLoopGoesOn(t *testing.T) {
	var instance policy.Instance
	refuse := func(p *peer, id uint32) {
		p.headers(id, true, ":status", "200", "content-type", "application/grpc", "grpc-status", "9", "proxy-status", instance.Refusal())
	}
	for name, path := range map[string]string{"read": pathRange, "write": pathPut} {
		t.Run(name, func(t *testing.T) {
			bad, good := startMember(t, behave(refuse)), startMember(t, behave(nil))
			r := startRig(t, bad.url)
			c := stickTo(t, r, bad, good)
			instance = r.relay.Instance
			bad.armed.Store(true)
			for range 3 {
				if o := c.wait(c.open(path, false)); o.fields["grpc-status"] != "0" || o.fields["proxy-status"] != "" {
					t.Fatalf("got %+v", o)
				}
			}
			if bad.count(path) != 1 || good.count(path) != 3 {
				t.Fatalf("members saw %d and %d requests", bad.count(path), good.count(path))
			}
		})
	}
	t.Run("a watch whose client still sends", func(t *testing.T) {
		bad, good := startMember(t, behave(refuse)), startMember(t, func(_ *fakeMember, p *peer) {
			for fr := p.next(); fr != nil; fr = p.next() {
				if d, ok := fr.(*http2.DataFrame); ok && d.StreamEnded() {
					p.answer(d.StreamID)
				}
			}
		})
		r := startRig(t, bad.url)
		c := stickTo(t, r, bad, good)
		instance = r.relay.Instance
		bad.armed.Store(true)
		id := c.open(pathWatch, true)
		waitFor(t, "it went on", func() bool { return r.relay.Retries.Total() == 1 })
		c.data(id, true, []byte{0, 0, 0, 0, 0})
		if o := c.wait(id); o.fields["grpc-status"] != "0" {
			t.Fatalf("got %+v", o)
		}
	})
	t.Run("another proxy's refusal is an answer", func(t *testing.T) {
		m := startMember(t, behave(refuse))
		r := startRig(t, m.url)
		instance = policy.NewInstance()
		m.armed.Store(true)
		c := dialRig(t, r.addr)
		if o := c.wait(c.open(pathPut, false)); o.fields["proxy-status"] != instance.Refusal() || !r.director.AnyUsable() {
			t.Fatalf("got %+v", o)
		}
	})
	t.Run("after the answer has begun it is no loop", func(t *testing.T) {
		m := startMember(t, behave(func(p *peer, id uint32) {
			p.headers(id, false, ":status", "200", "content-type", "application/grpc")
			p.headers(id, true, "grpc-status", "9", "proxy-status", instance.Refusal())
		}))
		r := startRig(t, m.url)
		instance = r.relay.Instance
		m.armed.Store(true)
		c := dialRig(t, r.addr)
		if o := c.wait(c.open(pathPut, false)); o.fields["grpc-status"] != "9" || o.blocks != 2 || !r.director.AnyUsable() {
			t.Fatalf("got %+v", o)
		}
	})
}

// What is too long to be kept can't go on by itself; clientv3 sends it again where
// somebody else is there.
func TestLoopOfALongRequest(t *testing.T) {
	value := strings.Repeat("x", 300<<10)
	put := func(r *rig) error {
		ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
		defer cancel()
		_, err := newClient(t, r.addr).Put(ctx, "foo", value)
		return err
	}
	r := startRig(t)
	self := &fakeMember{url: "http://" + r.addr}
	r.director.Update(members(self))
	if err := put(r); status.Code(err) != codes.FailedPrecondition {
		t.Fatalf("got %v", err)
	}
	r = startRig(t)
	self.url = "http://" + r.addr
	r.director.Update(members(self, &fakeMember{url: startEtcd(t)}))
	for n := range 4 {
		if err := put(r); err != nil {
			t.Fatalf("put %d: %v", n, err)
		}
	}
	kv, err := newClient(t, r.addr).Get(t.Context(), "foo")
	if err != nil || kv.Kvs[0].Version != 4 {
		t.Fatalf("%+v, %v", kv, err)
	}
}

// The question for the cluster's ID is put by a watch; the same field on another
// call changes nothing of it.
func TestClusterIsAskedByAWatchAlone(t *testing.T) {
	for path, asks := range map[string]bool{
		"/etcdserverpb.Watch/Watch": true, "/etcdserverpb.KV/Put": false, "/etcdserverpb.KV/Range": false,
	} {
		h, ok := parseRequest([]hpack.HeaderField{
			{Name: ":method", Value: "POST"},
			{Name: ":scheme", Value: "http"},
			{Name: ":path", Value: path},
			{Name: "content-type", Value: "application/grpc"},
			{Name: director.ClusterIDField, Value: "?"},
		}, "")
		if !ok || h.asksCluster != asks {
			t.Errorf("%s: %v, asks %v", path, ok, h.asksCluster)
		}
	}
}
