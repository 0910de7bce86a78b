package promote

import (
	"context"
	"errors"
	"fmt"
	"os"
	"time"
)

// handOver gives the client ports to etcd.
func (p *Promotion) handOver(ctx context.Context) (*Facts, error) {
	if err := p.again(ctx); err != nil {
		return nil, err
	}
	return nil, p.steer(ctx)
}

// steer makes new connections reach etcd. Where no proxy runs any more, they
// already do.
func (p *Promotion) steer(ctx context.Context) error {
	found, err := p.findComing(ctx)
	if err != nil {
		return err
	}
	if !found {
		p.say("no proxy runs any more: the ports are etcd's")
		return p.takeSockets()
	}
	if err := p.Proxy.HandOver(ctx, p.Journal.Plan.sideSockets()); err != nil {
		return fmt.Errorf("hand the ports over: %w", err)
	}
	p.say("new connections reach etcd")
	p.steered = true
	return nil
}

// takeSockets puts etcd's unix sockets in the place of a proxy's that died.
// The side path stays: etcd's own gateway dials it.
func (p *Promotion) takeSockets() error {
	for raw, side := range p.Journal.Plan.sideSockets() {
		path, _ := socketPath(raw)
		next := path + ".new"
		err := errors.Join(removeIfThere(next), os.Link(side, next))
		if err == nil {
			err = os.Rename(next, path)
		}
		if err != nil {
			return fmt.Errorf("hand %s over: %w", raw, err)
		}
	}
	return nil
}

// drain ends the proxy's connections and then the proxy. A proxy that was
// started again since the hand-over has taken the ports: they are handed over
// once more.
func (p *Promotion) drain(ctx context.Context) (*Facts, error) {
	if err := p.again(ctx); err != nil {
		return nil, err
	}
	found, err := p.findComing(ctx)
	if err != nil {
		return nil, err
	}
	facts := &Facts{Drained: &Drained{}}
	if found {
		if !p.steered {
			if err := p.steer(ctx); err != nil {
				return nil, err
			}
		}
		if facts.Drained, err = p.drainProxy(ctx); err != nil {
			return nil, err
		}
	}
	if err := p.stopProxy(ctx); err != nil {
		return nil, err
	}
	p.say("the proxy has ended; requests refused %d, cut %d", facts.Drained.Refused, facts.Drained.Cut)
	return facts, nil
}

// drainProxy lets the proxy's connections end. One that does not answer, because
// it is stopped or stuck, is ended all the same by what comes next.
func (p *Promotion) drainProxy(ctx context.Context) (*Drained, error) {
	limited, cancel := context.WithTimeout(ctx, p.StopTimeout)
	defer cancel()
	drained, err := p.Proxy.Drain(limited)
	if ctx.Err() != nil {
		return nil, fmt.Errorf("drain the proxy: %w", err)
	}
	if err != nil {
		p.say("the proxy did not drain, its connections are cut: %v", err)
	}
	return &drained, nil
}

// stopProxy ends the proxy's process and returns when it is gone. A unit is
// stopped, so that systemd does not start it again.
func (p *Promotion) stopProxy(ctx context.Context) error {
	process, found, err := p.Proxy.Find(ctx)
	if err != nil {
		return err
	}
	if unit := p.Journal.Plan.Proxy.Unit; unit != "" {
		if err := p.Units.StopUnit(ctx, unit, p.StopTimeout); err != nil {
			return fmt.Errorf("stop the proxy's unit: %w", err)
		}
	}
	if !found {
		return nil
	}
	killed, err := process.Stop(ctx, p.StopTimeout)
	if err != nil {
		return fmt.Errorf("stop the proxy: %w", err)
	}
	if killed {
		p.say("the proxy did not end within %v and was killed", p.StopTimeout)
	}
	return nil
}

// finish makes the member last, and removes what the promotion needed.
func (p *Promotion) finish(ctx context.Context) (*Facts, error) {
	if err := p.again(ctx); err != nil {
		return nil, err
	}
	plan := &p.Journal.Plan
	facts, err := p.leaveAgain(ctx)
	if err != nil {
		return nil, err
	}
	if err := p.Supervisor.Settle(ctx, p.FinalService()); err != nil {
		return nil, fmt.Errorf("make the service last: %w", err)
	}
	if unit := plan.Proxy.Unit; unit != "" && unit != plan.Service.Unit {
		if err := p.Units.DisableUnit(ctx, unit); err != nil {
			return nil, fmt.Errorf("disable the proxy's unit: %w", err)
		}
	}
	// The private socket stays until etcd's next start, which has it no more: its
	// JSON gateway dials any one of its addresses, at the first request and after
	// each idle time (grpcGatewayDial, server/embed/etcd.go).
	if aside := plan.asideOf("proxy"); !plan.KeepProxyDir {
		if err := removeFolder(aside); err != nil {
			return nil, fmt.Errorf("remove the folder set aside: %w", err)
		}
	}
	return facts, nil
}

// leaveAgain ends a proxy that came back after its drain, as its unit does after
// a power cut.
func (p *Promotion) leaveAgain(ctx context.Context) (*Facts, error) {
	found, err := p.findComing(ctx)
	if err != nil || !found {
		return nil, err
	}
	return p.drain(ctx)
}

// findComing tells whether a proxy runs. One whose unit runs it, or is about to,
// as when the machine has just started, is waited for: it would come up behind
// our back.
func (p *Promotion) findComing(ctx context.Context) (bool, error) {
	plan := &p.Journal.Plan
	waiting, cancel := context.WithTimeout(ctx, proxyPatience)
	defer cancel()
	ticker := time.NewTicker(askInterval)
	defer ticker.Stop()
	for {
		_, found, err := p.Proxy.Find(ctx)
		if err != nil || found || plan.Proxy.Unit == "" {
			return found, err
		}
		if plan.Service.DropIn && !p.Journal.Undoing() {
			return false, nil // what the unit runs is etcd
		}
		if runs, err := p.Units.UnitRuns(ctx, plan.Proxy.Unit); err != nil || !runs {
			return false, err
		}
		select {
		case <-waiting.Done():
			return false, ctx.Err()
		case <-ticker.C:
		}
	}
}
