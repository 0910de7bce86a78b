package commands

import (
	"crypto/tls"
	"slices"
	"strings"

	"go.etcd.io/etcd/client/pkg/v3/tlsutil"
)

// protocolVersions begins a configuration with the versions of TLS that are spoken
// on all sides, and the cipher suites of TLS 1.2 (those of 1.3 can't be chosen). The
// words and rules are etcd's (server/embed/config.go, Validate).
func protocolVersions(s *Settings) (*tls.Config, error) {
	version := func(name string) uint16 {
		v, _ := tlsutil.GetTLSVersion(s.String(name)) // a fixed set, see loadSettings
		return v
	}
	conf := &tls.Config{MinVersion: max(version("tls-min-version"), tls.VersionTLS12), MaxVersion: version("tls-max-version")}
	if conf.MaxVersion != 0 && conf.MinVersion > conf.MaxVersion {
		return nil, s.Bad("tls-max-version", "set --tls-max-version to "+s.String("tls-min-version")+", or to nothing", "%s is below --tls-min-version %s",
			s.String("tls-max-version"), s.String("tls-min-version"))
	}
	names := s.List("cipher-suites")
	if len(names) == 0 {
		return conf, nil
	}
	if conf.MinVersion == tls.VersionTLS13 {
		return nil, s.Bad("cipher-suites", "leave it out, or set --tls-min-version to TLS1.2", "those of TLS 1.3 can't be chosen")
	}
	for _, name := range names {
		id, known := tlsutil.GetCipherSuite(name)
		switch {
		case !known:
			return nil, s.Bad("cipher-suites", "choose from: "+strings.Join(safeSuites(), ", "), "%q is no cipher suite", name)
		case slices.ContainsFunc(tls.CipherSuites(), func(c *tls.CipherSuite) bool {
			return c.ID == id && !slices.Contains(c.SupportedVersions, tls.VersionTLS12)
		}):
			return nil, s.Bad("cipher-suites", "choose from: "+strings.Join(safeSuites(), ", "), "%q is one of TLS 1.3, whose suites can't be chosen", name)
		}
		conf.CipherSuites = append(conf.CipherSuites, id)
	}
	return conf, nil
}

// safeSuites are those of TLS 1.2 that Go holds for safe. The others, which etcd
// takes too, are taken.
func safeSuites() []string {
	var names []string
	for _, c := range tls.CipherSuites() {
		if slices.Contains(c.SupportedVersions, tls.VersionTLS12) {
			names = append(names, c.Name)
		}
	}
	return names
}
