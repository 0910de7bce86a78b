package h2

import (
	"bytes"
	"context"
	"io"
	"log/slog"
	"net"
	"sync"
	"testing"
	"time"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"

	"etcdops/proxy/director"
	"etcdops/proxy/policy"
	"etcdops/proxy/socket"
)

// frames is a sequence of frames to begin with.
func frames(write func(fr *http2.Framer, enc func(kv ...string) []byte)) []byte {
	var out, block bytes.Buffer
	fr := http2.NewFramer(&out, nil)
	e := hpack.NewEncoder(&block)
	write(fr, func(kv ...string) []byte {
		block.Reset()
		for i := 0; i < len(kv); i += 2 {
			_ = e.WriteField(hpack.HeaderField{Name: kv[i], Value: kv[i+1]})
		}
		return block.Bytes()
	})
	return out.Bytes()
}

func seeds(f *testing.F) {
	request := []string{
		":method", "POST", ":scheme", "http", ":path", pathPut, ":authority", "x",
		"content-type", "application/grpc", "te", "trailers",
	}
	client := frames(func(fr *http2.Framer, enc func(kv ...string) []byte) {
		_ = fr.WriteSettings()
		_ = fr.WriteHeaders(http2.HeadersFrameParam{StreamID: 1, BlockFragment: enc(request...), EndHeaders: true})
		_ = fr.WriteData(1, true, []byte{0, 0, 0, 0, 0})
		_ = fr.WriteHeaders(http2.HeadersFrameParam{StreamID: 3, BlockFragment: enc(request...), EndHeaders: true, PadLength: 9})
		_ = fr.WriteDataPadded(3, false, []byte("data"), make([]byte, 20))
		_ = fr.WriteWindowUpdate(3, 100)
		_ = fr.WriteRSTStream(3, http2.ErrCodeCancel)
		_ = fr.WritePing(false, [8]byte{1})
	})
	member := frames(func(fr *http2.Framer, enc func(kv ...string) []byte) {
		_ = fr.WriteSettings(http2.Setting{ID: http2.SettingMaxConcurrentStreams, Val: 1})
		_ = fr.WriteHeaders(http2.HeadersFrameParam{StreamID: 1, EndHeaders: true, BlockFragment: enc(":status", "200", "content-type", "application/grpc")})
		_ = fr.WriteData(1, false, []byte{0, 0, 0, 0, 0})
		_ = fr.WriteHeaders(http2.HeadersFrameParam{StreamID: 1, EndHeaders: true, EndStream: true, BlockFragment: enc("grpc-status", "0")})
		_ = fr.WriteGoAway(1, http2.ErrCodeNo, nil)
	})
	f.Add(client, member)
	f.Add(client[:len(client)/2], member[:len(member)/2])
	f.Add([]byte{0, 0, 4, 8, 0, 0, 0, 0, 0, 0x7f, 0xff, 0xff, 0xff}, []byte{})
}

// FuzzRelay plays any bytes from a client and any bytes from a member. The relay
// must not panic, and must leave no stream behind when both are gone.
func FuzzRelay(f *testing.F) {
	seeds(f)
	ctx, cancel := context.WithCancel(f.Context())
	log := slog.New(slog.DiscardHandler)
	d := &director.Director{DialTimeout: time.Second, Logger: log}
	r := &Relay{Director: d, Instance: policy.NewInstance(), DialTimeout: 50 * time.Millisecond, Stats: &Stats{}, Logger: log}
	r.HTTP1 = func(_ context.Context, c net.Conn) { _, _ = io.Copy(io.Discard, c); c.Close() }
	var wg sync.WaitGroup
	for _, run := range []func(context.Context, chan<- struct{}){d.Run, r.Run} {
		ready := make(chan struct{})
		wg.Go(func() { run(ctx, ready) })
		<-ready
	}
	var mu sync.Mutex
	var answer []byte
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		f.Fatal(err)
	}
	wg.Go(func() {
		for {
			nc, err := l.Accept()
			if err != nil {
				return
			}
			mu.Lock()
			p := answer
			mu.Unlock()
			_, _ = nc.Write(p)
			_ = nc.(*net.TCPConn).CloseWrite()
			go func() { _, _ = io.Copy(io.Discard, nc); nc.Close() }()
		}
	})
	f.Cleanup(func() { l.Close(); cancel(); wg.Wait() })
	d.Update([]director.Member{{ID: 1, Name: "m", ClientURLs: []string{"http://" + l.Addr().String()}}})

	f.Fuzz(func(t *testing.T, client, member []byte) {
		mu.Lock()
		answer = member
		mu.Unlock()
		near, far := pair(t)
		done := make(chan struct{})
		go func() {
			defer close(done)
			r.Serve(t.Context(), far, []byte(Preface))
		}()
		go func() {
			_, _ = near.Write(client)
			_ = near.CloseWrite()
		}()
		_, _ = io.Copy(io.Discard, near)
		near.Close()
		select {
		case <-done:
		case <-time.After(10 * time.Second):
			t.Fatal("the relay hangs")
		}
		for limit := time.Now().Add(10 * time.Second); granted.Load() != 0 || policy.Kept.Load() != 0 || queuedToClients.Load() != 0; time.Sleep(time.Millisecond) {
			if time.Now().After(limit) {
				t.Fatalf("%d bytes of window stay granted, %d of requests kept, %d queued", granted.Load(), policy.Kept.Load(), queuedToClients.Load())
			}
		}
	})
}

// pair is a connection over loopback: the fuzzer's end and the relay's.
func pair(t *testing.T) (*net.TCPConn, *socket.Conn) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	near, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	nc, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	far, err := socket.New(nc, nil)
	if err != nil {
		t.Fatal(err)
	}
	return near.(*net.TCPConn), far
}

func FuzzParseFrame(f *testing.F) {
	f.Add([]byte{0, 0, 0, 4, 0, 0, 0, 0, 0})
	f.Add([]byte{0, 0, 5, 1, 0x2c, 0, 0, 0, 1, 3, 0, 0, 0, 0})
	f.Fuzz(func(t *testing.T, b []byte) {
		fr, n, ok, err := parseFrame(b)
		if err != nil || !ok {
			return
		}
		if n != frameHead+len(fr.payload) || n > len(b) {
			t.Fatalf("%d bytes of %d for a payload of %d", n, len(b), len(fr.payload))
		}
		size := len(fr.payload)
		if err := fr.unpad(); err == nil && len(fr.payload) > size {
			t.Fatal("padding grew the frame")
		}
	})
}
