//go:build !race

package h2

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"fmt"
	"io"
	"net"
	"net/http"
	"runtime"
	"testing"

	"golang.org/x/net/http2/hpack"
)

// steadyPeer is an end of a connection that allocates nothing itself.
type steadyPeer struct {
	nc  net.Conn
	in  []byte // n bytes of it are read
	n   int
	out []byte
	enc *encoder
}

func newSteadyPeer(nc net.Conn) *steadyPeer {
	return &steadyPeer{nc: nc, in: make([]byte, 1<<20), enc: newEncoder()}
}

// serve calls f for each frame until f says true or the connection ends. What f
// leaves in out is written before the next read.
func (p *steadyPeer) serve(f func(f frame) (done bool)) {
	for {
		off, done := 0, false
		for !done {
			fr, n, ok, err := parseFrame(p.in[off:p.n])
			if err != nil || !ok {
				break
			}
			switch {
			case fr.typ == frameSettings && !fr.has(flagAck):
				p.out = appendFrame(p.out, frameSettings, flagAck, 0, nil)
			case fr.typ == framePing && !fr.has(flagAck):
				p.out = appendFrame(p.out, framePing, flagAck, 0, fr.payload)
			}
			off += n
			done = f(fr)
		}
		p.n = copy(p.in, p.in[off:p.n])
		if len(p.out) > 0 {
			if _, err := p.nc.Write(p.out); err != nil {
				return
			}
			p.out = p.out[:0]
		}
		if done {
			return
		}
		n, err := p.nc.Read(p.in[p.n:])
		if err != nil {
			return
		}
		p.n += n
	}
}

// startEcho serves a member that answers each request with its own data, and returns
// its URL.
func startEcho(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	go func() {
		for {
			nc, err := l.Accept()
			if err != nil {
				return
			}
			go echo(nc)
		}
	}()
	return "http://" + l.Addr().String()
}

func echo(nc net.Conn) {
	defer nc.Close()
	br := bufio.NewReader(nc)
	first, err := br.Peek(3)
	if err != nil {
		return
	}
	for string(first) == "GET" {
		if _, err := http.ReadRequest(br); err != nil {
			return
		}
		fmt.Fprintf(nc, "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}")
	}
	if _, err := br.Discard(len(Preface)); err != nil {
		return
	}
	p := newSteadyPeer(nc)
	p.n, _ = io.ReadFull(br, p.in[:br.Buffered()])
	p.out = appendFrame(p.out, frameSettings, 0, 0, appendSetting(nil, settingInitialWindowSize, maxWindow))
	p.out = appendUint32Frame(p.out, frameWindowUpdate, 0, maxWindow-initWindow)
	head := []hpack.HeaderField{{Name: ":status", Value: "200"}, {Name: "content-type", Value: "application/grpc"}}
	trailers := []hpack.HeaderField{{Name: "grpc-status", Value: "0"}, {Name: "grpc-message"}}
	p.serve(func(f frame) bool {
		switch f.typ {
		case frameHeaders:
			p.out = appendFrame(p.out, frameHeaders, flagEndHeaders, f.id, p.enc.block(head))
		case frameData:
			p.out = appendFrame(p.out, frameData, 0, f.id, f.payload)
			p.out = appendUint32Frame(p.out, frameWindowUpdate, 0, uint32(len(f.payload)))
		}
		if f.typ == frameData && f.has(flagEndStream) {
			p.out = appendFrame(p.out, frameHeaders, flagEndHeaders|flagEndStream, f.id, p.enc.block(trailers))
		}
		return false
	})
}

// TestNothingIsAllocated holds calls in a steady flow to no allocation a stream. A
// deadline is another string with each call, which HPACK's decoder makes. The race
// detector lets sync.Pool drop things at random: .ci/run runs this without it too.
func TestNothingIsAllocated(t *testing.T) {
	const streams, most = 10000, 0.1
	for _, c := range []struct {
		name           string
		atOnce, length int
		deadline       bool
	}{
		{"one at a time", 1, 300, false},
		{"fifty at once", 50, 300, false},
		{"large", 4, 16 << 10, false},
		{"with deadlines", 10, 300, true},
	} {
		t.Run(c.name, func(t *testing.T) {
			rig := startRig(t, startEcho(t))
			nc, err := net.Dial("tcp", rig.addr)
			if err != nil {
				t.Fatal(err)
			}
			defer nc.Close()
			p := newSteadyPeer(nc)
			p.out = append(p.out, Preface...)
			p.out = appendFrame(p.out, frameSettings, 0, 0, nil)
			var block bytes.Buffer
			enc := hpack.NewEncoder(&block) // as grpc-go has it
			fields := []hpack.HeaderField{
				{Name: ":method", Value: "POST"},
				{Name: ":scheme", Value: "http"},
				{Name: ":path", Value: pathPut},
				{Name: ":authority", Value: "a"},
				{Name: "content-type", Value: "application/grpc"},
				{Name: "te", Value: "trailers"},
			}
			if c.deadline {
				fields = append(fields, hpack.HeaderField{Name: "grpc-timeout"})
			}
			deadlines := make([]string, 1000)
			for i := range deadlines {
				deadlines[i] = fmt.Sprintf("49%d920u", 100+i)
			}
			body := make([]byte, c.length)
			binary.BigEndian.PutUint32(body[1:], uint32(len(body)-5))
			id := uint32(1)
			round := func() {
				left := c.atOnce
				for range left {
					if c.deadline {
						fields[len(fields)-1].Value = deadlines[id%1000]
					}
					block.Reset()
					for _, f := range fields {
						_ = enc.WriteField(f) // a buffer takes everything
					}
					p.out = appendFrame(p.out, frameHeaders, flagEndHeaders, id, block.Bytes())
					p.out = appendFrame(p.out, frameData, flagEndStream, id, body)
					id += 2
				}
				p.serve(func(f frame) bool {
					switch {
					case f.typ == frameData && len(f.payload) > 0:
						p.out = appendUint32Frame(p.out, frameWindowUpdate, 0, uint32(len(f.payload)))
					case f.typ == frameHeaders && f.has(flagEndStream):
						left--
					}
					return left == 0
				})
				if left > 0 {
					t.Fatal("the connection has ended")
				}
			}
			for range 1000 / c.atOnce {
				round() // first ones
			}
			var before, after runtime.MemStats
			runtime.ReadMemStats(&before)
			for range streams / c.atOnce {
				round()
			}
			runtime.ReadMemStats(&after)
			each := float64(after.Mallocs-before.Mallocs) / streams
			t.Logf("%.3f allocations, %.0f bytes a stream", each, float64(after.TotalAlloc-before.TotalAlloc)/streams)
			bound := most
			if c.deadline {
				bound++
			}
			if each > bound {
				t.Errorf("%.3f allocations a stream, most %.1f", each, bound)
			}
		})
	}
}
