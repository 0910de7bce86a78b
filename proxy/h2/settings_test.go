package h2

import (
	"fmt"
	"strings"
	"sync"
	"testing"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"
)

// held is a member that answers when it is told to.
type held struct {
	*fakeMember
	requests chan heldRequest
	resets   sync.Map // codes by stream ID
}

type heldRequest struct {
	*peer
	id   uint32
	path string
}

// startHeld answers nothing by itself; it acknowledges SETTINGS and PING.
func startHeld(t *testing.T, change ...func(m *fakeMember)) *held {
	h := &held{requests: make(chan heldRequest, 100)}
	h.fakeMember = startMember(t, func(m *fakeMember, p *peer) {
		for fr := p.next(); fr != nil; fr = p.next() {
			switch f := fr.(type) {
			case *http2.MetaHeadersFrame:
				m.saw(f)
				h.requests <- heldRequest{p, f.StreamID, f.PseudoValue("path")}
			case *http2.RSTStreamFrame:
				h.resets.Store(f.StreamID, f.ErrCode)
			}
		}
	}, change...)
	return h
}

// cancelled waits until the member was told that a stream is of no use any more.
func (h *held) cancelled(t *testing.T, id uint32) {
	t.Helper()
	waitFor(t, "the member is told", func() bool {
		code, ok := h.resets.Load(id)
		return ok && code == http2.ErrCodeCancel
	})
}

// settle sends SETTINGS to the relay and waits until they count.
func (p *peer) settle(settings ...http2.Setting) {
	p.t.Helper()
	_ = p.fr.WriteSettings(settings...)
	for {
		f, err := p.fr.ReadFrame()
		if err != nil {
			p.t.Fatal(err)
		}
		if s, ok := f.(*http2.SettingsFrame); ok && s.IsAck() {
			return
		}
	}
}

// exactly reads DATA of any stream until n bytes are there, and no more come before the
// answer to a PING.
func (c *testClient) exactly(n int) {
	c.t.Helper()
	got := 0
	probe := func() {
		_ = c.fr.WritePing(false, [8]byte{9})
		for {
			f, err := c.fr.ReadFrame()
			if err != nil {
				c.t.Fatalf("after %d bytes of %d: %v", got, n, err)
			}
			switch f := f.(type) {
			case *http2.DataFrame:
				got += len(f.Data())
			case *http2.PingFrame:
				if f.IsAck() {
					return
				}
			}
		}
	}
	for got < n {
		probe()
	}
	probe()
	if got != n {
		c.t.Fatalf("%d bytes of DATA, not %d", got, n)
	}
}

// A window that a client makes smaller goes below 0, and has to come back above it
// (RFC 9113 section 6.9.2); streams that begin later have the new one.
func TestWindowMadeSmaller(t *testing.T) {
	h := startHeld(t)
	c := dialRig(t, startRig(t, h.url).addr)
	_ = c.fr.WriteWindowUpdate(0, 1<<20)
	c.settle(http2.Setting{ID: http2.SettingInitialWindowSize, Val: 20000})
	first := c.open(pathRange, false)
	req := <-h.requests
	req.headers(req.id, false, ":status", "200", "content-type", "application/grpc")
	for range 6 {
		req.data(req.id, false, make([]byte, 10000))
	}
	c.exactly(20000) // 40000 wait
	c.settle(http2.Setting{ID: http2.SettingInitialWindowSize, Val: 5000})
	c.exactly(0) // -15000
	_ = c.fr.WriteWindowUpdate(first, 15000)
	c.exactly(0) // 0
	_ = c.fr.WriteWindowUpdate(first, 1)
	c.exactly(1)
	c.settle(http2.Setting{ID: http2.SettingInitialWindowSize, Val: 15000})
	c.exactly(10000) // 29999 wait, 0
	c.open(pathRange, false)
	req2 := <-h.requests
	req2.headers(req2.id, false, ":status", "200", "content-type", "application/grpc")
	req2.data(req2.id, false, make([]byte, 16000))
	c.exactly(15000)
	c.settle(http2.Setting{ID: http2.SettingInitialWindowSize, Val: 0}, http2.Setting{ID: http2.SettingInitialWindowSize, Val: 17000})
	c.exactly(2000 + 1000)
	_ = c.fr.WriteWindowUpdate(first, 1<<20)
	c.exactly(27999)
	req.headers(req.id, true, "grpc-status", "0")
	req2.headers(req2.id, true, "grpc-status", "0")
	for ended := 0; ended < 2; {
		if h, ok := c.next().(*http2.MetaHeadersFrame); ok && h.StreamEnded() && valueOf(h.Fields, "grpc-status") == "0" {
			ended++
		} else {
			t.Fatalf("got %v", h)
		}
	}
}

