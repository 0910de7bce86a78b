package stats

import "sync/atomic"

// Cause is why a request went on to another member.
type Cause uint8

// The causes.
const (
	NotConnected Cause = iota // no connection, or none that was verified, could be made
	Unprocessed               // the member refused it unprocessed, or its connection had ended before
	Unanswered                // a read was sent, and no answer came
	numCauses
)

// String is the cause's name as a label.
func (c Cause) String() string {
	return [numCauses]string{"not_connected", "unprocessed", "unanswered"}[c]
}

// Retries counts the requests that went on to another member.
type Retries struct{ counts [numCauses]atomic.Int64 }

// Add counts one.
func (r *Retries) Add(c Cause) {
	if r != nil {
		r.counts[c].Add(1)
	}
}

// Total is the sum over all causes.
func (r *Retries) Total() (n int64) {
	r.Each(func(_ Cause, count int64) { n += count })
	return n
}

// Each calls f for every cause.
func (r *Retries) Each(f func(cause Cause, n int64)) {
	if r == nil {
		return
	}
	for i := range r.counts {
		f(Cause(i), r.counts[i].Load())
	}
}
