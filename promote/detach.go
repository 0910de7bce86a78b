package promote

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"
)

const (
	// startingPause is the time between two looks at a process that is just
	// becoming etcd, and startingLooks how often it is looked at.
	startingPause = time.Millisecond
	startingLooks = 1000
	// failedLogBytes bounds what is read of the end of a log.
	failedLogBytes = 64 << 10
)

// Detached runs etcd in a session of its own, as a daemon that nobody watches:
// it outlives us, and nothing starts it again.
//
// A service's etcd is found by what it is, so that it is never started twice,
// also where a promotion was killed before it could note the pid. What can't be
// found is a child that was forked and is not etcd yet; the caller keeps that
// from happening with Lock, whose lock such a child holds on to until it has
// become etcd.
type Detached struct {
	// Environ is what PATH, TZ and the like are taken from. If nil, it is the
	// environment of this process.
	Environ []string
}

// Start implements Supervisor. Nothing is left where the binary can't be run.
func (d *Detached) Start(ctx context.Context, s Service) (Process, error) {
	if p, found, err := d.Find(ctx, s); found || err != nil {
		return p, err
	}
	if err := s.checkProgram(); err != nil {
		return Process{}, err
	}
	environ := d.Environ
	if environ == nil {
		environ = os.Environ()
	}
	environ = append(keepNeeded(Environment(environ)), s.variables().Environ()...)
	argv := append([]string{s.Binary.Path}, s.arguments()...)
	return Respawn(ctx, argv, s.workingDir(), environ, s.UID, s.GID, s.LogPath)
}

// Find implements Supervisor.
func (d *Detached) Find(ctx context.Context, s Service) (Process, bool, error) {
	for range startingLooks {
		p, found, err := findRunning(&s)
		if !errors.Is(err, errStarting) {
			return p, found, err
		}
		select {
		case <-ctx.Done():
			return Process{}, false, fmt.Errorf("find etcd: %w", context.Cause(ctx))
		case <-time.After(startingPause):
		}
	}
	// A process without arguments that stays so is not etcd.
	return Process{}, false, nil
}

// findRunning looks at the process that is known, and then at all. errStarting
// is returned only where no other is the one.
func findRunning(s *Service) (Process, bool, error) {
	if s.isKnown() {
		return *s.Known, true, nil
	}
	pids, err := runningPIDs()
	if err != nil {
		return Process{}, false, fmt.Errorf("find etcd: %w", err)
	}
	var starting error
	for _, pid := range pids {
		p, err := FindProcess(pid)
		if err != nil {
			continue // it has just ended
		}
		ours, err := s.isRunBy(p)
		if err != nil {
			starting = err
		}
		if ours {
			return p, true, nil
		}
	}
	return Process{}, false, starting
}

// Stop implements Supervisor.
func (d *Detached) Stop(ctx context.Context, s Service, grace time.Duration) error {
	p, found, err := d.Find(ctx, s)
	if err != nil || !found {
		return err
	}
	_, err = p.Stop(ctx, grace)
	return err
}

// Remove implements Supervisor: besides the process there is only the log,
// which stays.
func (d *Detached) Remove(context.Context, Service) error { return nil }

// Settle implements Supervisor: nobody keeps etcd running but the operator,
// with UnitToPaste.
func (d *Detached) Settle(context.Context, Service) error { return nil }

// Failed implements Supervisor.
func (d *Detached) Failed(_ context.Context, s Service) (cause string, lines []string) {
	file, err := os.Open(s.LogPath)
	if err != nil {
		return "", nil
	}
	defer file.Close()
	if info, err := file.Stat(); err == nil && info.Size() >= s.LogFrom {
		_, _ = file.Seek(max(s.LogFrom, info.Size()-failedLogBytes), io.SeekStart)
	}
	text, _ := io.ReadAll(io.LimitReader(file, failedLogBytes))
	return logEnd(text)
}

// neededVariables are what etcd, or Go below it, takes from its surroundings.
// HOME and the user's name are not among them: they would be root's.
var neededVariables = []string{
	"PATH", "TMPDIR", "TZ", "LANG", "LC_ALL", "SSL_CERT_FILE", "SSL_CERT_DIR",
	"GODEBUG", "GOGC", "GOMAXPROCS", "GOMEMLIMIT", "GOTRACEBACK",
}

func keepNeeded(environ []string) []string {
	return slices.DeleteFunc(slices.Clone(environ), func(entry string) bool {
		name, _, _ := strings.Cut(entry, "=")
		return !slices.Contains(neededVariables, name)
	})
}

// Respawn starts a program as a daemon: in a session of its own, with nothing
// of ours but what is given here, as uid and gid and with that user's groups.
// stdin is empty, the output is appended to logPath, or thrown away where that
// is empty. argv[0] is a path, relative to dir where it is not absolute, or a
// name on our PATH. Only root can start a program as somebody else.
//
// The process does not end with ctx, nor with us. Nothing is left where it
// can't be started.
func Respawn(ctx context.Context, argv []string, dir string, environ []string, uid, gid uint32, logPath string) (Process, error) {
	if err := ctx.Err(); err != nil {
		return Process{}, err
	}
	if len(argv) == 0 {
		return Process{}, errors.New("start a process: no command")
	}
	process, err := spawn(argv, dir, environ, uid, gid, logPath)
	if err != nil {
		return Process{}, fmt.Errorf("start %s: %w", argv[0], err)
	}
	return process, nil
}

