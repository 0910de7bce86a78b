package h1

import (
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"

	"etcdops/proxy/policy"
	"etcdops/proxy/stats"
)

const (
	// keptLimit is the longest body, in bytes, that is kept for a second member.
	keptLimit = 64 << 10
	// keptPiece is how much room a body that is kept has at first, in bytes.
	keptPiece = 4 << 10
)

// judge reads a body whose content decides on a readonly proxy whether the
// request passes. No byte of it goes to a member before. A client that wants to
// be asked for its body is told to send it unasked (RFC 9110 section 15.5.18).
func (x *exchange) judge(path string) (next after, passes bool) {
	switch {
	case x.expect:
		return x.refuse(stats.Readonly, http.StatusExpectationFailed, "this endpoint is readonly and looks into the body: send it without Expect"), false
	case x.head.fields.has(contentEncoding):
		return x.refuse(stats.Readonly, http.StatusNotImplemented, "an encoded body is refused: this endpoint is readonly and can't look into it"), false
	}
	err := x.readKept(policy.JudgeLimit)
	switch {
	case errors.Is(err, errKeptFull):
		x.streamed = true
		return x.refuse(stats.Memory, http.StatusServiceUnavailable, "too many requests are looked into now"), false
	case err != nil:
		x.r.Stats.Left.Add(1)
		return cutOff, false
	case len(x.kept) > policy.JudgeLimit:
		x.streamed = true
		return x.refuse(stats.Readonly, http.StatusRequestEntityTooLarge, fmt.Sprintf("a body over %d bytes is refused: this endpoint is readonly and looks into it", policy.JudgeLimit)), false
	}
	body := x.kept
	x.whole = true
	x.head.chunked, x.head.length = false, int64(len(body))
	if refusal := policy.JudgeJSON(path, body); refusal != "" {
		return x.refuse(stats.Readonly, http.StatusNotImplemented, refusal), false
	}
	return 0, true
}

// keepBody reads a short body whole, so that it can be sent again. A client that
// wants to be asked for its body is left to the member.
func (x *exchange) keepBody() error {
	n := x.head.length
	if x.whole || x.head.chunked || n > keptLimit || x.expect {
		return nil
	}
	err := x.readKept(int(n))
	if errors.Is(err, errKeptFull) {
		return nil // the rest is streamed behind it
	}
	x.whole = err == nil
	return err
}

// errKeptFull says that policy.KeptLimit is reached.
var errKeptFull = errors.New("no more can be kept")

// readKept reads the body into kept, to its end or until it is longer than limit.
// Room is taken as the bytes come: who sends none takes none from others. The error
// is errKeptFull where no more may be kept.
func (x *exchange) readKept(limit int) error {
	for len(x.kept) <= limit {
		if len(x.kept) == cap(x.kept) {
			x.kept = slices.Grow(x.kept, min(max(keptPiece, len(x.kept)), limit+1-len(x.kept)))
		}
		n, err := x.body.Read(x.kept[len(x.kept):cap(x.kept)])
		x.kept = x.kept[:len(x.kept)+n]
		full := policy.Kept.Add(int64(n)) > policy.KeptLimit
		switch {
		case err != nil && !errors.Is(err, io.EOF):
			return err
		case full:
			return errKeptFull
		case err != nil:
			return nil
		}
	}
	return nil
}

func (x *exchange) dropBody() {
	policy.Kept.Add(-int64(len(x.kept)))
	x.kept = nil
}
