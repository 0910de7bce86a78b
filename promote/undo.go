package promote

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net"
	"os"
	"path/filepath"
	"slices"
	"time"

	"golang.org/x/sys/unix"

	"etcdops/discover"
)

// proxyPatience is how long a proxy that was started again may take until it
// can be asked.
const proxyPatience = 30 * time.Second

// Undo brings everything back to where it was before the promotion: the
// cluster's list, the folders, the processes and the ports. It removes no
// member but the one that this promotion added, and that only while it is a
// learner. It can be cut and run again.
//
// Errors before anything is changed are *VoterError, where the member has become
// a voter, and *ReplacedError.
func (p *Promotion) Undo(ctx context.Context) error {
	if p.Journal.has(stepUndo, eventDone) {
		return p.Journal.end("undone")
	}
	id, err := p.undoable(ctx)
	if err != nil {
		return p.revoked(err)
	}
	if !p.Journal.Undoing() {
		if err := p.Journal.begin(stepUndo, nil); err != nil {
			return err
		}
	}
	// The learner goes before its process: whoever makes it a voter meanwhile
	// must find a member that lives.
	if id != 0 {
		if err := p.Cluster.Remove(ctx, id); err != nil {
			return p.revoked(fmt.Errorf("remove learner %016x: %w", id, err))
		}
		p.say("removed learner %016x", id)
	}
	if p.Journal.has(StepStart, eventBegin) {
		s := p.service()
		if err := p.Supervisor.Stop(ctx, s, DefaultGrace); err != nil {
			return fmt.Errorf("stop etcd: %w", err)
		}
		if err := p.Supervisor.Remove(ctx, s); err != nil {
			return fmt.Errorf("remove etcd's service: %w", err)
		}
		if err := p.clearData(); err != nil {
			return err
		}
	}
	if err := p.restoreFolders(); err != nil {
		return err
	}
	if err := p.restoreProxy(ctx); err != nil {
		return err
	}
	if err := p.Journal.done(stepUndo, nil); err != nil {
		return err
	}
	return p.Journal.end("undone")
}

// revoked ends an undo that found a voter: only the way forward is left. Nothing
// was undone yet, because the learner goes first.
func (p *Promotion) revoked(err error) error {
	var voter *VoterError
	if !errors.As(err, &voter) || !p.Journal.Undoing() {
		return err
	}
	return errors.Join(err, p.Journal.write(stepUndo, eventRevoked, nil))
}

// ReplacedError says that a member which this promotion does not know has the
// new member's name or addresses: somebody has added it by hand since. Its data
// may lie where this promotion's was.
type ReplacedError struct{ Member discover.Member }

// Error implements error.
func (e *ReplacedError) Error() string {
	return describe(e.Member) + " has taken the place of this promotion's"
}

// undoable returns the ID of the learner to remove, 0 where the cluster has
// none of ours.
func (p *Promotion) undoable(ctx context.Context) (uint64, error) {
	if !p.Journal.has(StepAdd, eventBegin) {
		return 0, nil
	}
	plan := &p.Journal.Plan
	members, err := p.Cluster.Members(ctx)
	if err != nil {
		return 0, fmt.Errorf("list the members: %w", err)
	}
	id, found := p.memberID(), uint64(0)
	for _, m := range members {
		known := slices.ContainsFunc(plan.Members, func(old discover.MemberStatus) bool { return old.ID == fmt.Sprintf("%016x", m.ID) })
		// Cut before the answer to the add was recorded, the member is told by
		// its peer URLs.
		ours := m.ID == id || id == 0 && !known && !m.Started() && sameURLs(m.PeerURLs, plan.PeerURLs)
		switch {
		case ours && !m.IsLearner:
			return 0, &VoterError{ID: m.ID}
		case ours && known && !p.Journal.has(StepStart, eventBegin):
			p.say("member %016x was added before the promotion and stays", m.ID)
		case ours:
			found = m.ID
		case !known && plan.hasPlaceOf(m):
			return 0, &ReplacedError{Member: m}
		}
	}
	return found, nil
}

