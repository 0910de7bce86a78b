package promote

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"syscall"
	"time"
)

// UntrustedError says that a journal may be the work of somebody whose word we
// must not act upon: it names the programs that are run and the folders that are
// emptied.
type UntrustedError struct {
	Path   string
	UID    uint32 // who owns it
	Reason string
}

// Error implements error.
func (e *UntrustedError) Error() string { return "journal " + e.Path + " " + e.Reason }

// createJournal writes a journal that holds the plan and nothing else. It is
// there as a whole or not at all. Root's stays root's, and the service, as which
// a proxy starts, may read it.
func createJournal(plan Plan) (*Journal, error) {
	line, err := json.Marshal(plan)
	if err != nil {
		return nil, fmt.Errorf("write journal: %w", err)
	}
	uid, mode := uint32(os.Geteuid()), fs.FileMode(0o600)
	if plan.Service.UID != uid {
		mode = 0o640
	}
	if err := makeFolder(filepath.Join(plan.DataDir, StateFolder), plan.Service.UID, plan.Service.GID); err != nil {
		return nil, fmt.Errorf("write journal: %w", err)
	}
	state, err := openState(plan.DataDir)
	if err != nil {
		return nil, fmt.Errorf("write journal: %w", err)
	}
	defer state.Close()
	if err := writeIn(state, journalName, append(line, '\n'), mode, uid, plan.Service.GID); err != nil {
		return nil, fmt.Errorf("write journal: %w", err)
	}
	return OpenJournal(plan.DataDir)
}

// OpenJournal reads the journal of the promotion under way in a data directory,
// and makes it writable. Errors are those of ReadJournal.
func OpenJournal(dataDir string) (*Journal, error) {
	j, err := readJournal(dataDir, journalName, os.O_RDWR, checkJournal)
	if err != nil {
		return nil, err
	}
	// A full disk must not keep a promotion from being undone.
	reserve(j.file, journalReserve)
	return j, nil
}

// ReadJournal reads the journal of the promotion under way in a data directory;
// no entry can be written. The error is fs.ErrNotExist where there is none, and
// an *UntrustedError for one that somebody else than root and we may have
// written.
func ReadJournal(dataDir string) (*Journal, error) {
	j, err := readJournal(dataDir, journalName, os.O_RDONLY, checkJournal)
	if err != nil {
		return nil, err
	}
	return j, j.Close()
}

// Unfinished tells whether a promotion is under way in a data directory, also
// one that was cut, or whose journal can't be read.
func Unfinished(dataDir string) bool {
	_, err := os.Lstat(JournalPath(dataDir))
	return err == nil
}

// LastDone returns the journal of the promotion that made this data directory
// a member's; found is false where none did. Whose journal it is does not
// matter: it is to be told of, and not to be acted upon.
func LastDone(dataDir string) (j *Journal, found bool) {
	if entries, err := os.ReadDir(filepath.Join(dataDir, "member")); err != nil || len(entries) == 0 {
		return nil, false // it was a member once
	}
	ended, err := filepath.Glob(filepath.Join(dataDir, StateFolder, "promotion-done-*.journal"))
	if err != nil || len(ended) == 0 {
		return nil, false
	}
	slices.Sort(ended)
	j, err = readJournal(dataDir, filepath.Base(ended[len(ended)-1]), os.O_RDONLY, checkPlain)
	if err != nil {
		return nil, false
	}
	return j, j.Close() == nil
}

// readJournal reads a journal that passes the check, and leaves its file open
// behind the last whole entry.
func readJournal(dataDir, name string, flag int, check func(path string, info fs.FileInfo) error) (*Journal, error) {
	path := filepath.Join(dataDir, StateFolder, name)
	file, err := openJournalFile(dataDir, name, flag)
	var failed *fs.PathError
	if errors.As(err, &failed) {
		err = failed.Err // its path may be the last name alone
	}
	if err != nil {
		return nil, fmt.Errorf("read journal %s: %w", path, err)
	}
	j := &Journal{file: file}
	info, err := file.Stat()
	if err == nil {
		err = check(path, info)
	}
	if err == nil {
		err = j.readFile(path, flag == os.O_RDWR)
	}
	if err != nil {
		_ = file.Close()
		return nil, err
	}
	return j, nil
}

