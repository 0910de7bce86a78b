package promote

import (
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/dustin/go-humanize"
)

// CheckTLS looks at the certificates as etcd and its peers will.
func (c *Candidate) CheckTLS() []Refusal {
	var found refusals
	c.checkSide(&found, tlsSide{
		prefix: "", listen: c.ListenClientURLs, advertised: c.AdvertiseClientURLs,
	})
	c.checkSide(&found, tlsSide{
		prefix: "peer-", listen: c.ListenPeerURLs, advertised: c.InitialAdvertisePeerURLs, mutual: true,
	})
	return found
}

// tlsSide is one of etcd's two sides: that of clients, or that of peers.
type tlsSide struct {
	prefix             string // of its settings
	listen, advertised []string
	// mutual tells that the same certificate is shown when etcd is the client,
	// and that those whom it talks to have the same CA.
	mutual bool
}

func (c *Candidate) checkSide(found *refusals, side tlsSide) {
	get := func(name string) string { return c.Settings[side.prefix+name] }
	flag := func(name string) string { return "--" + side.prefix + name }
	certFile, keyFile, caFile := get("cert-file"), get("key-file"), get("trusted-ca-file")
	automatic := isTrue(get("auto-tls"))

	secure := secureURLs(side.listen)
	if len(secure) > 0 && certFile == "" && !automatic {
		found.add("tls-missing", "add "+flag("cert-file")+" and "+flag("key-file")+" behind --",
			"etcd can't listen on %s without a certificate", strings.Join(secure, ", "))
	}
	roots := c.checkCA(found, flag("trusted-ca-file"), caFile)
	if automatic && certFile == "" {
		return // etcd makes its own, which nobody verifies
	}
	pair := tlsPair{certFlag: flag("cert-file"), keyFlag: flag("key-file"), certFile: certFile, keyFile: keyFile}
	chain := c.checkPair(found, pair)
	clientPair := tlsPair{
		certFlag: flag("client-cert-file"), keyFlag: flag("client-key-file"),
		certFile: get("client-cert-file"), keyFile: get("client-key-file"),
	}
	clientChain := c.checkPair(found, clientPair)
	if chain != nil {
		checkNames(found, pair, chain[0], secureURLs(side.advertised))
	}
	if !side.mutual || len(secureURLs(side.advertised)) == 0 {
		return
	}
	// A peer shows it to those that dial it, and to those that it dials.
	checkSigned(found, pair, chain, roots, caFile)
	checkUse(found, pair, chain, x509.ExtKeyUsageServerAuth)
	if clientPair.certFile == "" {
		clientPair, clientChain = pair, chain
	} else {
		checkSigned(found, clientPair, clientChain, roots, caFile)
	}
	checkUse(found, clientPair, clientChain, x509.ExtKeyUsageClientAuth)
}

func secureURLs(urls []string) []string {
	var secure []string
	for _, raw := range urls {
		if e, err := parseEndpoint(raw); err == nil && e.secure() {
			secure = append(secure, raw)
		}
	}
	return secure
}

// read reads a file with the rights of the user who etcd will run as.
func (c *Candidate) read(found *refusals, flag, path string) []byte {
	if !filepath.IsAbs(path) {
		found.add("tls-file", "give the whole path", "%s %s is relative to a folder that etcd will not run in", flag, path)
		return nil
	}
	var text []byte
	err := asUser(c.UID, c.GID, func() error {
		var err error
		text, err = os.ReadFile(path)
		return err
	})
	if err != nil {
		found.add("tls-file", fmt.Sprintf("look at it with: ls -l %s; user %d, who etcd will run as, must be able to read it", path, c.UID),
			"%s %s: %s", flag, path, causeOf(err))
		return nil
	}
	return text
}

func (c *Candidate) checkCA(found *refusals, flag, path string) *x509.CertPool {
	if path == "" {
		return nil
	}
	text := c.read(found, flag, path)
	if text == nil {
		return nil
	}
	roots := x509.NewCertPool()
	if !roots.AppendCertsFromPEM(text) {
		found.add("tls-file", "give a file with certificates in PEM", "%s %s holds no certificate", flag, path)
		return nil
	}
	return roots
}

// tlsPair is a certificate with its key, and which flags name them.
type tlsPair struct{ certFlag, keyFlag, certFile, keyFile string }

