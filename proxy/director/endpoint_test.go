package director

import (
	"crypto/tls"
	"errors"
	"net"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"testing"
)

func TestParseEndpoint(t *testing.T) {
	for raw, want := range map[string]struct {
		network, address, host string
		tls, bad               bool
	}{
		"http://a:2379":         {"tcp", "a:2379", "a", false, false},
		"https://a:2379/path":   {"tcp", "a:2379", "a", true, false},
		"http://a":              {"tcp", "a:80", "a", false, false},
		"https://a":             {"tcp", "a:443", "a", true, false},
		"http://[::1]:2379":     {"tcp", "[::1]:2379", "::1", false, false},
		"unix:///run/etcd.sock": {"unix", "/run/etcd.sock", "", false, false},
		"unix://localhost:2379": {"unix", "localhost:2379", "localhost", false, false},
		"unixs:///run/s":        {"unix", "/run/s", "", true, false},
		"a:2379":                {bad: true},
		"ftp://a:1":             {bad: true},
		"http://:2379":          {bad: true},
		"http://a:99999":        {bad: true},
		"":                      {bad: true},
	} {
		e, err := parseEndpoint(raw)
		if (err != nil) != want.bad {
			t.Errorf("%q: %v", raw, err)
		}
		if err == nil && (e.Network != want.network || e.Address != want.address || e.Host != want.host || e.TLS != want.tls || e.URL != raw) {
			t.Errorf("%q became %+v", raw, e)
		}
	}
}

func TestDial(t *testing.T) {
	secure := httptest.NewTLSServer(http.NotFoundHandler())
	t.Cleanup(secure.Close)
	trust := secure.Client().Transport.(*http.Transport).TLSClientConfig
	closed := newFaulty(t)
	_ = closed.l.Close()
	socketFile := filepath.Join(t.TempDir(), "s")
	l, err := net.Listen("unix", socketFile)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	for name, c := range map[string]struct {
		url, proto string
		tls        *tls.Config
		step       string // of the failure
	}{
		"clear":            {url: newFaulty(t).url(), proto: "http/1.1"},
		"unix":             {url: "unix://" + socketFile, proto: "h2"},
		"secure":           {url: secure.URL, proto: "http/1.1", tls: trust},
		"refused":          {url: closed.url(), proto: "http/1.1", step: "dial"},
		"not trusted":      {url: secure.URL, proto: "http/1.1", step: "TLS handshake"},
		"clear for secure": {url: "https" + newFaulty(t).url()[len("http"):], proto: "http/1.1", tls: trust, step: "TLS handshake"},
		"no HTTP/2 there":  {url: secure.URL, proto: "h2", tls: trust, step: "TLS handshake"},
	} {
		t.Run(name, func(t *testing.T) {
			d := newDirector(t, func(d *Director) { d.TLS = func() *tls.Config { return c.tls } })
			d.Update(members(c.url))
			conn, err := d.order[0].Dial(t.Context(), c.proto)
			if err == nil {
				_ = conn.Close()
			}
			var de *DialError
			if errors.As(err, &de); (err != nil) != (c.step != "") || err != nil && (de == nil || de.Step != c.step || de.URL != c.url) {
				t.Errorf("%v", err)
			}
		})
	}
}
