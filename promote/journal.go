package promote

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
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

	path    string
	file    *os.File
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

// createJournal writes a journal that holds the plan and nothing else. It is
// there as a whole or not at all.
func createJournal(plan Plan) (*Journal, error) {
	j := &Journal{Plan: plan, path: JournalPath(plan.DataDir)}
	line, err := json.Marshal(plan)
	if err != nil {
		return nil, fmt.Errorf("write journal: %w", err)
	}
	folder := filepath.Dir(j.path)
	if err := makeFolder(folder, plan.Service.UID, plan.Service.GID); err != nil {
		return nil, fmt.Errorf("write journal: %w", err)
	}
	if err := writeFile(j.path, append(line, '\n'), 0o600, plan.Service.UID, plan.Service.GID); err != nil {
		return nil, fmt.Errorf("write journal: %w", err)
	}
	return j, j.open()
}

// OpenJournal reads the journal of the promotion under way in a data directory.
// The error is fs.ErrNotExist where there is none.
func OpenJournal(dataDir string) (*Journal, error) {
	j, err := ReadJournal(dataDir)
	if err != nil {
		return nil, err
	}
	return j, j.open()
}

// ReadJournal is OpenJournal for a reader: no entry can be written.
func ReadJournal(dataDir string) (*Journal, error) { return readJournal(JournalPath(dataDir)) }

func readJournal(path string) (*Journal, error) {
	j := &Journal{path: path}
	text, err := os.ReadFile(j.path)
	if err != nil {
		return nil, fmt.Errorf("read journal: %w", err)
	}
	// A power cut can tear the last line alone: what it said was not acted upon.
	text = text[:bytes.LastIndexByte(text, '\n')+1]
	lines := bufio.NewScanner(bytes.NewReader(text))
	lines.Buffer(nil, len(text)+1)
	if !lines.Scan() {
		return nil, fmt.Errorf("read journal %s: it is empty", j.path)
	}
	if err := json.Unmarshal(lines.Bytes(), &j.Plan); err != nil {
		return nil, fmt.Errorf("read the plan in journal %s: %w", j.path, err)
	}
	for lines.Scan() {
		var e entry
		if err := json.Unmarshal(lines.Bytes(), &e); err != nil {
			return nil, fmt.Errorf("read journal %s: %w", j.path, err)
		}
		j.take(e)
	}
	return j, lines.Err()
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

// Unfinished tells whether a promotion is under way in a data directory, also
// one that was cut.
func Unfinished(dataDir string) bool {
	_, err := os.Stat(JournalPath(dataDir))
	return err == nil
}

// LastDone returns the journal of the promotion that made this data directory
// a member's; found is false where none did.
func LastDone(dataDir string) (j *Journal, found bool) {
	if entries, err := os.ReadDir(filepath.Join(dataDir, "member")); err != nil || len(entries) == 0 {
		return nil, false // it was a member once
	}
	ended, err := filepath.Glob(filepath.Join(dataDir, StateFolder, "promotion-done-*.journal"))
	if err != nil || len(ended) == 0 {
		return nil, false
	}
	slices.Sort(ended)
	j, err = readJournal(ended[len(ended)-1])
	return j, err == nil
}

// open makes the journal writable. A torn last line is cut off first.
func (j *Journal) open() error {
	file, err := os.OpenFile(j.path, os.O_RDWR, 0o600)
	if err != nil {
		return fmt.Errorf("open journal: %w", err)
	}
	// A full disk must not keep a promotion from being undone.
	reserve(file, journalReserve)
	text, err := os.ReadFile(j.path)
	if err == nil {
		whole := int64(bytes.LastIndexByte(text, '\n') + 1)
		if err = file.Truncate(whole); err == nil {
			_, err = file.Seek(whole, 0)
		}
	}
	if err != nil {
		_ = file.Close()
		return fmt.Errorf("open journal: %w", err)
	}
	j.file = file
	return nil
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
func (j *Journal) Undoing() bool { return j.has(stepUndo, eventBegin) }

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

// end closes the journal under a name that says how the promotion ended. From
// then on none is under way.
func (j *Journal) end(how string) error {
	name := fmt.Sprintf("promotion-%s-%s.journal", how, stamp(time.Now()))
	if err := os.Rename(j.path, filepath.Join(filepath.Dir(j.path), name)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("end journal: %w", err)
	}
	if err := syncFolder(filepath.Dir(j.path)); err != nil {
		return fmt.Errorf("end journal: %w", err)
	}
	if j.Written != nil {
		j.Written("journal " + how)
	}
	return j.Close()
}

// Close closes the file and leaves the promotion as it stands.
func (j *Journal) Close() error {
	if j.file == nil {
		return nil
	}
	err := j.file.Close()
	j.file = nil
	return err
}

// stamp is a time as it stands in the names of files and folders.
func stamp(t time.Time) string { return t.UTC().Format("20060102T150405Z") }
