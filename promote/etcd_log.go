package promote

import (
	"bytes"
	"encoding/json"
	"io"
	"regexp"
	"strings"
	"sync"
)

const (
	keptLines    = 64   // lines kept for the cause in errors
	keptLineSize = 4096 // bytes kept of each
)

// lastLines passes a process's output on and remembers its end.
type lastLines struct {
	Next io.Writer

	mu      sync.Mutex
	lines   []string
	partial []byte // of the line that is not ended yet
}

// Write never fails: a log that can't be written must not stop etcd.
func (l *lastLines) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	_, _ = l.Next.Write(p)
	rest := p
	for {
		line, after, ended := bytes.Cut(rest, []byte("\n"))
		l.partial = append(l.partial, line[:min(len(line), keptLineSize-len(l.partial))]...)
		if !ended {
			return len(p), nil
		}
		l.lines = append(l.lines, string(l.partial))
		if len(l.lines) > keptLines {
			l.lines = append(l.lines[:0], l.lines[1:]...)
		}
		l.partial = l.partial[:0]
		rest = after
	}
}

// cause picks what most likely stopped etcd, or keeps it from serving, and is
// empty where the log says nothing of the kind.
func (l *lastLines) cause() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	lines := l.lines
	if len(l.partial) > 0 {
		lines = append(lines[:len(lines):len(lines)], string(l.partial))
	}
	for _, find := range []func(string) string{lockedDir, flagError, loggedError, panicLine} {
		for i := len(lines) - 1; i >= 0; i-- {
			if cause := find(lines[i]); cause != "" {
				return cause
			}
		}
	}
	return ""
}

// lastRun cuts off what earlier runs have left in a log. Each run begins with
// the variables that it has taken, whatever its log level, in the order of the
// flags' names (pkg/flags/flag.go), and this one is set in each run of ours.
func lastRun(text []byte) []byte {
	end := len(text)
	for end > 0 {
		begin := bytes.LastIndexByte(text[:end], '\n') + 1
		line := text[begin:end]
		if bytes.Contains(line, []byte("recognized and used environment variable")) && bytes.Contains(line, []byte("ETCD_ADVERTISE_CLIENT_URLS")) {
			return text[begin:]
		}
		end = max(begin-1, 0)
	}
	return text
}

// lockedDir knows the warning with which etcd waits, for ever, for another
// process to leave the database (server/storage/backend.go).
func lockedDir(line string) string {
	if strings.Contains(line, "flocked by another process") || strings.Contains(line, "file already locked") {
		return "the data directory is in use by another process"
	}
	return ""
}

// flagError knows what package flag prints before etcd logs anything.
func flagError(line string) string {
	if strings.HasPrefix(line, "flag provided but not defined") || strings.HasPrefix(line, "invalid value ") {
		return line
	}
	return ""
}

// flagsRefused is the last word of an etcd whose flags contradict each other; it
// is a mere warning (server/etcdmain/etcd.go).
const flagsRefused = "failed to verify flags"

// plainError is a line of the log of 3.4, of level error or critical:
// 2026-11-22 17:44:15.917775 E | etcdmain: error verifying flags, …
var plainError = regexp.MustCompile(`^\d{4}-\d\d-\d\d [\d:.]+ [EC] \| (?:[\w/]+: )?(.+)`)

// loggedError reads a line of etcd's log, of level error and above: JSON, or
// before 3.5 plain text.
func loggedError(line string) string {
	if found := plainError.FindStringSubmatch(line); found != nil {
		return found[1]
	}
	var entry struct {
		Level, Msg, Error string
	}
	if !strings.HasPrefix(line, "{") || json.Unmarshal([]byte(line), &entry) != nil {
		return ""
	}
	switch entry.Level {
	case "error", "dpanic", "panic", "fatal":
	case "warn":
		if entry.Msg == flagsRefused {
			return entry.Error
		}
		return ""
	default:
		return ""
	}
	switch {
	case entry.Error == "":
		return entry.Msg
	case entry.Msg == "discovery failed":
		// etcd says so of everything that keeps it from starting
		// (server/etcdmain/etcd.go), a used port above all.
		return entry.Error
	default:
		return entry.Msg + ": " + entry.Error
	}
}

// panicLine knows the first line of a Go panic.
func panicLine(line string) string {
	if strings.HasPrefix(line, "panic: ") || strings.HasPrefix(line, "fatal error: ") {
		return line
	}
	return ""
}