// The same for a member's window, and what a client uploads.
func TestMembersWindowMadeSmaller(t *testing.T) {
	peers, sum := make(chan *peer, 1), make(chan int, 1)
	m := startMember(t, func(m *fakeMember, p *peer) {
		peers <- p
		n := 0
		for fr := p.next(); fr != nil; fr = p.next() {
			switch f := fr.(type) {
			case *http2.MetaHeadersFrame:
				m.saw(f)
			case *http2.DataFrame:
				if n += len(f.Data()); f.StreamEnded() {
					sum <- n
					p.answer(f.StreamID)
				}
			}
		}
	}, first(http2.Setting{ID: http2.SettingInitialWindowSize, Val: 20000}))
	r := startRig(t, m.url)
	c := dialRig(t, r.addr)
	id := c.open(pathPut, true)
	waitFor(t, "it has arrived", func() bool { return m.count(pathPut) == 1 })
	p, mc := <-peers, r.relay.poolList()[0].list()[0]
	for range 4 {
		c.data(id, false, make([]byte, 10000))
	}
	for _, step := range []struct {
		window uint32 // of SETTINGS
		more   uint32 // of WINDOW_UPDATE
		win    int64  // of the stream then
		left   int    // bytes that wait
	}{
		{20000, 0, 0, 20005},
		{5000, 0, -15000, 20005},
		{5000, 15000, 0, 20005},
		{5000, 1, 0, 20004},
		{15000, 0, 0, 10004},
		{0, 0, -15000, 10004},
		{30000, 0, 4996, 0},
	} {
		p.mu.Lock()
		_ = p.fr.WriteSettings(http2.Setting{ID: http2.SettingInitialWindowSize, Val: step.window})
		if step.more > 0 {
			_ = p.fr.WriteWindowUpdate(1, step.more)
		}
		p.mu.Unlock()
		waitFor(t, fmt.Sprintf("%+v", step), func() bool {
			mc.mu.Lock()
			defer mc.mu.Unlock()
			sd := mc.streams[1]
			return sd.win == step.win && sd.waiting() == step.left
		})
	}
	c.data(id, true, nil)
	if o := c.wait(id); o.fields["grpc-status"] != "0" {
		t.Fatalf("got %+v", o)
	}
	if n := <-sum; n != 40005 {
		t.Fatalf("%d bytes have arrived", n)
	}
	whole(t, r)
}

