package proxy

import (
	"bufio"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"io"
	"math/big"
	"net"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"

	"etcdops/proxy/h2"
	"etcdops/proxy/stats"
)

// authority signs the certificates of a test.
type authority struct {
	t    *testing.T
	key  *ecdsa.PrivateKey
	cert *x509.Certificate
}

func newAuthority(t *testing.T) *authority {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	a := &authority{t: t, key: key, cert: &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: t.Name()}, NotAfter: time.Now().Add(time.Hour),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
	}}
	if a.cert, err = x509.ParseCertificate(a.sign(a.cert, &key.PublicKey)); err != nil {
		t.Fatal(err)
	}
	return a
}

func (a *authority) sign(cert *x509.Certificate, key *ecdsa.PublicKey) []byte {
	a.t.Helper()
	der, err := x509.CreateCertificate(rand.Reader, cert, a.cert, key, a.key)
	if err != nil {
		a.t.Fatal(err)
	}
	return der
}

func (a *authority) pool() *x509.CertPool {
	pool := x509.NewCertPool()
	pool.AddCert(a.cert)
	return pool
}

// issue makes a certificate for 127.0.0.1 that ends in left.
func (a *authority) issue(left time.Duration, usage ...x509.ExtKeyUsage) tls.Certificate {
	a.t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		a.t.Fatal(err)
	}
	der := a.sign(&x509.Certificate{
		SerialNumber: big.NewInt(2), NotBefore: time.Now().Add(-2 * time.Hour), NotAfter: time.Now().Add(left),
		KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: usage, IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1), net.IPv6loopback},
	}, &key.PublicKey)
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}
}

// secured runs a proxy with a TLS listener that demands certificates of ca if auth
// is set.
func secured(t *testing.T, ca *authority, auth bool) (*running, *logBook) {
	t.Helper()
	return securedBy(t, ca, auth, nil)
}

// securedBy is secured with a further look at the connection.
func securedBy(t *testing.T, ca *authority, auth bool, verify error) (*running, *logBook) {
	t.Helper()
	return limited(t, func(s *Server) {
		s.ListenURLs = []url.URL{{Scheme: "https", Host: s.ListenURLs[0].Host}}
		s.ListenTLS = &tls.Config{MinVersion: tls.VersionTLS12, Certificates: []tls.Certificate{ca.issue(time.Hour, x509.ExtKeyUsageServerAuth)}}
		if verify != nil {
			s.ListenTLS.VerifyConnection = func(tls.ConnectionState) error { return verify }
		}
		if auth {
			s.ListenTLS.ClientAuth, s.ListenTLS.ClientCAs = tls.RequireAndVerifyClientCert, ca.pool()
		}
	})
}

// tryTLS makes one request over TLS, as HTTP/1.1.
func (p *running) tryTLS(t *testing.T, conf *tls.Config) error {
	t.Helper()
	c := http.Client{Timeout: 5 * time.Second, Transport: &http.Transport{DisableKeepAlives: true, TLSClientConfig: conf}}
	res, err := c.Get("https://" + p.addr + "/version")
	if err != nil {
		return err
	}
	_, err = io.ReadAll(res.Body)
	return errors.Join(err, res.Body.Close())
}

