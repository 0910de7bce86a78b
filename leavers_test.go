package main

import (
	"bytes"
	"context"
	"crypto/tls"
	"encoding/binary"
	"errors"
	"flag"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"os"
	"os/signal"
	"regexp"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"go.etcd.io/etcd/api/v3/etcdserverpb"
	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"
	"google.golang.org/protobuf/proto"
)

const (
	// leaverStays is the longest time for which a client stays once it has said, and
	// heard, what it wanted.
	leaverStays = 100 * time.Millisecond
	// leaverPatience is above what TCP takes, with its pauses of up to a minute, to
	// bring a request behind a listener's full queue.
	leaverPatience = 3 * time.Minute
	// leaverLingers is how long one that has closed its own side waits for the other.
	leaverLingers = 300 * time.Millisecond
	// leaverKey is what leavers ask for, leaverBig the prefix of values that are more
	// than a socket takes.
	leaverKey, leaverBig = "leaver", "big/"
)

// leaverKind is one kind of client.
type leaverKind struct {
	name  string
	says  []byte
	hears string // what an undisturbed one waits for; "": nothing
	h2    bool
}

// leaverKinds are mixed in equal parts. Half of each says only a part of it.
func leaverKinds() []leaverKind {
	watch := &etcdserverpb.WatchRequest{RequestUnion: &etcdserverpb.WatchRequest_CreateRequest{
		CreateRequest: &etcdserverpb.WatchCreateRequest{Key: []byte(leaverKey)},
	}}
	small := &etcdserverpb.RangeRequest{Key: []byte(leaverKey)}
	big := &etcdserverpb.RangeRequest{Key: []byte(leaverBig), RangeEnd: []byte("big0")}
	put := &etcdserverpb.PutRequest{Key: []byte(leaverKey), Value: make([]byte, 20<<10)}
	const get = "GET /version HTTP/1.1\r\nHost: a\r\n\r\n"
	return []leaverKind{
		{name: "gRPC range", says: leaverCall("/etcdserverpb.KV/Range", small, true), h2: true},
		{name: "gRPC range of much", says: leaverCall("/etcdserverpb.KV/Range", big, true), h2: true},
		{name: "gRPC put", says: leaverCall("/etcdserverpb.KV/Put", put, true), h2: true},
		{name: "gRPC watch", says: leaverCall("/etcdserverpb.Watch/Watch", watch, false), h2: true},
		{name: "JSON range", says: leaverPost("/v3/kv/range", `{"key":"bGVhdmVy"}`), hears: "revision"},
		{name: "JSON range of much", says: leaverPost("/v3/kv/range", `{"key":"YmlnLw==","range_end":"YmlnMA=="}`)},
		{name: "JSON watch", says: leaverPost("/v3/watch", `{"create_request":{"key":"bGVhdmVy"}}`), hears: "created"},
		{name: "keep-alive", says: []byte(get + get + get), hears: "etcdserver"},
		{name: "upload", says: leaverUpload()},
	}
}

// leaverV2 is a long poll of the v2 API, which waits for its headers.
var leaverV2 = leaverKind{
	name: "v2 long poll", says: []byte("GET /v2/keys/leaver?wait=true HTTP/1.1\r\nHost: a\r\n\r\n"), hears: "X-Etcd-Index",
}

// leaverCall is a gRPC call as a new connection begins with it, with wide windows.
func leaverCall(path string, message proto.Message, end bool) []byte {
	const wide = 1<<30 - 1
	return firstCall(path, message, end, wide)
}

