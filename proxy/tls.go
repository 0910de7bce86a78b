package proxy

import (
	"cmp"
	"crypto/tls"
	"crypto/x509"
	"slices"
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

// TLSLoad is how the last load of the TLS files of one side went.
type TLSLoad struct {
	Use   string    `json:"use"`   // listener, members, peers or discovery: towards whom
	At    time.Time `json:"at"`    // when what is used was loaded
	Error string    `json:"error"` // why what is in the files now is not used; "" if it is
}

// TLSLoaded notes a load of the TLS files of a side; err says why the old ones stay.
func (s *Server) TLSLoaded(use string, err error) {
	s.tlsLoads.Lock()
	defer s.tlsLoads.Unlock()
	i, found := slices.BinarySearchFunc(s.tlsLoads.list, use, func(l TLSLoad, use string) int { return cmp.Compare(l.Use, use) })
	if !found {
		s.tlsLoads.list = slices.Insert(s.tlsLoads.list, i, TLSLoad{Use: use})
	}
	l := &s.tlsLoads.list[i]
	if err != nil {
		l.Error = err.Error()
		return
	}
	l.At, l.Error = time.Now(), ""
}

func (s *Server) lastTLSLoads() []TLSLoad {
	s.tlsLoads.Lock()
	defer s.tlsLoads.Unlock()
	return append([]TLSLoad{}, s.tlsLoads.list...)
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
