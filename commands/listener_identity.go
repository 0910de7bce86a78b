package commands

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"go.etcd.io/etcd/client/pkg/v3/transport"
	"go.uber.org/zap"

	"etcdops/proxy"
)

// listenerSide is the side towards clients.
var listenerSide = side{use: useListener, cert: "cert-file", key: "key-file", ca: "trusted-ca-file"}

// loadListener makes the configuration of https listeners; nil without any.
func (ids *identities) loadListener(s *Settings, listen []url.URL, logger *slog.Logger) error {
	auth, err := demandsCertificates(s)
	if err != nil {
		return err
	}
	auto, err := s.Bool("auto-tls")
	if err != nil {
		return err
	}
	d := listenerSide
	if auth && s.String(d.ca) == "" {
		return s.Bad("client-cert-auth", "add --trusted-ca-file with the CA of the client certificates", "there is no CA to check client certificates with")
	}
	secure := slices.DeleteFunc(slices.Clone(listen), func(u url.URL) bool { return !isSecure(u.String()) })
	if len(secure) == 0 {
		for _, name := range []string{"client-cert-auth", "auto-tls"} {
			if on, _ := s.Bool(name); on && len(listen) > 0 { // its value was checked above
				logger.Warn("setting has no effect: no https url is listened on", "setting", s.Where(name))
			}
		}
		return nil
	}
	conf, err := protocolVersions(s)
	if err != nil {
		return err
	}
	pair, err := d.loadPair(s)
	autoEnds := time.Time{}
	switch {
	case err != nil:
		return err
	case pair == nil && auto:
		if pair, err = selfSigned(s, secure, logger); err != nil {
			return err
		}
		autoEnds = pair.Leaf.NotAfter
	case pair == nil:
		name := "listen-client-urls"
		if !slices.ContainsFunc(s.List(name), isSecure) {
			name = "listen-metrics-urls"
		}
		return s.Bad(name, "add --cert-file and --key-file, or --auto-tls", "https needs a certificate")
	default:
		if err := d.checkServer(s, pair.Leaf); err != nil {
			return err
		}
		if auto {
			logger.Warn("setting has no effect: a certificate is given", "setting", s.Where("auto-tls"), "given", s.Where(d.cert))
		}
	}
	conf.Certificates = []tls.Certificate{*pair}
	if auth {
		conf.ClientAuth = tls.RequireAndVerifyClientCert
		if conf.ClientCAs, err = d.loadCA(s); err != nil {
			return err
		}
	}
	if err := restrictClients(s, conf); err != nil {
		return err
	}
	ids.Listener, ids.autoEnds = conf, autoEnds
	return nil
}

// demandsCertificates says whether a client of an https listener must show a
// certificate. As with etcd the CA alone demands one (ServerConfig,
// client/pkg/transport/listener.go); here that CA is the members' too, so that the
// demand can be taken back by client-cert-auth=false.
func demandsCertificates(s *Settings) (bool, error) {
	if s.IsSet("client-cert-auth") {
		return s.Bool("client-cert-auth")
	}
	return s.String(listenerSide.ca) != "", nil
}

// checkServer refuses a certificate that no client would take.
func (d side) checkServer(s *Settings, leaf *x509.Certificate) error {
	if err := d.checkUse(s, leaf, x509.ExtKeyUsageServerAuth, "server", "serverAuth"); err != nil {
		return err
	}
	if len(leaf.DNSNames)+len(leaf.IPAddresses) == 0 {
		return d.bad(s, d.cert, "have one made with the names and addresses that clients dial as subjectAltName; a common name is not looked at",
			"%s names no host", s.String(d.cert))
	}
	return nil
}

// isSecure tells whether a URL to listen on wants a certificate.
func isSecure(raw string) bool {
	return strings.HasPrefix(raw, "https://") || strings.HasPrefix(raw, "unixs://")
}