// Each way in which a handshake with a client fails is counted, and one line says
// which, and nothing of the client's.
func TestHandshakeFailures(t *testing.T) {
	ca, stranger := newAuthority(t), newAuthority(t)
	client := func(cert ...tls.Certificate) *tls.Config { return &tls.Config{RootCAs: ca.pool(), Certificates: cert} }
	for _, test := range []struct {
		name string
		auth bool
		conf *tls.Config
		says string // of the log
		err  error  // of the further look
	}{
		{"no certificate", true, client(), "client showed no certificate: it has none, or none of a CA in --trusted-ca-file", nil},
		{"revoked", true, client(ca.issue(time.Hour, x509.ExtKeyUsageClientAuth)), "client certificate is revoked by --client-crl-file", ErrRevoked},
		{
			"another name", true, client(ca.issue(time.Hour, x509.ExtKeyUsageClientAuth)),
			"client certificate has none of the names in --client-cert-allowed-hostname", ErrAllowedName,
		},
		{
			// What the CA asked for is not shown by itself: a client that shows another one.
			"another CA", true, &tls.Config{RootCAs: ca.pool(), GetClientCertificate: func(*tls.CertificateRequestInfo) (*tls.Certificate, error) {
				cert := stranger.issue(time.Hour, x509.ExtKeyUsageClientAuth)
				return &cert, nil
			}},
			"client certificate is signed by an authority that is not in --trusted-ca-file", nil,
		},
		{"expired", true, client(ca.issue(-time.Hour, x509.ExtKeyUsageClientAuth)), "client certificate has expired, or is not valid yet", nil},
		{"a server's", true, client(ca.issue(time.Hour, x509.ExtKeyUsageServerAuth)), "client certificate may not be used by a client", nil},
		{"TLS 1.1", false, &tls.Config{RootCAs: ca.pool(), MinVersion: tls.VersionTLS10, MaxVersion: tls.VersionTLS11}, "client speaks no version of TLS from --tls-min-version to --tls-max-version", nil},
		{"TLS 1.0", false, &tls.Config{RootCAs: ca.pool(), MinVersion: tls.VersionTLS10, MaxVersion: tls.VersionTLS10}, "client speaks no version of TLS from --tls-min-version to --tls-max-version", nil},
		{"our CA unknown", false, &tls.Config{RootCAs: stranger.pool()}, "client refused our certificate, --cert-file: its CA, its names or its dates", nil},
		{
			"no suite", false, &tls.Config{RootCAs: ca.pool(), MaxVersion: tls.VersionTLS12, CipherSuites: []uint16{tls.TLS_RSA_WITH_AES_128_CBC_SHA}},
			"client has no cipher suite in common with us", nil,
		},
		{"no protocol", false, &tls.Config{RootCAs: ca.pool(), NextProtos: []string{"spdy/3"}}, "client wants neither h2 nor http/1.1", nil},
	} {
		t.Run(test.name, func(t *testing.T) {
			p, log := securedBy(t, ca, test.auth, test.err)
			for range 3 {
				if err := p.tryTLS(t, test.conf); err == nil {
					t.Fatal("it was let in")
				}
			}
			waitUntil(t, "all are counted, and one is logged", func() bool {
				return p.refusedFor(stats.TLSHandshake) == 3 && log.count("msg=refused") > 0
			})
			if n := log.count(`msg=refused reason=tls_handshake count=1 last="TLS handshake: ` + test.says + `" client=127.0.0.1:`); n != 1 || log.count("msg=refused") != 1 {
				t.Errorf("%d lines\n%s", n, log)
			}
		})
	}
}

// A client that only looks whether the port is open is no failure.
func TestHandshakeLeft(t *testing.T) {
	p, _ := secured(t, newAuthority(t), false)
	for range 3 {
		c, err := net.Dial("tcp", p.addr)
		if err != nil {
			t.Fatal(err)
		}
		_ = c.Close()
	}
	waitUntil(t, "they have left", func() bool { return p.conns.count() == 0 })
	if n := p.refusedFor(stats.TLSHandshake); n != 0 {
		t.Errorf("%d were counted", n)
	}
}

// Who speaks HTTP to an https URL, or TLS to an http URL, is told so.
func TestWrongScheme(t *testing.T) {
	ca := newAuthority(t)
	t.Run("http to https", func(t *testing.T) {
		p, log := secured(t, ca, false)
		for _, method := range []string{"GET", "HEAD", "POST", "PUT", "OPTIONS", "DELETE", "PATCH"} {
			req, err := http.NewRequestWithContext(t.Context(), method, "http://"+p.addr+"/v3/kv/put", strings.NewReader(strings.Repeat("x", 32<<10)))
			if err != nil {
				t.Fatal(err)
			}
			res, err := http.DefaultTransport.RoundTrip(req)
			if err != nil {
				t.Fatal(method, err)
			}
			body, err := io.ReadAll(res.Body)
			_ = res.Body.Close()
			if res.StatusCode != 400 || err != nil || method != "HEAD" && string(body) != "Client sent an HTTP request to an HTTPS server.\n" {
				t.Errorf("%s: %s, %q, %v", method, res.Status, body, err)
			}
		}
		if n := log.count(`last="TLS handshake: HTTP without TLS on an https URL"`); n != 1 {
			t.Errorf("%d lines\n%s", n, log)
		}
	})
	t.Run("gRPC to https", func(t *testing.T) {
		p, log := secured(t, ca, false)
		c, err := net.Dial("tcp", p.addr)
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		_, _ = io.WriteString(c, h2.Preface)
		if _, err := io.ReadAll(c); err != nil && !strings.Contains(err.Error(), "reset") {
			t.Error(err)
		}
		if n := log.count(`last="TLS handshake: HTTP/2 without TLS on an https URL, as of a gRPC client with an http endpoint"`); n != 1 {
			t.Errorf("%d lines\n%s", n, log)
		}
	})
	t.Run("TLS to http", func(t *testing.T) {
		p, log := limited(t, func(*Server) {})
		var record tls.RecordHeaderError
		if err := p.tryTLS(t, &tls.Config{RootCAs: ca.pool()}); err == nil || !errors.As(err, &record) && !strings.Contains(err.Error(), "HTTP response to HTTPS client") {
			t.Error(err)
		}
		if n := log.count(`reason=tls_handshake count=1 last="TLS on an http URL"`); n != 1 {
			t.Errorf("%d lines\n%s", n, log)
		}
	})
}

