package promote

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"time"

	"etcdops/discover"
)

// proxyPatience is how long a proxy that was started again may take until it
// can be asked.
const proxyPatience = 30 * time.Second

// Undo brings everything back to where it was before the promotion: the
// cluster's list, the folders, the processes and the ports. It removes no
// member but the one that this promotion added, and that only while it is a
// learner. It can be cut and run again.
func (p *Promotion) Undo(ctx context.Context) error {
	id, err := p.undoable(ctx)
	if err != nil {
		return err
	}
	if !p.Journal.has(stepUndo, eventBegin) {
		if err := p.Journal.begin(stepUndo, nil); err != nil {
			return err
		}
	}
	if p.Journal.has(StepStart, eventBegin) {
		s := p.service()
		if err := p.Supervisor.Stop(ctx, s, DefaultGrace); err != nil {
			return fmt.Errorf("stop etcd: %w", err)
		}
		if err := p.Supervisor.Remove(ctx, s); err != nil {
			return fmt.Errorf("remove etcd's service: %w", err)
		}
	}
	if id != 0 {
		if err := p.Cluster.Remove(ctx, id); err != nil {
			return fmt.Errorf("remove learner %016x: %w", id, err)
		}
		p.say("removed learner %016x", id)
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

// undoable returns the ID of the learner to remove, 0 where the cluster has
// none of ours, and refuses where the member has become a voter.
func (p *Promotion) undoable(ctx context.Context) (uint64, error) {
	if !p.Journal.has(StepAdd, eventBegin) {
		return 0, nil
	}
	members, err := p.Cluster.Members(ctx)
	if err != nil {
		return 0, fmt.Errorf("list the members: %w", err)
	}
	id := p.memberID()
	for _, m := range members {
		known := slices.ContainsFunc(p.Journal.Plan.Members, func(old discover.MemberStatus) bool { return old.ID == fmt.Sprintf("%016x", m.ID) })
		// Cut before the answer to the add was recorded, the member is told by
		// its peer URLs.
		ours := m.ID == id || id == 0 && !known && !m.Started() && sameURLs(m.PeerURLs, p.Journal.Plan.PeerURLs)
		switch {
		case ours && known:
			p.say("member %016x was added before the promotion and stays", m.ID)
			return 0, nil
		case ours && !m.IsLearner:
			return 0, &VoterError{ID: m.ID}
		case ours:
			return m.ID, nil
		}
	}
	return 0, nil
}

// restoreFolders puts back what was set aside, and removes what our learner
// wrote: preflight saw that there was no member's log before.
func (p *Promotion) restoreFolders() error {
	plan := &p.Journal.Plan
	if p.Journal.has(StepStart, eventBegin) {
		member := filepath.Join(plan.DataDir, "member")
		if err := os.RemoveAll(member); err != nil {
			return fmt.Errorf("remove the learner's data: %w", err)
		}
		if plan.WALDir != "" {
			if err := emptyFolder(plan.WALDir); err != nil {
				return fmt.Errorf("remove the learner's log: %w", err)
			}
		}
		if err := removeIfThere(plan.Socket); err != nil {
			return fmt.Errorf("remove the private socket: %w", err)
		}
		for _, side := range plan.sideSockets() {
			if err := removeIfThere(side); err != nil {
				return fmt.Errorf("remove etcd's socket: %w", err)
			}
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
// this promotion has stopped.
func (p *Promotion) restoreProxy(ctx context.Context) error {
	_, found, err := p.Proxy.Find(ctx)
	if err != nil {
		return err
	}
	if found {
		if err := p.Proxy.Release(ctx); err != nil {
			return fmt.Errorf("release the proxy: %w", err)
		}
		return nil
	}
	proxy := &p.Journal.Plan.Proxy
	if !p.Journal.has(StepStopProxy, eventBegin) {
		return nil // it was not we who ended it
	}
	if proxy.Unit != "" {
		if err := p.Units.StartUnit(ctx, proxy.Unit); err != nil {
			return fmt.Errorf("start the proxy's unit again: %w", err)
		}
	} else {
		process, err := Respawn(ctx, proxy.Args, proxy.Dir, proxy.Environ, proxy.UID, proxy.GID, p.Journal.Plan.DataDir+".proxy.log")
		if err != nil {
			return fmt.Errorf("start the proxy again: %w", err)
		}
		p.say("started the proxy again, process %d", process.PID)
	}
	return p.releaseAgain(ctx)
}

// releaseAgain releases a proxy that has just been started: it found the
// promotion unfinished and holds itself.
func (p *Promotion) releaseAgain(ctx context.Context) error {
	if p.Journal.Plan.Proxy.Native {
		return nil
	}
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

// askInterval is the time between two looks at a process that comes up.
const askInterval = 50 * time.Millisecond

func emptyFolder(path string) error {
	entries, err := os.ReadDir(path)
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	for _, e := range entries {
		err = errors.Join(err, os.RemoveAll(filepath.Join(path, e.Name())))
	}
	return err
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
