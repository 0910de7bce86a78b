package proxy

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"strings"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"
	"golang.org/x/net/netutil"

	"etcdops/proxy/policy"
)

// observers is how many connections a metrics URL has at once. More wait, so that
// they take no files from the clients.
const observers = 32

// staleAfter is how many refresh intervals old the list may be before /readyz
// says that it is.
const staleAfter = 5

// observer serves /livez, /readyz and /metrics on listeners of their own.
type observer struct {
	serve *http.Server
	tasks sync.WaitGroup
}

// listenMetrics binds the URLs of --listen-metrics-urls.
func (s *Server) listenMetrics(ctx context.Context) ([]net.Listener, error) {
	var bound []net.Listener
	for _, u := range s.MetricsURLs {
		var lc net.ListenConfig
		l, err := lc.Listen(ctx, "tcp", u.Host)
		if err != nil {
			closeAll(bound)
			var op *net.OpError
			if errors.As(err, &op) {
				err = op.Err
			}
			return nil, &ListenError{u.String(), "--listen-metrics-urls", err}
		}
		l = netutil.LimitListener(l, observers) // below TLS: net/http has to see that
		if u.Scheme == "https" {
			l = tls.NewListener(l, &tls.Config{GetConfigForClient: func(*tls.ClientHelloInfo) (*tls.Config, error) {
				return s.listenTLS.Load(), nil
			}})
		}
		bound = append(bound, l)
	}
	return bound, nil
}

func closeAll(listeners []net.Listener) {
	for _, l := range listeners {
		_ = l.Close()
	}
}

// observe serves on the bound listeners until end is called.
func (s *Server) observe(ctx context.Context, listeners []net.Listener) (end func()) {
	o := &observer{serve: &http.Server{
		Handler: s.observation(), ReadHeaderTimeout: controlTimeout, IdleTimeout: s.IdleTimeout,
		MaxHeaderBytes: 64 << 10, BaseContext: func(net.Listener) context.Context { return ctx }, ErrorLog: s.quietLog(),
	}}
	for i, l := range listeners {
		s.Logger.Info("serving /livez, /readyz and /metrics", "url", s.MetricsURLs[i].String(), "address", l.Addr().String())
		o.tasks.Go(func() { _ = o.serve.Serve(l) }) // ends with Close
	}
	return func() {
		_ = o.serve.Close()
		o.tasks.Wait()
	}
}

func (s *Server) observation() http.Handler {
	registry := prometheus.NewRegistry()
	registry.MustRegister(collector{s}, collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	mux := http.NewServeMux()
	mux.Handle("GET /metrics", promhttp.HandlerFor(registry, promhttp.HandlerOpts{
		ErrorLog: slog.NewLogLogger(s.Logger.Handler(), slog.LevelWarn), ErrorHandling: promhttp.ContinueOnError,
	}))
	mux.HandleFunc("GET /livez", func(w http.ResponseWriter, _ *http.Request) { say(w, http.StatusOK, "ok") })
	mux.HandleFunc("GET /readyz", func(w http.ResponseWriter, _ *http.Request) {
		if reasons := s.notReady(); len(reasons) > 0 {
			say(w, http.StatusServiceUnavailable, "not ready: "+strings.Join(reasons, "\nnot ready: "))
			return
		}
		say(w, http.StatusOK, "ok")
	})
	return mux
}

func say(w http.ResponseWriter, status int, text string) {
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	w.Header().Set("Cache-Control", "no-store")
	w.WriteHeader(status)
	_, _ = fmt.Fprintln(w, text)
}

// notReady says why clients should rather go elsewhere; none where all is well.
func (s *Server) notReady() []string {
	var reasons []string
	if s.ending.Load() {
		reasons = append(reasons, "draining: the proxy ends")
	}
	var wrong *policy.WrongClusterError
	switch err := s.refuse(); {
	case errors.As(err, &wrong):
		reasons = append(reasons, "wrong cluster: "+strings.TrimPrefix(wrong.Error(), "etcdops: "))
	case err != nil:
		reasons = append(reasons, "no members: "+strings.TrimPrefix(err.Error(), "etcdops: "))
	case !s.director.AnyUsable():
		reasons = append(reasons, "no members: none of them answers")
	}
	v := s.view.Load()
	if v == nil || !v.have || v.err == nil {
		return reasons
	}
	if age := time.Since(v.view.At); age > staleAfter*s.RefreshInterval {
		reasons = append(reasons, fmt.Sprintf("stale list: the member list is %v old, the last refresh failed: %v", age.Round(time.Second), v.err))
	}
	return reasons
}
