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
	HeaderTooLong               // its head is over the limit
	HeaderTimeout               // its head, or the TLS handshake, took too long
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
		"readonly", "loop", "malformed", "header_too_long", "header_timeout", "connections", "silent", "streams",
		"memory", "no_cluster", "wrong_cluster", "draining",
	}[r]
}

// lineInterval is the least time between two log lines of one reason.
const lineInterval = 10 * time.Second

// Refusals counts refusals and logs them, at most one line in 10 s for each reason.
type Refusals struct {
	// Logger may be nil for silence.
	Logger *slog.Logger

	counts [numReasons]atomic.Int64
	lines  [numReasons]line
}

// line is the log line of one reason.
type line struct {
	mu       sync.Mutex
	at       time.Time // of the last one
	logged   int64     // how many refusals the lines so far have told of
	flushing bool
	what     string // the last one's
	client   string
}

// Refuse counts one. what and client say which request of whom, for the log: what
// must have no body, header field or value of the client's in it. Of a path, what
// may be a query, however it is written, is cut off.
func (r *Refusals) Refuse(reason Reason, what, client string) {
	if r == nil {
		return
	}
	r.counts[reason].Add(1)
	if r.Logger == nil {
		return
	}
	l := &r.lines[reason]
	l.mu.Lock()
	defer l.mu.Unlock()
	if at := strings.IndexAny(what, "?#;&%"); at >= 0 {
		what = what[:at]
	}
	l.what, l.client = what, client
	if since := time.Since(l.at); since < lineInterval {
		r.flushIn(lineInterval-since, reason)
		return
	}
	r.log(reason, l)
}

// flush tells of those that no line has told of.
func (r *Refusals) flush(reason Reason) {
	l := &r.lines[reason]
	l.mu.Lock()
	defer l.mu.Unlock()
	l.flushing = false
	if r.counts[reason].Load() == l.logged {
		return
	}
	if since := time.Since(l.at); since < lineInterval { // a refusal was a moment earlier
		r.flushIn(lineInterval-since, reason)
		return
	}
	r.log(reason, l)
}

// flushIn makes flush follow; l.mu is held.
func (r *Refusals) flushIn(wait time.Duration, reason Reason) {
	if l := &r.lines[reason]; !l.flushing {
		l.flushing = true
		time.AfterFunc(wait, func() { r.flush(reason) })
	}
}

// log writes a line; l.mu is held.
func (r *Refusals) log(reason Reason, l *line) {
	n := r.counts[reason].Load()
	r.Logger.Warn("refused", "reason", reason.String(), "count", n-l.logged, "last", l.what, "client", l.client)
	l.at, l.logged = time.Now(), n
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
