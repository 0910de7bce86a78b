package commands

import (
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

// badTLSFolder is a folder with TLS files of which each has another fault.
type badTLSFolder struct {
	t   *testing.T
	dir string
}

func (f *badTLSFolder) path(name string) string { return filepath.Join(f.dir, name) }

func (f *badTLSFolder) write(name, kind string, der []byte) {
	f.t.Helper()
	text := der
	if kind != "" {
		text = pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der})
	}
	if err := os.WriteFile(f.path(name), text, 0o600); err != nil {
		f.t.Fatal(err)
	}
}

// certificate makes NAME.pem and NAME-key.pem; change makes it another one than a
// good one for 127.0.0.1, for servers and clients.
func (f *badTLSFolder) certificate(name string, change func(*x509.Certificate)) {
	f.t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		f.t.Fatal(err)
	}
	cert := &x509.Certificate{
		SerialNumber: big.NewInt(1), NotBefore: tlsDay(-2), NotAfter: tlsDay(2), IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
	}
	if change != nil {
		change(cert)
	}
	der, err := x509.CreateCertificate(rand.Reader, cert, cert, &key.PublicKey, key)
	if err != nil {
		f.t.Fatal(err)
	}
	keyDER, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		f.t.Fatal(err)
	}
	f.write(name+".pem", "CERTIFICATE", der)
	f.write(name+"-key.pem", "PRIVATE KEY", keyDER)
}

// tlsDay is a time so many days from now, whole seconds as in a certificate.
func tlsDay(n int) time.Time { return time.Now().AddDate(0, 0, n).UTC().Truncate(24 * time.Hour) }

func makeBadTLS(t *testing.T) *badTLSFolder {
	t.Helper()
	f := &badTLSFolder{t, t.TempDir()}
	f.certificate("good", nil)
	f.certificate("other", nil)
	f.certificate("expired", func(c *x509.Certificate) { c.NotAfter = tlsDay(-1) })
	f.certificate("future", func(c *x509.Certificate) { c.NotBefore = tlsDay(1) })
	f.certificate("server", func(c *x509.Certificate) { c.ExtKeyUsage = c.ExtKeyUsage[:1] })
	f.certificate("client", func(c *x509.Certificate) { c.ExtKeyUsage = c.ExtKeyUsage[1:] })
	f.certificate("hostless", func(c *x509.Certificate) { c.IPAddresses, c.Subject = nil, pkix.Name{CommonName: "a.test"} })
	f.certificate("named", func(c *x509.Certificate) { c.Subject = pkix.Name{CommonName: "root"} })
	f.write("empty", "", nil)
	f.write("garbage", "", []byte("no PEM\n"))
	f.write("broken.pem", "CERTIFICATE", []byte("no certificate"))
	f.write("broken-key.pem", "PRIVATE KEY", []byte("no key"))
	f.write("encrypted-key.pem", "ENCRYPTED PRIVATE KEY", []byte("?"))
	old := &pem.Block{Type: "EC PRIVATE KEY", Headers: map[string]string{"Proc-Type": "4,ENCRYPTED", "DEK-Info": "AES-256-CBC,00"}, Bytes: []byte("?")}
	f.write("old-encrypted-key.pem", "", pem.EncodeToMemory(old))
	_, key, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	f.write("ed25519-key.pem", "PRIVATE KEY", der)
	return f
}

// badSides are the sides with the settings of each, and what else the line needs.
var badSides = []struct{ name, more, cert, key, ca, label string }{
	{"listener", "--listen-client-urls https://127.0.0.1:2379 --client-cert-auth", "cert-file", "key-file", "trusted-ca-file", "listener"},
	{"members", "", "client-cert-file", "client-key-file", "trusted-ca-file", "towards members"},
	{"members, listener's", "", "cert-file", "key-file", "trusted-ca-file", "towards members"},
	{"peers", "", "peer-cert-file", "peer-key-file", "peer-trusted-ca-file", "towards peers"},
	{"peers, client's", "", "peer-client-cert-file", "peer-client-key-file", "peer-trusted-ca-file", "towards peers"},
	{"discovery", "", "discovery-cert", "discovery-key", "discovery-cacert", "towards discovery services"},
}