// Which table a peer lets us use may change at any time, on both sides: a block after
// that begins with what the table is now (RFC 7541 section 4.2), and can be read.
func TestHeaderTableSize(t *testing.T) {
	// begins says which sizes a block announces.
	begins := func(block []byte) (sizes string) {
		for len(block) > 0 && block[0]&0xe0 == 0x20 {
			size := int(block[0] & 0x1f)
			block = block[1:]
			for shift := 0; size >= 0x1f; shift += 7 {
				size += int(block[0]&0x7f) << shift
				more := block[0]&0x80 != 0
				block = block[1:]
				if !more {
					break
				}
			}
			sizes += fmt.Sprint(size, " ")
		}
		return sizes
	}
	cases := []struct {
		sizes []uint32
		says  string
	}{
		{nil, ""},
		{[]uint32{0}, "0 "},
		{[]uint32{4096}, "0 4096 "},
		{[]uint32{100, 200}, "0 200 "},
		{[]uint32{1 << 30}, "0 4096 "}, // ours is that at most
		{[]uint32{0, 4096}, "0 4096 "},
	}
	t.Run("of a client", func(t *testing.T) {
		c := dialRig(t, startRig(t, startMember(t, behave(nil)).url).addr)
		c.fr.ReadMetaHeaders = nil
		dec := hpack.NewDecoder(4096, nil)
		for _, tc := range cases {
			for _, size := range tc.sizes {
				c.settle(http2.Setting{ID: http2.SettingHeaderTableSize, Val: size})
			}
			for n, want := range []string{tc.says, "", "", ""} { // two blocks an answer
				if n%2 == 0 {
					c.open(pathRange, false)
				}
				block := c.nextBlock()
				if says := begins(block); says != want {
					t.Errorf("sizes %v, block %d: it says %q", tc.sizes, n, says)
				}
				fields, err := dec.DecodeFull(block)
				if err != nil || n%2 == 0 && valueOf(fields, "content-type") != "application/grpc" {
					t.Fatalf("sizes %v, block %d: %v, %v", tc.sizes, n, fields, err)
				}
			}
		}
	})
	t.Run("of a member", func(t *testing.T) {
		blocks := make(chan []byte, len(cases))
		m := startMember(t, func(_ *fakeMember, p *peer) {
			p.fr.ReadMetaHeaders = nil
			member := &testClient{peer: p}
			for n := range len(cases) {
				block := member.nextBlock()
				if block == nil {
					return
				}
				blocks <- block
				for _, size := range cases[n].sizes {
					p.settle(http2.Setting{ID: http2.SettingHeaderTableSize, Val: size})
				}
				p.answer(uint32(1 + 2*n))
			}
		})
		c := dialRig(t, startRig(t, m.url).addr)
		dec := hpack.NewDecoder(4096, nil)
		want := ""
		for n := range len(cases) {
			if o := c.wait(c.open(pathRange, false)); o.fields["grpc-status"] != "0" {
				t.Fatalf("got %+v", o)
			}
			block := <-blocks
			if says := begins(block); says != want {
				t.Errorf("block %d says %q, not %q", n, says, want)
			}
			if fields, err := dec.DecodeFull(block); err != nil || valueOf(fields, ":path") != pathRange {
				t.Fatalf("block %d: %v, %v", n, fields, err)
			}
			want = cases[n].says
		}
	})
}

// nextBlock reads until a HEADERS frame, and returns its block; nil at the end.
func (c *testClient) nextBlock() []byte {
	for {
		switch f := c.next().(type) {
		case nil:
			return nil
		case *http2.HeadersFrame:
			return append([]byte(nil), f.HeaderBlockFragment()...)
		}
	}
}

// The largest frame that a client takes counts for heads; of a smaller one we never
// make use for DATA.
func TestMaxFrameSize(t *testing.T) {
	long := strings.Repeat("long ", 8<<10)
	m := startMember(t, behave(func(p *peer, id uint32) {
		p.headersAs(http2.HeadersFrameParam{StreamID: id}, ":status", "200", "content-type", "application/grpc", "x", long)
		p.data(id, false, make([]byte, maxFrame))
		p.headers(id, true, "grpc-status", "0")
	}))
	m.armed.Store(true)
	c := dialRig(t, startRig(t, m.url).addr)
	c.fr.ReadMetaHeaders = nil
	for _, tc := range []struct {
		size   uint32
		frames int // of the head
	}{{maxFrame, 2}, {1 << 20, 1}, {maxFrame, 2}} {
		c.settle(http2.Setting{ID: http2.SettingMaxFrameSize, Val: tc.size})
		c.open(pathRange, false)
		frames := 0
		for ended := false; !ended; {
			f, err := c.fr.ReadFrame()
			if err != nil {
				t.Fatal(err)
			}
			switch f := f.(type) {
			case *http2.HeadersFrame:
				ended = f.StreamEnded()
				if !ended {
					frames++
				}
			case *http2.ContinuationFrame:
				frames++
			case *http2.DataFrame:
				if f.Length > maxFrame {
					t.Errorf("DATA of %d", f.Length)
				}
			}
		}
		if frames != tc.frames {
			t.Errorf("size %d: the head came in %d frames", tc.size, frames)
		}
	}
}
