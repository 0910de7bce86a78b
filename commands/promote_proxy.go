package commands

import (
	"context"
	"errors"
	"os"
	"syscall"

	"etcdops/promote"
	"etcdops/proxy"
)

// proxyOf is the proxy of a plan, as a promotion drives it.
func proxyOf(plan *promote.Plan) promote.Proxy {
	if plan.Proxy.Native {
		return nativeProxy{&plan.Proxy}
	}
	return controlledProxy{proxy.ControlClient{Path: proxy.ControlPath(plan.DataDir)}}
}

// controlledProxy is a running etcdops proxy, driven by its control socket.
type controlledProxy struct{ client proxy.ControlClient }

// Find implements promote.Proxy.
func (c controlledProxy) Find(ctx context.Context) (promote.Process, bool, error) {
	peer, err := c.client.Peer(ctx)
	if errors.Is(err, os.ErrNotExist) || errors.Is(err, syscall.ECONNREFUSED) {
		return promote.Process{}, false, nil
	}
	if err != nil {
		return promote.Process{}, false, err
	}
	process, err := promote.FindProcess(peer.PID)
	return process, err == nil, err
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
	var answer proxy.DrainAnswer
	err := c.client.Post(ctx, proxy.DrainPath, proxy.DrainRequest{}, &answer)
	return promote.Drained{Refused: answer.Refused, Cut: answer.Cut}, err
}

// nativeProxy is a native etcd --proxy, which knows nothing of promotions.
type nativeProxy struct{ standing *promote.Standing }

// Find implements promote.Proxy. A proxy that was started again has another
// process and the same command line.
func (n nativeProxy) Find(context.Context) (promote.Process, bool, error) {
	if n.standing.Process.Alive() {
		return n.standing.Process, true, nil
	}
	return promote.FindLike(n.standing.Args, n.standing.Dir)
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
