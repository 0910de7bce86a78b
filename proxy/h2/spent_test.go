package h2

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/net/http2"
)

// What a request asks of a moodyMember, in its first byte behind the message's head.
const (
	moodEcho = iota
	moodEarly
	moodReset
	moodRefuse
	moodSilence
	moodGoAway
	moodGone
	moods
)

// moodyMember answers with a request's own data, or as the request wants it: before its
// end, by a reset, never, or by an end of the connection.
func moodyMember(_ *fakeMember, p *peer) {
	_ = p.fr.WriteWindowUpdate(0, 1<<30)
	got := map[uint32][]byte{}
	for fr := p.next(); fr != nil; fr = p.next() {
		f, ok := fr.(*http2.DataFrame)
		if !ok {
			continue
		}
		id := f.StreamID
		before := len(got[id])
		got[id] = append(got[id], f.Data()...)
		all := got[id]
		if len(all) < 6 {
			continue
		}
		if mood := all[5]; before < 6 && mood == moodEarly {
			p.headers(id, true, ":status", "200", "content-type", "application/grpc", "grpc-status", "9")
		}
		if !f.StreamEnded() {
			if len(f.Data()) > 0 {
				p.mu.Lock()
				_ = p.fr.WriteWindowUpdate(id, uint32(len(f.Data())))
				p.mu.Unlock()
			}
			continue
		}
		delete(got, id)
		switch mood := all[5]; mood {
		case moodEarly, moodSilence:
		case moodReset, moodRefuse:
			code := http2.ErrCodeInternal
			if mood == moodRefuse && rand.IntN(2) == 0 {
				code = http2.ErrCodeRefusedStream
			}
			p.mu.Lock()
			_ = p.fr.WriteRSTStream(id, code)
			p.mu.Unlock()
		case moodGone:
			if rand.IntN(20) == 0 {
				return
			}
			fallthrough
		default:
			p.headers(id, false, ":status", "200", "content-type", "application/grpc")
			for rest := all; len(rest) > 0; {
				n := min(len(rest), 1+rand.IntN(16<<10))
				p.data(id, false, rest[:n])
				rest = rest[n:]
			}
			p.headers(id, true, "grpc-status", "0")
			if mood == moodGoAway && rand.IntN(20) == 0 {
				p.mu.Lock()
				_ = p.fr.WriteGoAway(id, http2.ErrCodeNo, nil)
				p.mu.Unlock()
			}
		}
	}
}

// moodyClient has several requests of all kinds under way at a time.
type moodyClient struct {
	*testClient
	sent   map[uint32][]byte
	came   map[uint32][]byte
	number *atomic.Uint64
	whole  int // answers with all that was sent
}

// start sends a request, a part of it, or one that is reset at once.
func (c *moodyClient) start() error {
	mood := byte(rand.IntN(moods))
	if rand.IntN(2) == 0 {
		mood = moodEcho
	}
	path := pathPut
	if rand.IntN(2) == 0 {
		path = pathRange
	}
	length := 14 + rand.IntN(500)
	if rand.IntN(20) == 0 {
		length += rand.IntN(100 << 10)
	}
	body := make([]byte, 5, length+8)
	binary.BigEndian.PutUint32(body[1:], uint32(length-5))
	body = append(body, mood)
	number := c.number.Add(1)
	for len(body) < length {
		body = binary.BigEndian.AppendUint64(body, number)
	}
	body = body[:length]
	id := c.nextID
	c.nextID += 2
	head := []string{
		":method", "POST", ":scheme", "http", ":path", path, ":authority", "x",
		"content-type", "application/grpc", "te", "trailers",
	}
	if rand.IntN(2) == 0 {
		head = append(head, "grpc-timeout", fmt.Sprintf("%dm", 1000+number))
	}
	c.headers(id, false, head...)
	c.sent[id] = body
	leaves := mood == moodSilence || rand.IntN(10) == 0
	for rest := body; len(rest) > 0; {
		n := min(len(rest), 16<<10)
		if rand.IntN(3) == 0 {
			n = 1 + rand.IntN(n)
		}
		if leaves && rand.IntN(3) == 0 {
			break
		}
		c.data(id, n == len(rest), rest[:n])
		rest = rest[n:]
	}
	if leaves {
		delete(c.sent, id)
		delete(c.came, id)
		c.mu.Lock()
		defer c.mu.Unlock()
		return c.fr.WriteRSTStream(id, http2.ErrCodeCancel)
	}
	return nil
}

// hear takes one frame of an answer.
func (c *moodyClient) hear() error {
	fr := c.next()
	if fr == nil {
		return fmt.Errorf("the connection has ended with %d requests under way", len(c.sent))
	}
	id := fr.Header().StreamID
	sent, open := c.sent[id]
	switch f := fr.(type) {
	case *http2.DataFrame:
		n := uint32(len(f.Data()))
		c.mu.Lock()
		_ = c.fr.WriteWindowUpdate(0, n)
		if open {
			_ = c.fr.WriteWindowUpdate(id, n)
		}
		c.mu.Unlock()
		if !open {
			return nil
		}
		c.came[id] = append(c.came[id], f.Data()...)
		if !bytes.HasPrefix(sent, c.came[id]) {
			return fmt.Errorf("stream %d of mood %d has got another's answer", id, sent[5])
		}
	case *http2.MetaHeadersFrame:
		if !open || !f.StreamEnded() {
			return nil
		}
		status := ""
		for _, field := range f.Fields {
			if field.Name == "grpc-status" {
				status = field.Value
			}
		}
		switch {
		case status == "0" && len(c.came[id]) != len(sent):
			return fmt.Errorf("stream %d: %d of %d bytes", id, len(c.came[id]), len(sent))
		case status == "0":
			c.whole++
		case sent[5] == moodEcho && status == "9":
			return fmt.Errorf("stream %d has got another's status", id)
		}
		delete(c.sent, id)
		delete(c.came, id)
	case *http2.RSTStreamFrame:
		delete(c.sent, id)
		delete(c.came, id)
	case *http2.GoAwayFrame:
		return fmt.Errorf("cut off: %v %s", f.ErrCode, f.DebugData())
	}
	return nil
}

