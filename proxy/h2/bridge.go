package h2

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync"

	"golang.org/x/net/http2/hpack"
)

// bridge carries one HTTP/2 request that is not gRPC (curl with https chooses
// HTTP/2 by itself) as an HTTP/1.1 exchange over a connection in memory. It has
// goroutines of its own: this is the slow road, and the rare one.
type bridge struct {
	s    *stream
	near net.Conn // ours
	far  *bridgeConn

	mu       sync.Mutex
	changed  *sync.Cond
	buf      []byte // body that the client sent, at most its stream window
	end      bool
	inflight int // bytes of the answer that wait in the client's queue
	stopped  bool
}

// bridgeConn is the end that the HTTP/1.1 relay sees: the client's addresses,
// and word when it leaves.
type bridgeConn struct {
	net.Conn
	client net.Conn

	mu   sync.Mutex
	gone bool
	call func()
}

// RemoteAddr is the client's address.
func (c *bridgeConn) RemoteAddr() net.Addr { return c.client.RemoteAddr() }

// LocalAddr is the address that the client connected to.
func (c *bridgeConn) LocalAddr() net.Addr { return c.client.LocalAddr() }

// NotifyGone calls f once when the client has reset the stream or left.
func (c *bridgeConn) NotifyGone(f func()) (stop func()) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.gone {
		go f()
		return func() {}
	}
	c.call = f
	return func() {
		c.mu.Lock()
		defer c.mu.Unlock()
		c.call = nil
	}
}

func (c *bridgeConn) leave() {
	c.mu.Lock()
	f := c.call
	c.gone, c.call = true, nil
	c.mu.Unlock()
	if f != nil {
		f()
	}
}

func (r *Relay) openBridge(cc *clientConn, s *stream, h *requestHead) {
	near, far := net.Pipe()
	br := &bridge{s: s, near: near, far: &bridgeConn{Conn: far, client: cc.nc}, end: s.end}
	br.changed = sync.NewCond(&br.mu)
	head, chunked := requestText(h, br.end)
	s.mu.Lock()
	if s.cancelled { // the client was cut off from outside its reader
		s.mu.Unlock()
		return
	}
	s.bridge = br
	s.forgetRequest()
	s.mu.Unlock()
	cc.bridges.Add(1)
	r.tasks.Add(3)
	go func() {
		defer r.tasks.Done()
		defer far.Close()
		defer cc.bridges.Add(-1)
		r.bridged.Add(1)
		defer r.bridged.Add(-1)
		r.HTTP1(cc.ctx, br.far)
	}()
	go func() {
		defer r.tasks.Done()
		br.upload(head, chunked)
	}()
	go func() {
		defer r.tasks.Done()
		br.download(cc.ctx, h.method)
	}()
}

// requestText writes the request head as HTTP/1.1. A body of unknown length is
// sent in chunks.
func requestText(h *requestHead, bare bool) (head []byte, chunked bool) {
	chunked = !bare
	var b strings.Builder
	fmt.Fprintf(&b, "%s %s HTTP/1.1\r\nHost: %s\r\n", h.method, h.path, h.authority)
	for _, f := range h.fields[:len(h.fields)-1] { // the last is our Via, which that relay sets
		switch {
		case strings.HasPrefix(f.Name, ":"), f.Name == "host", f.Name == "te":
			continue
		case f.Name == "content-length":
			chunked = false
		}
		fmt.Fprintf(&b, "%s: %s\r\n", f.Name, f.Value)
	}
	if chunked {
		b.WriteString("Transfer-Encoding: chunked\r\n")
	}
	b.WriteString("Connection: close\r\n\r\n")
	return []byte(b.String()), chunked
}

// body takes what the client adds. Its window bounds what waits here.
// It says false where the exchange is over and the bytes are of no use.
func (br *bridge) body(p []byte, end bool) bool {
	br.mu.Lock()
	defer br.mu.Unlock()
	if br.stopped {
		return false
	}
	br.buf = append(br.buf, p...)
	br.end = br.end || end
	br.changed.Broadcast()
	return true
}

func (br *bridge) upload(head []byte, chunked bool) {
	if _, err := br.near.Write(head); err != nil {
		return
	}
	for {
		br.mu.Lock()
		for len(br.buf) == 0 && !br.end && !br.stopped {
			br.changed.Wait()
		}
		p, end, stopped := br.buf, br.end, br.stopped
		br.buf = nil
		br.mu.Unlock()
		if stopped {
			return
		}
		var err error
		if len(p) > 0 && chunked {
			_, err = fmt.Fprintf(br.near, "%x\r\n%s\r\n", len(p), p)
		} else if len(p) > 0 {
			_, err = br.near.Write(p)
		}
		if err == nil && end && chunked {
			_, err = io.WriteString(br.near, "0\r\n\r\n")
		}
		var b batch
		br.s.creditClient(len(p), &b)
		b.flush()
		if err != nil || end {
			return
		}
	}
}

