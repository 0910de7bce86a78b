package h2

import (
	"fmt"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/net/http2"

	"etcdops/proxy/director"
	"etcdops/proxy/policy"
)

// untilData waits for the request's message, so that all of it has arrived.
func untilData(p *peer, id uint32) {
	for f := p.next(); f != nil; f = p.next() {
		if d, ok := f.(*http2.DataFrame); ok && d.StreamID == id && d.StreamEnded() {
			return
		}
	}
}

func members(list ...*fakeMember) []director.Member {
	var out []director.Member
	for i, m := range list {
		out = append(out, director.Member{ID: uint64(i + 1), Name: fmt.Sprintf("m%d", i+1), ClientURLs: []string{m.url}})
	}
	return out
}

// stickTo returns a client connection that sticks to the first member, because
// a watch is open there, while the others are in the list as well.
func stickTo(t *testing.T, r *rig, first *fakeMember, others ...*fakeMember) *testClient {
	t.Helper()
	c := dialRig(t, r.addr)
	c.open(pathWatch, true)
	waitFor(t, "the watch has arrived", func() bool { return first.count(pathWatch) == 1 })
	r.director.Update(members(append([]*fakeMember{first}, others...)...))
	return c
}

func waitFor(t *testing.T, what string, so func() bool) {
	t.Helper()
	for limit := time.Now().Add(20 * time.Second); !so(); time.Sleep(time.Millisecond) { // between two looks
		if time.Now().After(limit) {
			t.Fatalf("not so after 20 s: %s", what)
		}
	}
}

// TestLawOne walks the table in doc.go: the first member misbehaves, the second
// is good.
func TestLawOne(t *testing.T) {
	drop := func(p *peer, id uint32) { untilData(p, id); p.nc.Close() }
	refuse := func(p *peer, id uint32) { _ = p.fr.WriteRSTStream(id, http2.ErrCodeRefusedStream) }
	goAway := func(p *peer, id uint32) {
		_ = p.fr.WriteGoAway(maxStreamID, http2.ErrCodeNo, nil)
		_ = p.fr.WriteGoAway(id-1, http2.ErrCodeNo, nil)
	}
	begun := func(p *peer, id uint32) {
		untilData(p, id)
		p.headers(id, false, ":status", "200", "content-type", "application/grpc")
		p.data(id, false, make([]byte, 10))
		p.nc.Close()
	}
	graceful := func(p *peer, id uint32) {
		_ = p.fr.WriteGoAway(maxStreamID, http2.ErrCodeNo, nil)
		p.answer(id)
	}
	reset := func(p *peer, id uint32) { _ = p.fr.WriteRSTStream(id, http2.ErrCodeEnhanceYourCalm) }
	trailersOnly := func(p *peer, id uint32) {
		p.headers(id, true, ":status", "200", "content-type", "application/grpc", "grpc-status", "14", "grpc-message", "etcdserver: no leader")
	}

	cases := []struct {
		name   string
		first  func(p *peer, id uint32)
		path   string
		status string // of gRPC; empty: RST_STREAM
		text   string // in grpc-message
		second int    // how often the good member got it
	}{
		{"read, lost before the answer", drop, pathRange, "0", "", 1},
		{"write, lost before the answer", drop, pathPut, "14", "outcome unknown", 0},
		{"read refused", refuse, pathRange, "0", "", 1},
		{"write refused", refuse, pathPut, "0", "", 1},
		{"read above the final GOAWAY", goAway, pathRange, "0", "", 1},
		{"write above the final GOAWAY", goAway, pathPut, "0", "", 1},
		{"read, lost in the answer", begun, pathRange, "14", "lost member", 0},
		{"write, lost in the answer", begun, pathPut, "14", "outcome unknown", 0},
		{"read during a graceful GOAWAY", graceful, pathRange, "0", "", 0},
		{"write during a graceful GOAWAY", graceful, pathPut, "0", "", 0},
		{"read reset by the member", reset, pathRange, "", "", 0},
		{"write reset by the member", reset, pathPut, "", "", 0},
		{"the member's own UNAVAILABLE", trailersOnly, pathPut, "14", "etcdserver: no leader", 0},
	}
	for _, tc := range cases {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			bad, good := startMember(t, behave(tc.first)), startMember(t, behave(nil))
			r := startRig(t, bad.url)
			c := stickTo(t, r, bad, good)
			bad.armed.Store(true)
			o := c.wait(c.open(tc.path, false))
			switch {
			case o.gone:
				t.Fatal("the connection ended")
			case tc.status == "":
				if !o.wasRST || o.reset != http2.ErrCodeEnhanceYourCalm {
					t.Fatalf("got %+v, want the member's RST_STREAM", o)
				}
			case o.wasRST, o.fields["grpc-status"] != tc.status, !strings.Contains(o.fields["grpc-message"], tc.text):
				t.Fatalf("got %+v, want status %s with %q", o, tc.status, tc.text)
			case o.fields["grpc-message"] == safeToRetry:
				t.Fatal("a request that was sent is called safe to retry")
			}
			if bad.count(tc.path) != 1 || good.count(tc.path) != tc.second {
				t.Fatalf("members saw %d and %d requests, want 1 and %d", bad.count(tc.path), good.count(tc.path), tc.second)
			}
		})
	}
}

