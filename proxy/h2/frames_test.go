package h2

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"
)

// requestHeadOf is a gRPC request's head.
func requestHeadOf(path string, more ...string) []string {
	return append([]string{
		":method", "POST", ":scheme", "http", ":path", path, ":authority", "x",
		"content-type", "application/grpc", "te", "trailers",
	}, more...)
}

// seenRequest is a request as it has arrived at a member.
type seenRequest struct {
	fields    map[string]string
	sensitive []string // the fields that must not be indexed
	data      string
	ended     bool
}

// keeper is a member that keeps what arrives, and answers each request at its end.
type keeper struct {
	*fakeMember
	got chan seenRequest
}

func startKeeper(t *testing.T) *keeper {
	k := &keeper{got: make(chan seenRequest, 100)}
	k.fakeMember = startMember(t, func(m *fakeMember, p *peer) {
		open := map[uint32]*seenRequest{}
		for fr := p.next(); fr != nil; fr = p.next() {
			id := fr.Header().StreamID
			switch f := fr.(type) {
			case *http2.MetaHeadersFrame:
				m.saw(f)
				s := &seenRequest{fields: map[string]string{}, ended: f.StreamEnded()}
				for _, h := range f.Fields {
					s.fields[h.Name] = h.Value
					if h.Sensitive {
						s.sensitive = append(s.sensitive, h.Name)
					}
				}
				open[id] = s
			case *http2.DataFrame:
				open[id].data += string(f.Data())
				open[id].ended = f.StreamEnded()
			}
			if s := open[id]; s != nil && s.ended {
				k.got <- *s
				p.answer(id)
				delete(open, id)
			}
		}
	})
	return k
}

// What a client may do with frames changes nothing of its request.
func TestRequestFrames(t *testing.T) {
	head := func(c *testClient, id uint32, end bool, param http2.HeadersFrameParam, more ...string) {
		param.StreamID, param.BlockFragment, param.EndStream, param.EndHeaders = id, c.block(requestHeadOf(pathPut, more...)...), end, true
		_ = c.fr.WriteHeaders(param)
	}
	for _, tc := range []struct {
		name string
		send func(c *testClient)
		data string
		x    string // of the field "x"
	}{
		{"in one piece", func(c *testClient) {
			head(c, 1, false, http2.HeadersFrameParam{}, "x", "1")
			_ = c.fr.WriteData(1, true, []byte("data"))
		}, "data", "1"},
		{"CONTINUATION, empty ones too", func(c *testClient) {
			block := c.block(requestHeadOf(pathPut, "x", "1")...)
			_ = c.fr.WriteHeaders(http2.HeadersFrameParam{StreamID: 1})
			for _, b := range block {
				_ = c.fr.WriteContinuation(1, false, []byte{b})
				if b == block[3] {
					_ = c.fr.WriteContinuation(1, false, nil)
				}
			}
			_ = c.fr.WriteContinuation(1, true, nil)
			_ = c.fr.WriteData(1, true, []byte("data"))
		}, "data", "1"},
		{"CONTINUATION behind END_STREAM", func(c *testClient) {
			block := c.block(requestHeadOf(pathPut, "x", "1")...)
			_ = c.fr.WriteHeaders(http2.HeadersFrameParam{StreamID: 1, EndStream: true, BlockFragment: block[:5]})
			_ = c.fr.WriteContinuation(1, true, block[5:])
		}, "", "1"},
		{"padding", func(c *testClient) {
			head(c, 1, false, http2.HeadersFrameParam{PadLength: 200}, "x", "1")
			for _, part := range []string{"da", "", "ta"} {
				_ = c.fr.WriteDataPadded(1, false, []byte(part), make([]byte, 255))
			}
			_ = c.fr.WriteDataPadded(1, true, nil, make([]byte, 255))
		}, "data", "1"},
		{"more padding than the windows hold", func(c *testClient) {
			head(c, 1, false, http2.HeadersFrameParam{}, "x", "1")
			for range 3 * streamWindow / 256 {
				_ = c.fr.WriteDataPadded(1, false, []byte("d"), make([]byte, 254))
				c.untilOpen(1, 256)
			}
			_ = c.fr.WriteData(1, true, nil)
		}, strings.Repeat("d", 3*streamWindow/256), "1"},
		{"priority", func(c *testClient) {
			prio := http2.PriorityParam{StreamDep: 99, Exclusive: true, Weight: 255}
			_ = c.fr.WritePriority(1, prio)
			head(c, 1, false, http2.HeadersFrameParam{Priority: prio, PadLength: 3}, "x", "1")
			_ = c.fr.WritePriority(1, prio)
			_ = c.fr.WriteData(1, true, []byte("data"))
			_ = c.fr.WritePriority(1, prio)
			_ = c.fr.WritePriority(101, prio)
		}, "data", "1"},
		{"trailers", func(c *testClient) {
			head(c, 1, false, http2.HeadersFrameParam{}, "x", "1")
			_ = c.fr.WriteData(1, false, []byte("data"))
			_ = c.fr.WriteHeaders(http2.HeadersFrameParam{StreamID: 1, EndStream: true, EndHeaders: true, BlockFragment: c.block("x-late", "2")})
		}, "data", "1"},
		{"unknown frames, flags and settings", func(c *testClient) {
			_ = c.fr.WriteRawFrame(0xfa, 0xff, 0, []byte("what?"))
			_ = c.fr.WriteSettings(http2.Setting{ID: 0xfafa, Val: 7})
			head(c, 1, false, http2.HeadersFrameParam{}, "x", "1")
			_ = c.fr.WriteRawFrame(0xfa, 0xff, 1, []byte("what?"))
			_ = c.fr.WriteRawFrame(http2.FrameData, 0xf0|http2.FlagDataEndStream, 1, []byte("data"))
		}, "data", "1"},
		{"a GOAWAY of the client's", func(c *testClient) {
			_ = c.fr.WriteGoAway(0, http2.ErrCodeNo, nil)
			head(c, 1, false, http2.HeadersFrameParam{}, "x", "1")
			_ = c.fr.WriteGoAway(0, http2.ErrCodeNo, nil)
			_ = c.fr.WriteData(1, true, []byte("data"))
		}, "data", "1"},
		{"the last stream that there can be", func(c *testClient) {
			c.nextID = maxStreamID
			head(c, maxStreamID, true, http2.HeadersFrameParam{}, "x", "1")
		}, "", "1"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			k := startKeeper(t)
			r := startRig(t, k.url)
			c := dialRig(t, r.addr)
			c.nextID = 1
			tc.send(c)
			if o := c.wait(c.nextID); o.fields["grpc-status"] != "0" {
				t.Fatalf("got %+v", o)
			}
			if got := <-k.got; got.fields["x"] != tc.x || got.data != tc.data || !got.ended {
				t.Errorf("the member got %+v", got)
			}
			whole(t, r)
		})
	}
}