// openJournalFile opens a file in our folder that has no other name. O_NONBLOCK,
// so that opening a named pipe ends too.
func openJournalFile(dataDir, name string, flag int) (*os.File, error) {
	state, err := openState(dataDir)
	if err != nil {
		return nil, err
	}
	defer state.Close()
	before, err := state.Lstat(name)
	if err != nil {
		return nil, err
	}
	if !before.Mode().IsRegular() {
		return nil, errNotPlain
	}
	file, err := state.OpenFile(name, flag|syscall.O_NONBLOCK, 0)
	if err != nil {
		return nil, err
	}
	if info, err := file.Stat(); err != nil || !os.SameFile(before, info) {
		_ = file.Close()
		return nil, errors.Join(err, errNotPlain)
	}
	return file, nil
}

var errNotPlain = errors.New("it is not a plain file of one name")

// checkPlain refuses a file that has another name elsewhere.
func checkPlain(path string, info fs.FileInfo) error {
	if info.Sys().(*syscall.Stat_t).Nlink != 1 {
		return fmt.Errorf("read journal %s: %w", path, errNotPlain)
	}
	return nil
}

// checkJournal refuses a journal that somebody else than root and we may have
// written.
func checkJournal(path string, info fs.FileInfo) error {
	owner := info.Sys().(*syscall.Stat_t).Uid
	switch {
	case owner != 0 && int(owner) != os.Geteuid():
		return &UntrustedError{path, owner, fmt.Sprintf("belongs to user %d, who could have any program run by it", owner)}
	case info.Mode().Perm()&0o022 != 0:
		return &UntrustedError{path, owner, "can be written by others than its owner"}
	}
	return checkPlain(path, info)
}

// readFile reads the journal's file. What a power cut has torn off its end is
// cut off where entries are to follow.
func (j *Journal) readFile(path string, entriesFollow bool) error {
	text, err := io.ReadAll(j.file)
	if err != nil {
		return fmt.Errorf("read journal %s: %w", path, err)
	}
	// The last line alone can be torn: what it said was not acted upon.
	whole := bytes.LastIndexByte(text, '\n') + 1
	if entriesFollow {
		err = j.file.Truncate(int64(whole))
		if err == nil {
			_, err = j.file.Seek(int64(whole), io.SeekStart)
		}
	}
	if err != nil {
		return fmt.Errorf("open journal %s: %w", path, err)
	}
	return j.parse(path, text[:whole])
}

func (j *Journal) parse(path string, text []byte) error {
	lines := bufio.NewScanner(bytes.NewReader(text))
	lines.Buffer(nil, len(text)+1)
	if !lines.Scan() {
		return fmt.Errorf("read journal %s: it is empty", path)
	}
	if err := json.Unmarshal(lines.Bytes(), &j.Plan); err != nil {
		return fmt.Errorf("read the plan in journal %s: %w", path, err)
	}
	for lines.Scan() {
		var e entry
		if err := json.Unmarshal(lines.Bytes(), &e); err != nil {
			return fmt.Errorf("read journal %s: %w", path, err)
		}
		j.take(e)
	}
	return lines.Err()
}

// end closes the journal under a name that says how the promotion ended. From
// then on none is under way.
func (j *Journal) end(how string) error {
	if err := j.rename(fmt.Sprintf("promotion-%s-%s.journal", how, stamp(time.Now()))); err != nil {
		return fmt.Errorf("end journal: %w", err)
	}
	if j.Written != nil {
		j.Written("journal " + how)
	}
	return j.Close()
}

func (j *Journal) rename(name string) error {
	state, err := openState(j.Plan.DataDir)
	if err != nil {
		return err
	}
	defer state.Close()
	if err := state.Rename(journalName, name); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return syncRoot(state)
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
