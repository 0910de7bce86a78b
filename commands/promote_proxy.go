package commands

import (
	"context"
	"errors"
	"fmt"
	"os"
	"syscall"
	"time"

	"etcdops/promote"
	"etcdops/proxy"
)

// proxyOf is the proxy of a plan, as a promotion drives it.
func proxyOf(plan *promote.Plan) promote.Proxy {
	if plan.Proxy.Native {
		return nativeProxy{&plan.Proxy, plan.DataDir}
	}
	return controlledProxy{proxy.ControlClient{Path: proxy.ControlPath(plan.DataDir)}, &plan.Proxy}
}

// controlledProxy is a running etcdops proxy, driven by its control socket.
type controlledProxy struct {
	client   proxy.ControlClient
	standing *promote.Standing
}

// Find implements promote.Proxy.
func (c controlledProxy) Find(ctx context.Context) (promote.Process, bool, error) {
	peer, err := c.client.Peer(ctx)
	if errors.Is(err, os.ErrNotExist) || errors.Is(err, syscall.ECONNREFUSED) {
		return promote.Process{}, false, nil
	}
	if err != nil {
		return promote.Process{}, false, err
	}
	if peer.UID != c.standing.UID {
		return promote.Process{}, false, fmt.Errorf("the proxy, process %d, runs as user %d now, not as user %d: stop it", peer.PID, peer.UID, c.standing.UID)
	}
	process, err := processOf(peer)
	return process, err == nil, err
}

// processOf is the process that the kernel names, where that user still has the
// pid: a control socket can outlive who opened it.
func processOf(peer proxy.Peer) (promote.Process, error) {
	process, err := promote.FindProcess(peer.PID)
	if err != nil {
		return promote.Process{}, err
	}
	uid, _, err := process.Owner()
	if err != nil {
		return promote.Process{}, err
	}
	if uid != peer.UID {
		return promote.Process{}, fmt.Errorf("process %d is user %d's, and the control socket user %d's", peer.PID, uid, peer.UID)
	}
	return process, nil
}

// Hold implements promote.Proxy.
func (c controlledProxy) Hold(ctx context.Context) error {
	return c.client.Post(ctx, proxy.HoldPath, nil, nil)
}

// Release implements promote.Proxy.
func (c controlledProxy) Release(ctx context.Context) error {
	return c.client.Post(ctx, proxy.ReleasePath, nil, nil)
}

// HandOver implements promote.Proxy.
func (c controlledProxy) HandOver(ctx context.Context, side map[string]string) error {
	return c.client.Post(ctx, proxy.HandOverPath, proxy.HandOverRequest{Unix: side}, nil)
}

// Drain implements promote.Proxy.
func (c controlledProxy) Drain(ctx context.Context) (promote.Drained, error) {
	ctx, cancel := context.WithTimeoutCause(ctx, c.drainTimeout()+drainPatience, proxy.ErrNoAnswer)
	defer cancel()
	var answer proxy.DrainAnswer
	err := c.client.Post(ctx, proxy.DrainPath, proxy.DrainRequest{}, &answer)
	return promote.Drained{Refused: answer.Refused, Cut: answer.Cut}, err
}

// drainPatience is how long a drain may take besides the proxy's own limit.
const drainPatience = 15 * time.Second

// drainTimeout is the proxy's own limit.
func (c controlledProxy) drainTimeout() time.Duration {
	limit, err := absoluteSettings(c.standing.Settings).Duration("drain-timeout")
	if err != nil {
		return 0 // the proxy has not started with that
	}
	return limit
}

// nativeProxy is a native etcd --proxy, which knows nothing of promotions.
type nativeProxy struct {
	standing *promote.Standing
	dataDir  string
}

// Find implements promote.Proxy. A proxy that was started again has another
// process and the same command line.
func (n nativeProxy) Find(context.Context) (promote.Process, bool, error) {
	if n.standing.Process.Alive() {
		return n.standing.Process, true, nil
	}
	return promote.FindLike(n.standing, n.dataDir)
}

// Hold implements promote.Proxy: what it writes goes with the folder.
func (nativeProxy) Hold(context.Context) error { return nil }

// Release implements promote.Proxy.
func (nativeProxy) Release(context.Context) error { return nil }

// HandOver implements promote.Proxy.
func (nativeProxy) HandOver(context.Context, map[string]string) error {
	return errors.New("a native etcd proxy can't hand its ports over")
}

// Drain implements promote.Proxy.
func (nativeProxy) Drain(context.Context) (promote.Drained, error) { return promote.Drained{}, nil }