// Both versions of TLS are spoken; what ALPN chooses is h2 where the client offers
// it; and who offers nothing may speak either.
func TestVersionsAndProtocols(t *testing.T) {
	ca := newAuthority(t)
	p, _ := secured(t, ca, false)
	for _, version := range []uint16{tls.VersionTLS12, tls.VersionTLS13} {
		for _, test := range []struct {
			name   string
			offers []string
			chosen string
			two    bool // the client speaks HTTP/2
		}{
			{"h2", []string{"h2"}, "h2", true},
			{"both", []string{"http/1.1", "h2"}, "h2", true},
			{"http/1.1", []string{"http/1.1"}, "http/1.1", false},
			{"an unknown one too", []string{"h3", "http/1.1"}, "http/1.1", false},
			{"nothing, HTTP/1.1", nil, "", false},
			{"nothing, HTTP/2", nil, "", true},
		} {
			t.Run(tls.VersionName(version)+" "+test.name, func(t *testing.T) {
				conf := &tls.Config{RootCAs: ca.pool(), MinVersion: version, MaxVersion: version, NextProtos: test.offers}
				c, err := (&tls.Dialer{Config: conf}).DialContext(t.Context(), "tcp", p.addr)
				if err != nil {
					t.Fatal(err)
				}
				defer c.Close()
				state := c.(*tls.Conn).ConnectionState()
				if state.NegotiatedProtocol != test.chosen || state.Version != version {
					t.Errorf("%q of version %x", state.NegotiatedProtocol, state.Version)
				}
				if got := statusOn(t, c, test.two); got != "200" {
					t.Errorf("status %s", got)
				}
			})
		}
	}
}

// statusOn asks for /version on a connection, and returns the status.
func statusOn(t *testing.T, c net.Conn, two bool) string {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "https://127.0.0.1/version", http.NoBody)
	if err != nil {
		t.Fatal(err)
	}
	var res *http.Response
	if two {
		req.URL.Scheme = "http" // c has its TLS already
		client := &http.Transport{Protocols: new(http.Protocols), DialContext: func(context.Context, string, string) (net.Conn, error) { return c, nil }}
		client.Protocols.SetUnencryptedHTTP2(true)
		if res, err = client.RoundTrip(req); err != nil {
			t.Fatal(err)
		}
	} else {
		if err := req.Write(c); err != nil {
			t.Fatal(err)
		}
		if res, err = http.ReadResponse(bufio.NewReader(c), req); err != nil {
			t.Fatal(err)
		}
	}
	defer res.Body.Close()
	status, _, _ := strings.Cut(res.Status, " ")
	return status
}

// Open connections stay when the certificates change; new ones get the new
// certificate, and the new CA decides who comes in.
func TestSetTLS(t *testing.T) {
	old, fresh := newAuthority(t), newAuthority(t)
	p, _ := secured(t, old, true)
	dial := func(server, client *authority) (*tls.Conn, error) {
		cert := client.issue(time.Hour, x509.ExtKeyUsageClientAuth)
		conf := &tls.Config{RootCAs: server.pool(), NextProtos: []string{"http/1.1"}, Certificates: []tls.Certificate{cert}}
		c, err := (&tls.Dialer{Config: conf}).DialContext(t.Context(), "tcp", p.addr)
		if err != nil {
			return nil, err
		}
		return c.(*tls.Conn), nil
	}
	before, err := dial(old, old)
	if err != nil {
		t.Fatal(err)
	}
	defer before.Close()
	if got := statusOn(t, before, false); got != "200" {
		t.Fatalf("status %s", got)
	}
	now := p.ListenTLS.Clone()
	now.Certificates, now.ClientCAs = []tls.Certificate{fresh.issue(time.Hour, x509.ExtKeyUsageServerAuth)}, fresh.pool()
	p.SetTLS(now, nil, nil)
	if got := statusOn(t, before, false); got != "200" {
		t.Errorf("the open connection: status %s", got)
	}
	after, err := dial(fresh, fresh)
	if err != nil {
		t.Fatal(err)
	}
	defer after.Close()
	if !slices.Equal(after.ConnectionState().PeerCertificates[0].Raw, now.Certificates[0].Certificate[0]) {
		t.Error("the old certificate is shown")
	}
	if got := statusOn(t, after, false); got != "200" {
		t.Errorf("the new connection: status %s", got)
	}
	if err := p.tryTLS(t, &tls.Config{RootCAs: fresh.pool(), Certificates: []tls.Certificate{old.issue(time.Hour, x509.ExtKeyUsageClientAuth)}}); err == nil {
		t.Error("the old CA's clients still come in")
	}
}
