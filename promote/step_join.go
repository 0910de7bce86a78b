package promote

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"
)

// add makes the new member known to the cluster, and its variables from the
// answer.
func (p *Promotion) add(ctx context.Context) (*Facts, error) {
	plan := &p.Journal.Plan
	added, err := p.Cluster.Add(ctx, plan.Name, plan.PeerURLs, plan.Voter)
	if err != nil {
		return nil, err
	}
	initial, err := added.InitialCluster(plan.Name)
	if err != nil {
		return nil, err
	}
	role := "learner"
	if plan.Voter {
		role = "voter"
	}
	if added.Before {
		p.say("member %016x was added before, going on with it", added.ID)
	} else {
		p.say("added %s as %s %016x to cluster %s", plan.Name, role, added.ID, plan.ClusterID)
	}
	return &Facts{MemberID: fmt.Sprintf("%016x", added.ID), InitialCluster: initial}, nil
}

// print gives out the variables, in each run once: they are what a script
// takes from it.
func (p *Promotion) print(context.Context) (*Facts, error) {
	plan := &p.Journal.Plan
	return nil, p.Print(plan.variables(p.Journal.Facts.InitialCluster), plan.Unset)
}

// aside renames the proxy's folder: etcd 3.6 and later do not start where it
// stands (server/embed/etcd.go), earlier ones start a proxy. What a failed join
// left as member/ goes too; preflight saw that it holds no log.
func (p *Promotion) aside(ctx context.Context) (*Facts, error) {
	if err := p.hold(ctx); err != nil {
		return nil, err
	}
	plan := &p.Journal.Plan
	for _, folder := range []string{"proxy", "member"} {
		path := filepath.Join(plan.DataDir, folder)
		_, err := os.Lstat(path)
		if folder == "member" {
			if logs, _ := filepath.Glob(filepath.Join(path, "wal", "*.wal")); len(logs) > 0 {
				return nil, fmt.Errorf("set %s aside: it holds the log of a member, which was not there before", path)
			}
		}
		if err := p.setFolderAside(folder); err != nil {
			return nil, err
		}
		if err == nil {
			p.say("set %s aside as %s", path, filepath.Base(plan.asideOf(folder)))
		}
	}
	return nil, nil
}

// setFolderAside renames a folder of the data directory. A proxy/ that a native
// proxy has made anew since takes the place of the one set aside first: the
// younger memory is as good.
func (p *Promotion) setFolderAside(folder string) error {
	plan := &p.Journal.Plan
	path, aside := filepath.Join(plan.DataDir, folder), plan.asideOf(folder)
	if _, err := os.Lstat(path); err == nil && folder == "proxy" {
		if err := removeFolder(aside); err != nil {
			return fmt.Errorf("set %s aside: %w", path, err)
		}
	}
	if err := setAside(path, aside); err != nil {
		return fmt.Errorf("set %s aside: %w", path, err)
	}
	return nil
}

// hold makes a proxy that runs keep its hands off the data directory, and its
// ports its own. Where none runs there is nothing to hold.
func (p *Promotion) hold(ctx context.Context) error {
	_, found, err := p.Proxy.Find(ctx)
	if err != nil || !found {
		return err
	}
	if err := p.Proxy.Hold(ctx); err != nil {
		return fmt.Errorf("hold the proxy: %w", err)
	}
	return nil
}

// stopProxyFirst is the order without hand-over: the proxy ends, then etcd
// takes its ports.
func (p *Promotion) stopProxyFirst(ctx context.Context) (*Facts, error) {
	_, found, err := p.Proxy.Find(ctx)
	if err != nil {
		return nil, err
	}
	facts := &Facts{Drained: &Drained{}}
	if found {
		// While it drains it still takes new connections: the dark time begins
		// behind that.
		if facts.Drained, err = p.drainProxy(ctx); err != nil {
			return nil, err
		}
	}
	p.dark = time.Now()
	return facts, p.stopProxy(ctx)
}

// start starts etcd, or finds it started.
func (p *Promotion) start(ctx context.Context) (*Facts, error) {
	process, err := p.ensureEtcd(ctx)
	if err != nil {
		return nil, err
	}
	p.say("started etcd %s, process %d", p.Journal.Plan.Service.Binary.Version, process.PID)
	return &Facts{Etcd: &process}, nil
}