// Each fault of a file is one line that names the flag, the side, the file and why.
func TestBadTLSFiles(t *testing.T) {
	f := makeBadTLS(t)
	inputs := map[string]badInput{}
	for _, side := range badSides {
		add := func(name, line, flag, message, hint string) {
			message = fmt.Sprintf("--%s (%s): %s", flag, side.label, message)
			// The way from there to the line is the same for all sides.
			if side.name == "listener" || strings.HasSuffix(name, "missing") {
				inputs[side.name+": "+name] = badInput{strings.Join([]string{"proxy start", side.more, line}, " "), nil, ExitUsage, message, hint}
				return
			}
			t.Run(side.name+": "+name, func(t *testing.T) { refuseIdentities(t, line, message, hint) })
		}
		const inCert, inKey, inCA = "cert", "key", "ca"
		for _, test := range []struct{ name, in, file, message, hint string }{
			{"missing", inCert, "none.pem", "can't read $F: no such file or directory", "check the path and the rights with: ls -l $F"},
			{"a directory", inCert, "", "can't read $F: is a directory", "check the path and the rights with: ls -l $F"},
			{"unreadable", inCert, "/proc/self/mem", "can't read $F: input/output error", "check the path and the rights with: ls -l $F"},
			{"empty", inCert, "empty", "$F is empty", "check with: ls -l $F"},
			{"not PEM", inCert, "garbage", "there is no certificate in $F: it is no PEM file", pemHint},
			{"a key", inCert, "good-key.pem", `there is no certificate in $F, but a PEM block "PRIVATE KEY"`, pemHint},
			{"broken", inCert, "broken.pem", "certificate 1 in $F: malformed certificate", "check with: openssl x509 -in $F -noout -text"},
			{"expired", inCert, "expired.pem", "$F has expired: it was valid until " + tlsDay(-1).Format(time.RFC3339), "have it renewed; its dates: openssl x509 -in $F -noout -dates"},
			{"not valid yet", inCert, "future.pem", "$F is not valid yet: it is from " + tlsDay(1).Format(time.RFC3339) + " on", "look at the clock of this host with: date -u; or wait"},
			{"missing", inKey, "none.pem", "can't read $F: no such file or directory", "check the path and the rights with: ls -l $F"},
			{"a directory", inKey, "", "can't read $F: is a directory", "check the path and the rights with: ls -l $F"},
			{"unreadable", inKey, "/proc/self/mem", "can't read $F: input/output error", "check the path and the rights with: ls -l $F"},
			{"empty", inKey, "empty", "$F is empty", "check with: ls -l $F"},
			{"not PEM", inKey, "garbage", "there is no private key in $F: it is no PEM file", keyHint},
			{"a certificate", inKey, "good.pem", `there is no private key in $F, but a PEM block "CERTIFICATE"`, keyHint},
			{"broken", inKey, "broken-key.pem", "$F: failed to parse private key", "check with: openssl pkey -in $F -noout -text"},
			{"encrypted", inKey, "encrypted-key.pem", "the key in $F has a passphrase", passHint},
			{"encrypted as of old", inKey, "old-encrypted-key.pem", "the key in $F has a passphrase", passHint},
			{"another certificate's", inKey, "other-key.pem", "$F is not the key of $C", "compare what these print: openssl x509 -in $C -noout -pubkey; openssl pkey -in $F -pubout"},
			{"of another type", inKey, "ed25519-key.pem", "$F is not the key of $C", "compare what these print: openssl x509 -in $C -noout -pubkey; openssl pkey -in $F -pubout"},
			{"missing", inCA, "none.pem", "can't read $F: no such file or directory", "check the path and the rights with: ls -l $F"},
			{"a directory", inCA, "", "can't read $F: is a directory", "check the path and the rights with: ls -l $F"},
			{"empty", inCA, "empty", "$F is empty", "check with: ls -l $F"},
			{"not PEM", inCA, "garbage", "there is no certificate in $F: it is no PEM file", pemHint},
			{"a key", inCA, "good-key.pem", `there is no certificate in $F, but a PEM block "PRIVATE KEY"`, pemHint},
			{"broken", inCA, "broken.pem", "certificate 1 in $F: malformed certificate", "check with: openssl x509 -in $F -noout -text"},
			{"expired", inCA, "expired.pem", "$F has expired: it was valid until " + tlsDay(-1).Format(time.RFC3339), "have it renewed; its dates: openssl x509 -in $F -noout -dates"},
		} {
			cert, key, ca := f.path("good.pem"), f.path("good-key.pem"), f.path("good.pem")
			file, flag := f.path(test.file), side.cert
			if filepath.IsAbs(test.file) {
				file = test.file
			}
			switch test.in {
			case inCert:
				cert = file
				if known := strings.TrimSuffix(file, ".pem") + "-key.pem"; strings.Contains("expired.pem future.pem", filepath.Base(file)) {
					key = known
				}
			case inKey:
				key, flag = file, side.key
			default:
				ca, flag = file, side.ca
			}
			fill := strings.NewReplacer("$F", file, "$C", cert).Replace
			line := fmt.Sprintf("--%s %s --%s %s --%s %s", side.cert, cert, side.key, key, side.ca, ca)
			add(test.in+" "+test.name, line, flag, fill(test.message), fill(test.hint))
		}
		cert, key := f.path("good.pem"), f.path("good-key.pem")
		ca := fmt.Sprintf(" --%s %s", side.ca, cert)
		add("cert without key", fmt.Sprintf("--%s %s", side.cert, cert)+ca, side.cert, fmt.Sprintf("there is no --%s to it", side.key), fmt.Sprintf("add --%s with the key of the certificate", side.key))
		add("key without cert", fmt.Sprintf("--%s %s", side.key, key)+ca, side.key, fmt.Sprintf("there is no --%s to it", side.cert), fmt.Sprintf("add --%s with the certificate of the key", side.cert))
		// A certificate of one's own that is not for this use.
		use := map[string][3]string{"listener": {"client", "server", "serverAuth"}}[side.name]
		switch side.name {
		case "members", "peers, client's", "discovery":
			use = [3]string{"server", "client", "clientAuth"}
		}
		if use[0] != "" {
			path := f.path(use[0] + ".pem")
			add("for another use", fmt.Sprintf("--%s %s --%s %s", side.cert, path, side.key, f.path(use[0]+"-key.pem"))+ca, side.cert,
				path+" may not be used by a "+use[1], "have a certificate made with the extended key usage "+use[2])
		}
	}
	inputs["listener: without a host"] = badInput{
		fmt.Sprintf("proxy start --listen-client-urls https://127.0.0.1:2379 --cert-file %s --key-file %s", f.path("hostless.pem"), f.path("hostless-key.pem")), nil, ExitUsage,
		fmt.Sprintf("--cert-file (listener): %s names no host", f.path("hostless.pem")),
		"have one made with the names and addresses that clients dial as subjectAltName; a common name is not looked at",
	}
	refuseBadInput(t, inputs)
}