// A trailers-only answer stays one HEADERS frame with END_STREAM.
func TestTrailersOnlyStaysOneFrame(t *testing.T) {
	m := startMember(t, behave(func(p *peer, id uint32) {
		p.headers(id, true, ":status", "200", "content-type", "application/grpc", "grpc-status", "3", "grpc-message", "x")
	}))
	m.armed.Store(true)
	c := dialRig(t, startRig(t, m.url).addr)
	if o := c.wait(c.open(pathPut, false)); o.blocks != 1 || o.data != 0 || o.wasRST || o.fields["grpc-status"] != "3" {
		t.Fatalf("got %+v", o)
	}
}

func TestNobodyLeft(t *testing.T) {
	dead, none := freeURL(t), startMember(t, behave(nil), first(http2.Setting{ID: http2.SettingMaxConcurrentStreams, Val: 0}))
	for _, tc := range []struct {
		name string
		urls []string
	}{
		{"no member is known", nil},
		{"nobody listens", []string{dead.String()}},
		{"no SETTINGS come", []string{startMute(t)}},
		{"no streams are offered", []string{none.url}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			c := dialRig(t, startRig(t, tc.urls...).addr)
			o := c.wait(c.open(pathPut, false))
			if o.fields["grpc-status"] != "14" || o.fields["grpc-message"] != safeToRetry {
				t.Fatalf("got %+v, want exactly the text that clientv3 retries on", o)
			}
		})
	}
}

// A member that can't be dialled, sends no SETTINGS or has no slot free gets no
// request: the next one does, once, a write too.
func TestNoConnectionNoRequest(t *testing.T) {
	dead, none := freeURL(t), startMember(t, behave(nil), first(http2.Setting{ID: http2.SettingMaxConcurrentStreams, Val: 0}))
	for name, bad := range map[string]string{
		"nobody listens": dead.String(), "no SETTINGS come": startMute(t), "no streams are offered": none.url,
	} {
		t.Run(name, func(t *testing.T) {
			good := startMember(t, behave(nil))
			r := startRig(t, bad, good.url)
			for range 4 { // two of them choose the bad one first
				c := dialRig(t, r.addr)
				if o := c.wait(c.open(pathPut, false)); o.fields["grpc-status"] != "0" {
					t.Fatalf("got %+v", o)
				}
			}
			if good.count(pathPut) != 4 || none.count(pathPut) > 0 {
				t.Fatalf("the good member saw %d of 4 writes, the bad one %d", good.count(pathPut), none.count(pathPut))
			}
		})
	}
}

// What was never given to write may go to another member, a write too. Where there
// was no room to keep it, its client is told that it is safe to try again.
func TestUnsentWriteGoesOn(t *testing.T) {
	t.Run("kept", func(t *testing.T) { unsentWrite(t, true) })
	t.Run("not kept", func(t *testing.T) { unsentWrite(t, false) })
}

