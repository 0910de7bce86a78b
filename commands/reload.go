package commands

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"log/slog"
	"net/url"
	"os"
	"os/signal"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"etcdops/discover"
	"etcdops/proxy"
)

// tlsLookInterval is the time between two looks whether TLS files have changed.
const tlsLookInterval = 5 * time.Second

// tlsFileSettings are the settings that name files of the identities.
var tlsFileSettings = []string{
	"cert-file", "key-file", "trusted-ca-file", "client-crl-file", "client-cert-file", "client-key-file",
	"peer-cert-file", "peer-key-file", "peer-client-cert-file", "peer-client-key-file", "peer-trusted-ca-file",
	"discovery-cert", "discovery-key", "discovery-cacert",
}

// reloader gives a running proxy the TLS files anew when they have changed, or when
// it is asked to. A side whose files can't be loaded stays what it is.
type reloader struct {
	Settings *Settings
	Listen   []url.URL // which of them are https decides what is wanted
	Server   *proxy.Server
	Follower *discover.Follower
	// Members is where the control socket finds how members are asked.
	Members *atomic.Pointer[discover.Inspector]
	Logger  *slog.Logger

	now identities // what is used
}

// start lets it run until ctx ends or end is called; SIGHUP asks it.
func (r *reloader) start(ctx context.Context) (end func()) {
	ctx, cancel := context.WithCancel(ctx)
	asked := make(chan os.Signal, 1)
	signal.Notify(asked, syscall.SIGHUP)
	var done sync.WaitGroup
	done.Go(func() { r.run(ctx, asked) })
	return func() {
		signal.Stop(asked)
		cancel()
		done.Wait()
	}
}

// run looks at the files until ctx ends; a value from asked reloads at once.
func (r *reloader) run(ctx context.Context, asked <-chan os.Signal) {
	seen := r.look()
	t := time.NewTicker(tlsLookInterval)
	defer t.Stop()
	for {
		told := false
		select {
		case <-ctx.Done():
			return
		case <-asked:
			told = true
		case <-t.C:
		}
		if now := r.look(); told || now != seen {
			seen = now // what is half written will change again
			r.reload()
		}
	}
}

// look sums up what the files hold, and whether the certificate of --auto-tls is over.
func (r *reloader) look() [sha256.Size]byte {
	sum := sha256.New()
	for _, name := range tlsFileSettings {
		if path := r.Settings.String(name); path != "" {
			body, err := os.ReadFile(path)
			fmt.Fprintf(sum, "%s %d %v\n%s", name, len(body), err, body)
		}
	}
	fmt.Fprint(sum, !r.now.autoEnds.IsZero() && time.Now().After(r.now.autoEnds))
	return [sha256.Size]byte(sum.Sum(nil))
}

// reload takes the sides whose files are good; each other one stays what it was.
func (r *reloader) reload() {
	var taken []string
	for _, use := range sideUses {
		next := r.now
		err := next.load(use, r.Settings, r.Listen, r.Logger)
		if err == nil && use == useMembers {
			err = next.checkCommonName(r.Settings)
		}
		r.Server.TLSLoaded(use, err)
		if err != nil {
			hint := ""
			var failure *Failure
			if errors.As(err, &failure) {
				hint = failure.Hint
			}
			r.Logger.Error("tls files not reloaded, the old ones stay", "use", use, "error", err, "hint", hint)
			continue
		}
		r.now = next
		taken = append(taken, use)
	}
	r.Server.SetTLS(r.now.Listener, r.now.Members, r.now.Peers)
	r.Follower.SetTLS(r.now.Peers, r.now.Discovery)
	inspector := *r.Members.Load()
	inspector.TLS = r.now.Members
	r.Members.Store(&inspector)
	if len(taken) > 0 {
		r.Logger.Info("tls files reloaded", "use", strings.Join(taken, ","))
	}
}
