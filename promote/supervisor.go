package promote

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

// failedLines is how many of the last log lines a failure shows.
const failedLines = 20

// Service is the etcd that is to run and who keeps it running.
type Service struct {
	Binary    Binary    `json:"binary"`
	Flags     []string  `json:"flags,omitempty"` // etcd's, as typed behind --
	Variables Variables `json:"variables"`
	// Unset are variables that etcd must not get from elsewhere.
	Unset   []string `json:"unset,omitempty"`
	Name    string   `json:"name"`
	DataDir string   `json:"data_dir"` // absolute
	// Dir is etcd's working directory; if empty, it is DataDir.
	Dir string `json:"dir,omitempty"`
	UID uint32 `json:"uid"`
	GID uint32 `json:"gid"`
	// LogPath is the file to which Detached appends what etcd prints.
	LogPath string `json:"log_path,omitempty"`
	// LogFrom is how much of that was there before this etcd, in bytes.
	LogFrom int64 `json:"-"`
	// Unit is Systemd's: a unit of our own, or with DropIn an existing one
	// that runs etcd from now on.
	Unit   string `json:"unit,omitempty"`
	DropIn bool   `json:"drop_in,omitempty"`
	// Known is the process that was started for this service, if one was: it
	// is found also where its program can't be told from its file any more.
	Known *Process `json:"-"`
}

// Supervisor starts the etcd of a service and keeps it running. All of its
// methods can be cut anywhere and called again.
type Supervisor interface {
	// Start starts etcd, or returns the one that runs. It returns as soon as
	// the process runs, which is long before it serves.
	Start(ctx context.Context, s Service) (Process, error)
	// Find returns the etcd that runs.
	Find(ctx context.Context, s Service) (Process, bool, error)
	// Stop ends etcd, by SIGKILL after grace, and returns when it is gone.
	Stop(ctx context.Context, s Service, grace time.Duration) error
	// Remove takes away what Start has set up besides the process, and
	// restores what was there before.
	Remove(ctx context.Context, s Service) error
	// Settle ends a promotion: s has the variables that stay, and from here
	// on etcd is started again when it fails.
	Settle(ctx context.Context, s Service) error
	// Failed says, after the process has ended, what most likely ended it,
	// and its last log lines, oldest first.
	Failed(ctx context.Context, s Service) (cause string, lines []string)
}

var (
	_ Supervisor = (*Detached)(nil)
	_ Supervisor = (*Systemd)(nil)
)

func (s *Service) workingDir() string { return cmp.Or(s.Dir, s.DataDir) }

// arguments are those of the command, without its own name.
func (s *Service) arguments() []string { return slices.Concat(s.Binary.Args, s.Flags) }

// variables are those of the service, and the two by which its process is
// known.
func (s *Service) variables() Variables {
	return s.Variables.With(Variable{"ETCD_NAME", s.Name}, Variable{"ETCD_DATA_DIR", s.DataDir})
}

// unset are the names in Unset that the service does not set itself.
func (s *Service) unset() []string {
	return slices.DeleteFunc(slices.Clone(s.Unset), func(name string) bool {
		return slices.ContainsFunc(s.Variables, func(v Variable) bool { return v.Name == name })
	})
}

// checkProgram refuses a script: its process would be the interpreter, or none
// that we could tell from another's.
func (s *Service) checkProgram() error {
	script, err := isScript(s.Binary.Path)
	if err != nil {
		return fmt.Errorf("look at etcd's binary: %w", err)
	}
	if script {
		return fmt.Errorf("%s is a script: name the etcd binary itself", s.Binary.Path)
	}
	return nil
}

func isScript(path string) (bool, error) {
	file, err := os.Open(path)
	if err != nil {
		return false, err
	}
	defer file.Close()
	head := make([]byte, 2)
	_, err = io.ReadFull(file, head)
	return err == nil && string(head) == "#!", nil
}

// errStarting says that a process is between its old program and its new one.
var errStarting = errors.New("the process is being started")

// isRunBy tells whether the process is the etcd of this service: its program,
// with its arguments, name and data directory. A forked child that has not
// become etcd yet still shows its parent's, and is none; nor is a shell, or a
// promotion, that merely has the same variables. What can't be looked at, and
// what is gone, is none either.
//
// The error is errStarting where the answer comes in a moment: the kernel shows
// the new program some microseconds before its arguments.
func (s *Service) isRunBy(p Process) (bool, error) {
	if !s.isProgramOf(p) {
		return false, nil
	}
	args, err := p.Args()
	if err != nil {
		return false, nil //nolint:nilerr // it is gone
	}
	if len(args) == 0 && p.Alive() {
		return false, errStarting
	}
	if len(args) == 0 || !slices.Equal(args[1:], s.arguments()) {
		return false, nil
	}
	environ, err := p.Environ()
	if err != nil {
		return false, nil //nolint:nilerr // it is gone, or not ours to look into
	}
	return slices.Contains(environ, "ETCD_DATA_DIR="+s.DataDir) && slices.Contains(environ, "ETCD_NAME="+s.Name), nil
}

// isKnown tells whether the process that is known to be etcd still runs, with
// this data directory and as this user.
func (s *Service) isKnown() bool {
	if s.Known == nil {
		return false
	}
	uid, _, err := s.Known.Owner()
	if err != nil || uid != s.UID {
		return false
	}
	environ, err := s.Known.Environ()
	return err == nil && slices.Contains(environ, "ETCD_DATA_DIR="+s.DataDir)
}

// isProgramOf compares the files, because paths have links in them, and then
// the paths, because the file may have been replaced since the start, or a link
// to it.
func (s *Service) isProgramOf(p Process) bool {
	exe, err := p.Exe()
	if err != nil {
		return false
	}
	running, err := os.Stat(procPath(p.PID, "exe"))
	if err != nil {
		return false
	}
	if file, err := os.Stat(s.Binary.Path); err == nil && os.SameFile(running, file) {
		return true
	}
	path, err := filepath.EvalSymlinks(s.Binary.Path)
	return err == nil && exe == path || exe == s.Binary.Path || exe == s.Binary.File
}

// logEnd returns the last lines of a log's last run, and the likely cause in them and
// some more: a wrong flag is told before a long help.
func logEnd(text []byte) (cause string, lines []string) {
	text = bytes.TrimRight(lastRun(text), "\n")
	if len(text) == 0 {
		return "", nil
	}
	l := &lastLines{Next: io.Discard}
	_, _ = l.Write(text) // never fails
	lines = strings.Split(string(text), "\n")
	return l.cause(), lines[max(0, len(lines)-failedLines):]
}

// serviceName is a unit's name as systemctl reads it: without a type it is that
// of a service.
func serviceName(unit string) string {
	if strings.HasSuffix(unit, ".service") {
		return unit
	}
	return unit + ".service"
}

// UnitName is the name of a member's unit: what systemd does not allow in it
// is escaped as systemd-escape does.
func UnitName(member string) string {
	var name strings.Builder
	name.WriteString("etcd-")
	for _, b := range []byte(member) {
		switch {
		case b == '/':
			name.WriteByte('-')
		case b >= '0' && b <= '9', b >= 'a' && b <= 'z', b >= 'A' && b <= 'Z', b == ':', b == '_', b == '.', b == '-':
			name.WriteByte(b)
		default:
			fmt.Fprintf(&name, `\x%02x`, b)
		}
	}
	return name.String() + ".service"
}