// untilOpen reads until the windows of a stream let n bytes pass. It is for a client
// that reads nothing else: no answer may have begun.
func (c *testClient) untilOpen(id uint32, n int64) {
	if c.windows == nil {
		c.windows = map[uint32]int64{0: initWindow, id: initWindow}
	}
	c.windows[0] -= n
	c.windows[id] -= n
	for c.windows[0] < n || c.windows[id] < n {
		f, err := c.fr.ReadFrame()
		if err != nil {
			c.t.Fatal(err)
		}
		if w, ok := f.(*http2.WindowUpdateFrame); ok {
			c.windows[w.StreamID] += int64(w.Increment)
		}
	}
}

// headersAs sends a header block with padding, priority and all that; without
// EndHeaders, spread over many frames.
func (p *peer) headersAs(param http2.HeadersFrameParam, kv ...string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.buf.Reset()
	for i := 0; i < len(kv); i += 2 {
		_ = p.enc.WriteField(hpack.HeaderField{Name: kv[i], Value: kv[i+1]})
	}
	if param.EndHeaders {
		param.BlockFragment = p.buf.Bytes()
		_ = p.fr.WriteHeaders(param)
		return
	}
	_ = p.fr.WriteHeaders(param)
	for rest := p.buf.Bytes(); len(rest) > 0; {
		n := min(len(rest), 7000)
		_ = p.fr.WriteContinuation(param.StreamID, n == len(rest), rest[:n])
		rest = rest[n:]
	}
}

