package promote

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"time"
)

// StateFolder is our own folder in the data directory; etcd merely warns about
// a name that it does not know.
const StateFolder = "etcdops"

// journalName is the journal of a promotion that is under way.
const journalName = "promotion.journal"

// journalReserve is what a journal takes on the disk from its beginning, in
// bytes: many times of what its entries need.
const journalReserve = 64 << 10

// Events of a journal entry.
const (
	eventBegin = "begin" // written before the step changes anything
	eventDone  = "done"  // written when the step has done all of its work

	eventCleared = "cleared" // of the undo: the learner's data is out of the way
	eventRevoked = "revoked" // of the undo: it turned out to be a voter, go on
)

// Journal is the record of one promotion, so that it can be cut anywhere and
// continued or undone: the plan, then an entry before and after each step. Each
// entry is on the disk when the call that writes it returns.
//
// It holds no secrets: users and passwords are given again.
type Journal struct {
	// Plan is what was decided before anything was changed.
	Plan Plan
	// Facts are what the steps have found out, all entries together.
	Facts Facts
	// Written, if not nil, is called after each entry with "STEP EVENT".
	Written func(entry string)

	file    *os.File // nil for a reader
	entries []entry
}

// entry is one line of the journal behind the plan.
type entry struct {
	At    time.Time       `json:"at"`
	Step  string          `json:"step"`
	Event string          `json:"event"`
	Facts json.RawMessage `json:"facts,omitempty"`
}

// Facts are what the steps of a promotion find out and a later run needs.
type Facts struct {
	MemberID       string   `json:"member_id,omitempty"` // 16 hex digits
	InitialCluster string   `json:"initial_cluster,omitempty"`
	Etcd           *Process `json:"etcd,omitempty"`
	LogFrom        int64    `json:"log_from,omitempty"` // size of etcd's log before its start, in bytes
	Drained        *Drained `json:"drained,omitempty"`
}

// JournalPath is the journal of the promotion under way in a data directory.
func JournalPath(dataDir string) string {
	return filepath.Join(dataDir, StateFolder, journalName)
}

// ClusterFile is where the proxy's memory is: in its folder, or in the one set
// aside.
func (j *Journal) ClusterFile() string {
	aside := filepath.Join(j.Plan.asideOf("proxy"), "cluster")
	if _, err := os.Stat(aside); err == nil {
		return aside
	}
	return filepath.Join(j.Plan.DataDir, "proxy", "cluster")
}

// begin records that a step is about to change something. The facts are what a
// later run must know if this one ends now.
func (j *Journal) begin(step string, facts *Facts) error { return j.write(step, eventBegin, facts) }

// done records that a step has done its work.
func (j *Journal) done(step string, facts *Facts) error { return j.write(step, eventDone, facts) }

func (j *Journal) write(step, event string, facts *Facts) error {
	e := entry{At: time.Now(), Step: step, Event: event}
	if facts != nil {
		var err error
		if e.Facts, err = json.Marshal(facts); err != nil {
			return fmt.Errorf("write journal: %w", err)
		}
	}
	line, err := json.Marshal(e)
	if err != nil {
		return fmt.Errorf("write journal: %w", err)
	}
	if _, err := j.file.Write(append(line, '\n')); err != nil {
		return fmt.Errorf("write journal: %w", err)
	}
	if err := j.file.Sync(); err != nil {
		return fmt.Errorf("write journal: %w", err)
	}
	j.take(e)
	if j.Written != nil {
		j.Written(step + " " + event)
	}
	return nil
}

func (j *Journal) take(e entry) {
	j.entries = append(j.entries, e)
	if e.Facts != nil {
		_ = json.Unmarshal(e.Facts, &j.Facts) // it was written by write
	}
}

// has tells whether a step has got as far as event.
func (j *Journal) has(step, event string) bool {
	return !j.at(step, event).IsZero()
}

// at is when an entry was written, zero if it was not.
func (j *Journal) at(step, event string) time.Time {
	for _, e := range j.entries {
		if e.Step == step && e.Event == event {
			return e.At
		}
	}
	return time.Time{}
}

// Undoing tells whether the promotion is being undone.
func (j *Journal) Undoing() bool {
	undoing := false
	for _, e := range j.entries {
		if e.Step == stepUndo {
			undoing = e.Event != eventRevoked
		}
	}
	return undoing
}

// Variables are those of the new member; nil before it is added.
func (j *Journal) Variables() Variables {
	if j.Facts.InitialCluster == "" {
		return nil
	}
	return j.Plan.variables(j.Facts.InitialCluster)
}

// Steps are those of the plan that are done, and those that are not.
func (j *Journal) Steps() (done, notDone []string) {
	for _, s := range j.Plan.Steps {
		if j.has(s, eventDone) {
			done = append(done, s)
		} else {
			notDone = append(notDone, s)
		}
	}
	return done, notDone
}

// Last names the last entry, "" where nothing was begun.
func (j *Journal) Last() string {
	if len(j.entries) == 0 {
		return ""
	}
	e := j.entries[len(j.entries)-1]
	return e.Step + " " + e.Event
}

// Began is when the promotion began to change things.
func (j *Journal) Began() time.Time {
	if len(j.entries) == 0 {
		return time.Now()
	}
	return j.entries[0].At
}

// stamp is a time as it stands in the names of files and folders.
func stamp(t time.Time) string { return t.UTC().Format("20060102T150405Z") }
