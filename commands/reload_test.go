package commands

import (
	"crypto/x509"
	"log/slog"
	"net/url"
	"os"
	"path/filepath"
	"sync/atomic"
	"testing"
	"time"

	"etcdops/discover"
	"etcdops/proxy"
)

// reloading is a reloader of a proxy with these settings.
func reloading(t *testing.T, flags map[string]string) *reloader {
	t.Helper()
	logger := slog.New(slog.DiscardHandler)
	r := &reloader{
		Settings: settingsOf(t, flags), Listen: []url.URL{{Scheme: "https", Host: "127.0.0.1:2379"}},
		Server: &proxy.Server{Logger: logger}, Follower: discover.NewFollower(discover.Config{DataDir: t.TempDir(), Logger: logger}),
		Members: new(atomic.Pointer[discover.Inspector]), Logger: logger,
	}
	ids, err := loadIdentities(r.Settings, r.Listen, nil)
	if err != nil {
		t.Fatal(err)
	}
	r.now = *ids
	r.Members.Store(&discover.Inspector{TLS: ids.Members})
	return r
}

// The certificate of --auto-tls that ends while the proxy runs is a change, and a new
// one is made.
func TestReloadAutoTLS(t *testing.T) {
	dir := t.TempDir()
	r := reloading(t, map[string]string{"auto-tls": "true", "data-dir": dir})
	before := r.look()
	f := &badTLSFolder{t, filepath.Join(dir, "etcdops", "auto-tls")}
	f.certificate("cert", func(c *x509.Certificate) { c.NotAfter = tlsDay(-1) })
	if err := os.Rename(f.path("cert-key.pem"), f.path(autoTLSKey)); err != nil {
		t.Fatal(err)
	}
	if r.look() != before {
		t.Error("it looks before the end")
	}
	r.now.autoEnds = tlsDay(-1)
	if r.look() == before {
		t.Fatal("the end is no change")
	}
	r.reload()
	if left := time.Until(r.now.Listener.Certificates[0].Leaf.NotAfter); left < 300*24*time.Hour || r.look() != before {
		t.Errorf("it ends in %v", left)
	}
}

// A side whose files are bad, or have a common name now, stays what it was; the others
// are taken.
func TestReloadEachSide(t *testing.T) {
	f := makeBadTLS(t)
	take := func(from, to string) {
		t.Helper()
		text, err := os.ReadFile(f.path(from))
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(f.path(to), text, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	flags := map[string]string{}
	for side, flag := range map[string]string{"l": "", "m": "client-", "p": "peer-"} {
		take("good.pem", side+".pem")
		take("good-key.pem", side+"-key.pem")
		flags[flag+"cert-file"], flags[flag+"key-file"] = f.path(side+".pem"), f.path(side+"-key.pem")
	}
	r := reloading(t, flags)
	before := r.now
	take("other.pem", "l.pem")
	take("other-key.pem", "l-key.pem")
	take("named.pem", "m.pem")
	take("named-key.pem", "m-key.pem")
	take("expired.pem", "p.pem")
	take("expired-key.pem", "p-key.pem")
	r.reload()
	if r.now.Listener == before.Listener || r.now.Members != before.Members || r.now.Peers != before.Peers {
		t.Error("not the listener's alone was taken")
	}
	take("other.pem", "m.pem")
	take("other-key.pem", "m-key.pem")
	r.reload()
	if r.now.Members == before.Members || r.now.Peers != before.Peers || r.Members.Load().TLS != r.now.Members {
		t.Error("the members' side was not taken, or the peers' was")
	}
}
