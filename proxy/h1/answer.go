package h1

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"etcdops/proxy/stats"
)

// relay brings a member's final answer to the client. The head leaves with the
// first bytes of the body, or as soon as there is a wait for them. clean says that
// the answer's end was found.
func (a *attempt) relay() (next after, clean bool, err error) {
	x, w, h := a.x, a.x.cl.out, &a.head
	status, bare := h.status, h.bare(x.head.method)
	chunked := !bare && h.length < 0
	a.untilClose = chunked && x.head.minor == 0
	chunked = chunked && !a.untilClose
	last := x.mustClose() || !a.bodyEnds()

	a.begun, x.answered = true, true
	x.writeAnswer(w, h)
	switch {
	case bare && h.declared != nil, h.length >= 0:
		put(w, "Content-Length: ")
		_, _ = w.Write(h.declared)
		put(w, "\r\n")
	case chunked:
		put(w, "Transfer-Encoding: chunked\r\n")
		announceTrailer(w, &h.fields)
	}
	if last {
		put(w, "Connection: close\r\n")
	}
	if _, err := w.WriteString("\r\n"); err != nil {
		return 0, false, errClientLeft
	}
	clean = bare || h.chunked || h.length >= 0
	body := a.openAnswer()
	if !bare {
		readErr, writeErr := copyBody(w, body, chunked, false)
		if readErr != nil {
			_ = w.Flush() // the client shall have all that came
			return 0, false, readErr
		}
		if writeErr == nil && chunked {
			writeErr = writeTrailer(w, &body.trailer)
		}
		if writeErr != nil {
			return 0, false, errClientLeft
		}
	}
	if w.Flush() != nil {
		return 0, false, errClientLeft
	}
	a.count(status)
	if last {
		return closeGently, clean, nil
	}
	return keepOpen, clean, nil
}

// openAnswer goes over the answer's head, which is gone then, and begins its body.
func (a *attempt) openAnswer() *body {
	h := &a.head
	length, chunked := h.length, h.chunked
	if h.bare(a.x.head.method) {
		length, chunked = 0, false
	}
	_, _ = a.in.br.Discard(h.size) // it is in the buffer
	a.answer.open(&a.in, length, chunked)
	return &a.answer
}

// count counts the member's answer; status 0 is one that is not whole.
func (a *attempt) count(status int) {
	a.m.ep.Answers.HTTP(a.x.api, a.x.call, a.x.head.method, status)
}

// relayInterim brings a 1xx answer to a client that may know of such.
func (x *exchange) relayInterim(h *answerHead) error {
	if x.head.minor == 0 {
		return nil
	}
	x.answered = true
	x.writeAnswer(x.cl.out, h)
	put(x.cl.out, "\r\n")
	if x.cl.out.Flush() != nil {
		return errClientLeft
	}
	return nil
}

// mustClose says whether this answer is the last one of its connection.
func (x *exchange) mustClose() bool { return x.head.wantsClose() || x.r.draining.Load() }

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
	x.r.Answers.HTTP(x.api, x.call, x.head.method, status)
	h["Date"] = []string{time.Now().UTC().Format(http.TimeFormat)}
	h["Content-Length"] = []string{strconv.Itoa(len(body))}
	if last {
		h["Connection"] = []string{"close"}
	}
	w := x.cl.out
	put(w, x.version(), strconv.Itoa(status), " ", http.StatusText(status), "\r\n")
	_ = h.Write(w)
	x.writeCORS(w)
	put(w, "\r\n")
	if x.head.method != http.MethodHead {
		_, _ = w.Write(body)
	}
	if w.Flush() != nil {
		return cutOff
	}
	if last {
		return closeGently
	}
	if !x.whole {
		x.cl.src.next = limitHead
		if _, err := io.Copy(io.Discard, &x.body); err != nil {
			return cutOff
		}
	}
	return keepOpen
}

// local is our own handler for a path, if there is one.
func (r *Relay) local(path string) http.HandlerFunc {
	if strings.Contains(path, "%") {
		path, _ = url.PathUnescape(path)
	}
	return r.Local[path]
}

// local answers with a handler of ours.
func (x *exchange) local(ctx context.Context, serve http.HandlerFunc) after {
	rec := &recorder{header: http.Header{}}
	req, err := x.head.parsed()
	if err != nil {
		return x.refuse(stats.Malformed, http.StatusBadRequest, err.Error())
	}
	req.Body = http.NoBody
	serve(rec, req.WithContext(ctx))
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
