package h1

import (
	"fmt"
	"io"
	"net"
	"net/http"
	"runtime"
	"testing"
	"time"
)

const (
	// hugeBody is what no memory of ours holds, hugeLooks how often the heap is looked
	// at while it passes.
	hugeBody, hugeLooks = 1 << 30, 8
	// hugeAdds is how much of the heap one exchange may have, in bytes.
	hugeAdds = 1 << 20
	// hugeTakes is how long a huge body may take.
	hugeTakes = 5 * time.Minute
)

// zeros never ends.
type zeros struct{}

func (zeros) Read(p []byte) (int, error) {
	clear(p)
	return len(p), nil
}

// liveHeap is what the heap holds without garbage.
func liveHeap() int64 {
	var m runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc)
}

// passes reads a body and returns the most that the heap held meanwhile.
func passes(t *testing.T, body io.Reader) (most int64) {
	t.Helper()
	for range hugeLooks {
		if n, err := io.CopyN(io.Discard, body, hugeBody/hugeLooks); err != nil {
			t.Errorf("%d bytes, then %v", n, err)
			return most
		}
		most = max(most, liveHeap())
	}
	if n, err := io.Copy(io.Discard, body); n > 0 || err != nil {
		t.Errorf("%d bytes too many, %v", n, err)
	}
	return most
}

// A body of 1 GiB adds less than 1 MiB, whichever way it goes and however it is framed.
func TestHugeBodies(t *testing.T) {
	arrived := make(chan int64, 1)
	p := newPeer(t, func(c net.Conn, req *http.Request) bool {
		if req.Method == http.MethodPut {
			arrived <- passes(t, req.Body)
			return answer(ok("x"))(c, req)
		}
		if req.URL.Path == "/length" {
			fmt.Fprintf(c, "HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n", hugeBody)
			_, err := io.CopyN(c, zeros{}, hugeBody)
			return err == nil
		}
		fmt.Fprint(c, "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
		return chunks(c) == nil
	})
	g := newRig(t, nil, p.url)
	for _, framing := range []string{"length", "chunked"} {
		t.Run("answer by "+framing, func(t *testing.T) {
			c := g.huge(t)
			before := liveHeap()
			c.send("GET /" + framing + " HTTP/1.1\r\nHost: a\r\n\r\n")
			res := c.head(http.MethodGet)
			added(t, before, passes(t, res.Body))
		})
		t.Run("request by "+framing, func(t *testing.T) {
			c := g.huge(t)
			before := liveHeap()
			var err error
			if framing == "length" {
				c.send(fmt.Sprintf("PUT / HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\n\r\n", hugeBody))
				_, err = io.CopyN(c, zeros{}, hugeBody)
			} else {
				c.send("PUT / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n")
				err = chunks(c)
			}
			if err != nil {
				t.Fatal(err)
			}
			added(t, before, waitFor(t, "the body arrives", arrived))
			if res, body := c.whole(http.MethodPut); res.StatusCode != http.StatusOK || body != "x" {
				t.Errorf("got %d %q", res.StatusCode, body)
			}
		})
	}
}

// chunks sends a huge body in chunks.
func chunks(c io.Writer) error {
	const size = 1 << 20
	for range hugeBody / size {
		if _, err := fmt.Fprintf(c, "%x\r\n", size); err != nil {
			return err
		}
		if _, err := io.CopyN(c, zeros{}, size); err != nil {
			return err
		}
		if _, err := io.WriteString(c, "\r\n"); err != nil {
			return err
		}
	}
	_, err := io.WriteString(c, "0\r\n\r\n")
	return err
}

// huge is a client with patience for huge bodies.
func (g *rig) huge(t *testing.T) *conversation {
	t.Helper()
	c := g.dial(t)
	if err := c.SetDeadline(time.Now().Add(hugeTakes)); err != nil {
		t.Fatal(err)
	}
	return c
}

// added compares the heap. The client and the member that the test plays are in it.
func added(t *testing.T, before, most int64) {
	t.Helper()
	t.Logf("%d KiB, with client and member", (most-before)/1024)
	if most-before > hugeAdds {
		t.Errorf("%d bytes were added to %d", most-before, before)
	}
}
