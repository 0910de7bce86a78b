package discover

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"
)

// The states of a DNS name that was asked for SRV records.
const (
	DNSFound    = "found"
	DNSAbsent   = "absent"    // no such name, or no SRV record there
	DNSFailed   = "failed"    // the name server gave no good answer
	DNSNearMiss = "near miss" // found, but not where a proxy looks
)

// The states of an SRV record.
const (
	RecordUsed    = "used"
	RecordSkipped = "skipped"
)

// DNSName is one name that was asked for SRV records.
type DNSName struct {
	Name    string        `json:"name"`
	State   string        `json:"state"` // see DNSFound and its neighbours
	Reason  string        `json:"reason"`
	Took    time.Duration `json:"-"` // in JSON "took_ms", milliseconds
	Records []SRVRecord   `json:"records"`
}

// MarshalJSON writes Took as milliseconds and no list as an empty one.
func (n DNSName) MarshalJSON() ([]byte, error) {
	type fields DNSName
	if n.Records == nil {
		n.Records = []SRVRecord{}
	}
	return json.Marshal(struct {
		fields
		TookMs float64 `json:"took_ms"`
	}{fields(n), milliseconds(n.Took)})
}

// SRVRecord is one record and what became of it.
type SRVRecord struct {
	Target    string   `json:"target"` // without a dot at its end
	Port      uint16   `json:"port"`
	Priority  uint16   `json:"priority"`
	Weight    uint16   `json:"weight"`
	Addresses []string `json:"addresses"` // of the target
	PeerURL   string   `json:"peer_url"`  // "" if it is skipped
	State     string   `json:"state"`     // RecordUsed or RecordSkipped
	Reason    string   `json:"reason"`    // why it is skipped
}

// MarshalJSON writes no list as an empty one.
func (r SRVRecord) MarshalJSON() ([]byte, error) {
	type fields SRVRecord
	r.Addresses = nonNil(r.Addresses)
	return json.Marshal(fields(r))
}

// srvLookup finds peer URLs by DNS, as etcd does for a bootstrap
// (client/pkg/srv/srv.go; server/embed/config.go, GetDNSClusterNames).
type srvLookup struct {
	resolver *net.Resolver // nil: net.DefaultResolver
	domain   string        // as the operator wrote it
	suffix   string        // --discovery-srv-name; "" for none
}

// ParseSRVDomain checks a --discovery-srv or --discovery-srv-name. An error is
// a *BadURLError.
func ParseSRVDomain(raw string) error {
	const hint = "write a DNS domain such as example.org, whose _etcd-server._tcp records name the peers"
	name := strings.TrimSuffix(raw, ".")
	switch {
	case strings.Contains(raw, "://"):
		return &BadURLError{"it is a URL, not a domain", hint}
	case isAddress(name):
		return &BadURLError{"it is an address, not a domain", hint}
	case name == "" || len(name) > 220: // with the service before it 253, RFC 1035 2.3.4
		return &BadURLError{"it is not a domain name", hint}
	}
	for label := range strings.SplitSeq(name, ".") {
		if label == "" || len(label) > 63 || strings.ContainsFunc(label, notInLabel) {
			return &BadURLError{fmt.Sprintf("%.60q is not a part of a domain name", label), hint}
		}
	}
	if strings.HasPrefix(name, "_") {
		return &BadURLError{"it names the service too", "leave out the parts that begin with _: " + withoutService(name)}
	}
	return nil
}

func isAddress(name string) bool {
	_, err := netip.ParseAddr(name)
	return err == nil
}

func withoutService(name string) string {
	for strings.HasPrefix(name, "_") {
		_, name, _ = strings.Cut(name, ".")
	}
	return "--discovery-srv " + name
}

func notInLabel(r rune) bool {
	return (r < 'a' || r > 'z') && (r < 'A' || r > 'Z') && (r < '0' || r > '9') && r != '-' && r != '_'
}

