package commands

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"net/url"
	"strconv"
	"strings"
	"time"

	"etcdops/discover"
)

// The sides of a proxy that speak TLS, as the metrics and the status call them.
const (
	useListener  = "listener"  // towards clients
	useMembers   = "members"   // towards the members' client URLs
	usePeers     = "peers"     // towards the members' peer URLs
	useDiscovery = "discovery" // towards discovery services
)

// sideUses are the sides in the order in which their files are loaded: a file that
// several have is first of all the listener's, and the peers'.
var sideUses = []string{useListener, usePeers, useMembers, useDiscovery}

// identities are the TLS sides of a proxy. TLS files are loaded by them and nowhere
// else.
type identities struct {
	Listener  *tls.Config // nil: no https URL is listened on
	Members   *tls.Config // towards the members' client URLs
	Peers     *tls.Config // towards the members' peer URLs
	Discovery *tls.Config // towards discovery services; nil: as nothing is set

	members  side      // the settings that Members was loaded from
	autoEnds time.Time // when the certificate of --auto-tls does; zero without one

	// Dial is the way to members, see environmentDial; nil for straight on.
	Dial memberDial
}

// loadIdentities reads the TLS files of the settings.
func loadIdentities(s *Settings, listen []url.URL, logger *slog.Logger) (*identities, error) {
	if logger == nil {
		logger = slog.New(slog.DiscardHandler)
	}
	ids := &identities{}
	for _, use := range sideUses {
		if err := ids.load(use, s, listen, logger); err != nil {
			return nil, err
		}
	}
	return ids, nil
}

// load reads the files of one side; on an error that side stays what it was.
func (ids *identities) load(use string, s *Settings, listen []url.URL, logger *slog.Logger) error {
	switch use {
	case useListener:
		return ids.loadListener(s, listen, logger)
	case usePeers:
		return ids.loadPeers(s, logger)
	case useMembers:
		return ids.loadMembers(s, logger)
	default:
		return ids.loadDiscovery(s)
	}
}

// loadMembers: as with etcd's proxy, the listener's certificate is also shown to
// members, unless there is a client certificate, and where no client-side file is
// given the peer files serve both (etcd 3.5, etcdmain/etcd.go, startProxy).
func (ids *identities) loadMembers(s *Settings, logger *slog.Logger) error {
	d := side{use: useMembers, cert: "client-cert-file", key: "client-key-file", ca: "trusted-ca-file"}
	d.borrow(s, "cert-file", "key-file")
	if peers := peerSide(s); !d.isSet(s) && peers.isSet(s) {
		d = peers
		d.use = useMembers
	}
	conf, err := d.loadNamed(s, "tls-server-name", logger)
	if err == nil {
		ids.Members, ids.members = conf, d
	}
	return err
}

func (ids *identities) loadPeers(s *Settings, logger *slog.Logger) error {
	selfSigned, err := s.Bool("peer-auto-tls")
	if err != nil {
		return err
	}
	conf, err := peerSide(s).loadNamed(s, "peer-tls-server-name", logger)
	if err != nil {
		return err
	}
	if selfSigned {
		// Such certificates are signed by nobody: this is what the flag says.
		if ca := peerSide(s).ca; s.String(ca) != "" {
			logger.Warn("setting has no effect: peers are not verified", "setting", s.Where(ca), "given", s.Where("peer-auto-tls"))
		} else {
			logger.Warn("peers are not verified", "setting", s.Where("peer-auto-tls"))
		}
		conf.InsecureSkipVerify = true
	}
	ids.Peers = conf
	return nil
}

func peerSide(s *Settings) side {
	d := side{use: usePeers, cert: "peer-client-cert-file", key: "peer-client-key-file", ca: "peer-trusted-ca-file"}
	d.borrow(s, "peer-cert-file", "peer-key-file")
	return d
}

// loadNamed is load for a side whose servers' certificates may be for another name
// than that of their URLs.
func (d side) loadNamed(s *Settings, name string, logger *slog.Logger) (*tls.Config, error) {
	conf, err := d.load(s)
	if err != nil {
		return nil, err
	}
	if len(conf.Certificates) == 0 && s.String(d.cert) != "" {
		logger.Info("certificate is for servers alone, and not shown", "setting", s.Where(d.cert), "use", d.use)
	}
	conf.ServerName = s.String(name)
	return conf, nil
}