// firstCall is a gRPC call as a new connection begins with it. window is what its
// stream has for the answer.
func firstCall(path string, message proto.Message, end bool, window uint32) []byte {
	body, _ := proto.Marshal(message) // these always do
	body = append(binary.BigEndian.AppendUint32([]byte{0}, uint32(len(body))), body...)
	var out, block bytes.Buffer
	e := hpack.NewEncoder(&block)
	for _, f := range [][2]string{
		{":method", "POST"},
		{":scheme", "http"},
		{":path", path},
		{":authority", "a"},
		{"content-type", "application/grpc"},
		{"te", "trailers"},
	} {
		_ = e.WriteField(hpack.HeaderField{Name: f[0], Value: f[1]}) // a buffer takes everything
	}
	out.WriteString(http2.ClientPreface)
	fr := http2.NewFramer(&out, nil)
	_ = fr.WriteSettings(http2.Setting{ID: http2.SettingInitialWindowSize, Val: window})
	_ = fr.WriteWindowUpdate(0, 1<<30-1)
	_ = fr.WriteHeaders(http2.HeadersFrameParam{StreamID: 1, BlockFragment: block.Bytes(), EndHeaders: true})
	for len(body) > 0 {
		n := min(len(body), 16<<10)
		_ = fr.WriteData(1, end && n == len(body), body[:n])
		body = body[n:]
	}
	return out.Bytes()
}

func leaverPost(path, body string) []byte {
	return fmt.Appendf(nil, "POST %s HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\n\r\n%s", path, len(body), body)
}

// leaverUpload is the begin of a big put by JSON.
func leaverUpload() []byte {
	whole := leaverPost("/v3/kv/put", `{"key":"bGVhdmVy","value":"`+strings.Repeat("A", 900000)+`"}`)
	return whole[:100<<10]
}

// leavers are clients of which none stays.
type leavers struct {
	clear, secure string     // addresses; secure "": none by TLS
	gathering     *gathering // none leaves before all are there; nil: each leaves when it likes
	kinds         []leaverKind

	closed, reset, half atomic.Int64 // how they left
	slowest             atomic.Int64 // time from the request to its answer, in ns
}

// gathering is of clients that leave when the last one has come.
type gathering struct {
	missing atomic.Int64
	whole   chan struct{}
}

// one has come, or will not.
func (g *gathering) one() {
	if g != nil && g.missing.Add(-1) == 0 {
		close(g.whole)
	}
}