// restrictClients refuses revoked client certificates, and those without one of
// the allowed names. Where no certificate is demanded there is none to look at.
func restrictClients(s *Settings, conf *tls.Config) error {
	for _, name := range []string{"client-crl-file", "client-cert-allowed-hostname"} {
		if s.String(name) != "" && conf.ClientAuth != tls.RequireAndVerifyClientCert {
			return listenerSide.bad(s, name, "set --client-cert-auth and --trusted-ca-file; or leave it out", "no client certificate is demanded, so that none is refused")
		}
	}
	var revoked []string
	if path := s.String("client-crl-file"); path != "" {
		body, err := listenerSide.read(s, "client-crl-file")
		if err != nil {
			return err
		}
		list, err := x509.ParseRevocationList(pemBody(body))
		if err != nil {
			return listenerSide.bad(s, "client-crl-file", "check with: openssl crl -in "+path+" -noout -text", "%s: %s", path, plainTLS(err))
		}
		for _, e := range list.RevokedCertificateEntries {
			revoked = append(revoked, e.SerialNumber.String())
		}
	}
	names := s.List("client-cert-allowed-hostname")
	if len(revoked) == 0 && len(names) == 0 {
		return nil
	}
	conf.VerifyConnection = func(state tls.ConnectionState) error {
		if len(state.PeerCertificates) == 0 {
			return errors.New("a client certificate is wanted")
		}
		leaf := state.PeerCertificates[0]
		if slices.Contains(revoked, leaf.SerialNumber.String()) {
			return proxy.ErrRevoked
		}
		allowed := func(name string) bool { return leaf.VerifyHostname(name) == nil }
		if len(names) > 0 && !slices.ContainsFunc(names, allowed) {
			return proxy.ErrAllowedName
		}
		return nil
	}
	return nil
}

// selfSigned is the certificate of --auto-tls in our own folder. It is kept for as
// long as it is valid and for the hosts listened on, and else made anew, with etcd's
// own generator.
func selfSigned(s *Settings, secure []url.URL, logger *slog.Logger) (*tls.Certificate, error) {
	years, err := s.Int("self-signed-cert-validity")
	switch {
	case err != nil:
		return nil, err
	case years == 0:
		return nil, s.Bad("self-signed-cert-validity", "set it to the years that the certificate is to be valid, such as "+defaultCertYears, "a certificate is valid for a year at least")
	}
	dir := filepath.Join(s.String("data-dir"), "etcdops", "auto-tls")
	hosts := autoTLSHosts(secure)
	pair, why := keptSelfSigned(dir, hosts)
	if why == "" {
		return pair, nil
	}
	reason := why
	failed := func(err error) error {
		return fail(ExitFailed, fmt.Errorf("make the certificate of --auto-tls in %s: %w", dir, err), "check the rights of "+s.String("data-dir"))
	}
	cert, key := filepath.Join(dir, autoTLSCert), filepath.Join(dir, autoTLSKey)
	for _, path := range []string{cert, key} { // else the generator would keep them
		if err := os.Remove(path); err != nil && !errors.Is(err, os.ErrNotExist) {
			return nil, failed(err)
		}
	}
	if _, err := transport.SelfCert(zap.NewNop(), dir, hosts, uint(years)); err != nil {
		return nil, failed(err)
	}
	// The generator leaves the certificate, which is no secret, to the umask.
	if err := os.Chmod(cert, 0o600); err != nil {
		return nil, failed(err)
	}
	if pair, why = keptSelfSigned(dir, hosts); why != "" {
		return nil, failed(errors.New(why))
	}
	logger.Info("certificate of --auto-tls made: clients trust it by this file", "reason", reason, "file", cert, "not_after", pair.Leaf.NotAfter.UTC())
	return pair, nil
}

// The files of --auto-tls, as etcd's generator calls them (client/pkg/transport,
// SelfCert).
const (
	autoTLSCert = "cert.pem"
	autoTLSKey  = "key.pem"
)

// autoTLSHosts are what the certificate is for, in the form host:port that the
// generator wants. A unix socket has no host: its clients name localhost.
func autoTLSHosts(secure []url.URL) []string {
	var hosts []string
	for _, u := range secure {
		host := u.Host
		if u.Scheme == "unixs" {
			host = "localhost:0"
		}
		if !slices.Contains(hosts, host) {
			hosts = append(hosts, host)
		}
	}
	return hosts
}

// keptSelfSigned loads the certificate that is there, or says why a new one is
// wanted.
func keptSelfSigned(dir string, hosts []string) (pair *tls.Certificate, why string) {
	loaded, err := tls.LoadX509KeyPair(filepath.Join(dir, autoTLSCert), filepath.Join(dir, autoTLSKey))
	if errors.Is(err, os.ErrNotExist) {
		return nil, "there is none"
	}
	if err != nil {
		return nil, err.Error()
	}
	if loaded.Leaf == nil {
		return nil, "it can't be read"
	}
	if time.Now().After(loaded.Leaf.NotAfter) {
		return nil, "it has expired"
	}
	for _, host := range hosts {
		name, _, err := net.SplitHostPort(host)
		if err != nil {
			return nil, err.Error()
		}
		if err := loaded.Leaf.VerifyHostname(name); err != nil {
			return nil, "it is not for " + name
		}
	}
	return &loaded, ""
}