// serverName is the name that peers' certificates must have where no CA is
// given to verify them by: whoever forges an SRV record has no certificate for
// the domain (server/embed/config.go, PeerURLsMapAndToken).
func (l *srvLookup) serverName() string { return strings.TrimSuffix(l.domain, ".") }

// srvName is what is asked for a service such as _etcd-server-ssl, whose suffix
// comes behind "-ssl".
func (l *srvLookup) srvName(service, proto string) string {
	if l.suffix != "" {
		service += "-" + l.suffix
	}
	return service + proto + "." + l.domain
}

const protoTCP = "._tcp"

// find looks both services up at the same time: https before http. The absence
// of one of them is information. Where both are absent, names that are nearly
// right are looked for. Errors name the cause.
func (l *srvLookup) find(ctx context.Context) (names []DNSName, peerURLs []string, err error) {
	names = l.lookAll(ctx, []srvQuestion{
		{l.srvName("_etcd-server-ssl", protoTCP), "https", ""},
		{l.srvName("_etcd-server", protoTCP), "http", ""},
	})
	for _, name := range names {
		for _, record := range name.Records {
			if record.State == RecordUsed && !slices.Contains(peerURLs, record.PeerURL) {
				peerURLs = append(peerURLs, record.PeerURL)
			}
		}
	}
	if len(peerURLs) > 0 {
		return names, peerURLs, nil
	}
	if err := noPeers(names); err != nil {
		return names, nil, err
	}
	names, err = l.nearMisses(ctx, names)
	return names, nil, err
}

// noPeers is why names gave no peer URL; nil where all of them are absent.
func noPeers(names []DNSName) error {
	var failures []string
	for _, name := range names {
		switch name.State {
		case DNSFailed:
			failures = append(failures, name.Name+": "+name.Reason)
		case DNSFound:
			failures = append(failures, fmt.Sprintf("%s: none of its %d records can be used: %s", name.Name, len(name.Records), name.Records[0].Reason))
		}
	}
	if len(failures) == 0 {
		return nil
	}
	return errors.New(strings.Join(failures, "; "))
}

// nearMisses looks for what people wrote instead of the right names.
func (l *srvLookup) nearMisses(ctx context.Context, asked []DNSName) ([]DNSName, error) {
	const (
		underscore = "a hyphen belongs between etcd and server"
		noProto    = "._tcp is missing in it"
		clients    = "it is for clients, a proxy wants the peers' ports"
	)
	questions := []srvQuestion{
		{l.srvName("_etcd_server_ssl", protoTCP), "https", underscore},
		{l.srvName("_etcd_server", protoTCP), "http", underscore},
		{l.srvName("_etcd-server-ssl", ""), "https", noProto},
		{l.srvName("_etcd-server", ""), "http", noProto},
		{l.srvName("_etcd-client-ssl", protoTCP), "https", clients},
		{l.srvName("_etcd-client", protoTCP), "http", clients},
		{l.srvName("_etcd_client", protoTCP), "http", clients + ", and is misspelt"},
	}
	if l.suffix != "" {
		plain := srvLookup{domain: l.domain}
		const without = "it is without the name of --discovery-srv-name"
		questions = append(questions,
			srvQuestion{plain.srvName("_etcd-server-ssl", protoTCP), "https", without},
			srvQuestion{plain.srvName("_etcd-server", protoTCP), "http", without})
	}
	var misses []string
	for _, name := range l.lookAll(ctx, questions) {
		if name.State == DNSNearMiss {
			asked = append(asked, name)
			misses = append(misses, fmt.Sprintf("there is %s (%s)", name.Name, name.Reason))
		}
	}
	err := fmt.Sprintf("no SRV records: neither %s nor %s is there", asked[0].Name, asked[1].Name)
	if len(misses) > 0 {
		err += ", but " + strings.Join(misses, "; ")
	}
	return asked, errors.New(err)
}

// srvQuestion is one name to ask for.
type srvQuestion struct {
	name   string
	scheme string // of the peer URLs
	miss   string // what is wrong with the name; "" for a right one
}

