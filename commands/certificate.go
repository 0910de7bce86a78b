package commands

import (
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"os"
	"strings"
	"time"

	"etcdops/promote"
)

// side names the settings of a certificate that we show and of the CA that we
// trust, and whom they are for.
type side struct {
	use           string // see sideUses
	cert, key, ca string

	// borrowed says that the certificate is first of all a server's: where it may
	// not be used by a client, it is not shown.
	borrowed bool
}

// String is how errors call the side.
func (d side) String() string {
	switch d.use {
	case useListener:
		return "listener"
	case useDiscovery:
		return "towards discovery services"
	}
	return "towards " + d.use
}

// bad is the error of one of the side's settings.
func (d side) bad(s *Settings, name, hint, problem string, args ...any) error {
	return usageError(hint, "%s (%s): %s", s.Where(name), d, fmt.Sprintf(problem, args...))
}

// ownCert is the setting for a certificate of this side, where none is shown.
func (d side) ownCert(s *Settings) string {
	switch {
	case d.borrowed && d.use == useMembers:
		return "client-cert-file"
	case d.borrowed && s.String(d.cert) != "": // it is for servers alone
		return "peer-client-cert-file"
	}
	return d.cert
}

// borrow takes the certificate of a server, and its key, where the side has neither
// of its own.
func (d *side) borrow(s *Settings, cert, key string) {
	if s.String(d.cert) == "" && s.String(d.key) == "" {
		d.cert, d.key, d.borrowed = cert, key, true
	}
}

func (d side) isSet(s *Settings) bool {
	return s.String(d.cert) != "" || s.String(d.key) != "" || s.String(d.ca) != ""
}

// load makes the configuration of a side on which we are the client.
func (d side) load(s *Settings) (*tls.Config, error) {
	conf, err := protocolVersions(s)
	if err != nil {
		return nil, err
	}
	pair, err := d.loadPair(s)
	if err != nil {
		return nil, err
	}
	if pair != nil && (!d.borrowed || promote.UsableFor(pair.Leaf, x509.ExtKeyUsageClientAuth)) {
		if err := d.checkUse(s, pair.Leaf, x509.ExtKeyUsageClientAuth, "client", "clientAuth"); err != nil {
			return nil, err
		}
		conf.Certificates = []tls.Certificate{*pair}
	}
	conf.RootCAs, err = d.loadCA(s)
	return conf, err
}

// loadPair loads a certificate and its key; nil without both.
func (d side) loadPair(s *Settings) (*tls.Certificate, error) {
	cert, key := s.String(d.cert), s.String(d.key)
	switch {
	case cert == "" && key == "":
		return nil, nil
	case key == "":
		return nil, d.bad(s, d.cert, "add "+dashed(d.key)+" with the key of the certificate", "there is no %s to it", dashed(d.key))
	case cert == "":
		return nil, d.bad(s, d.key, "add "+dashed(d.cert)+" with the certificate of the key", "there is no %s to it", dashed(d.cert))
	}
	certPEM, err := d.read(s, d.cert)
	if err != nil {
		return nil, err
	}
	chain, err := d.parseCertificates(s, d.cert, certPEM)
	if err != nil {
		return nil, err
	}
	keyPEM, err := d.read(s, d.key)
	if err != nil {
		return nil, err
	}
	if err := d.checkKeyFile(s, keyPEM); err != nil {
		return nil, err
	}
	pair, err := tls.X509KeyPair(certPEM, keyPEM)
	switch {
	case err == nil:
	case strings.Contains(err.Error(), "does not match"): // crypto/tls/tls.go, X509KeyPair, has no type for it
		return nil, d.bad(s, d.key, fmt.Sprintf("compare what these print: openssl x509 -in %s -noout -pubkey; openssl pkey -in %s -pubout", cert, key),
			"%s is not the key of %s", key, cert)
	default:
		return nil, d.bad(s, d.key, "check with: openssl pkey -in "+key+" -noout -text", "%s: %s", key, plainTLS(err))
	}
	pair.Leaf = chain[0]
	return &pair, d.checkDates(s, d.cert, chain[0])
}

