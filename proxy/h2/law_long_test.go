package h2

import (
	"strings"
	"testing"

	"golang.org/x/net/http2"
)

// TestLawOneOfLongRequests walks the rows of the table in doc.go where the request
// is not kept: it is over 64 KiB, and the member has it whole when it fails.
func TestLawOneOfLongRequests(t *testing.T) {
	drop := func(p *peer, id uint32) { p.nc.Close() }
	refuse := func(p *peer, id uint32) { _ = p.fr.WriteRSTStream(id, http2.ErrCodeRefusedStream) }
	goAway := func(p *peer, id uint32) { _ = p.fr.WriteGoAway(id-1, http2.ErrCodeNo, nil) }
	begun := func(p *peer, id uint32) {
		p.headers(id, false, ":status", "200", "content-type", "application/grpc")
		p.nc.Close()
	}
	reset := func(p *peer, id uint32) { _ = p.fr.WriteRSTStream(id, http2.ErrCodeInternal) }
	for _, tc := range []struct {
		name string
		fail func(p *peer, id uint32)
		path string
		text string // of the UNAVAILABLE; empty: the member's RST_STREAM
	}{
		{"read, lost before the answer", drop, pathRange, "lost member"},
		{"write, lost before the answer", drop, pathPut, "outcome unknown"},
		{"read refused", refuse, pathRange, safeToRetry},
		{"write refused", refuse, pathPut, safeToRetry},
		{"read above the final GOAWAY", goAway, pathRange, safeToRetry},
		{"write above the final GOAWAY", goAway, pathPut, safeToRetry},
		{"read, lost in the answer", begun, pathRange, "lost member"},
		{"write, lost in the answer", begun, pathPut, "outcome unknown"},
		{"read reset", reset, pathRange, ""},
		{"write reset", reset, pathPut, ""},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			bad := startMember(t, behave(func(p *peer, id uint32) {
				takeAll(p, id)
				tc.fail(p, id)
			}))
			good := startMember(t, behave(nil))
			r := startRig(t, bad.url)
			c := stickTo(t, r, bad, good)
			bad.armed.Store(true)
			o := c.wait(c.openLong(tc.path))
			switch safe := o.fields["grpc-message"] == safeToRetry; {
			case tc.text == "":
				if !o.wasRST || o.reset != http2.ErrCodeInternal {
					t.Fatalf("got %+v, want the member's RST_STREAM", o)
				}
			case o.wasRST, o.gone, o.fields["grpc-status"] != "14", !strings.Contains(o.fields["grpc-message"], tc.text), safe && tc.text != safeToRetry:
				t.Fatalf("got %+v, want UNAVAILABLE with %q", o, tc.text)
			}
			if bad.count(tc.path) != 1 || good.count(tc.path) != 0 {
				t.Fatalf("members saw %d and %d requests, want 1 and 0", bad.count(tc.path), good.count(tc.path))
			}
		})
	}
}

// openLong sends a request of 100,000 bytes, as the relay's window lets it.
func (c *testClient) openLong(path string) uint32 {
	id := c.open(path, true)
	for left := 100_000; left > 0; {
		piece := min(left, 10_000)
		c.data(id, left == piece, make([]byte, piece))
		if left -= piece; left == 50_000 {
			c.untilCredit(id)
		}
	}
	return id
}

// untilCredit waits for window on a stream.
func (c *testClient) untilCredit(id uint32) {
	for {
		f, err := c.fr.ReadFrame()
		if err != nil {
			c.t.Fatal(err)
		}
		if w, ok := f.(*http2.WindowUpdateFrame); ok && w.StreamID == id {
			return
		}
	}
}

// takeAll reads a request to its end and gives window for it.
func takeAll(p *peer, id uint32) {
	for {
		f, err := p.fr.ReadFrame()
		if err != nil {
			return
		}
		if d, ok := f.(*http2.DataFrame); ok && d.StreamID == id {
			if d.StreamEnded() {
				return
			}
			if n := uint32(len(d.Data())); n > 0 {
				p.mu.Lock()
				_ = p.fr.WriteWindowUpdate(0, n)
				_ = p.fr.WriteWindowUpdate(id, n)
				p.mu.Unlock()
			}
		}
	}
}