func (br *bridge) download(ctx context.Context, method string) {
	defer br.stop()
	stop := context.AfterFunc(ctx, br.stop)
	defer stop()
	r := bufio.NewReaderSize(br.near, 16<<10)
	var res *http.Response
	for {
		var err error
		res, err = http.ReadResponse(r, &http.Request{Method: method})
		if err != nil {
			br.reset(codeInternal)
			return
		}
		if res.StatusCode >= 200 || res.StatusCode == http.StatusSwitchingProtocols {
			break
		}
		br.headers(responseFields(res), false)
	}
	defer res.Body.Close()
	bodyless := method == http.MethodHead || res.StatusCode == http.StatusNoContent ||
		res.StatusCode == http.StatusNotModified || res.ContentLength == 0
	br.headers(responseFields(res), bodyless)
	if bodyless {
		return
	}
	buf := make([]byte, maxFrame)
	for {
		n, err := res.Body.Read(buf)
		if n > 0 && !br.data(buf[:n]) {
			return
		}
		if err == io.EOF {
			break
		}
		if err != nil {
			br.reset(codeInternal) // truncated stays truncated
			return
		}
	}
	if trailers := trailerFields(res); len(trailers) > 0 {
		br.headers(trailers, true)
		return
	}
	br.send(nil, true)
}

func responseFields(res *http.Response) []hpack.HeaderField {
	fields := []hpack.HeaderField{{Name: ":status", Value: strconv.Itoa(res.StatusCode)}}
	fields = appendFields(fields, res.Header)
	if res.ContentLength >= 0 && !slices.ContainsFunc(fields, func(f hpack.HeaderField) bool { return f.Name == "content-length" }) {
		fields = append(fields, hpack.HeaderField{Name: "content-length", Value: strconv.FormatInt(res.ContentLength, 10)})
	}
	return fields
}

func trailerFields(res *http.Response) []hpack.HeaderField {
	return appendFields(nil, res.Trailer)
}

func appendFields(fields []hpack.HeaderField, h http.Header) []hpack.HeaderField {
	for name, values := range h {
		if name = strings.ToLower(name); connectionSpecific(name) {
			continue
		}
		for _, v := range values {
			fields = append(fields, hpack.HeaderField{Name: name, Value: v})
		}
	}
	return fields
}

func (br *bridge) headers(fields []hpack.HeaderField, end bool) {
	sd := &br.s.client
	sd.c.mu.Lock()
	sd.headers(fields, end)
	if !end && len(fields) > 0 && informational(fields) {
		sd.began = false
	}
	sd.c.mu.Unlock()
	sd.c.onDrain()
}

// data sends a part of the answer and waits while the client's queue is full.
func (br *bridge) data(p []byte) bool {
	br.mu.Lock()
	for br.inflight >= streamWindow && !br.stopped {
		br.changed.Wait()
	}
	stopped := br.stopped
	br.inflight += len(p)
	br.mu.Unlock()
	if stopped {
		return false
	}
	br.send(p, false)
	return true
}

func (br *bridge) send(p []byte, end bool) {
	sd := &br.s.client
	sd.c.mu.Lock()
	done := sd.send(p, end)
	sd.c.mu.Unlock()
	br.credit(done)
	sd.c.onDrain()
}

func (br *bridge) credit(n int) {
	br.mu.Lock()
	defer br.mu.Unlock()
	br.inflight -= n
	br.changed.Broadcast()
}

// bridgeCredit says that n bytes of the answer have left the client's queue.
func (s *stream) bridgeCredit(n int) {
	s.mu.Lock()
	br := s.bridge
	s.mu.Unlock()
	if br != nil {
		br.credit(n)
	}
}

func (br *bridge) reset(code errCode) {
	sd := &br.s.client
	sd.c.mu.Lock()
	sd.resetBehind(code)
	sd.c.mu.Unlock()
	sd.c.onDrain()
}

// cancel ends the exchange because the client is gone.
func (br *bridge) cancel() {
	br.far.leave()
	br.stop()
}

func (br *bridge) stop() {
	br.mu.Lock()
	br.stopped = true
	unused := len(br.buf)
	br.buf = nil
	br.changed.Broadcast()
	br.mu.Unlock()
	_ = br.near.Close()
	var b batch
	br.s.creditClient(unused, &b)
	b.flush()
}

// failPlain answers a request that is not gRPC with an HTTP status, or cuts an
// answer that has begun. c.mu is held.
func (sd *side) failPlain(status int, message string) {
	if sd.began {
		sd.resetBehind(codeInternal) // truncated, and to be seen as such
		return
	}
	code := "502"
	if status == grpcResourceExhausted {
		code = "431"
	}
	body, _ := json.Marshal(map[string]string{"message": message}) // strings always do
	sd.headers([]hpack.HeaderField{
		{Name: ":status", Value: code},
		{Name: "content-type", Value: "application/json"},
		{Name: "content-length", Value: strconv.Itoa(len(body))},
	}, false)
	sd.send(body, true)
}