// refuseIdentities wants the TLS files of a line of flags, each with its value, to be
// refused.
func refuseIdentities(t *testing.T, line, message, hint string) {
	t.Helper()
	flags := map[string]string{}
	for pair := range slices.Chunk(strings.Fields(line), 2) {
		flags[strings.TrimPrefix(pair[0], "--")] = pair[1]
	}
	_, err := loadIdentities(settingsOf(t, flags), nil, nil)
	var failure *Failure
	if !errors.As(err, &failure) || failure.Code != ExitUsage || failure.Error() != message || failure.Hint != hint {
		t.Errorf("got %v with %+v, want %q with the hint %q", err, failure, message, hint)
	}
}

const (
	pemHint  = "give a file with PEM certificates, as from: openssl x509 -in $F -outform PEM"
	keyHint  = "give the file with the private key in PEM"
	passHint = "take the passphrase off, into a file of mode 0600: openssl pkey -in $F -out FILE"
)

// What else about TLS is wrong on a command line.
func TestBadTLSSettings(t *testing.T) {
	f := makeBadTLS(t)
	https := fmt.Sprintf("proxy start --listen-client-urls https://127.0.0.1:2379 --cert-file %s --key-file %s --trusted-ca-file %s ",
		f.path("good.pem"), f.path("good-key.pem"), f.path("good.pem"))
	suites := "choose from: " + strings.Join(safeSuites(), ", ")
	noAuth := "no client certificate is demanded, so that none is refused"
	noAuthHint := "set --client-cert-auth and --trusted-ca-file; or leave it out"
	named := f.path("named.pem")
	refuseBadInput(t, map[string]badInput{
		"a version of old": {https + "--tls-min-version TLS1.1", nil, ExitUsage, `--tls-min-version: "TLS1.1" is not one of TLS1.2, TLS1.3`, "did you mean TLS1.2? write one of: TLS1.2, TLS1.3"},
		"no version":       {https + "--tls-max-version 2", nil, ExitUsage, `--tls-max-version: "2" is not one of TLS1.2, TLS1.3`, "write one of: TLS1.2, TLS1.3"},
		"versions crossed": {
			https + "--tls-min-version TLS1.3 --tls-max-version TLS1.2", nil, ExitUsage,
			"--tls-max-version: TLS1.2 is below --tls-min-version TLS1.3", "set --tls-max-version to TLS1.3, or to nothing",
		},
		"suites of TLS 1.3": {
			https + "--tls-min-version TLS1.3 --cipher-suites TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256", nil, ExitUsage,
			"--cipher-suites: those of TLS 1.3 can't be chosen", "leave it out, or set --tls-min-version to TLS1.2",
		},
		"a suite of TLS 1.3": {https + "--cipher-suites TLS_AES_128_GCM_SHA256", nil, ExitUsage, `--cipher-suites: "TLS_AES_128_GCM_SHA256" is one of TLS 1.3, whose suites can't be chosen`, suites},
		"no suite":           {https + "--cipher-suites AES128", nil, ExitUsage, `--cipher-suites: "AES128" is no cipher suite`, suites},
		"crl without client certificates": {
			https + "--client-cert-auth=false --client-crl-file " + f.path("garbage"), nil, ExitUsage, "--client-crl-file (listener): " + noAuth, noAuthHint,
		},
		"allowed names without client certificates": {
			https + "--client-cert-auth=false --client-cert-allowed-hostname a.test", nil, ExitUsage, "--client-cert-allowed-hostname (listener): " + noAuth, noAuthHint,
		},
		"crl that is none": {
			https + "--client-cert-auth --client-crl-file " + f.path("garbage"), nil, ExitUsage,
			"--client-crl-file (listener): " + f.path("garbage") + ": malformed crl", "check with: openssl crl -in " + f.path("garbage") + " -noout -text",
		},
		"crl that is not there": {
			https + "--client-cert-auth --client-crl-file none", nil, ExitUsage,
			"--client-crl-file (listener): can't read none: no such file or directory", "check the path and the rights with: ls -l none",
		},
		"auto-tls for no time": {
			"proxy start --listen-client-urls https://127.0.0.1:2379 --auto-tls --self-signed-cert-validity 0", nil, ExitUsage,
			"--self-signed-cert-validity: a certificate is valid for a year at least",
			"set it to the years that the certificate is to be valid, such as 1",
		},
		"a common name": {
			fmt.Sprintf("proxy start --client-cert-file %s --client-key-file %s", named, f.path("named-key.pem")), nil, ExitUsage,
			`--client-cert-file (towards members): it is shown to members and has the common name "root": a cluster with auth on takes every client without a token for that user`,
			"name one without a common name in --client-cert-file and --client-key-file; or add --allow-client-cert-cn, if the cluster has no auth or wants that",
		},
	})
}
