package commands

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"io"
	"io/fs"
	"log/slog"
	"maps"
	"math/big"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

func settingsOf(t *testing.T, flags map[string]string) *Settings {
	t.Helper()
	flag := func(name string) (string, bool) { v, ok := flags[name]; return v, ok }
	s, err := loadSettings(proxySettings(), flag, func(string) string { return "" })
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// Revoked client certificates, and those without an allowed name, are refused.
func TestRestrictClients(t *testing.T) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	issue := func(serial int64, name string) *x509.Certificate {
		template := &x509.Certificate{
			SerialNumber: big.NewInt(serial), DNSNames: []string{name}, NotAfter: time.Now().Add(time.Hour),
			Subject: pkix.Name{CommonName: "ca"}, IsCA: true, BasicConstraintsValid: true, SubjectKeyId: []byte{1}, KeyUsage: x509.KeyUsageCRLSign,
		}
		der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
		if err != nil {
			t.Fatal(err)
		}
		cert, err := x509.ParseCertificate(der)
		if err != nil {
			t.Fatal(err)
		}
		return cert
	}
	list, err := x509.CreateRevocationList(rand.Reader, &x509.RevocationList{
		Number: big.NewInt(1), NextUpdate: time.Now().Add(time.Hour),
		RevokedCertificateEntries: []x509.RevocationListEntry{{SerialNumber: big.NewInt(7), RevocationTime: time.Now()}},
	}, issue(1, "ca.test"), key)
	if err != nil {
		t.Fatal(err)
	}
	crl := filepath.Join(t.TempDir(), "crl")
	if err := os.WriteFile(crl, list, 0o600); err != nil {
		t.Fatal(err)
	}
	conf := tls.Config{ClientAuth: tls.RequireAndVerifyClientCert}
	if err := restrictClients(settingsOf(t, map[string]string{"client-crl-file": crl, "client-cert-allowed-hostname": "a.test,b.test"}), &conf); err != nil {
		t.Fatal(err)
	}
	for _, tc := range []struct {
		name   string
		serial int64
		host   string
		ok     bool
	}{
		{"allowed", 2, "b.test", true},
		{"another name", 3, "c.test", false},
		{"revoked", 7, "a.test", false},
	} {
		t.Run(tc.name, func(t *testing.T) {
			err := conf.VerifyConnection(tls.ConnectionState{PeerCertificates: []*x509.Certificate{issue(tc.serial, tc.host)}})
			if (err == nil) != tc.ok {
				t.Fatalf("got %v", err)
			}
		})
	}
	if conf.VerifyConnection(tls.ConnectionState{}) == nil {
		t.Error("a client without a certificate is let in")
	}
}

// listenerOf loads the listener's side for the URLs.
func listenerOf(t *testing.T, flags map[string]string, urls ...string) *tls.Config {
	t.Helper()
	var listen []url.URL
	for _, raw := range urls {
		u, err := url.Parse(raw)
		if err != nil {
			t.Fatal(err)
		}
		listen = append(listen, *u)
	}
	ids, err := loadIdentities(settingsOf(t, flags), listen, nil)
	if err != nil {
		t.Fatal(err)
	}
	if ids.Members.InsecureSkipVerify || ids.Peers.InsecureSkipVerify {
		t.Error("members or peers are not verified")
	}
	return ids.Listener
}

// --auto-tls makes a certificate for the addresses listened on, keeps it, and makes
// another one where that has expired, can't be read, or is not for an address.
func TestAutoTLS(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "p.etcd")
	flags := map[string]string{"auto-tls": "true", "data-dir": dir}
	const one = "https://127.0.0.1:2379"
	load := func(urls ...string) *x509.Certificate { return listenerOf(t, flags, urls...).Certificates[0].Leaf }
	first := load(one)
	if left := time.Until(first.NotAfter).Hours() / 24; first.VerifyHostname("127.0.0.1") != nil || left < 364 || left > 366 {
		t.Errorf("valid for %.0f days: %v", left, first.VerifyHostname("127.0.0.1"))
	}
	if !load(one).Equal(first) {
		t.Error("it is not kept")
	}
	for name, want := range map[string]fs.FileMode{"": 0o700, autoTLSCert: 0o600, autoTLSKey: 0o600} {
		if info, err := os.Stat(filepath.Join(dir, "etcdops", "auto-tls", name)); err != nil || info.Mode().Perm() != want {
			t.Errorf("%q: %v, %v", name, info.Mode(), err)
		}
	}
	six := load("https://[::1]:2379", "https://localhost:2381", "unixs://p.sock", one, "http://10.9.9.9:1")
	if six.Equal(first) || six.VerifyHostname("::1") != nil || six.VerifyHostname("localhost") != nil || six.VerifyHostname("127.0.0.1") != nil || six.VerifyHostname("10.9.9.9") == nil {
		t.Errorf("it is for %v %v", six.DNSNames, six.IPAddresses)
	}
	f := &badTLSFolder{t, filepath.Join(dir, "etcdops", "auto-tls")}
	for _, fault := range []string{"expired", "broken"} {
		f.certificate("cert", func(c *x509.Certificate) {
			if fault == "expired" {
				c.NotAfter = time.Now().Add(-time.Minute)
			}
		})
		if err := os.Rename(f.path("cert-key.pem"), f.path(autoTLSKey)); err != nil {
			t.Fatal(err)
		}
		if fault == "broken" {
			f.write(autoTLSKey, "", nil)
		}
		if made := load(one); time.Until(made.NotAfter) < 300*24*time.Hour {
			t.Errorf("%s: it ends %v", fault, made.NotAfter)
		}
	}
}

