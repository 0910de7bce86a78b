package commands

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"log/slog"
	"math/big"
	"net/url"
	"os"
	"path/filepath"
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
	var conf tls.Config
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

// --auto-tls makes a certificate that is valid for the address listened on.
func TestAutoTLS(t *testing.T) {
	listen := []url.URL{{Scheme: "https", Host: "127.0.0.1:2379"}}
	s := settingsOf(t, map[string]string{"auto-tls": "true", "data-dir": t.TempDir()})
	ids, err := loadIdentities(s, listen, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	leaf, err := x509.ParseCertificate(ids.Listener.Certificates[0].Certificate[0])
	if err != nil || leaf.VerifyHostname("127.0.0.1") != nil || ids.Listener.MinVersion != tls.VersionTLS12 {
		t.Fatalf("%v, %v", err, leaf.VerifyHostname("127.0.0.1"))
	}
	if ids.Members.InsecureSkipVerify || ids.Peers.InsecureSkipVerify {
		t.Error("members or peers are not verified")
	}
}
