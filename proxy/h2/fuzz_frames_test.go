package h2

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"runtime"
	"sync"
	"testing"
	"time"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"

	"etcdops/proxy/socket"
)

const (
	// fuzzOps is how many frames one input has at most.
	fuzzOps = 64
	// fuzzOpens is how long the member waits for a stream that its frame is for.
	fuzzOpens = time.Millisecond
	// fuzzSettles is how long one end waits for the relay to have handled its frames.
	fuzzSettles = 5 * time.Millisecond
	// fuzzEnds is how long all may take to end.
	fuzzEnds = 3 * time.Second
	// fuzzHangs is when its stacks are told: go test -fuzz ends an input of 10 s, and
	// says nothing of it.
	fuzzHangs = 8 * time.Second
	// fuzzGoroutines is how many may be more than before: the director probes, and
	// the play itself.
	fuzzGoroutines = 5
)

// settles marks the PING of settle.
var settles = [8]byte{'s', 'e', 't', 't', 'l', 'e', 's'}

// A play is a sequence of frames from both sides: of each two bytes the first says who
// sends which frame, the second its stream, size or flags. Clients send well-formed
// HEADERS most of the time, and members answer streams that are open, so that it gets
// further than any bytes do.
type play struct {
	client, member *fuzzEnd
	opened         uint32 // the client's last stream
}

// fuzzEnd is a side that plays frames and drops what it gets.
type fuzzEnd struct {
	nc    *net.TCPConn
	fr    *http2.Framer
	block bytes.Buffer
	enc   *hpack.Encoder

	mu     sync.Mutex
	change sync.Cond
	seen   uint32 // the last stream whose HEADERS have come
	ended  bool
	ponged bool   // the answer to settle's PING has come
	missed uint32 // the lowest stream that was waited for in vain; 0: none
}

func newFuzzEnd(nc *net.TCPConn) *fuzzEnd {
	e := &fuzzEnd{nc: nc, fr: http2.NewFramer(nc, nc)}
	e.fr.AllowIllegalWrites = true
	e.enc = hpack.NewEncoder(&e.block)
	e.change.L = &e.mu
	return e
}

// listen notes which streams are opened and acknowledges nothing.
func (e *fuzzEnd) listen() {
	for {
		f, err := e.fr.ReadFrame()
		e.mu.Lock()
		if err != nil {
			e.ended = true
			e.change.Broadcast()
			e.mu.Unlock()
			_, _ = io.Copy(io.Discard, e.nc)
			return
		}
		switch f := f.(type) {
		case *http2.HeadersFrame:
			e.seen = max(e.seen, f.StreamID)
			e.change.Broadcast()
		case *http2.PingFrame:
			e.ponged = e.ponged || f.IsAck() && f.Data == settles
			e.change.Broadcast()
		}
		e.mu.Unlock()
	}
}

// opens waits until a stream was opened here, for a moment.
func (e *fuzzEnd) opens(id uint32) {
	if e.missed != 0 && id >= e.missed {
		return
	}
	if !e.within(fuzzOpens, func() bool { return e.seen >= id }) {
		e.missed = id
	}
}

// within waits until something is so that listen notes, and says whether it is.
func (e *fuzzEnd) within(limit time.Duration, so func() bool) bool {
	late := false
	t := time.AfterFunc(limit, func() {
		e.mu.Lock()
		defer e.mu.Unlock()
		late = true
		e.change.Broadcast()
	})
	defer t.Stop()
	e.mu.Lock()
	defer e.mu.Unlock()
	for !so() && !e.ended && !late {
		e.change.Wait()
	}
	return so()
}

func (e *fuzzEnd) over() bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.ended
}

// settle waits until the relay has handled all that was sent here, for a moment.
func (e *fuzzEnd) settle() {
	e.mu.Lock()
	e.ponged = false
	e.mu.Unlock()
	if e.fr.WritePing(false, settles) == nil {
		e.within(fuzzSettles, func() bool { return e.ponged })
	}
}

func (e *fuzzEnd) headers(id uint32, end bool, kv ...string) {
	e.block.Reset()
	for i := 0; i < len(kv); i += 2 {
		_ = e.enc.WriteField(hpack.HeaderField{Name: kv[i], Value: kv[i+1]})
	}
	_ = e.fr.WriteHeaders(http2.HeadersFrameParam{StreamID: id, BlockFragment: e.block.Bytes(), EndStream: end, EndHeaders: true})
}

// common are frames that both sides send alike. It says false for another one.
func (e *fuzzEnd) common(op, arg byte, id uint32) bool {
	switch op {
	case 0:
		_ = e.fr.WriteData(id, arg&1 != 0, make([]byte, int(arg>>3)<<9))
	case 1:
		_ = e.fr.WriteDataPadded(id, arg&1 != 0, make([]byte, arg), make([]byte, arg>>1))
	case 2:
		_ = e.fr.WriteRSTStream(id, http2.ErrCode(arg>>4))
	case 3:
		_ = e.fr.WriteWindowUpdate(id*uint32(arg>>7), uint32(arg)<<8+1)
	case 4:
		_ = e.fr.WriteSettings(http2.Setting{ID: http2.SettingInitialWindowSize, Val: uint32(arg) << 9})
	case 5:
		_ = e.fr.WriteSettings(http2.Setting{ID: http2.SettingID(arg & 7), Val: uint32(arg) << 7})
	case 6:
		_ = e.fr.WritePing(arg&1 != 0, [8]byte{arg})
	case 7:
		_ = e.fr.WriteGoAway(id&^1|uint32(arg>>7), http2.ErrCode(arg>>5&3), nil)
	case 8:
		_ = e.fr.WriteContinuation(id, arg&1 != 0, []byte{arg})
	case 9:
		_ = e.fr.WriteRawFrame(http2.FrameType(arg&15), http2.Flags(arg), id, bytes.Repeat([]byte{arg}, int(arg>>4)))
	case 10:
		_ = e.fr.WriteSettingsAck()
	default:
		return false
	}
	return true
}