// Which certificate is shown to whom.
func TestSharedCertificates(t *testing.T) {
	f := makeBadTLS(t)
	pair := func(flag, name string) map[string]string {
		return map[string]string{flag + "-file": f.path(name + ".pem"), strings.Replace(flag, "cert", "key", 1) + "-file": f.path(name + "-key.pem")}
	}
	for _, test := range []struct {
		name           string
		flags          []map[string]string
		members, peers string // the certificate; "" for none
	}{
		{"the listener's to members", []map[string]string{pair("cert", "good")}, "good", ""},
		{"not where it is for servers alone", []map[string]string{pair("cert", "server"), pair("peer-cert", "server")}, "", ""},
		{"a client's goes before", []map[string]string{pair("cert", "good"), pair("client-cert", "client")}, "client", ""},
		{"the peers' to both", []map[string]string{pair("peer-cert", "good")}, "good", "good"},
		{"a peer client's goes before", []map[string]string{pair("peer-cert", "good"), pair("peer-client-cert", "client")}, "client", "client"},
		{"each for itself", []map[string]string{pair("cert", "good"), pair("peer-cert", "other")}, "good", "other"},
	} {
		t.Run(test.name, func(t *testing.T) {
			flags := map[string]string{}
			for _, some := range test.flags {
				maps.Copy(flags, some)
			}
			ids, err := loadIdentities(settingsOf(t, flags), nil, nil)
			if err != nil {
				t.Fatal(err)
			}
			for _, side := range []struct {
				use, want string
				conf      *tls.Config
			}{{"members", test.members, ids.Members}, {"peers", test.peers, ids.Peers}} {
				got := ""
				for _, c := range side.conf.Certificates {
					got += string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: c.Certificate[0]}))
				}
				want := []byte{}
				if side.want != "" {
					if want, err = os.ReadFile(f.path(side.want + ".pem")); err != nil {
						t.Fatal(err)
					}
				}
				if got != string(want) {
					t.Errorf("%s: another one than %q", side.use, side.want)
				}
			}
		})
	}
}

// What a certificate or a flag beside it makes of no use is said at the start.
func TestSettingsWithoutEffect(t *testing.T) {
	f := makeBadTLS(t)
	own := map[string]string{"cert-file": f.path("good.pem"), "key-file": f.path("good-key.pem"), "peer-trusted-ca-file": f.path("good.pem")}
	for _, test := range []struct {
		name   string
		listen string
		flags  map[string]string
		want   string // the log; "" for none
	}{
		{"a certificate", "https", nil, ""},
		{"auto TLS and a certificate", "https", map[string]string{"auto-tls": "true"}, `msg="setting has no effect: a certificate is given" setting=--auto-tls given=--cert-file`},
		{"auto TLS in the clear", "http", map[string]string{"auto-tls": "true"}, `msg="setting has no effect: no https url is listened on" setting=--auto-tls`},
		{"auto TLS of peers and a CA", "https", map[string]string{"peer-auto-tls": "true"}, `msg="setting has no effect: peers are not verified" setting=--peer-trusted-ca-file given=--peer-auto-tls`},
		{"auto TLS of peers", "https", map[string]string{"peer-auto-tls": "true", "peer-trusted-ca-file": ""}, `msg="peers are not verified" setting=--peer-auto-tls`},
	} {
		t.Run(test.name, func(t *testing.T) {
			flags := maps.Clone(own)
			maps.Copy(flags, test.flags)
			var log strings.Builder
			if _, err := loadIdentities(settingsOf(t, flags), []url.URL{{Scheme: test.listen, Host: "127.0.0.1:2379"}}, slog.New(slog.NewTextHandler(&log, nil))); err != nil {
				t.Fatal(err)
			}
			if got := log.String(); !strings.Contains(got, test.want) || strings.Count(got, "WARN") != min(1, len(test.want)) {
				t.Errorf("got %q, want %q", got, test.want)
			}
		})
	}
}