// hasPlaceOf tells whether a member has the new one's name or an address of it.
func (p *Plan) hasPlaceOf(m discover.Member) bool {
	shared := func(a, b []string) bool {
		return slices.ContainsFunc(a, func(u string) bool { return slices.Contains(b, u) })
	}
	return m.Name == p.Name || shared(m.PeerURLs, p.PeerURLs) || shared(m.ClientURLs, p.Service.list("ETCD_ADVERTISE_CLIENT_URLS"))
}

// clearData removes what our learner wrote. Preflight saw that there was no
// member's log before; what was there is set aside. A run that was cut here goes
// on with the folder that it had renamed, and never takes the one put back for
// the learner's.
func (p *Promotion) clearData() error {
	plan := &p.Journal.Plan
	member, undone := filepath.Join(plan.DataDir, "member"), plan.asideOf("member.undone")
	if err := checkUnlocked(filepath.Join(member, "snap", "db")); err != nil {
		return err
	}
	if !p.Journal.has(stepUndo, eventCleared) {
		if _, err := os.Lstat(undone); err != nil {
			if err := setAside(member, undone); err != nil {
				return fmt.Errorf("remove the learner's data: %w", err)
			}
		}
		if err := p.clearWAL(); err != nil {
			return fmt.Errorf("remove the learner's log: %w", err)
		}
		if err := p.Journal.write(stepUndo, eventCleared, nil); err != nil {
			return err
		}
	}
	if err := os.RemoveAll(undone); err != nil {
		return fmt.Errorf("remove the learner's data: %w", err)
	}
	for _, path := range append(slices.Collect(maps.Values(plan.sideSockets())), plan.Socket) {
		if err := removeIfThere(path); err != nil {
			return fmt.Errorf("remove etcd's socket: %w", err)
		}
	}
	if folder := filepath.Dir(plan.Socket); folder != filepath.Join(plan.DataDir, StateFolder) {
		if err := removeIfThere(folder); err != nil {
			return fmt.Errorf("remove the folder of etcd's socket: %w", err)
		}
	}
	return nil
}

