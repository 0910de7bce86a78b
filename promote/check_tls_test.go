package promote

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"testing"
	"time"
)

// authority signs certificates of a test and writes them as files.
type authority struct {
	t    *testing.T
	dir  string
	name string
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
}

func newAuthority(t *testing.T, dir, name string) *authority {
	t.Helper()
	now := time.Now()
	a := &authority{t: t, dir: dir, name: name, cert: &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: name},
		NotBefore: now.Add(-time.Hour), NotAfter: now.Add(time.Hour),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
	}}
	a.key = a.write(name, a.cert, a.cert, nil)
	return a
}

// issue makes NAME.pem and NAME-key.pem for the IP; change is the last word.
func (a *authority) issue(name, ip string, change func(*x509.Certificate)) {
	a.t.Helper()
	leaf := &x509.Certificate{
		SerialNumber: big.NewInt(2), Subject: pkix.Name{CommonName: name},
		NotBefore: a.cert.NotBefore, NotAfter: a.cert.NotAfter, KeyUsage: x509.KeyUsageDigitalSignature,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
		IPAddresses: []net.IP{net.ParseIP(ip)},
	}
	if change != nil {
		change(leaf)
	}
	a.write(name, leaf, a.cert, a.key)
}

func (a *authority) write(name string, cert, parent *x509.Certificate, signer *ecdsa.PrivateKey) *ecdsa.PrivateKey {
	a.t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		a.t.Fatal(err)
	}
	if signer == nil {
		signer = key
	}
	der, err := x509.CreateCertificate(rand.Reader, cert, parent, key.Public(), signer)
	if err != nil {
		a.t.Fatal(err)
	}
	keyDER, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		a.t.Fatal(err)
	}
	for file, block := range map[string]*pem.Block{
		name + ".pem": {Type: "CERTIFICATE", Bytes: der}, name + "-key.pem": {Type: "PRIVATE KEY", Bytes: keyDER},
	} {
		if err := os.WriteFile(filepath.Join(a.dir, file), pem.EncodeToMemory(block), 0o600); err != nil {
			a.t.Fatal(err)
		}
	}
	return key
}

