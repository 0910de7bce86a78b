package promote

import (
	"errors"
	"testing"
)

// TestStirred: a cluster gets entries while nobody writes, and none while somebody
// does.
func TestStirred(t *testing.T) {
	for name, written := range map[string]bool{"quiet": false, "written to": true} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f := newFakeVoter(t)
			f.index = 10000
			looks := 0
			f.written = func() {
				looks++
				if written {
					f.index++
				}
			}
			seen := func() (int, int) {
				f.mu.Lock()
				defer f.mu.Unlock()
				return looks, f.alarms
			}
			over := errors.New("over")
			c := &Cluster{ID: fakeCluster, Endpoints: []string{f.url}}
			err := c.Stirred(t.Context(), func() error {
				eventually(t, "it was looked at", func() bool {
					looked, entries := seen()
					return looked > 3 && (written || entries > 1)
				})
				return over
			})
			if !errors.Is(err, over) {
				t.Errorf("got %v", err)
			}
			if looked, entries := seen(); written && entries != 0 {
				t.Errorf("%d entries in %d looks", entries, looked)
			}
		})
	}
}

// TestStirEnds: a cluster that is not ours, or does not know our user, is not asked on.
func TestStirEnds(t *testing.T) {
	f := newFakeVoter(t)
	f.clusterID++
	c := &Cluster{ID: fakeCluster, Endpoints: []string{f.url}}
	if err := c.stir(t.Context()); !as[*WrongClusterError](err) {
		t.Errorf("got %v", err)
	}
	if f.alarms != 0 {
		t.Errorf("%d entries", f.alarms)
	}
}
