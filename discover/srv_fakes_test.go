package discover

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"net"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"

	"github.com/miekg/dns"
)

// fakeDNS is a name server on loopback with the records of a test.
type fakeDNS struct {
	resolver *net.Resolver
	mu       sync.Mutex
	zone     map[string][]dns.RR // by lower-case name and type
	fails    map[string]bool     // names answered with SERVFAIL
	silent   bool                // nothing is answered
	asked    []string
}

// newDNS serves records in the zone files' form: "a.example.test. 1 IN A 10.0.0.1".
func newDNS(t *testing.T, records ...string) *fakeDNS {
	t.Helper()
	d := &fakeDNS{zone: map[string][]dns.RR{}, fails: map[string]bool{}}
	for _, record := range records {
		rr, err := dns.NewRR(record)
		if err != nil {
			t.Fatal(err)
		}
		key := zoneKey(rr.Header().Name, rr.Header().Rrtype)
		d.zone[key] = append(d.zone[key], rr)
	}
	packets, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	server := &dns.Server{PacketConn: packets, Handler: d}
	done := make(chan struct{})
	go func() {
		defer close(done)
		_ = server.ActivateAndServe()
	}()
	t.Cleanup(func() {
		packets.Close()
		<-done
	})
	d.resolver = &net.Resolver{PreferGo: true, Dial: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "udp", packets.LocalAddr().String())
	}}
	return d
}

func (d *fakeDNS) set(change func(*fakeDNS)) *fakeDNS {
	d.mu.Lock()
	defer d.mu.Unlock()
	change(d)
	return d
}

func zoneKey(name string, kind uint16) string {
	return strings.ToLower(name) + " " + dns.TypeToString[kind]
}

func (d *fakeDNS) ServeDNS(w dns.ResponseWriter, query *dns.Msg) {
	d.mu.Lock()
	defer d.mu.Unlock()
	question := query.Question[0]
	d.asked = append(d.asked, question.Name)
	if d.silent {
		return
	}
	answer := new(dns.Msg).SetReply(query)
	answer.Answer = d.zone[zoneKey(question.Name, question.Qtype)]
	switch {
	case d.fails[question.Name]:
		answer.Rcode = dns.RcodeServerFailure
	case len(answer.Answer) == 0 && !d.has(question.Name):
		answer.Rcode = dns.RcodeNameError
	}
	_ = w.WriteMsg(answer)
}

func (d *fakeDNS) has(name string) bool {
	for key := range d.zone {
		if strings.HasPrefix(key, strings.ToLower(name)+" ") {
			return true
		}
	}
	return false
}

// trusting is a client's configuration for a TLS server of httptest.
func trusting(server *httptest.Server) *tls.Config {
	roots := x509.NewCertPool()
	roots.AddCert(server.Certificate())
	return &tls.Config{RootCAs: roots}
}
