package commands

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"go.etcd.io/etcd/client/pkg/v3/transport"
	"go.uber.org/zap"
)

// identities are the TLS sides of a proxy. TLS files are loaded here and nowhere
// else.
type identities struct {
	Listener  *tls.Config // nil: no https URL is listened on
	Members   *tls.Config // towards the members' client URLs
	Peers     *tls.Config // towards the members' peer URLs
	Discovery *tls.Config // towards discovery services; nil: as nothing is set

	memberCert string // the setting that names the certificate towards members

	// Dial is the way to members, see environmentDial; nil for straight on.
	Dial memberDial
}

// loadIdentities reads the TLS files of the settings. As with etcd's proxy, the
// listener's certificate is also shown to members, unless there is a client
// certificate, and where no client-side file is given the peer files serve both
// (etcd 3.5, etcdmain/etcd.go, startProxy).
func loadIdentities(s *Settings, listen []url.URL, logger *slog.Logger) (*identities, error) {
	ids := &identities{}
	var err error
	client := side{
		cert: first(s, "client-cert-file", "cert-file"), key: first(s, "client-key-file", "key-file"), ca: "trusted-ca-file",
	}
	peer := side{
		cert: first(s, "peer-client-cert-file", "peer-cert-file"), key: first(s, "peer-client-key-file", "peer-key-file"),
		ca: "peer-trusted-ca-file",
	}
	if !client.isSet(s) {
		client = peer
	}
	if ids.Members, err = client.load(s); err != nil {
		return nil, err
	}
	ids.memberCert = client.cert
	if ids.Peers, err = peer.load(s); err != nil {
		return nil, err
	}
	selfSigned, err := s.Bool("peer-auto-tls")
	if err != nil {
		return nil, err
	}
	if selfSigned {
		if logger == nil {
			logger = slog.New(slog.DiscardHandler)
		}
		// Such certificates are signed by nobody: this is what the flag says.
		logger.Warn("peers are not verified", "setting", s.Where("peer-auto-tls"))
		ids.Peers.InsecureSkipVerify = true
	}
	if ids.Listener, err = loadListener(s, listen, logger); err != nil {
		return nil, err
	}
	if ids.Discovery, err = loadDiscovery(s); err != nil {
		return nil, err
	}
	return ids, nil
}

// checkCommonName refuses a certificate towards members that has a common name.
// Where the members want client certificates and auth is on, etcd takes a call
// without a token for that user's (server/auth/store.go, AuthInfoFromTLS): each of
// our clients who shows none would be that user.
func (ids *identities) checkCommonName(s *Settings, logger *slog.Logger) error {
	allowed, err := s.Bool("allow-client-cert-cn")
	if err != nil {
		return err
	}
	if ids.Listener != nil && ids.Listener.ClientAuth == tls.RequireAndVerifyClientCert {
		logger.Info("client certificates are checked here and end here: members see the proxy's own, and no common name of a client")
	}
	if allowed || len(ids.Members.Certificates) == 0 {
		return nil
	}
	leaf, err := x509.ParseCertificate(ids.Members.Certificates[0].Certificate[0])
	if err != nil || leaf.Subject.CommonName == "" {
		return err
	}
	return s.Bad(ids.memberCert, "name one without a common name in --client-cert-file and --client-key-file; or add --allow-client-cert-cn, if the cluster has no auth or wants that",
		"it is shown to members and has the common name %q: a cluster with auth on takes every client without a token for that user", leaf.Subject.CommonName)
}

// loadDiscovery is how discovery services are reached, as etcd reads these
// settings (client/v3/config.go, newTLSConfig).
func loadDiscovery(s *Settings) (*tls.Config, error) {
	insecure, err := s.Bool("discovery-insecure-transport")
	if err != nil {
		return nil, err
	}
	unverified, err := s.Bool("discovery-insecure-skip-tls-verify")
	if err != nil {
		return nil, err
	}
	discovery := side{cert: "discovery-cert", key: "discovery-key", ca: "discovery-cacert"}
	if insecure && !unverified && !discovery.isSet(s) {
		return nil, nil
	}
	conf, err := discovery.load(s)
	if err != nil {
		return nil, err
	}
	conf.InsecureSkipVerify = unverified
	return conf, nil
}

