package stats

import (
	"log/slog"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// Reason is why a request or a connection was refused by the proxy itself.
type Reason uint8

// The reasons.
const (
	Readonly      Reason = iota // it is not known to be a read
	Loop                        // it has been here before
	Malformed                   // it breaks the protocol
	Abuse                       // it makes work for nothing, or asks for what it does not take
	HeaderTooLong               // its head is over the limit
	HeaderTimeout               // its head, or the TLS handshake, took too long
	TLSHandshake                // a client's TLS handshake failed
	Connections                 // there are as many connections as may be
	Silent                      // a connection without a request gave way to a new one
	Streams                     // a client opened more streams than it may
	Memory                      // what is kept of requests is at its limit
	NoCluster                   // no member is known
	WrongCluster                // another cluster answers
	Draining                    // the proxy ends
	numReasons
)

// String is the reason's name as a label.
func (r Reason) String() string {
	return [numReasons]string{
		"readonly", "loop", "malformed", "abuse", "header_too_long", "header_timeout", "tls_handshake", "connections", "silent", "streams",
		"memory", "no_cluster", "wrong_cluster", "draining",
	}[r]
}

// lineInterval is the least time between two log lines of one reason.
const lineInterval = 10 * time.Second

// Refusals counts refusals and logs them, at most one line in 10 s for each reason, or
// for each kind of failed TLS handshake.
type Refusals struct {
	// Logger may be nil for silence.
	Logger *slog.Logger

	counts [numReasons]atomic.Int64
	lines  [numReasons]line
	kinds  sync.Map // of TLSHandshake: what → *line
}

// line is the log line of one reason.
type line struct {
	reason   Reason
	mu       sync.Mutex
	at       time.Time // of the last one
	count    int64     // of refusals that no line has told of
	flushing bool
	what     string // the last one's
	client   string
}

// Refuse counts one. what and client say which request of whom, for the log: what
// must have no body, header field or value of the client's in it. Of a path, what
// may be a query, however it is written, is cut off. With TLSHandshake, what is one of
// a few fixed texts.
func (r *Refusals) Refuse(reason Reason, what, client string) {
	if r == nil {
		return
	}
	r.counts[reason].Add(1)
	if r.Logger == nil {
		return
	}
	l := r.line(reason, what)
	l.mu.Lock()
	defer l.mu.Unlock()
	if at := strings.IndexAny(what, "?#;&%"); at >= 0 {
		what = what[:at]
	}
	l.count++
	l.reason, l.what, l.client = reason, what, client
	if since := time.Since(l.at); since < lineInterval {
		r.flushIn(lineInterval-since, l)
		return
	}
	r.log(l)
}

func (r *Refusals) line(reason Reason, what string) *line {
	if reason != TLSHandshake {
		return &r.lines[reason]
	}
	l, found := r.kinds.Load(what)
	if !found {
		l, _ = r.kinds.LoadOrStore(what, &line{})
	}
	return l.(*line)
}

// flush tells of those that no line has told of.
func (r *Refusals) flush(l *line) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.flushing = false
	if l.count == 0 {
		return
	}
	if since := time.Since(l.at); since < lineInterval { // a refusal was a moment earlier
		r.flushIn(lineInterval-since, l)
		return
	}
	r.log(l)
}

// flushIn makes flush follow; l.mu is held.
func (r *Refusals) flushIn(wait time.Duration, l *line) {
	if !l.flushing {
		l.flushing = true
		time.AfterFunc(wait, func() { r.flush(l) })
	}
}

// log writes a line; l.mu is held.
func (r *Refusals) log(l *line) {
	r.Logger.Warn("refused", "reason", l.reason.String(), "count", l.count, "last", l.what, "client", l.client)
	l.at, l.count = time.Now(), 0
}

// Total is the sum over all reasons.
func (r *Refusals) Total() (n int64) {
	r.Each(func(_ Reason, count int64) { n += count })
	return n
}

// Each calls f for every reason.
func (r *Refusals) Each(f func(reason Reason, n int64)) {
	if r == nil {
		return
	}
	for i := range r.counts {
		f(Reason(i), r.counts[i].Load())
	}
}