// TestSpentStreams gives requests of all kinds of ends the memory of one another, and
// holds each answer to its own request.
func TestSpentStreams(t *testing.T) {
	const clients, requests, atOnce = 8, 1500, 12
	rig := startRig(t, startMember(t, moodyMember).url, startMember(t, moodyMember).url)
	var number, whole atomic.Uint64
	var all sync.WaitGroup
	for range clients {
		c := &moodyClient{testClient: dialRig(t, rig.addr), sent: map[uint32][]byte{}, came: map[uint32][]byte{}, number: &number}
		c.mu.Lock()
		_ = c.fr.WriteWindowUpdate(0, 1<<20)
		c.mu.Unlock()
		_ = c.nc.SetDeadline(time.Now().Add(2 * time.Minute))
		all.Go(func() {
			for n := 0; n < requests || len(c.sent) > 0; {
				var err error
				if n < requests && len(c.sent) < atOnce {
					n++
					err = c.start()
				} else {
					err = c.hear()
				}
				if err != nil {
					t.Error(err)
					return
				}
			}
			whole.Add(uint64(c.whole))
		})
	}
	all.Wait()
	t.Logf("%d of %d were answered whole", whole.Load(), number.Load())
	if whole.Load() < number.Load()/2 {
		t.Error("too few to say anything")
	}
}

// holds is what a stream that has ended keeps alive, in bytes, but for itself. The
// connection's mu is held.
func (s *stream) holds() int {
	n := len(s.path) + len(s.data)
	for _, sd := range []*side{&s.client, &s.first} {
		n += cap(sd.q)
		for _, f := range sd.trailers[:cap(sd.trailers)] {
			n += len(f.Name) + len(f.Value)
		}
	}
	for _, f := range s.own[:cap(s.own)] {
		n += len(f.Name) + len(f.Value)
	}
	return n
}

// Neither what is left of a request whose answer has begun, nor a spent stream, holds a
// long head or a queue: nobody counts them.
func TestSpentStreamsHoldLittle(t *testing.T) {
	const streams, piece, pieces = 50, 15000, 4
	const most = 2*spentQueue + 200
	m := startMember(t, func(_ *fakeMember, p *peer) {
		_ = p.fr.WriteWindowUpdate(0, 1<<30)
		for fr := p.next(); fr != nil; fr = p.next() {
			if h, ok := fr.(*http2.MetaHeadersFrame); ok {
				p.headers(h.StreamID, false, ":status", "200", "content-type", "application/grpc")
				for range pieces {
					p.data(h.StreamID, false, make([]byte, piece))
				}
			}
		}
	})
	long := strings.Repeat("9", 32<<10)
	for _, c := range []struct{ name, field, value string }{
		{"queues", "other", "1"},
		{"a long deadline", "grpc-timeout", long},
		{"a long field", "other", long},
	} {
		t.Run(c.name, func(t *testing.T) {
			r := startRig(t, m.url)
			client := dialRig(t, r.addr)
			cc := r.clientOf(client)
			_ = client.fr.WriteSettings(http2.Setting{ID: http2.SettingInitialWindowSize, Val: 0})
			client.long("content-type", "application/grpc", c.field, "1")
			for range streams - 1 {
				client.long("content-type", "application/grpc", c.field, c.value)
			}
			go func() {
				for client.next() != nil { // nothing of it is of interest
				}
			}()
			waitFor(t, "all answers are queued", func() bool {
				cc.mu.Lock()
				defer cc.mu.Unlock()
				return cc.queued == streams*pieces*piece
			})
			held := 0
			cc.mu.Lock()
			for _, sd := range cc.streams {
				held += sd.s.holds() - cap(sd.q)
			}
			cc.mu.Unlock()
			if held > streams*most {
				t.Errorf("%d bytes are held behind the begin of the answers", held)
			}
			for id := uint32(1); id < client.nextID; id += 2 {
				client.mu.Lock()
				_ = client.fr.WriteRSTStream(id, http2.ErrCodeCancel)
				client.mu.Unlock()
			}
			waitFor(t, "all have ended", func() bool {
				cc.mu.Lock()
				defer cc.mu.Unlock()
				return len(cc.streams) == 0
			})
			cc.mu.Lock()
			defer cc.mu.Unlock()
			held = 0
			for _, s := range cc.spent {
				held += s.holds()
			}
			if held > len(cc.spent)*most {
				t.Errorf("%d spent streams hold %d bytes", len(cc.spent), held)
			}
		})
	}
}

// What outgrows the buffers leaves its own behind.
func TestOutgrownBuffer(t *testing.T) {
	var s stream
	for range 2 {
		s.keep(make([]byte, keepLimit-100))
	}
	if s.buffer != nil || len(s.data) != 2*(keepLimit-100) {
		t.Errorf("%d bytes, and a buffer of %d", len(s.data), cap(*s.buffer))
	}
	s.forgetRequest()
}