func first(s *Settings, names ...string) string {
	for _, name := range names {
		if s.IsSet(name) {
			return name
		}
	}
	return names[len(names)-1]
}

// side names the settings of a certificate that we show and of the CA that we
// trust.
type side struct{ cert, key, ca string }

func (d side) isSet(s *Settings) bool {
	return s.String(d.cert) != "" || s.String(d.key) != "" || s.String(d.ca) != ""
}

func (d side) load(s *Settings) (*tls.Config, error) {
	conf := &tls.Config{MinVersion: tls.VersionTLS12}
	pair, err := loadPair(s, d.cert, d.key)
	if err != nil {
		return nil, err
	}
	if pair != nil {
		conf.Certificates = []tls.Certificate{*pair}
	}
	conf.RootCAs, err = loadCA(s, d.ca)
	return conf, err
}

// loadPair loads a certificate and its key; nil without both.
func loadPair(s *Settings, certName, keyName string) (*tls.Certificate, error) {
	cert, key := s.String(certName), s.String(keyName)
	switch {
	case cert == "" && key == "":
		return nil, nil
	case key == "":
		return nil, s.Bad(certName, "add "+dashed(keyName)+" with the key of the certificate", "there is no %s to it", dashed(keyName))
	case cert == "":
		return nil, s.Bad(keyName, "add "+dashed(certName)+" with the certificate of the key", "there is no %s to it", dashed(certName))
	}
	for _, f := range []struct{ name, path string }{{certName, cert}, {keyName, key}} {
		if _, err := readSettingFile(s, f.name); err != nil {
			return nil, err
		}
	}
	pair, err := tls.LoadX509KeyPair(cert, key)
	if err != nil {
		return nil, s.Bad(certName, fmt.Sprintf("check with: openssl x509 -in %s -noout -subject, and that the key is its key", cert), "%v", err)
	}
	return &pair, nil
}

func loadCA(s *Settings, name string) (*x509.CertPool, error) {
	path := s.String(name)
	if path == "" {
		return nil, nil // the system's roots
	}
	pem, err := readSettingFile(s, name)
	if err != nil {
		return nil, err
	}
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(pem) {
		return nil, s.Bad(name, "give a file with PEM certificates, as from: openssl x509 -in CA -outform PEM", "there is no certificate in %s", path)
	}
	return pool, nil
}

func readSettingFile(s *Settings, name string) ([]byte, error) {
	path := s.String(name)
	body, err := os.ReadFile(path)
	if err != nil {
		var pe *os.PathError
		if errors.As(err, &pe) {
			err = pe.Err
		}
		return nil, s.Bad(name, "check the path and the rights with: ls -l "+path, "can't read %s: %v", path, err)
	}
	return body, nil
}

// loadListener makes the configuration of https listeners; nil without any.
func loadListener(s *Settings, listen []url.URL, logger *slog.Logger) (*tls.Config, error) {
	auth, err := s.Bool("client-cert-auth")
	if err != nil {
		return nil, err
	}
	auto, err := s.Bool("auto-tls")
	if err != nil {
		return nil, err
	}
	secure := slices.ContainsFunc(listen, func(u url.URL) bool { return isSecure(u.String()) })
	if auth && s.String("trusted-ca-file") == "" {
		return nil, s.Bad("client-cert-auth", "add --trusted-ca-file with the CA of the client certificates", "there is no CA to check client certificates with")
	}
	if !secure {
		for _, name := range []string{"client-cert-auth", "auto-tls"} {
			if on, _ := s.Bool(name); on && len(listen) > 0 { // its value was checked above
				logger.Warn("setting has no effect: no https url is listened on", "setting", s.Where(name))
			}
		}
		return nil, nil
	}
	pair, err := loadPair(s, "cert-file", "key-file")
	switch {
	case err != nil:
		return nil, err
	case pair == nil && auto:
		if pair, err = selfSigned(s, listen); err != nil {
			return nil, err
		}
	case pair == nil:
		name := "listen-client-urls"
		if !slices.ContainsFunc(s.List(name), isSecure) {
			name = "listen-metrics-urls"
		}
		return nil, s.Bad(name, "add --cert-file and --key-file, or --auto-tls", "https needs a certificate")
	}
	conf := &tls.Config{MinVersion: tls.VersionTLS12, Certificates: []tls.Certificate{*pair}}
	if auth {
		conf.ClientAuth = tls.RequireAndVerifyClientCert
		if conf.ClientCAs, err = loadCA(s, "trusted-ca-file"); err != nil {
			return nil, err
		}
	}
	return conf, restrictClients(s, conf)
}