// etcd's flags for versions and suites count on all sides, and a server's name on its
// side.
func TestProtocolVersions(t *testing.T) {
	f := makeBadTLS(t)
	flags := map[string]string{
		"cert-file": f.path("good.pem"), "key-file": f.path("good-key.pem"), "discovery-cacert": f.path("good.pem"),
		"tls-server-name": "etcd.test", "peer-tls-server-name": "peer.test",
	}
	for _, test := range []struct {
		name           string
		least, highest string
		suites         string
		min, max       uint16
		ids            []uint16
	}{
		{"nothing set", "", "", "", tls.VersionTLS12, 0, nil},
		{"1.3 alone", "TLS1.3", "", "", tls.VersionTLS13, 0, nil},
		{"1.2 alone", "TLS1.2", "TLS1.2", "", tls.VersionTLS12, tls.VersionTLS12, nil},
		{
			"suites", "", "", "TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256,TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305", tls.VersionTLS12, 0,
			[]uint16{tls.TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256, tls.TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256},
		},
	} {
		t.Run(test.name, func(t *testing.T) {
			set := maps.Clone(flags)
			maps.Copy(set, map[string]string{"tls-min-version": test.least, "tls-max-version": test.highest, "cipher-suites": test.suites})
			ids, err := loadIdentities(settingsOf(t, set), []url.URL{{Scheme: "https", Host: "127.0.0.1:2379"}}, nil)
			if err != nil {
				t.Fatal(err)
			}
			for use, conf := range map[string]*tls.Config{"listener": ids.Listener, "members": ids.Members, "peers": ids.Peers, "discovery": ids.Discovery} {
				if conf.MinVersion != test.min || conf.MaxVersion != test.max || !slices.Equal(conf.CipherSuites, test.ids) {
					t.Errorf("%s: from %x to %x by %x", use, conf.MinVersion, conf.MaxVersion, conf.CipherSuites)
				}
				if want := map[string]string{"members": "etcd.test", "peers": "peer.test"}[use]; conf.ServerName != want {
					t.Errorf("%s: the server is to be %q", use, conf.ServerName)
				}
			}
		})
	}
}

// What goes wrong with a member names the setting to look at.
func TestExplainMember(t *testing.T) {
	f := makeBadTLS(t)
	own := map[string]string{"cert-file": f.path("good.pem"), "key-file": f.path("good-key.pem")}
	peers := map[string]string{"peer-cert-file": f.path("good.pem"), "peer-key-file": f.path("good-key.pem")}
	for _, test := range []struct {
		name  string
		flags map[string]string
		err   error
		want  string
	}{
		{"unknown authority", own, x509.UnknownAuthorityError{}, "certificate signed by unknown authority: see --trusted-ca-file"},
		{"of the peers' files", peers, x509.UnknownAuthorityError{}, "certificate signed by unknown authority: see --peer-trusted-ca-file"},
		{"no certificate", nil, errors.New("remote error: tls: certificate required"), "it refused our TLS handshake: certificate required: see --client-cert-file"},
		{"of no CA that it names", own, errors.New("remote error: tls: certificate required"), "it refused our TLS handshake: certificate required: our certificate is of no CA that it accepts: see --cert-file"},
		{"of no CA that it knows", own, errors.New("remote error: tls: unknown certificate authority"), "it refused our TLS handshake: unknown certificate authority: our certificate is of no CA that it accepts: see --cert-file"},
		{"with TLS 1.2", own, errors.New("remote error: tls: handshake failure"), "it refused our TLS handshake: handshake failure: is our certificate of a CA that it accepts? see --cert-file"},
		{"nothing set", nil, x509.UnknownAuthorityError{}, "certificate signed by unknown authority: see --trusted-ca-file"},
		{"a bad one", own, errors.New("remote error: tls: bad certificate"), "it refused our TLS handshake: bad certificate: see --cert-file"},
		{"a bad one, for servers alone", map[string]string{"cert-file": f.path("server.pem"), "key-file": f.path("server-key.pem")}, errors.New("remote error: tls: bad certificate"), "it refused our TLS handshake: bad certificate: does it want a client certificate? see --client-cert-file"},
		{"a bad one of the peers", peers, errors.New("remote error: tls: bad certificate"), "it refused our TLS handshake: bad certificate: see --peer-cert-file"},
		{"version", own, errors.New("remote error: tls: protocol version not supported"), "it refused our TLS handshake: protocol version not supported: see --tls-min-version"},
		{"in the clear", own, tls.RecordHeaderError{}, "it does not speak TLS: is its URL http?"},
		{"not of TLS", own, io.EOF, ""},
	} {
		t.Run(test.name, func(t *testing.T) {
			s := settingsOf(t, test.flags)
			ids, err := loadIdentities(s, nil, nil)
			if err != nil {
				t.Fatal(err)
			}
			if got := ids.explainMember(s)(test.err); got != test.want {
				t.Errorf("got %q, want %q", got, test.want)
			}
		})
	}
}
