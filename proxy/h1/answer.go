package h1

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"net/http"
	"strconv"
	"strings"
	"time"
)

// relay brings a member's final answer to the client. The head leaves with the
// first bytes of the body, or as soon as there is a wait for them.
func (a *attempt) relay(res *http.Response) (after, error) {
	x, w := a.x, a.x.cl.out
	h := res.Header
	length := h.Get("Content-Length")
	delete(h, "Content-Length")
	dropHopByHop(h)
	x.ownCORS(h)

	bare := x.req.Method == http.MethodHead || res.StatusCode == http.StatusNoContent || res.StatusCode == http.StatusNotModified
	chunked := false
	switch {
	case bare && length != "":
		h["Content-Length"] = []string{length}
	case bare:
	case res.ContentLength >= 0:
		h["Content-Length"] = []string{strconv.FormatInt(res.ContentLength, 10)}
	case x.head.minor == 0:
		a.untilClose = true
	default:
		chunked = true
		h["Transfer-Encoding"] = []string{"chunked"}
	}
	last := x.mustClose() || !a.bodyEnds()
	if last {
		h["Connection"] = []string{"close"}
	}
	a.begun, x.answered = true, true
	put(w, x.statusLine(res.Status))
	_ = h.Write(w) // the writer remembers its error
	if chunked {
		announceTrailer(w, res.Trailer)
	}
	if _, err := w.WriteString("\r\n"); err != nil {
		return 0, errClientLeft
	}
	if !bare {
		readErr, writeErr := copyBody(w, res.Body, chunked, false)
		if readErr != nil {
			_ = w.Flush() // the client shall have all that came
			return 0, readErr
		}
		if writeErr == nil && chunked {
			writeErr = writeTrailer(w, res.Trailer)
		}
		if writeErr != nil {
			return 0, errClientLeft
		}
	}
	if w.Flush() != nil {
		return 0, errClientLeft
	}
	a.count(res.StatusCode)
	if last {
		return closeGently, nil
	}
	return keepOpen, nil
}

// count counts the member's answer; status 0 is one that is not whole.
func (a *attempt) count(status int) {
	a.m.ep.Answers.HTTP(a.x.api, a.x.call, a.x.req.Method, status)
}

// relayInterim brings a 1xx answer to a client that may know of such.
func (x *exchange) relayInterim(res *http.Response) error {
	if x.head.minor == 0 {
		return nil
	}
	x.answered = true
	dropHopByHop(res.Header)
	put(x.cl.out, x.statusLine(res.Status))
	_ = res.Header.Write(x.cl.out)
	put(x.cl.out, "\r\n")
	if x.cl.out.Flush() != nil {
		return errClientLeft
	}
	return nil
}

// mustClose says whether this answer is the last one of its connection.
func (x *exchange) mustClose() bool {
	return x.req.Close || x.head.minor == 0 || x.r.draining.Load()
}

func (x *exchange) statusLine(status string) string {
	if !strings.Contains(status, " ") {
		status += " " // stands even before an empty reason
	}
	return "HTTP/1." + strconv.Itoa(x.head.minor) + " " + status + "\r\n"
}

// say answers by ourselves, in the form of etcd's proxy.
func (x *exchange) say(status int, text string) after {
	return x.sayWith(http.Header{}, status, text)
}

func (x *exchange) sayWith(h http.Header, status int, text string) after {
	body, _ := json.Marshal(map[string]string{"message": text}) // strings always do
	h["Content-Type"] = []string{"application/json"}
	return x.reply(status, h, body)
}

// reply sends an answer of ours and then gets over a short body that nobody
// reads.
func (x *exchange) reply(status int, h http.Header, body []byte) after {
	short := !x.head.chunked && x.head.length <= keptLimit && !x.expect
	last := x.mustClose() || !x.whole && (x.streamed || !short)
	x.r.Answers.HTTP(x.api, x.call, x.req.Method, status)
	x.ownCORS(h)
	h["Date"] = []string{time.Now().UTC().Format(http.TimeFormat)}
	h["Content-Length"] = []string{strconv.Itoa(len(body))}
	if last {
		h["Connection"] = []string{"close"}
	}
	w := x.cl.out
	put(w, x.statusLine(strconv.Itoa(status)+" "+http.StatusText(status)))
	_ = h.Write(w)
	put(w, "\r\n")
	if x.req.Method != http.MethodHead {
		_, _ = w.Write(body)
	}
	if w.Flush() != nil {
		return cutOff
	}
	if last {
		return closeGently
	}
	if !x.whole {
		_ = x.cl.c.SetReadDeadline(time.Now().Add(x.r.HeadTimeout))
		if _, err := io.Copy(io.Discard, x.req.Body); err != nil {
			return cutOff
		}
	}
	return keepOpen
}

// local answers with a handler of ours.
func (x *exchange) local(ctx context.Context, serve http.HandlerFunc) after {
	rec := &recorder{header: http.Header{}}
	req := x.req.WithContext(ctx)
	req.Body = http.NoBody
	serve(rec, req)
	if rec.header.Get("Content-Type") == "" {
		rec.header.Set("Content-Type", http.DetectContentType(rec.body.Bytes()))
	}
	if rec.status == 0 {
		rec.status = http.StatusOK
	}
	return x.reply(rec.status, rec.header, rec.body.Bytes())
}

// recorder keeps a handler's answer until it is whole.
type recorder struct {
	header http.Header
	status int
	body   bytes.Buffer
}

// Header implements http.ResponseWriter.
func (r *recorder) Header() http.Header { return r.header }

// WriteHeader implements http.ResponseWriter.
func (r *recorder) WriteHeader(status int) {
	if r.status == 0 {
		r.status = status
	}
}

// Write implements http.ResponseWriter.
func (r *recorder) Write(p []byte) (int, error) { return r.body.Write(p) }