// checkUnlocked refuses to remove a database that a process has open.
func checkUnlocked(path string) error {
	file, err := os.Open(path)
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	defer file.Close() // gives the lock back
	if err := unix.Flock(int(file.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		return fmt.Errorf("a process has %s open, and it is not the etcd that was started here: stop it, fuser -v says who it is", path)
	}
	return nil
}

// clearWAL removes etcd's files from a folder for the log alone, and the folder
// where it was not there before. A symbolic link is not followed.
func (p *Promotion) clearWAL() error {
	dir := p.Journal.Plan.WALDir
	if dir == "" {
		return nil
	}
	info, err := os.Lstat(dir)
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	if !info.IsDir() {
		return fmt.Errorf("%s is not a folder", dir)
	}
	// server/storage/wal names them so.
	for _, pattern := range []string{"*.wal", "*.wal.broken", "*.tmp"} {
		names, _ := filepath.Glob(filepath.Join(dir, pattern)) // the pattern is good
		for _, name := range names {
			err = errors.Join(err, removeIfThere(name))
		}
	}
	if !p.Journal.Plan.WALDirThere {
		err = errors.Join(err, removeIfThere(dir))
	}
	return err
}

// restoreFolders puts back what was set aside.
func (p *Promotion) restoreFolders() error {
	plan := &p.Journal.Plan
	proxy := filepath.Join(plan.DataDir, "proxy")
	if _, err := os.Lstat(proxy); err == nil {
		// A native proxy that came back has made it anew: the younger memory is
		// as good.
		if err := removeFolder(plan.asideOf("proxy")); err != nil {
			return fmt.Errorf("remove the folder set aside: %w", err)
		}
	}
	for _, folder := range []string{"member", "proxy"} {
		path := filepath.Join(plan.DataDir, folder)
		if err := putBack(plan.asideOf(folder), path); err != nil {
			return fmt.Errorf("put %s back: %w", path, err)
		}
	}
	return nil
}

// restoreProxy gives a running proxy its memory back, and starts again one that
// this promotion has stopped, or has begun to.
func (p *Promotion) restoreProxy(ctx context.Context) error {
	proxy := &p.Journal.Plan.Proxy
	found, err := p.findComing(ctx)
	if !p.Journal.has(StepStopProxy, eventBegin) {
		// It was not told to end: where it does not run, that was not us.
		if err != nil || !found {
			return err
		}
		if err := p.Proxy.Release(ctx); err != nil {
			return fmt.Errorf("release the proxy: %w", err)
		}
		return nil
	}
	if err == nil && found && !proxy.Native && p.Proxy.Release(ctx) == nil {
		return nil // cut before it began to end
	}
	// What has begun to end is ended, and started anew.
	if err := p.stopProxy(ctx); err != nil {
		return err
	}
	switch {
	case proxy.Unit != "":
		if err := p.Units.StartUnit(ctx, proxy.Unit); err != nil {
			return fmt.Errorf("start the proxy's unit again: %w", err)
		}
	case len(proxy.Args) == 0:
		p.say("start the proxy again by hand: there was a password in its command line, which was not kept")
		return nil
	default:
		process, err := Respawn(ctx, proxy.Args, proxy.Dir, proxy.Environ, proxy.UID, proxy.GID, p.Journal.Plan.DataDir+".proxy.log")
		if err != nil {
			return fmt.Errorf("start the proxy again: %w", err)
		}
		p.say("started the proxy again, process %d, log %s.proxy.log", process.PID, p.Journal.Plan.DataDir)
	}
	if proxy.Native {
		return awaitListening(ctx, proxy.Listeners)
	}
	return p.releaseAgain(ctx)
}

// releaseAgain releases a proxy that has just been started: it found the
// promotion unfinished and holds itself.
func (p *Promotion) releaseAgain(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, proxyPatience)
	defer cancel()
	ticker := time.NewTicker(askInterval)
	defer ticker.Stop()
	for {
		_, found, err := p.Proxy.Find(ctx)
		if err == nil && found {
			err = p.Proxy.Release(ctx)
		}
		if err == nil && found {
			return nil
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("the proxy was started again, but can't be asked: %w", errors.Join(ctx.Err(), err))
		case <-ticker.C:
		}
	}
}

// awaitListening waits until somebody listens on each TCP client URL.
func awaitListening(ctx context.Context, listeners []Listener) error {
	ctx, cancel := context.WithTimeout(ctx, proxyPatience)
	defer cancel()
	ticker := time.NewTicker(askInterval)
	defer ticker.Stop()
	for _, l := range listeners {
		e, err := parseEndpoint(l.URL)
		if err != nil || e.unix() {
			continue
		}
		for {
			conn, err := new(net.Dialer).DialContext(ctx, "tcp", e.address())
			if err == nil {
				_ = conn.Close()
				break
			}
			select {
			case <-ctx.Done():
				return fmt.Errorf("the proxy was started again, but does not listen on %s: %w", l.URL, err)
			case <-ticker.C:
			}
		}
	}
	return nil
}

// askInterval is the time between two looks at a process that comes up.
const askInterval = 50 * time.Millisecond

// removeFolder removes a folder of ours with all that is in it. A symbolic link
// is none of ours.
func removeFolder(path string) error {
	info, err := os.Lstat(path)
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	if !info.IsDir() {
		return fmt.Errorf("%s is not a folder", path)
	}
	return os.RemoveAll(path)
}

func removeIfThere(path string) error {
	if err := os.Remove(path); err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	return nil
}

func sameURLs(a, b []string) bool {
	a, b = slices.Clone(a), slices.Clone(b)
	slices.Sort(a)
	slices.Sort(b)
	return slices.Equal(a, b)
}