func spawn(argv []string, dir string, environ []string, uid, gid uint32, logPath string) (Process, error) {
	path, err := programPath(argv[0], dir)
	if err != nil {
		return Process{}, err
	}
	credential, err := credentialOf(uid, gid)
	if err != nil {
		return Process{}, err
	}
	null, err := os.OpenFile(os.DevNull, os.O_RDWR, 0)
	if err != nil {
		return Process{}, err
	}
	defer null.Close()
	log, discardLog := null, func() {}
	if logPath != "" {
		if log, discardLog, err = openLog(logPath, uid, gid); err != nil {
			return Process{}, err
		}
		defer log.Close()
	}
	if err := keepDescriptors(); err != nil {
		discardLog()
		return Process{}, fmt.Errorf("keep our descriptors: %w", err)
	}
	child, err := os.StartProcess(path, argv, &os.ProcAttr{
		Dir: dir, Env: environ, Files: []*os.File{null, log, log},
		Sys: &syscall.SysProcAttr{Setsid: true, Credential: credential},
	})
	if err != nil {
		discardLog()
		return Process{}, err
	}
	process, err := FindProcess(child.Pid)
	go reap(child)
	return process, err
}

// reap keeps a child that ends while we live from staying a zombie. Nobody
// waits for it: when we end first, init reaps the child.
func reap(child *os.Process) { _, _ = child.Wait() }

func programPath(name, dir string) (string, error) {
	switch {
	case filepath.IsAbs(name):
		return name, nil
	case strings.ContainsRune(name, filepath.Separator):
		return filepath.Join(dir, name), nil
	default:
		return exec.LookPath(name)
	}
}

// credentialOf returns nil where the process is to run as who we are.
func credentialOf(uid, gid uint32) (*syscall.Credential, error) {
	if int(uid) == os.Geteuid() && int(gid) == os.Getegid() {
		return nil, nil
	}
	if os.Geteuid() != 0 {
		return nil, fmt.Errorf("only root can start it as user %d, group %d: run this as root", uid, gid)
	}
	return &syscall.Credential{Uid: uid, Gid: gid, Groups: supplementaryGroups(uid)}, nil
}

// supplementaryGroups are the supplementary groups of a user, none where the user is not
// known; never ours.
func supplementaryGroups(uid uint32) []uint32 {
	groups := []uint32{}
	known, err := user.LookupId(strconv.FormatUint(uint64(uid), 10))
	if err != nil {
		return groups
	}
	ids, _ := known.GroupIds()
	for _, id := range ids {
		if gid, err := strconv.ParseUint(id, 10, 32); err == nil {
			groups = append(groups, uint32(gid))
		}
	}
	return groups
}

// openLog opens a log to append to, that its owner alone can read. The folder
// may belong to somebody else than root, who could have put a link there:
// whatever is not a plain file of one name is refused. discard removes a file
// that was made here.
func openLog(path string, uid, gid uint32) (log *os.File, discard func(), err error) {
	_, err = os.Lstat(path)
	isNew := errors.Is(err, fs.ErrNotExist)
	// O_NONBLOCK, so that opening a named pipe ends too.
	flags := os.O_WRONLY | os.O_APPEND | syscall.O_NOFOLLOW | syscall.O_NONBLOCK
	if isNew {
		flags |= os.O_CREATE | os.O_EXCL
	}
	log, err = os.OpenFile(path, flags, 0o600)
	if errors.Is(err, syscall.ELOOP) {
		return nil, nil, fmt.Errorf("open log: %s is a symbolic link", path)
	}
	if err != nil {
		return nil, nil, fmt.Errorf("open log: %w", err)
	}
	info, err := log.Stat()
	if err == nil && (!info.Mode().IsRegular() || info.Sys().(*syscall.Stat_t).Nlink != 1) {
		err = fmt.Errorf("%s is not a plain file of one name", path)
	}
	if err == nil {
		err = errors.Join(log.Chmod(0o600), giveFile(log, uid, gid), syscall.SetNonblock(int(log.Fd()), false))
	}
	discard = func() {
		if isNew {
			_ = os.Remove(path)
		}
	}
	if err != nil {
		_ = log.Close()
		discard()
		return nil, nil, fmt.Errorf("open log: %w", err)
	}
	return log, discard, nil
}

// UnitToPaste is a unit that keeps this etcd running after a reboot, for an
// operator who wants one. It is empty where a value can't stand in a unit;
// such values are refused when the variables are printed.
func UnitToPaste(s Service) string {
	s.DropIn = false
	if s.Unit == "" {
		s.Unit = UnitName(s.Name)
	}
	text, err := s.unitText(unitPasted, "")
	if err != nil {
		return ""
	}
	return text
}