// What a member may do with frames changes nothing of its answer.
func TestAnswerFrames(t *testing.T) {
	begin := func(p *peer, id uint32) {
		p.headers(id, false, ":status", "200", "content-type", "application/grpc")
	}
	end := func(p *peer, id uint32) { p.headers(id, true, "grpc-status", "0", "x-late", "2") }
	long := strings.Repeat("long ", 12<<10)
	for _, tc := range []struct {
		name   string
		answer func(p *peer, id uint32)
		data   int
		blocks string // what they begin with: a status, or a trailer's name
		x      string
	}{
		{"in one piece", func(p *peer, id uint32) { begin(p, id); p.data(id, false, []byte("data")); end(p, id) }, 4, "200 grpc-status", ""},
		{"trailers only", func(p *peer, id uint32) {
			p.headers(id, true, ":status", "200", "content-type", "application/grpc", "grpc-status", "0")
		}, 0, "200", ""},
		{"informational ones", func(p *peer, id uint32) {
			p.headers(id, false, ":status", "100")
			p.headers(id, false, ":status", "103", "link", "a")
			begin(p, id)
			end(p, id)
		}, 0, "100 103 200 grpc-status", ""},
		{"an informational one and trailers only", func(p *peer, id uint32) {
			p.headers(id, false, ":status", "103")
			p.headers(id, true, ":status", "200", "content-type", "application/grpc", "grpc-status", "0")
		}, 0, "103 200", ""},
		{"CONTINUATION, and split again", func(p *peer, id uint32) {
			p.headersAs(http2.HeadersFrameParam{StreamID: id}, ":status", "200", "content-type", "application/grpc", "x", long)
			p.data(id, false, []byte("data"))
			p.headersAs(http2.HeadersFrameParam{StreamID: id, EndStream: true}, "grpc-status", "0")
		}, 4, "200 grpc-status", long},
		{"padding", func(p *peer, id uint32) {
			p.headersAs(http2.HeadersFrameParam{StreamID: id, PadLength: 99, EndHeaders: true}, ":status", "200", "content-type", "application/grpc")
			for range 2 * streamWindow / 256 {
				_ = p.fr.WriteDataPadded(id, false, []byte("d"), make([]byte, 100))
			}
			p.headersAs(http2.HeadersFrameParam{StreamID: id, PadLength: 99, EndHeaders: true, EndStream: true}, "grpc-status", "0")
		}, 2 * streamWindow / 256, "200 grpc-status", ""},
		{"priority and unknown frames", func(p *peer, id uint32) {
			prio := http2.PriorityParam{StreamDep: 99, Weight: 7}
			_ = p.fr.WritePriority(id, prio)
			p.headersAs(http2.HeadersFrameParam{StreamID: id, Priority: prio, EndHeaders: true}, ":status", "200", "content-type", "application/grpc")
			_ = p.fr.WriteRawFrame(0xfa, 0xff, id, []byte("what?"))
			_ = p.fr.WriteSettings(http2.Setting{ID: 0xfafa, Val: 7})
			end(p, id)
		}, 0, "200 grpc-status", ""},
		{"an end that is an empty DATA", func(p *peer, id uint32) {
			begin(p, id)
			p.data(id, false, []byte("data"))
			p.data(id, true, nil)
		}, 4, "200", ""},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			m := startMember(t, behave(tc.answer))
			m.armed.Store(true)
			c := dialRig(t, startRig(t, m.url).addr)
			id := c.open(pathRange, false)
			var blocks []string
			data, x, ended := 0, "", false
			for !ended {
				switch f := c.next().(type) {
				case *http2.MetaHeadersFrame:
					blocks = append(blocks, f.PseudoValue("status"))
					if blocks[len(blocks)-1] == "" {
						blocks[len(blocks)-1] = f.Fields[0].Name
					}
					x += valueOf(f.Fields, "x")
					ended = f.StreamEnded()
				case *http2.DataFrame:
					data += len(f.Data())
					ended = f.StreamEnded()
				default:
					t.Fatalf("got %v for stream %d", f, id)
				}
			}
			if strings.Join(blocks, " ") != tc.blocks || data != tc.data || x != tc.x {
				t.Errorf("got %v, %d bytes, x of %d", blocks, data, len(x))
			}
			if o := c.wait(c.open(pathWatch, false)); o.gone {
				t.Errorf("the connection does not go on: %+v", o)
			}
		})
	}
}

// Secrets, and values that differ with each request, enter no table on the way to a
// member: not the first time, and not again.
func TestNeverIndexed(t *testing.T) {
	k := startKeeper(t)
	c := dialRig(t, startRig(t, k.url).addr)
	for n := range 3 {
		c.wait(c.open(pathPut, false, "authorization", "secret", "token", "secret", "grpc-timeout", fmt.Sprint(n, "S"), "content-length", "5", "x", "1"))
		got := <-k.got
		slices.Sort(got.sensitive)
		if fmt.Sprint(got.sensitive) != "[authorization content-length grpc-timeout token]" || got.fields["token"] != "secret" {
			t.Errorf("request %d: never indexed are %v of %v", n, got.sensitive, got.fields)
		}
	}
}