// checkPair reads a certificate with those that follow it. It is nil where
// there is none or it is of no use.
func (c *Candidate) checkPair(found *refusals, pair tlsPair) []*x509.Certificate {
	switch {
	case pair.certFile == "" && pair.keyFile == "":
		return nil
	case pair.keyFile == "":
		found.add("tls-file", "add "+pair.keyFlag, "%s is given without %s", pair.certFlag, pair.keyFlag)
		return nil
	case pair.certFile == "":
		found.add("tls-file", "add "+pair.certFlag, "%s is given without %s", pair.keyFlag, pair.certFlag)
		return nil
	}
	cert, key := c.read(found, pair.certFlag, pair.certFile), c.read(found, pair.keyFlag, pair.keyFile)
	if cert == nil || key == nil {
		return nil
	}
	loaded, err := tls.X509KeyPair(cert, key)
	if err != nil {
		found.add("tls-pair", "give the key that the certificate was made for, both in PEM",
			"%s %s and %s %s: %s", pair.certFlag, pair.certFile, pair.keyFlag, pair.keyFile, strings.TrimPrefix(err.Error(), "tls: "))
		return nil
	}
	var chain []*x509.Certificate
	for _, der := range loaded.Certificate {
		one, err := x509.ParseCertificate(der)
		if err != nil {
			found.add("tls-pair", "have it made anew", "%s %s: %s", pair.certFlag, pair.certFile, err)
			return nil
		}
		chain = append(chain, one)
	}
	checkDates(found, pair, chain[0])
	return chain
}

func checkDates(found *refusals, pair tlsPair, leaf *x509.Certificate) {
	now := time.Now()
	switch {
	case now.After(leaf.NotAfter):
		found.add("tls-expired", "have it renewed", "%s %s expired %s", pair.certFlag, pair.certFile, humanize.Time(leaf.NotAfter))
	case now.Before(leaf.NotBefore):
		found.add("tls-expired", "look at the clock of this host, or wait", "%s %s is valid only from %s",
			pair.certFlag, pair.certFile, leaf.NotBefore.UTC().Format(time.RFC3339))
	}
}

func isCurrent(leaf *x509.Certificate) bool {
	now := time.Now()
	return !now.After(leaf.NotAfter) && !now.Before(leaf.NotBefore)
}

// checkNames wants each advertised host in the certificate.
func checkNames(found *refusals, pair tlsPair, leaf *x509.Certificate, advertised []string) {
	for _, raw := range advertised {
		e, err := parseEndpoint(raw)
		if err != nil || e.unix() {
			continue
		}
		if err := leaf.VerifyHostname(e.host); err != nil {
			found.add("tls-name", "have a certificate made that names "+e.host,
				"%s %s does not cover %s: it is for %s", pair.certFlag, pair.certFile, raw, namesIn(leaf))
		}
	}
}

// namesIn lists what a certificate is for.
func namesIn(leaf *x509.Certificate) string {
	names := append([]string{}, leaf.DNSNames...)
	for _, ip := range leaf.IPAddresses {
		names = append(names, ip.String())
	}
	if len(names) == 0 {
		return "no name at all"
	}
	return strings.Join(names, ", ")
}

// checkSigned verifies a certificate by the CA that all peers trust.
func checkSigned(found *refusals, pair tlsPair, chain []*x509.Certificate, roots *x509.CertPool, caFile string) {
	if chain == nil || roots == nil {
		return
	}
	options := x509.VerifyOptions{
		Roots: roots, Intermediates: x509.NewCertPool(), KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageAny},
	}
	for _, one := range chain[1:] {
		options.Intermediates.AddCert(one)
	}
	if !isCurrent(chain[0]) {
		options.CurrentTime = chain[0].NotAfter // its dates are a reason of their own
	}
	if _, err := chain[0].Verify(options); err != nil {
		found.add("tls-ca", "give the CA that signed it, the same as at the other members",
			"%s %s does not stand the test by %s: %s", pair.certFlag, pair.certFile, caFile, strings.TrimPrefix(err.Error(), "x509: "))
	}
}

// checkUse wants a certificate to be made for what it is used for.
func checkUse(found *refusals, pair tlsPair, chain []*x509.Certificate, use x509.ExtKeyUsage) {
	if chain != nil && !UsableFor(chain[0], use) {
		found.add("tls-use", "have a certificate made with the extended key usages serverAuth and clientAuth: peers show it both ways",
			"%s %s may not be used by a %s", pair.certFlag, pair.certFile, useName(use))
	}
}

// UsableFor reads the extended key usages; a certificate without any is for
// all (RFC 5280 section 4.2.1.12).
func UsableFor(leaf *x509.Certificate, use x509.ExtKeyUsage) bool {
	if len(leaf.ExtKeyUsage) == 0 && len(leaf.UnknownExtKeyUsage) == 0 {
		return true
	}
	for _, one := range leaf.ExtKeyUsage {
		if one == use || one == x509.ExtKeyUsageAny {
			return true
		}
	}
	return false
}

func useName(use x509.ExtKeyUsage) string {
	if use == x509.ExtKeyUsageClientAuth {
		return "client"
	}
	return "server"
}
