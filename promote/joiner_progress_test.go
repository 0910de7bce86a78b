package promote

import (
	"os"
	"path/filepath"
	"testing"
	"time"
)

func TestReceived(t *testing.T) {
	dir := t.TempDir()
	j := &Joiner{DataDir: dir}
	if got := j.received(); got != (received{}) {
		t.Errorf("no folder: %+v", got)
	}
	for name, size := range map[string]int{
		"snap/tmp123": 10, "snap/00000000000000aa.snap.db": 100, "snap/db": 1000, "wal/0.wal": 2000,
		"snap/0000000000000002-0000000000000011.snap": 5, "snap/0000000000000002-0000000000000012.snap": 5,
		"snap/db.tmp.unknown": 7,
	} {
		path := filepath.Join(dir, "member", name)
		if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, make([]byte, size), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	want := received{snapshot: 110, log: 3000, saved: "0000000000000002-0000000000000012.snap"}
	if got := j.received(); got != want {
		t.Errorf("got %+v, want %+v", got, want)
	}
	j.WALDir = t.TempDir()
	if err := os.WriteFile(filepath.Join(j.WALDir, "0.wal"), make([]byte, 4000), 0o600); err != nil {
		t.Fatal(err)
	}
	want.log = 5000
	if got := j.received(); got != want {
		t.Errorf("with a --wal-dir: got %+v, want %+v", got, want)
	}
}

func TestPace(t *testing.T) {
	began := time.Now()
	at := func(seconds float64) time.Time { return began.Add(time.Duration(seconds * float64(time.Second))) }
	for name, test := range map[string]struct {
		samples []sample
		dbSize  int64
		want    Progress
		idle    time.Duration
	}{
		"first look": {
			samples: []sample{{at: at(0), known: true, applied: 10, index: 100}},
			want:    Progress{Behind: 90},
		},
		"entries, the cluster stands still": {
			samples: []sample{{at: at(0), known: true, applied: 0, index: 10000}, {at: at(2), known: true, applied: 2000, index: 10000}},
			want:    Progress{Behind: 8000, Rate: 1000, Left: 8 * time.Second},
		},
		"entries, the cluster goes on": {
			samples: []sample{{at: at(0), known: true, applied: 0, index: 10000}, {at: at(2), known: true, applied: 2000, index: 11000}},
			want:    Progress{Behind: 9000, Rate: 1000, Left: 18 * time.Second},
		},
		"falling behind": {
			samples: []sample{{at: at(0), known: true, applied: 0, index: 10000}, {at: at(2), known: true, applied: 2000, index: 20000}},
			want:    Progress{Behind: 18000, Rate: 1000},
		},
		"no voter answers": {
			samples: []sample{{at: at(0), known: true, applied: 0, index: 10000}, {at: at(2), known: true, applied: 2000}},
			want:    Progress{Behind: 8000, Rate: 1000, Left: 8 * time.Second},
		},
		"bytes": {
			samples: []sample{{at: at(0)}, {at: at(1), received: received{snapshot: 100}}, {at: at(2), received: received{snapshot: 200}}},
			dbSize:  1000,
			want:    Progress{Unknown: true, SnapshotBytes: 200, SnapshotTotal: 1000, Rate: 100, Left: 8 * time.Second},
		},
		"more bytes than the database has": {
			samples: []sample{{at: at(0), received: received{snapshot: 2000}}},
			dbSize:  1000,
			want:    Progress{Unknown: true, SnapshotBytes: 2000, SnapshotTotal: 2000},
		},
		"rates are of the last seconds": {
			samples: []sample{{at: at(0), known: true, index: 10000}, {at: at(10), known: true, applied: 5000, index: 10000}, {at: at(12), known: true, applied: 5020, index: 10000}},
			want:    Progress{Behind: 4980, Rate: 10, Left: 498 * time.Second},
		},
		"bytes, then entries": {
			samples: []sample{{at: at(0), received: received{snapshot: 9}}, {at: at(1), known: true, applied: 90, index: 100}},
			dbSize:  9,
			want:    Progress{Behind: 10, SnapshotBytes: 9, SnapshotTotal: 9},
		},
		"nothing moves": {
			samples: []sample{{at: at(0), index: 10}, {at: at(30), index: 20}},
			want:    Progress{Unknown: true},
			idle:    30 * time.Second,
		},
		"near, and kept from becoming a voter": {
			samples: []sample{{at: at(0), known: true, applied: 90, index: 100}, {at: at(4), known: true, applied: 190, index: 200}},
			want:    Progress{Behind: 10, Rate: 25},
			idle:    4 * time.Second,
		},
		"the log grows": {
			samples: []sample{{at: at(0)}, {at: at(30), received: received{log: 1}}, {at: at(31), received: received{log: 1}}},
			want:    Progress{Unknown: true},
			idle:    time.Second,
		},
		"a snapshot that begins anew and gets no further": {
			samples: []sample{{at: at(0), received: received{snapshot: 500}}, {at: at(20), received: received{snapshot: 10}}, {at: at(40), received: received{snapshot: 400}}},
			dbSize:  1000,
			want:    Progress{Unknown: true, SnapshotBytes: 500, SnapshotTotal: 1000},
			idle:    40 * time.Second,
		},
		"a second snapshot": {
			samples: []sample{
				{at: at(0), received: received{snapshot: 500}},
				{at: at(20), received: received{saved: "1-1.snap"}},
				{at: at(40), received: received{saved: "1-1.snap", snapshot: 10}},
			},
			dbSize: 1000,
			want:   Progress{Unknown: true, SnapshotBytes: 10, SnapshotTotal: 1000},
		},
	} {
		t.Run(name, func(t *testing.T) {
			p := &pace{}
			for _, s := range test.samples {
				p.add(s)
			}
			if got := p.progress(test.dbSize); got != test.want {
				t.Errorf("got %+v, want %+v", got, test.want)
			}
			if got := p.idle(); got != test.idle {
				t.Errorf("idle %v, want %v", got, test.idle)
			}
		})
	}
}
