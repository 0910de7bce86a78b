package main

import (
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"
)

// ledger is what a load has asked for and got. Bad news is printed as it comes.
type ledger struct {
	mu                        sync.Mutex
	requests, failed, refused int
	events, lost, doubled     int
	longest                   time.Duration
	longestWas                string
	acknowledged              map[int64]string // revision → key
	keys                      map[string]bool  // acknowledged
	last                      int64            // acknowledged revision
	watchers                  []*watcher
}

func newLedger() *ledger {
	return &ledger{acknowledged: map[int64]string{}, keys: map[string]bool{}}
}

func (b *ledger) say(format string, args ...any) {
	fmt.Printf(time.Now().Format("15:04:05.000000 ")+format+"\n", args...)
}

func (b *ledger) request(what string, took time.Duration, err error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.requests++
	switch {
	case err != nil:
		b.failed++
		b.say("%s failed after %v: %v", what, took, err)
	case took > b.longest:
		b.longest, b.longestWas = took, time.Now().Format("15:04:05.000000 ")+what
	}
}

// fail notes a failure that is not one request's.
func (b *ledger) fail(what string, err error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.failed++
	b.say("%s failed: %v", what, err)
}

func (b *ledger) refuse(address string, err error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.refused++
	b.say("connect to %s: %v", address, err)
}

func (b *ledger) acknowledge(revision int64, key string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.acknowledged[revision], b.keys[key] = key, true
	b.last = max(b.last, revision)
}

func (b *ledger) wasAcknowledged(key string) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.keys[key]
}

// watcher is what one watch has seen.
type watcher struct {
	book        *ledger
	name        string
	from, last  int64 // revisions
	seen        map[int64]string
	mustSeeAll  bool          // also what was put after its last event
	seenAtLeast chan struct{} // has room for one sign that something came
}

func (b *ledger) watcher(name string, from int64, mustSeeAll bool) *watcher {
	b.mu.Lock()
	defer b.mu.Unlock()
	w := &watcher{
		book: b, name: name, from: from, last: from - 1, seen: map[int64]string{},
		mustSeeAll: mustSeeAll, seenAtLeast: make(chan struct{}, 1),
	}
	b.watchers = append(b.watchers, w)
	return w
}

// next is the revision that a watch goes on with.
func (w *watcher) next() int64 {
	w.book.mu.Lock()
	defer w.book.mu.Unlock()
	return w.last + 1
}

// see notes an event. Each key is new and each put has a revision of its own,
// so both tell what was doubled.
func (w *watcher) see(revision, version int64, key string) {
	b := w.book
	b.mu.Lock()
	defer b.mu.Unlock()
	b.events++
	if revision <= w.last {
		b.doubled++
		b.say("%s: event %d of %s came after event %d", w.name, revision, key, w.last)
	}
	if version != 1 {
		b.doubled++
		b.say("%s: %s was written %d times", w.name, key, version)
	}
	w.last = max(w.last, revision)
	w.seen[revision] = key
	select {
	case w.seenAtLeast <- struct{}{}:
	default:
	}
}

// awaitEvents waits until the watches that must see all have done so.
func (b *ledger) awaitEvents(within time.Duration) {
	limit := time.After(within)
	for _, w := range b.watchers {
		for w.mustSeeAll && w.next() <= b.last {
			select {
			case <-w.seenAtLeast:
			case <-limit:
				return // close says what is lost
			}
		}
	}
}

// close looks for what was lost, prints the summary and says what was wrong.
func (b *ledger) close(slowest time.Duration) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, w := range b.watchers {
		for revision, key := range b.acknowledged {
			if (w.mustSeeAll || revision <= w.last) && revision >= w.from && w.seen[revision] != key {
				b.lost++
				b.say("%s: event %d of %s is lost; its last event is %d", w.name, revision, key, w.last)
			}
		}
	}
	if b.longest > 0 {
		fmt.Println("longest was", b.longestWas)
	}
	fmt.Printf("requests %d failed %d refused %d events %d lost %d doubled %d longest %v\n",
		b.requests, b.failed, b.refused, b.events, b.lost, b.doubled, b.longest.Round(time.Millisecond))
	switch {
	case b.failed+b.refused+b.lost+b.doubled > 0:
		return errors.New("not all is well")
	case b.longest > slowest:
		return fmt.Errorf("a request took %v", b.longest)
	case b.events == 0:
		return errors.New("no watch saw anything")
	}
	return nil
}

// TestLedgerSeesWhatIsWrong holds that the load of a promotion can fail.
func TestLedgerSeesWhatIsWrong(t *testing.T) {
	tests := []struct {
		name          string
		events        []int64 // revisions that the watch sees; 2, 3 and 4 are acknowledged
		version       int64
		mustSeeAll    bool
		lost, doubled int
	}{
		{name: "all is well", events: []int64{2, 3, 4}, version: 1, mustSeeAll: true},
		{name: "an event between is lost", events: []int64{2, 4}, version: 1, lost: 1},
		{name: "the last event is lost", events: []int64{2, 3}, version: 1, mustSeeAll: true, lost: 1},
		{name: "the watch was not resumed", events: []int64{2, 3}, version: 1},
		{name: "an event came twice", events: []int64{2, 3, 3, 4}, version: 1, mustSeeAll: true, doubled: 1},
		{name: "events changed places", events: []int64{2, 4, 3}, version: 1, mustSeeAll: true, doubled: 1},
		{name: "a key was written twice", events: []int64{4}, version: 2, lost: 2, doubled: 1},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			b := newLedger()
			w := b.watcher("watch", 2, test.mustSeeAll)
			for revision := int64(2); revision <= 4; revision++ {
				b.acknowledge(revision, fmt.Sprint("key", revision))
			}
			for _, revision := range test.events {
				w.see(revision, test.version, fmt.Sprint("key", revision))
			}
			err := b.close(oneRequest)
			if b.lost != test.lost || b.doubled != test.doubled || (err == nil) != (test.lost+test.doubled == 0) {
				t.Errorf("lost %d doubled %d, %v; want %d and %d", b.lost, b.doubled, err, test.lost, test.doubled)
			}
		})
	}
}