// loadCA reads the certificates that are trusted; nil where the system's are.
func (d side) loadCA(s *Settings) (*x509.CertPool, error) {
	if s.String(d.ca) == "" {
		return nil, nil
	}
	text, err := d.read(s, d.ca)
	if err != nil {
		return nil, err
	}
	list, err := d.parseCertificates(s, d.ca, text)
	if err != nil {
		return nil, err
	}
	pool := x509.NewCertPool()
	var dated error // of the last one; one that is valid is enough
	valid := false
	for _, one := range list {
		pool.AddCert(one)
		if err := d.checkDates(s, d.ca, one); err != nil {
			dated = err
		} else {
			valid = true
		}
	}
	if valid {
		dated = nil
	}
	return pool, dated
}

// parseCertificates reads all certificates of a PEM file, at least one.
func (d side) parseCertificates(s *Settings, name string, text []byte) ([]*x509.Certificate, error) {
	path := s.String(name)
	hint := "give a file with PEM certificates, as from: openssl x509 -in " + path + " -outform PEM"
	var list []*x509.Certificate
	var other string // what else is in it
	for block, rest := pem.Decode(text); block != nil; block, rest = pem.Decode(rest) {
		if block.Type != "CERTIFICATE" {
			other = block.Type
			continue
		}
		one, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			return nil, d.bad(s, name, "check with: openssl x509 -in "+path+" -noout -text", "certificate %d in %s: %s", len(list)+1, path, plainTLS(err))
		}
		list = append(list, one)
	}
	switch {
	case len(list) > 0:
		return list, nil
	case other != "":
		return nil, d.bad(s, name, hint, "there is no certificate in %s, but a PEM block %q", path, other)
	default:
		return nil, d.bad(s, name, hint, "there is no certificate in %s: it is no PEM file", path)
	}
}

// checkKeyFile says what is in a file that has no key in the clear.
func (d side) checkKeyFile(s *Settings, text []byte) error {
	path := s.String(d.key)
	other := ""
	for block, rest := pem.Decode(text); block != nil; block, rest = pem.Decode(rest) {
		switch {
		case block.Type == "ENCRYPTED PRIVATE KEY" || strings.Contains(block.Headers["Proc-Type"], "ENCRYPTED"):
			return d.bad(s, d.key, "take the passphrase off, into a file of mode 0600: openssl pkey -in "+path+" -out FILE", "the key in %s has a passphrase", path)
		case strings.HasSuffix(block.Type, "PRIVATE KEY"):
			return nil
		}
		other = block.Type
	}
	const hint = "give the file with the private key in PEM"
	if other != "" {
		return d.bad(s, d.key, hint, "there is no private key in %s, but a PEM block %q", path, other)
	}
	return d.bad(s, d.key, hint, "there is no private key in %s: it is no PEM file", path)
}

func (d side) checkDates(s *Settings, name string, one *x509.Certificate) error {
	path, now := s.String(name), time.Now()
	switch {
	case now.After(one.NotAfter):
		return d.bad(s, name, "have it renewed; its dates: openssl x509 -in "+path+" -noout -dates",
			"%s has expired: it was valid until %s", path, one.NotAfter.UTC().Format(time.RFC3339))
	case now.Before(one.NotBefore):
		return d.bad(s, name, "look at the clock of this host with: date -u; or wait",
			"%s is not valid yet: it is from %s on", path, one.NotBefore.UTC().Format(time.RFC3339))
	}
	return nil
}

// checkUse wants the certificate to be made for what it is used for.
func (d side) checkUse(s *Settings, leaf *x509.Certificate, use x509.ExtKeyUsage, who, word string) error {
	if promote.UsableFor(leaf, use) {
		return nil
	}
	return d.bad(s, d.cert, "have a certificate made with the extended key usage "+word, "%s may not be used by a %s", s.String(d.cert), who)
}

// read reads a file of the side.
func (d side) read(s *Settings, name string) ([]byte, error) {
	path := s.String(name)
	body, err := os.ReadFile(path)
	if err != nil {
		var pe *os.PathError
		if errors.As(err, &pe) {
			err = pe.Err
		}
		return nil, d.bad(s, name, "check the path and the rights with: ls -l "+path, "can't read %s: %v", path, err)
	}
	if len(strings.TrimSpace(string(body))) == 0 {
		return nil, d.bad(s, name, "check with: ls -l "+path, "%s is empty", path)
	}
	return body, nil
}

// plainTLS is an error of Go's TLS without its package.
func plainTLS(err error) string {
	return strings.TrimPrefix(strings.TrimPrefix(err.Error(), "tls: "), "x509: ")
}