func (l *srvLookup) lookAll(ctx context.Context, questions []srvQuestion) []DNSName {
	names := make([]DNSName, len(questions))
	var all sync.WaitGroup
	for i, q := range questions {
		all.Go(func() { names[i] = l.look(ctx, q) })
	}
	all.Wait()
	return names
}

func (l *srvLookup) look(ctx context.Context, q srvQuestion) DNSName {
	start := time.Now()
	answer := DNSName{Name: q.name, State: DNSFound}
	_, records, err := l.dns().LookupSRV(ctx, "", "", q.name)
	// Bad records come beside an error, and the good ones of the same name too.
	for _, record := range records {
		answer.Records = append(answer.Records, SRVRecord{
			Target: strings.TrimSuffix(record.Target, "."), Port: record.Port,
			Priority: record.Priority, Weight: record.Weight, State: RecordSkipped,
		})
	}
	var dns *net.DNSError
	switch {
	case len(records) > 0:
		if q.miss != "" {
			answer.State, answer.Reason = DNSNearMiss, q.miss
			break
		}
		l.resolveAll(ctx, answer.Records, q.scheme)
		answer.Reason = fmt.Sprintf("%d records", len(records))
	case errors.As(err, &dns) && dns.IsNotFound, err == nil:
		answer.State, answer.Reason = DNSAbsent, "no such SRV record"
	default:
		answer.State, answer.Reason = DNSFailed, dnsCause(err, start)
	}
	answer.Took = time.Since(start)
	return answer
}

func (l *srvLookup) dns() *net.Resolver {
	if l.resolver == nil {
		return net.DefaultResolver
	}
	return l.resolver
}

// dnsCause leaves out the name server, because Go names the system's, whoever
// was asked.
func dnsCause(err error, start time.Time) string {
	var dns *net.DNSError
	switch {
	case errors.Is(err, context.DeadlineExceeded), errors.As(err, &dns) && dns.IsTimeout:
		return fmt.Sprintf("no answer of the name server within %s", roughly(time.Since(start)))
	case errors.As(err, &dns):
		return oneLine(dns.Err)
	}
	return cause(err)
}

// resolveAll makes peer URLs of the records whose targets have an address.
func (l *srvLookup) resolveAll(ctx context.Context, records []SRVRecord, scheme string) {
	var all sync.WaitGroup
	for i := range records {
		all.Go(func() { l.resolve(ctx, &records[i], scheme) })
	}
	all.Wait()
}

func (l *srvLookup) resolve(ctx context.Context, record *SRVRecord, scheme string) {
	if record.name(scheme); record.State != RecordUsed {
		return
	}
	start := time.Now()
	addresses, err := l.dns().LookupNetIP(ctx, "ip", record.Target)
	var dns *net.DNSError
	switch {
	case errors.As(err, &dns) && dns.IsNotFound:
		record.skip("no such host " + record.Target)
	case err != nil:
		record.skip("address of " + record.Target + ": " + dnsCause(err, start))
	}
	for _, address := range addresses {
		record.Addresses = append(record.Addresses, address.Unmap().String())
	}
	slices.Sort(record.Addresses)
	record.Addresses = slices.Compact(record.Addresses)
}

// name makes the peer URL.
func (r *SRVRecord) name(scheme string) {
	u := url.URL{Scheme: scheme, Host: net.JoinHostPort(r.Target, strconv.Itoa(int(r.Port)))}
	peerURL, err := parsePeerURL(u.String())
	switch {
	case r.Target == "":
		r.skip("its target says that there is no such service") // RFC 2782
	case r.Port == 0:
		r.skip("its port is 0")
	case err != nil:
		r.skip("its target is no host: " + oneLine(err.Error()))
	default:
		r.State, r.PeerURL = RecordUsed, peerURL
	}
}

func (r *SRVRecord) skip(reason string) {
	r.State, r.Reason, r.PeerURL = RecordSkipped, reason, ""
}
