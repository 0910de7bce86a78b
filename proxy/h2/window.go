package h2

import "time"

// A stream's window holds its sender up where most of it comes within a round
// trip: the sender had to wait for credit then. That cannot be seen by what is left
// of the window, because credit that is under way counts as left. So the round trip
// is taken: at first by our SETTINGS and their acknowledgement, then by each credit
// and the first byte that needed it, which is a round trip or more. PINGs would tell
// as well, but etcd ends connections that send many.

// epoch is what the times of paths and paces count from.
var epoch = time.Now()

// path is what a connection knows of the way to its peer, under its mu.
type path struct {
	told    time.Duration // when our SETTINGS were made
	trip    time.Duration // the shortest round trip seen; 0: none yet
	learned int64         // the largest window that a stream has needed
}

// pace is how fast a side's window is used, and its credit.
type pace struct {
	since time.Duration // when the look at the pace began; 0: it has not
	came  int64         // what was done with since then
	asked time.Duration // when the credit was given whose use is awaited; 0: none is
	ahead int64         // what the peer could send then without it
}

// acknowledged notes that our SETTINGS were.
func (p *path) acknowledged() {
	if p.told > 0 {
		p.took(time.Since(epoch) - p.told)
		p.told = 0
	}
}

func (p *path) took(trip time.Duration) {
	if p.trip == 0 || trip < p.trip {
		p.trip = max(trip, 1)
	}
}

const (
	// nearWindow is the largest window where the way is short: what a reader that
	// stops leaves in the queue.
	nearWindow = 256 << 10
	// farRate is what a stream may bring where it is long, in bytes a second.
	farRate = 256 << 20
)

// most is the largest window that is worth giving, in bytes: what farRate brings in
// a round trip.
func (p *path) most() int64 {
	return min(maxStreamWindow, max(nearWindow, int64(p.trip.Seconds()*farRate)))
}

// used notes that n bytes have come on a stream.
func (p *path) used(pc *pace, n int64) {
	if pc.asked == 0 {
		return
	}
	if pc.ahead -= n; pc.ahead < 0 {
		p.took(time.Since(epoch) - pc.asked)
		pc.asked = 0
	}
}

// enough says whether so much is done with that credit is worth a frame: half a
// window, or a quarter of one that is long under way.
func (sd *side) enough() bool {
	if sd.window > streamWindow {
		return sd.owed >= sd.window/4
	}
	return sd.owed >= sd.window/2
}

// grow gives a side a larger window where its window is what holds its sender up and
// its queue, dry, does not; it returns by how much. What is owed is about to be
// given. c.mu is held.
func (sd *side) grow(dry bool) (more int64) {
	p, pc, now := &sd.c.path, &sd.pace, time.Since(epoch)
	if pc.asked == 0 {
		pc.asked, pc.ahead = now, sd.left
	}
	limited := false
	if pc.came += sd.owed; pc.since == 0 {
		pc.since, pc.came = now, 0
	} else if pc.came >= sd.window/2 { // less than all comes in a round trip, because credit comes in batches
		limited = now-pc.since <= p.trip*5/4
		pc.since, pc.came = now, 0
	}
	limit := p.most()
	if sd.c.client != nil {
		limit = min(limit, clientWindow) // of all its streams
	}
	if !dry || !limited || sd.window >= limit {
		return 0
	}
	more = min(max(sd.window, p.learned-sd.window), limit-sd.window)
	if granted.Add(more) > grantCap {
		granted.Add(-more)
		return 0
	}
	sd.window += more
	p.learned = max(p.learned, sd.window)
	return more
}
