package promote

import (
	"cmp"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

// paceWindow is the time that rates are the mean of.
const paceWindow = 5 * time.Second

// Progress is how a learner catches up.
type Progress struct {
	// Behind is how many log entries it has to apply, if not Unknown: etcd
	// answers nobody while it receives a snapshot, and a little longer.
	Behind  uint64
	Unknown bool
	// SnapshotBytes have arrived of about SnapshotTotal, the size of the
	// leader's database; 0 where no snapshot was sent.
	SnapshotBytes, SnapshotTotal int64
	// Rate is entries applied a second; while Unknown, bytes received a
	// second. It is the mean of the last seconds.
	Rate float64
	// Left is the time to the end at this rate; 0 where nobody can tell.
	Left time.Duration
	// Learner is false when it has become a voter.
	Learner bool
}

// received is what has arrived in the learner's folders.
type received struct {
	snapshot int64  // bytes of snapshots that are being received or not applied yet
	log      int64  // bytes of log files and database
	saved    string // the newest snapshot whose receipt is complete
}

// received counts files. etcd receives a database as snap/tmp*, and renames it
// to INDEX.snap.db, and that to db when it applies it; TERM-INDEX.snap, whose
// names grow, says that it was received (server/etcdserver/api/snap). What
// can't be read counts nothing: files come and go.
func (j *Joiner) received() received {
	var r received
	snap := filepath.Join(j.DataDir, "member", "snap")
	for _, file := range files(snap) {
		name := file.Name()
		switch {
		case strings.HasPrefix(name, "tmp"), strings.HasSuffix(name, ".snap.db"):
			r.snapshot += file.Size()
		case strings.HasSuffix(name, ".snap"):
			r.saved = max(r.saved, name)
		case name == "db":
			r.log += file.Size()
		}
	}
	wal := cmp.Or(j.WALDir, filepath.Join(j.DataDir, "member", "wal"))
	for _, file := range files(wal) {
		r.log += file.Size()
	}
	return r
}

func files(folder string) []fs.FileInfo {
	entries, err := os.ReadDir(folder)
	if err != nil {
		return nil
	}
	var infos []fs.FileInfo
	for _, entry := range entries {
		if info, err := entry.Info(); err == nil && info.Mode().IsRegular() {
			infos = append(infos, info)
		}
	}
	return infos
}

// sample is one look at a learner.
type sample struct {
	at       time.Time
	known    bool   // it has told what it has applied
	applied  uint64 // index
	index    uint64 // committed by the voters
	received received
}

// behind is 0 where the learner has heard of entries that no voter has told us
// of yet.
func (s sample) behind() uint64 {
	return s.index - min(s.index, s.applied)
}

// pace tells how fast a learner catches up, and how long it has not moved.
type pace struct {
	window []sample // the last one last
	best   sample   // the most of each kind
	moved  time.Time
}

// add takes the next look. The index of the voters never goes back: where none
// of those ahead answers, the highest seen stands. Entries applied by a learner
// that is near enough are no progress: the cluster goes on, logins of ours
// included, while something keeps it from becoming a voter.
func (p *pace) add(s sample) {
	s.index = max(s.index, p.best.index)
	if s.received.saved > p.best.received.saved {
		// The bytes of the next snapshot are progress from the first on.
		p.best.received.snapshot = 0
	}
	moved := s.applied > p.best.applied && s.behind() > readyBehind || s.known && !p.best.known || s.received.snapshot > p.best.received.snapshot ||
		s.received.log > p.best.received.log || s.received.saved > p.best.received.saved
	if moved || p.moved.IsZero() {
		p.moved = s.at
	}
	p.best.index, p.best.known = s.index, s.known || p.best.known
	p.best.applied = max(p.best.applied, s.applied)
	p.best.received.snapshot = max(p.best.received.snapshot, s.received.snapshot)
	p.best.received.log = max(p.best.received.log, s.received.log)
	p.best.received.saved = max(p.best.received.saved, s.received.saved)

	p.window = append(p.window, s)
	p.window = slices.DeleteFunc(p.window, func(old sample) bool {
		// A rate is of samples of one kind.
		return s.at.Sub(old.at) > paceWindow || old.known != s.known
	})
}

// idle is how long nothing moved, until the last look.
func (p *pace) idle() time.Duration {
	return p.window[len(p.window)-1].at.Sub(p.moved)
}

// progress sums up. dbSize is the size of the leader's database, in bytes.
func (p *pace) progress(dbSize int64) Progress {
	first, last := p.window[0], p.window[len(p.window)-1]
	seconds := last.at.Sub(first.at).Seconds()
	progress := Progress{Unknown: !last.known, SnapshotBytes: p.best.received.snapshot}
	if progress.SnapshotBytes > 0 {
		progress.SnapshotTotal = max(dbSize, progress.SnapshotBytes)
	}
	var left, closing float64 // in the unit of the rate
	if last.known {
		progress.Behind = last.behind()
		left = float64(progress.Behind)
		closing = float64(first.behind()) - left
		progress.Rate = float64(last.applied - min(first.applied, last.applied))
	} else {
		left = float64(progress.SnapshotTotal - progress.SnapshotBytes)
		closing = max(0, float64(last.received.snapshot-first.received.snapshot))
		progress.Rate = closing
	}
	if seconds <= 0 {
		progress.Rate = 0
		return progress
	}
	progress.Rate /= seconds
	if closing > 0 {
		progress.Left = time.Duration(left * seconds / closing * float64(time.Second))
	}
	return progress
}
