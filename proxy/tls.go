package proxy

import (
	"crypto/tls"
	"crypto/x509"
	"time"
)

// protocols are offered by ALPN (RFC 7301) on https listeners.
var protocols = []string{"h2", "http/1.1"}

// SetTLS replaces ListenTLS, MemberTLS and PeerTLS, also while the proxy runs.
// Connections that are open keep what they were made with. listen must not be nil
// where an https URL is listened on.
func (s *Server) SetTLS(listen, members, peers *tls.Config) {
	if listen != nil {
		listen = listen.Clone()
		listen.NextProtos = protocols
	}
	s.listenTLS.Store(listen)
	s.memberTLS.Store(members)
	s.peerTLS.Store(peers)
}

// Certificate is one of the proxy's own.
type Certificate struct {
	Use      string    `json:"use"` // listener, members or peers: towards whom
	Subject  string    `json:"subject"`
	NotAfter time.Time `json:"not_after"`
}

// certificates lists those of a configuration.
func certificates(use string, conf *tls.Config) []Certificate {
	list := []Certificate{}
	if conf == nil {
		return list
	}
	for _, c := range conf.Certificates {
		leaf := c.Leaf
		if leaf == nil && len(c.Certificate) > 0 {
			leaf, _ = x509.ParseCertificate(c.Certificate[0])
		}
		if leaf != nil {
			list = append(list, Certificate{use, leaf.Subject.String(), leaf.NotAfter})
		}
	}
	return list
}