// isSecure tells whether a URL to listen on wants a certificate.
func isSecure(raw string) bool {
	return strings.HasPrefix(raw, "https://") || strings.HasPrefix(raw, "unixs://")
}

// restrictClients refuses revoked client certificates, and those without one of
// the allowed names.
func restrictClients(s *Settings, conf *tls.Config) error {
	var revoked []string
	if path := s.String("client-crl-file"); path != "" {
		body, err := readSettingFile(s, "client-crl-file")
		if err != nil {
			return err
		}
		list, err := x509.ParseRevocationList(pemBody(body))
		if err != nil {
			return s.Bad("client-crl-file", "check with: openssl crl -in "+path+" -noout -text", "%v", err)
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
			return errors.New("the client certificate is revoked")
		}
		allowed := func(name string) bool { return leaf.VerifyHostname(name) == nil }
		if len(names) > 0 && !slices.ContainsFunc(names, allowed) {
			return errors.New("the client certificate has none of the allowed names")
		}
		return nil
	}
	return nil
}

// selfSigned makes the certificate of --auto-tls in our own folder, with etcd's
// own generator.
func selfSigned(s *Settings, listen []url.URL) (*tls.Certificate, error) {
	years, err := s.Int("self-signed-cert-validity")
	if err != nil {
		return nil, err
	}
	var hosts []string
	for _, u := range listen {
		hosts = append(hosts, u.Host)
	}
	dir := filepath.Join(s.String("data-dir"), "etcdops", "auto-tls")
	info, err := transport.SelfCert(zap.NewNop(), dir, hosts, uint(years))
	if err != nil {
		return nil, fmt.Errorf("make the certificate of --auto-tls in %s: %w", dir, err)
	}
	// The generator leaves the certificate, which is no secret, to the umask.
	if err := os.Chmod(info.CertFile, 0o600); err != nil {
		return nil, fmt.Errorf("make the certificate of --auto-tls in %s: %w", dir, err)
	}
	pair, err := tls.LoadX509KeyPair(info.CertFile, info.KeyFile)
	if err != nil {
		return nil, fmt.Errorf("load the certificate of --auto-tls: %w", err)
	}
	return &pair, nil
}

func validPort(port string) bool {
	_, err := strconv.ParseUint(port, 10, 16)
	return err == nil
}

// parseListenURLs reads the client URLs to listen on.
func parseListenURLs(s *Settings) ([]url.URL, error) {
	return parseURLs(s, "listen-client-urls", "write URLs such as http://127.0.0.1:2379, https://0.0.0.0:2379 or unix:///run/etcd.sock, with commas between")
}

// parseURLs reads a setting that lists URLs to listen on.
func parseURLs(s *Settings, name, hint string) ([]url.URL, error) {
	var urls []url.URL
	for _, raw := range s.List(name) {
		u, err := url.Parse(raw)
		switch {
		case err != nil || u.Scheme == "" || !strings.Contains(raw, "://"):
			return nil, s.Bad(name, hint, "%q has no scheme", raw)
		case u.Scheme == "unix" || u.Scheme == "unixs":
			if u.Host+u.Path == "" {
				return nil, s.Bad(name, hint, "%q names no socket", raw)
			}
		case u.Scheme != "http" && u.Scheme != "https":
			return nil, s.Bad(name, hint, "%q has none of the schemes http, https, unix", raw)
		case u.Port() == "":
			return nil, s.Bad(name, hint, "%q has no port", raw)
		case !validPort(u.Port()):
			return nil, s.Bad(name, hint, "%q has a port over 65535", raw)
		case u.Path != "" && u.Path != "/":
			return nil, s.Bad(name, hint, "%q has a path", raw)
		}
		urls = append(urls, *u)
	}
	if len(urls) == 0 {
		return nil, s.Bad(name, hint, "there is no URL to listen on")
	}
	return urls, nil
}