// ensureEtcd is for every step that needs etcd: after a power cut an earlier
// run's etcd is gone.
func (p *Promotion) ensureEtcd(ctx context.Context) (Process, error) {
	if p.Journal.Plan.HandOver && !p.Journal.has(StepHandOver, eventDone) {
		// Before etcd binds the ports, also if the proxy was started again since.
		if err := p.hold(ctx); err != nil {
			return Process{}, err
		}
	}
	if !p.Journal.Plan.HandOver {
		if err := p.clearWay(ctx); err != nil {
			return Process{}, err
		}
	}
	if err := makeFolder(filepath.Dir(p.Journal.Plan.Socket), p.Journal.Plan.Service.UID, p.Journal.Plan.Service.GID); err != nil {
		return Process{}, fmt.Errorf("make a folder for the private socket: %w", err)
	}
	process, err := p.Supervisor.Start(ctx, p.service())
	if err != nil {
		return Process{}, fmt.Errorf("start etcd: %w", err)
	}
	p.watch(ctx, process)
	return process, nil
}

// clearWay is for a proxy that came back between its end and etcd's start, as
// its unit does after a power cut: a native one makes its folder anew.
func (p *Promotion) clearWay(ctx context.Context) error {
	if _, runs, err := p.Supervisor.Find(ctx, p.service()); err != nil || runs {
		return err
	}
	if err := p.stopProxy(ctx); err != nil {
		return err
	}
	return p.setFolderAside("proxy")
}

// catchUp waits for the learner and makes it a voter.
func (p *Promotion) catchUp(ctx context.Context) (*Facts, error) {
	if p.ended == nil {
		if _, err := p.ensureEtcd(ctx); err != nil {
			return nil, err
		}
	}
	err := p.Cluster.Stirred(ctx, func() error {
		return p.Cluster.CatchUp(ctx, p.memberID(), p.Joiner, p.StallTimeout, p.ended, p.Progress)
	})
	if err != nil {
		return nil, err
	}
	p.say("member %s is a voter", p.Journal.Facts.MemberID)
	return nil, nil
}

// serve waits until the new member answers by itself, which can be seconds
// after the cluster calls it a member.
func (p *Promotion) serve(ctx context.Context) (*Facts, error) {
	if p.ended == nil {
		if _, err := p.ensureEtcd(ctx); err != nil {
			return nil, err
		}
	}
	if err := p.awaitServing(ctx); err != nil {
		return nil, err
	}
	if began := p.darkSince(); !began.IsZero() {
		p.darkFor = time.Since(began)
		p.say("the client ports were dark for %v", p.darkFor.Round(time.Millisecond))
	}
	p.say("member %s serves clients", p.Journal.Facts.MemberID)
	return nil, nil
}

// darkSince is when the client ports lost their listener, zero if they did not.
// After an earlier run only the clock on the wall can tell.
func (p *Promotion) darkSince() time.Time {
	if p.dark.IsZero() && !p.Journal.Plan.HandOver {
		return p.Journal.at(StepStopProxy, eventBegin)
	}
	return p.dark
}

// awaitServing waits until the member answers by itself.
func (p *Promotion) awaitServing(ctx context.Context) error {
	err := p.Cluster.Stirred(ctx, func() error {
		return p.Joiner.Serves(ctx, p.memberID(), p.ended, p.StallTimeout, func(waited time.Duration, last error) {
			p.say("waiting for etcd to serve for %v: last answer: %s", waited.Round(time.Second), plain(last))
		})
	})
	var ended *EndedError
	if errors.As(err, &ended) {
		// It is a voter: it can't be undone, so this must not look like it.
		return fmt.Errorf("etcd ended after it became a voter: %w", ended.Err)
	}
	return err
}

// again is for the steps behind serve: where an earlier run took that, etcd may
// have ended since, as by a power cut.
func (p *Promotion) again(ctx context.Context) error {
	if p.ended != nil {
		return nil
	}
	if _, err := p.ensureEtcd(ctx); err != nil {
		return err
	}
	return p.awaitServing(ctx)
}
