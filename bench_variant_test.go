//go:build bench

package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
)

// variantsV3 starts etcd 3.7 and every proxy for gRPC, and waits until all serve.
func (l *benchLab) variantsV3(ctx context.Context) ([]*benchEnd, error) {
	direct, err := l.etcd37()
	if err != nil {
		return nil, err
	}
	if err := direct.awaits(ctx, askV3); err != nil {
		return nil, err
	}
	variants := []variantStart{l.gateway, l.grpcProxy, l.haproxyH2, l.proxy}
	return l.variants(ctx, direct, askV3, variants)
}

// variantsV2 starts etcd 3.5 and every proxy for the v2 API, and waits until all serve.
func (l *benchLab) variantsV2(ctx context.Context) ([]*benchEnd, error) {
	direct, err := l.etcd("m1", []string{l.etcd35}, "--enable-v2")
	if err != nil {
		return nil, err
	}
	if err := direct.awaits(ctx, askV2); err != nil {
		return nil, err
	}
	return l.variants(ctx, direct, askV2, []variantStart{l.gateway, l.v2Proxy, l.haproxyHTTP, l.proxy})
}

// variantStart starts a proxy; nil without an error: this machine has none.
type variantStart func(direct *benchEnd) (*benchEnd, error)

func (l *benchLab) variants(ctx context.Context, direct *benchEnd, ask func(context.Context, *benchEnd) error, starts []variantStart) ([]*benchEnd, error) {
	ends := []*benchEnd{direct}
	for _, start := range starts {
		end, err := start(direct)
		if err != nil {
			return nil, err
		}
		if end == nil {
			continue
		}
		if err := end.awaits(ctx, ask); err != nil {
			return nil, err
		}
		ends = append(ends, end)
	}
	return ends, nil
}

// fewVariant is etcd without a proxy, but with no more connections than etcdops makes of
// a load: what etcd takes for it then is as little as any proxy can reach.
const fewVariant = "direct-few"

// ownVariant is the name of what we measure.
const ownVariant = "etcdops"

// rival says whether the way is by a proxy that is not ours: what it loses is told.
func (e *benchEnd) rival() bool { return e.proxy != nil && e.name != ownVariant }

func (l *benchLab) proxy(direct *benchEnd) (*benchEnd, error) {
	return l.proxyWith(direct, "http://%s")
}

func (l *benchLab) proxyWith(direct *benchEnd, listen string, more ...string) (*benchEnd, error) {
	return l.through(direct, ownVariant, l.etcdops, append([]string{
		"proxy", "start", "--initial-cluster", "m1=" + direct.peer,
		"--listen-client-urls", listen, "--data-dir", "proxy.etcd",
	}, more...)...)
}

func (l *benchLab) gateway(direct *benchEnd) (*benchEnd, error) {
	return l.through(direct, "gateway", l.etcdops, "etcd", "gateway", "start", "--endpoints", direct.direct, "--listen-addr", "%s")
}

func (l *benchLab) grpcProxy(direct *benchEnd) (*benchEnd, error) {
	return l.through(direct, "grpc-proxy", l.etcdops, "etcd", "grpc-proxy", "start", "--endpoints", direct.direct, "--listen-addr", "%s")
}

func (l *benchLab) v2Proxy(direct *benchEnd) (*benchEnd, error) {
	return l.through(direct, "v2-proxy", l.etcd35, "--proxy", "on", "--data-dir", "v2-proxy.etcd", "--log-level", "error",
		"--listen-client-urls", "http://%s", "--initial-cluster", "m1="+direct.peer)
}

func (l *benchLab) haproxyH2(direct *benchEnd) (*benchEnd, error) {
	return l.startHAProxy(direct, "proto h2")
}

func (l *benchLab) haproxyHTTP(direct *benchEnd) (*benchEnd, error) {
	return l.startHAProxy(direct, "")
}

// haproxyConfig has as many threads as cores and shares connections to etcd as
// freely as HAProxy can, which is its best. It allows as many streams as etcd does.
const haproxyConfig = `global
	nbthread %d
	maxconn 8000
	tune.h2.max-concurrent-streams 10000
defaults
	mode http
	timeout connect 5s
	timeout client 1h
	timeout server 1h
	option http-keep-alive
	http-reuse always
frontend clients
	bind %s %s
	default_backend etcd
backend etcd
	server m1 %s %s
`

func (l *benchLab) startHAProxy(direct *benchEnd, protocol string) (*benchEnd, error) {
	if l.haproxy == "" {
		return nil, nil
	}
	address := l.host() + ":2379"
	file := filepath.Join(l.dir, "haproxy.cfg")
	config := fmt.Sprintf(haproxyConfig, runtime.NumCPU(), address, protocol, direct.direct, protocol)
	if err := os.WriteFile(file, []byte(config), 0o600); err != nil {
		return nil, err
	}
	end, err := l.through(direct, "haproxy", l.haproxy, "-db", "-q", "-f", file)
	if end != nil {
		end.address = address
	}
	return end, err
}