func TestCheckTLS(t *testing.T) {
	ip, dir := loopback(240), t.TempDir()
	file := func(name string) string { return filepath.Join(dir, name+".pem") }
	ca := newAuthority(t, dir, "ca")
	ca.issue("good", ip, nil)
	ca.issue("elsewhere", "192.0.2.7", nil)
	ca.issue("expired", ip, func(c *x509.Certificate) { c.NotAfter = time.Now().Add(-time.Minute) })
	ca.issue("future", ip, func(c *x509.Certificate) { c.NotBefore = time.Now().Add(10 * time.Minute) })
	ca.issue("server", ip, func(c *x509.Certificate) { c.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth} })
	ca.issue("client", ip, func(c *x509.Certificate) { c.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth} })
	ca.issue("any", ip, func(c *x509.Certificate) { c.ExtKeyUsage = nil })
	ca.issue("named", ip, func(c *x509.Certificate) { c.IPAddresses, c.DNSNames = nil, []string{"m4.example.org"} })
	newAuthority(t, dir, "stranger").issue("strange", ip, nil)
	if err := os.WriteFile(file("empty"), nil, 0o600); err != nil {
		t.Fatal(err)
	}

	clients := func(name string) func(c *Candidate) {
		return func(c *Candidate) {
			c.Settings = map[string]string{"cert-file": file(name), "key-file": file(name + "-key")}
			c.ListenClientURLs, c.AdvertiseClientURLs = []string{"https://" + ip + ":2379"}, []string{"https://" + ip + ":2379"}
		}
	}
	peers := func(name string, more ...string) func(c *Candidate) {
		return func(c *Candidate) {
			c.Settings = map[string]string{
				"peer-cert-file": file(name), "peer-key-file": file(name + "-key"),
				"peer-trusted-ca-file": file("ca"), "peer-client-cert-auth": "true",
			}
			for i := 0; i < len(more); i += 2 {
				c.Settings[more[i]] = more[i+1]
			}
			c.ListenPeerURLs, c.InitialAdvertisePeerURLs = []string{"https://" + ip + ":2380"}, []string{"https://" + ip + ":2380"}
		}
	}
	for _, test := range []refusalCase{
		{"in the clear", func(*Candidate) {}, "", "", ""},
		{"clients", clients("good"), "", "", ""},
		{"clients, for servers alone", clients("server"), "", "", ""},
		{"clients, of another CA", clients("strange"), "", "", ""},
		{"clients without a certificate", func(c *Candidate) {
			clients("good")(c)
			c.Settings = nil
		}, "tls-missing", "https://" + ip + ":2379", "add --cert-file and --key-file"},
		{"clients, automatic", func(c *Candidate) {
			clients("good")(c)
			c.Settings = map[string]string{"auto-tls": "true"}
		}, "", "", ""},
		{"clients at another address", clients("elsewhere"), "tls-name", "does not cover https://" + ip + ":2379: it is for 192.0.2.7", "names " + ip},
		{"clients by name", func(c *Candidate) {
			clients("named")(c)
			c.AdvertiseClientURLs = []string{"https://m4.example.org:2379"}
		}, "", "", ""},
		{"clients' certificate expired", clients("expired"), "tls-expired", "expired 1 minute ago", "renewed"},
		{"clients' certificate not valid yet", clients("future"), "tls-expired", "valid only from", "clock"},
		{"file missing", func(c *Candidate) {
			clients("good")(c)
			c.Settings["cert-file"] = file("gone")
		}, "tls-file", "--cert-file " + file("gone") + ": no such file", "ls -l"},
		{"file relative", func(c *Candidate) {
			clients("good")(c)
			c.Settings["key-file"] = "key.pem"
		}, "tls-file", "--key-file key.pem is relative", "whole path"},
		{"key of another", func(c *Candidate) {
			clients("good")(c)
			c.Settings["key-file"] = file("server-key")
		}, "tls-pair", "private key does not match", "the key that"},
		{"key missing", func(c *Candidate) {
			clients("good")(c)
			delete(c.Settings, "key-file")
		}, "tls-file", "--cert-file is given without --key-file", "add --key-file"},
		{"certificate missing", func(c *Candidate) { c.Settings["peer-key-file"] = file("good-key") }, "tls-file", "--peer-key-file is given without", "add --peer-cert-file"},
		{"CA empty", func(c *Candidate) { c.Settings["trusted-ca-file"] = file("empty") }, "tls-file", "--trusted-ca-file", "PEM"},
		{"peers", peers("good"), "", "", ""},
		{"peers, for all uses", peers("any"), "", "", ""},
		{"peers, automatic", func(c *Candidate) {
			peers("good")(c)
			c.Settings = map[string]string{"peer-auto-tls": "true"}
		}, "", "", ""},
		{"peers without a certificate", func(c *Candidate) {
			peers("good")(c)
			c.Settings = nil
		}, "tls-missing", "https://" + ip + ":2380", "--peer-cert-file"},
		{"peers at another address", peers("elsewhere"), "tls-name", "--peer-cert-file", "names " + ip},
		{"peers of another CA", peers("strange"), "tls-ca", "signed by unknown authority", "the same as at the other members"},
		{"peers, servers alone", peers("server"), "tls-use", "may not be used by a client", "clientAuth"},
		{"peers, clients alone", peers("client"), "tls-use", "may not be used by a server", "serverAuth"},
		{"peers, one for each use", peers("server", "peer-client-cert-file", file("client"), "peer-client-key-file", file("client-key")), "", "", ""},
		{"peers, expired", peers("expired"), "tls-expired", "--peer-cert-file", "renewed"},
	} {
		t.Run(test.name, func(t *testing.T) {
			c := goodCandidate(t)
			test.change(c)
			expectOne(t, c.CheckTLS(), test.check, test.problem, test.hint)
		})
	}
}

func TestTLSFileOfAnotherUser(t *testing.T) {
	ip, dir := loopback(240), t.TempDir()
	newAuthority(t, dir, "ca").issue("good", ip, nil)
	key := filepath.Join(dir, "good-key.pem")
	// The folder is open to all, the certificate too; the key is not.
	giveAll(t, filepath.Join(dir, "good.pem"), stranger())
	if err := os.Chmod(key, 0); err != nil {
		t.Fatal(err)
	}
	c := goodCandidate(t)
	c.UID = stranger()
	c.Settings = map[string]string{"cert-file": filepath.Join(dir, "good.pem"), "key-file": key}
	expectOne(t, c.CheckTLS(), "tls-file", "--key-file "+key+": permission denied", "ls -l "+key)
}