// step plays one frame.
func (p *play) step(op, arg byte) {
	const kinds = 16
	id := 1 + 2*uint32(arg>>1&7)
	if op&0x80 != 0 { // the member's
		p.member.opens(id)
		switch kind := op % kinds; {
		case p.member.common(kind, arg, id):
		case kind < 13:
			p.member.headers(id, false, ":status", "200", "content-type", "application/grpc")
		case kind < 15:
			p.member.headers(id, true, "grpc-status", string('0'+arg%10))
		default:
			p.member.headers(id, true, ":status", "200", "content-type", "application/grpc", "grpc-status", "14")
		}
		return
	}
	kind := op % kinds
	if p.client.common(kind, arg, id) {
		return
	}
	path := []string{pathRange, pathPut, pathWatch, "/etcdserverpb.KV/Txn"}[arg>>4&3]
	switch p.opened += 2; kind {
	case 15:
		p.client.headers(id, true, "trailer", "x")
	case 14:
		p.client.headers(p.opened-1, arg&1 != 0, ":method", "GET", ":scheme", "http", ":path", "/version", ":authority", "x")
	default:
		p.client.headers(p.opened-1, arg&1 != 0, ":method", "POST", ":scheme", "http", ":path", path, ":authority", "x",
			"content-type", "application/grpc", "te", "trailers")
	}
}

// FuzzFrames plays a random sequence of frames from both sides. The relay must not
// panic, must hold no more than its windows, and must leave nothing behind when both
// are gone: no stream, no window, no goroutine.
func FuzzFrames(f *testing.F) {
	for _, seed := range []string{
		"\x0b\x01\x8b\x00\x80\x28\x8d\x00",                         // range, headers, data, trailers
		"\x0b\x11\x8f\x00\x0b\x11\x8f\x02",                         // two puts, trailers only
		"\x0b\x20\x00\xf8\x8b\x00\x80\xf8\x80\xf8\x02\x00",         // watch, data both ways, reset
		"\x04\x00\x0b\x01\x8b\x00\x80\xf8\x80\xf8\x04\xff\x8d\x00", // no window, then one
		"\x0b\x11\x0b\x11\x87\x02\x8f\x00",                         // GOAWAY below the second
		"\x84\x00\x0b\x10\x00\xf8\x00\xf8\x84\xff\x03\xff",         // the member gives no window, then one
		"\x0e\x01\x0e\x00\x02\x02",                                 // what is not gRPC
		"\x0b\x11\x82\x70\x0b\x01\x82\x72",                         // refused streams
		"\x0b\x01\x84\x00\x0b\x10\x00\xf3\x8f\x02",                 // an answer before the request was taken
	} {
		f.Add([]byte(seed))
	}
	stage := newFuzzStage(f)
	f.Fuzz(func(t *testing.T, ops []byte) {
		near, far := pair(t)
		ended := make(chan error, 1)
		go func() { ended <- stage.play(t.Context(), near, far, ops) }()
		select {
		case err := <-ended:
			if err != nil {
				t.Error(err)
			}
		case <-time.After(fuzzHangs):
			t.Fatalf("hangs:\n%s", stacks())
		}
	})
}

// play plays the frames on a client's connection, and on those that members get for it.
func (stage *fuzzStage) play(ctx context.Context, near *net.TCPConn, far *socket.Conn, ops []byte) error {
	served := make(chan struct{})
	go func() {
		defer close(served)
		stage.relay.Serve(ctx, far, []byte(Preface))
	}()
	p := &play{client: newFuzzEnd(near)}
	_ = p.client.fr.WriteSettings()
	go p.client.listen()
	var members []*net.TCPConn
	for ; len(ops) >= 2 && len(members) < 4; ops = ops[2:] {
		if ops[0]&0x80 != 0 && p.member == nil {
			if p.opened == 0 {
				continue // nobody calls the member
			}
			p.member = stage.member()
			if p.member == nil {
				continue
			}
			members = append(members, p.member.nc)
		}
		p.step(ops[0], ops[1])
		if p.member != nil && p.member.over() {
			p.member = nil // the next one is a new connection
		}
		if len(ops) > 2*fuzzOps {
			break
		}
	}
	if len(ops) == 0 { // with an odd byte the client leaves at once
		for _, end := range []*fuzzEnd{p.client, p.member, p.client} {
			if end != nil {
				end.settle()
			}
		}
	}
	err := stage.bounded()
	_ = near.CloseWrite()
	near.Close()
	select {
	case <-served:
	case <-time.After(fuzzEnds):
		return errors.Join(err, fmt.Errorf("the relay hangs:\n%s", stacks()))
	}
	err = errors.Join(err, stage.waits("no stream of a client that has left", func() bool { return memberStreams(stage.relay) == 0 }))
	for _, nc := range members {
		nc.Close()
	}
	return errors.Join(err, stage.waits("nothing is left", stage.empty))
}

func stacks() []byte {
	p := make([]byte, 64<<10)
	return p[:runtime.Stack(p, true)]
}