func unsentWrite(t *testing.T, kept bool) {
	released := make(chan struct{})
	stuck := startMember(t, func(m *fakeMember, p *peer) {
		_ = p.nc.(*net.TCPConn).SetReadBuffer(16 << 10) // else the kernel makes room now and then
		for fr := p.next(); fr != nil; fr = p.next() {
			if h, ok := fr.(*http2.MetaHeadersFrame); ok {
				m.saw(h)
			}
			if m.armed.Load() {
				<-released
				p.nc.Close()
				return
			}
		}
	})
	release := sync.OnceFunc(func() { close(released) })
	t.Cleanup(release)
	good := startMember(t, behave(nil))
	r := startRig(t, stuck.url)
	c := stickTo(t, r, stuck, good)
	stuck.armed.Store(true)
	// Fill the way to the member with heads, which no window holds back, until the
	// kernel takes no more.
	big := strings.Repeat("x", 15000)
	sent := int64(1)
	for !anyPending(r) {
		if sent++; sent > 4000 {
			t.Fatal("the kernel took 60 MB")
		}
		c.open("/etcdserverpb.Lease/LeaseKeepAlive", true, "token", big)
		waitFor(t, "the head has reached the relay", func() bool { return r.relay.Stats.Requests.Load() == sent })
	}
	if !kept {
		policy.Kept.Add(policy.KeptLimit)
		defer policy.Kept.Add(-policy.KeptLimit)
	}
	id := c.open(pathPut, false)
	_ = c.fr.WritePing(false, [8]byte{}) // answered behind the data
	waitForPong(c)
	release()
	o := c.wait(id)
	if want := map[bool]string{true: "0", false: "14"}[kept]; o.fields["grpc-status"] != want || !kept && o.fields["grpc-message"] != safeToRetry {
		t.Fatalf("got %+v", o)
	}
	if want := map[bool]int{true: 1, false: 0}[kept]; good.count(pathPut) != want {
		t.Fatalf("the good member saw %d writes", good.count(pathPut))
	}
}

func waitForPong(c *testClient) {
	for {
		f, err := c.fr.ReadFrame()
		if err != nil {
			c.t.Fatal(err)
		}
		if p, ok := f.(*http2.PingFrame); ok && p.IsAck() {
			return
		}
	}
}

// anyPending says whether a member connection has frames that were not given to
// write, and goes on having them: the kernel's buffers grow for a while.
func anyPending(r *rig) bool {
	held := func() bool {
		for _, p := range r.relay.poolList() {
			for _, m := range p.list() {
				m.mu.Lock()
				n := len(m.out)
				m.mu.Unlock()
				if n > 0 {
					return true
				}
			}
		}
		return false
	}
	for limit := time.Now().Add(300 * time.Millisecond); time.Now().Before(limit); time.Sleep(5 * time.Millisecond) {
		if !held() {
			return false
		}
	}
	return true
}

// A member that leaves the cluster gets nothing new; what it has goes on to its end,
// and its connection with it.
func TestMemberThatLeft(t *testing.T) {
	held := make(chan func(), 1) // answers the request that arrived
	old := startMember(t, behave(func(p *peer, id uint32) { held <- func() { p.answer(id) } }))
	good := startMember(t, behave(nil))
	r := startRig(t, old.url)
	c := stickTo(t, r, old, good)
	old.armed.Store(true)
	underWay := c.open(pathPut, false)
	finish := <-held
	r.director.Update(members(good))
	if o := c.wait(c.open(pathPut, false)); o.fields["grpc-status"] != "0" || good.count(pathPut) != 1 {
		t.Fatalf("got %+v", o)
	}
	finish()
	if o := c.wait(underWay); o.fields["grpc-status"] != "0" {
		t.Fatalf("what was under way: %+v", o)
	}
	connections := func() (n int) {
		for e, count := range r.relay.MemberConnections() {
			if e.URL == old.url {
				n += count
			}
		}
		return n
	}
	waitFor(t, "all but the connection with the open watch have ended", func() bool { return connections() == 1 })
	if n := memberStreams(r.relay); n != 1 {
		t.Fatalf("%d streams, want the watch", n)
	}
	const watch = 1 // stickTo's
	_ = c.fr.WriteRSTStream(watch, http2.ErrCodeCancel)
	waitFor(t, "the connection ends with its last stream", func() bool { return connections() == 0 })
}