// loadDiscovery is how discovery services are reached, as etcd reads these
// settings (client/v3/config.go, newTLSConfig).
func (ids *identities) loadDiscovery(s *Settings) error {
	insecure, err := s.Bool("discovery-insecure-transport")
	if err != nil {
		return err
	}
	unverified, err := s.Bool("discovery-insecure-skip-tls-verify")
	if err != nil {
		return err
	}
	d := side{use: useDiscovery, cert: "discovery-cert", key: "discovery-key", ca: "discovery-cacert"}
	if insecure && !unverified && !d.isSet(s) {
		ids.Discovery = nil
		return nil
	}
	conf, err := d.load(s)
	if err != nil {
		return err
	}
	conf.InsecureSkipVerify = unverified
	ids.Discovery = conf
	return nil
}

// checkCommonName refuses a certificate towards members that has a common name.
// Where the members want client certificates and auth is on, etcd takes a call
// without a token for that user's (server/auth/store.go, AuthInfoFromTLS): each of
// our clients who shows none would be that user.
func (ids *identities) checkCommonName(s *Settings) error {
	allowed, err := s.Bool("allow-client-cert-cn")
	if err != nil {
		return err
	}
	if allowed || len(ids.Members.Certificates) == 0 {
		return nil
	}
	name := ids.Members.Certificates[0].Leaf.Subject.CommonName
	if name == "" {
		return nil
	}
	return ids.members.bad(s, ids.members.cert, "name one without a common name in --client-cert-file and --client-key-file; or add --allow-client-cert-cn, if the cluster has no auth or wants that",
		"it is shown to members and has the common name %q: a cluster with auth on takes every client without a token for that user", name)
}

// explainMember words what TLS says of a member's client URL, explainPeer of a peer
// URL: with the setting to look at; "" for other errors.
func (ids *identities) explainMember(s *Settings) func(err error) string {
	return ids.members.explain(s, "tls-server-name", len(ids.Members.Certificates) > 0)
}

func (ids *identities) explainPeer(s *Settings) func(err error) string {
	if ids.Peers == nil {
		return nil
	}
	return peerSide(s).explain(s, "peer-tls-server-name", len(ids.Peers.Certificates) > 0)
}

// explain words errors of a side that shows a certificate or does not; serverName is
// the setting for the name that servers must have.
func (d side) explain(s *Settings, serverName string, shown bool) func(err error) string {
	return func(err error) string {
		text := discover.TLSCause(err)
		var authority x509.UnknownAuthorityError
		var hostname x509.HostnameError
		switch {
		case text == "":
			return ""
		case errors.As(err, &authority):
			return text + ": see " + s.Where(d.ca)
		case errors.As(err, &hostname):
			return text + ": see " + s.Where(serverName)
		case strings.Contains(text, "protocol version"):
			return text + ": see " + s.Where("tls-min-version")
		case !strings.Contains(text, "refused our TLS handshake"):
			return text
		case shown && (strings.Contains(text, "certificate required") || strings.Contains(text, "unknown certificate authority")):
			// Of a server that names the CAs it accepts, a client that has no certificate
			// of them is let know by "required": it keeps its own to itself
			// (crypto/tls/common.go, SupportsCertificate).
			return fmt.Sprintf("%s: our certificate is of no CA that it accepts: see %s", text, s.Where(d.cert))
		case shown && strings.Contains(text, "handshake failure"): // with TLS 1.2 the same, or no cipher suite in common
			return fmt.Sprintf("%s: is our certificate of a CA that it accepts? see %s", text, s.Where(d.cert))
		case shown:
			return text + ": see " + s.Where(d.cert)
		case strings.Contains(text, "certificate required"):
			return text + ": see " + s.Where(d.ownCert(s))
		default:
			return text + ": does it want a client certificate? see " + s.Where(d.ownCert(s))
		}
	}
}

// sayWhoComesIn says at the start what client certificates are good for.
func (ids *identities) sayWhoComesIn(s *Settings, logger *slog.Logger) {
	switch {
	case ids.Listener == nil:
	case ids.Listener.ClientAuth == tls.RequireAndVerifyClientCert:
		why := "trusted-ca-file"
		if s.IsSet("client-cert-auth") {
			why = "client-cert-auth"
		}
		logger.Info("client certificates are demanded and end here: members see the proxy's own, and no common name of a client", "setting", s.Where(why))
	case s.IsSet("trusted-ca-file"):
		logger.Info("clients are let in without a certificate; a member with the same settings would demand one", "setting", s.Where("client-cert-auth"))
	}
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