// leaversMain is the program "leavers" of the scenarios: N clients of all kinds, M
// at the same time, come to ADDRESS, host:port, and leave at a random moment, by
// close, reset or half-close. With -tls half of them come there, and some leave in
// the midst of the handshake. With -whole M at a time gather, and leave when each of
// them has said and heard all that it wanted; -only takes the kinds whose name matches, -v2 is the v2 API's long poll.
//
//	leavers [-count N] [-at-once M] [-tls ADDRESS] [-whole] [-only REGEXP | -v2] ADDRESS
func leaversMain(args []string) int {
	flags := flag.NewFlagSet("leavers", flag.ContinueOnError)
	count := flags.Int("count", 1000, "clients")
	atOnce := flags.Int("at-once", 200, "clients at the same time")
	secure := flags.String("tls", "", "address that wants TLS")
	whole := flags.Bool("whole", false, "they leave when all of them have said and heard all")
	only := flags.String("only", "", "kinds")
	v2 := flags.Bool("v2", false, "v2 long polls")
	if err := flags.Parse(args); err != nil || flags.NArg() != 1 {
		fmt.Fprintln(os.Stderr, "usage: leavers [-count N] [-at-once M] [-tls ADDRESS] [-whole] [-only REGEXP | -v2] ADDRESS")
		return 2
	}
	kind, err := regexp.Compile(*only)
	if err != nil {
		fmt.Fprintln(os.Stderr, "leavers:", err)
		return 2
	}
	l := &leavers{clear: flags.Arg(0), secure: *secure}
	for _, k := range leaverKinds() {
		if !*v2 && kind.MatchString(k.name) {
			l.kinds = append(l.kinds, k)
		}
	}
	if *v2 {
		l.kinds = []leaverKind{leaverV2}
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	began := time.Now()
	run := l.run
	if *whole {
		run = l.runGathered
	}
	if err := run(ctx, *count, *atOnce); err != nil {
		fmt.Fprintln(os.Stderr, "leavers:", err)
		return 1
	}
	fmt.Printf("%d have left: %d by close, %d by reset, %d by half-close; %v, the slowest answer after %v\n",
		*count, l.closed.Load(), l.reset.Load(), l.half.Load(), time.Since(began).Round(time.Millisecond),
		time.Duration(l.slowest.Load()).Round(time.Millisecond))
	return 0
}

// run lets count clients come and go, and returns the first error of each row.
func (l *leavers) run(ctx context.Context, count, atOnce int) error {
	var next atomic.Int64
	var all sync.WaitGroup
	errs := make([]error, atOnce)
	for row := range atOnce {
		all.Go(func() {
			for errs[row] == nil && ctx.Err() == nil {
				n := int(next.Add(1)) - 1
				if n >= count {
					return
				}
				errs[row] = l.one(ctx, n)
			}
		})
	}
	all.Wait()
	return errors.Join(errs...)
}

// runGathered lets atOnce clients gather, then leave, then the next, up to count.
func (l *leavers) runGathered(ctx context.Context, count, atOnce int) error {
	for count > 0 {
		n := min(count, atOnce)
		l.gathering = &gathering{whole: make(chan struct{})}
		l.gathering.missing.Store(int64(n))
		if err := l.run(ctx, n, n); err != nil {
			return err
		}
		count -= n
	}
	return nil
}

// one is client number n. What the other side makes of it is no error, but that
// nothing comes where all was said.
func (l *leavers) one(ctx context.Context, n int) error {
	kind := &l.kinds[n%len(l.kinds)]
	address, secure := l.clear, l.secure != "" && rand.IntN(2) == 0
	if secure {
		address = l.secure
	}
	raw, err := new(net.Dialer).DialContext(ctx, "tcp", address)
	if err != nil {
		l.gathering.one()
		return err
	}
	c := raw
	if secure {
		config := &tls.Config{InsecureSkipVerify: true, NextProtos: []string{"http/1.1"}}
		if kind.h2 {
			config.NextProtos = []string{"h2"}
		}
		c = tls.Client(raw, config)
	}
	says, whole := kind.says, l.gathering != nil || rand.IntN(2) == 0
	if !whole {
		says = says[:rand.IntN(len(says))]
	}
	said, gone := make(chan error, 1), make(chan struct{})
	go func() {
		defer close(gone)
		said <- l.say(c, kind, says)
		if kind.name == "keep-alive" || rand.IntN(2) == 0 { // the others read nothing more
			_, _ = io.Copy(io.Discard, c)
		}
	}()
	if l.gathering != nil {
		if err = <-said; err != nil {
			err = fmt.Errorf("%s from %v: %w", kind.name, c.LocalAddr(), err)
		}
		l.gathering.one()
		select {
		case <-l.gathering.whole:
		case <-ctx.Done():
		}
	}
	select {
	case <-time.After(rand.N(leaverStays)):
	case <-ctx.Done():
	}
	l.leave(raw.(*net.TCPConn), gone)
	<-gone
	return err
}

// say says it; who gathers waits for the answer too, both while leaverPatience lasts.
func (l *leavers) say(c net.Conn, kind *leaverKind, says []byte) error {
	if l.gathering == nil {
		_, err := c.Write(says)
		return err
	}
	began := time.Now()
	if err := c.SetDeadline(began.Add(leaverPatience)); err != nil {
		return err
	}
	if _, err := c.Write(says); err != nil {
		return err
	}
	if err := hears(c, kind.hears); err != nil {
		return err
	}
	took := int64(time.Since(began))
	for was := l.slowest.Load(); took > was && !l.slowest.CompareAndSwap(was, took); was = l.slowest.Load() {
	}
	return c.SetDeadline(time.Time{})
}

// hears reads until a word has come.
func hears(c net.Conn, word string) error {
	var all strings.Builder
	p := make([]byte, 4<<10)
	for !strings.Contains(all.String(), word) {
		n, err := c.Read(p)
		if err != nil {
			return fmt.Errorf("%w after %q", err, all.String())
		}
		all.Write(p[:n])
	}
	return nil
}

// leave ends a connection in one of three ways.
func (l *leavers) leave(c *net.TCPConn, gone <-chan struct{}) {
	switch rand.IntN(3) {
	case 0:
		l.closed.Add(1)
	case 1:
		l.reset.Add(1)
		_ = c.SetLinger(0)
	case 2:
		l.half.Add(1)
		_ = c.CloseWrite()
		select {
		case <-gone:
		case <-time.After(leaverLingers):
		}
	}
	_ = c.Close()
}
