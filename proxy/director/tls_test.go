package director

import (
	"crypto/tls"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
)

// What TLS, or its absence, does to a member's probe is its reason, in the words of
// Explain where that has any.
func TestProbeMeetsTLS(t *testing.T) {
	secure := func(conf *tls.Config) string {
		s := httptest.NewUnstartedServer(http.NotFoundHandler())
		s.TLS, s.Config.ErrorLog = conf, log.New(io.Discard, "", 0)
		s.StartTLS()
		t.Cleanup(s.Close)
		return s.URL
	}
	clear := httptest.NewServer(http.NotFoundHandler())
	t.Cleanup(clear.Close)
	closing, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = closing.Close() })
	go func() {
		for {
			c, err := closing.Accept()
			if err != nil {
				return
			}
			_, _ = io.ReadFull(c, make([]byte, 16))
			_ = c.(*net.TCPConn).CloseWrite()
			_, _ = io.Copy(io.Discard, c)
			_ = c.Close()
		}
	}()
	url := secure(nil)
	for _, test := range []struct {
		name, url string
		verify    bool
		want      string // of the reason, which begins so
	}{
		{"unknown authority", url, true, "TLS handshake " + url + ": said of: tls: failed to verify certificate"},
		{"client certificate wanted", secure(&tls.Config{ClientAuth: tls.RequireAnyClientCert}), false, "read probe: said of: remote error: tls: certificate required"},
		{"old versions alone", secure(&tls.Config{MinVersion: tls.VersionTLS10, MaxVersion: tls.VersionTLS11}), false, "TLS handshake URL: said of: remote error: tls: protocol version not supported"},
		{"http at https", strings.Replace(clear.URL, "http:", "https:", 1), false, "TLS handshake URL: said of: tls: first record does not look like a TLS handshake"},
		{"closes at https", "https://" + closing.Addr().String(), false, "TLS handshake URL: it closed the connection: is its URL http?"},
		{"https at http", strings.Replace(url, "https:", "http:", 1), false, "it speaks TLS, or closes connections: is its URL https?"},
		{"closes at http", "http://" + closing.Addr().String(), false, "it speaks TLS, or closes connections: is its URL https?"},
	} {
		t.Run(test.name, func(t *testing.T) {
			d := newDirector(t, func(d *Director) {
				d.TLS = func() *tls.Config {
					return &tls.Config{MinVersion: tls.VersionTLS12, InsecureSkipVerify: !test.verify} //nolint:gosec // the other faults come after that
				}
				d.Explain = func(err error) string {
					if strings.Contains(err.Error(), "tls: ") {
						return "said of: " + err.Error()
					}
					return ""
				}
			})
			d.Update(members(test.url))
			e := find(d, test.url)
			e.Suspect()
			eventually(t, "the probe's reason", func() bool { reason, _ := e.state.get(); return reason != "" })
			reason, _ := e.state.get()
			if want := strings.Replace(test.want, "URL:", test.url+":", 1); !strings.HasPrefix(reason, want) {
				t.Errorf("got %q, want %q", reason, want)
			}
		})
	}
}

// A member that refuses our certificate, or leaves without a word, is told of as that,
// whatever the question for the cluster's ID met first: no RPC, no broken pipe.
func TestDialToldWhy(t *testing.T) {
	refusing := httptest.NewUnstartedServer(http.NotFoundHandler())
	refusing.TLS, refusing.Config.ErrorLog = &tls.Config{ClientAuth: tls.RequireAnyClientCert, NextProtos: []string{"h2", "http/1.1"}}, log.New(io.Discard, "", 0)
	refusing.StartTLS()
	t.Cleanup(refusing.Close)
	leaving, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = leaving.Close() })
	go func() {
		for {
			c, err := leaving.Accept()
			if err != nil {
				return
			}
			_ = c.Close()
		}
	}()
	d := newDirector(t, func(d *Director) {
		d.TLS = func() *tls.Config { return &tls.Config{InsecureSkipVerify: true} } //nolint:gosec // what it says of us comes after that
		d.Explain = func(err error) string {
			if _, said, found := strings.Cut(err.Error(), "remote error: tls: "); found {
				return "it said: " + said
			}
			return ""
		}
	})
	for _, test := range []struct{ url, want string }{
		{refusing.URL, "TLS handshake URL: it said: certificate required"},
		{"http://" + leaving.Addr().String(), "verify URL: which cluster it serves is not known: connection closed without an answer"},
	} {
		d.Update([]Member{{ClusterID: 7, ID: 1, Name: "m1", ClientURLs: []string{test.url}}})
		for _, proto := range []string{"h2", "http/1.1"} {
			for range 50 {
				_, err := find(d, test.url).Dial(t.Context(), proto)
				if want := strings.Replace(test.want, "URL", test.url, 1); err == nil || err.Error() != want {
					t.Fatalf("%s: got %v, want %s", proto, err, want)
				}
			}
		}
	}
}
