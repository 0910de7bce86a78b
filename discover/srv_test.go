package discover

import (
	"fmt"
	"net"
	"slices"
	"strings"
	"testing"
	"time"
)

// srvFates sums up names and records, a line each.
func srvFates(names []DNSName) string {
	var lines []string
	for _, name := range names {
		line := strings.TrimSuffix(name.Name, ".example.test") + "=" + name.State
		for _, record := range name.Records {
			line += " " + record.PeerURL
			if record.State == RecordSkipped && name.State == DNSFound {
				line += "!" + record.Reason
			}
		}
		lines = append(lines, line)
	}
	return strings.Join(lines, "\n")
}

func TestSRV(t *testing.T) {
	const (
		ssl   = "_etcd-server-ssl._tcp.example.test. 1 IN SRV 0 0 2380 "
		plain = "_etcd-server._tcp.example.test. 1 IN SRV 0 0 2380 "
	)
	hosts := []string{
		"a.example.test. 1 IN A 127.0.0.1", "a.example.test. 1 IN A 127.0.0.2",
		"b.example.test. 1 IN A 127.0.0.3", "six.example.test. 1 IN AAAA ::1",
	}
	for _, test := range []struct {
		name    string
		records []string
		domain  string // "" = example.test
		suffix  string
		fails   []string
		want    string
		urls    []string
		err     string // contained in it
	}{
		{
			"plain alone: the absent half is information",
			[]string{plain + "a.example.test."},
			"", "", nil,
			"_etcd-server-ssl._tcp=absent\n_etcd-server._tcp=found http://a.example.test:2380",
			[]string{"http://a.example.test:2380"},
			"",
		},
		{
			"ssl alone",
			[]string{ssl + "b.example.test."},
			"", "", nil,
			"_etcd-server-ssl._tcp=found https://b.example.test:2380\n_etcd-server._tcp=absent",
			[]string{"https://b.example.test:2380"},
			"",
		},
		{
			"both, the same host in each",
			[]string{ssl + "a.example.test.", plain + "a.example.test."},
			"", "", nil,
			"_etcd-server-ssl._tcp=found https://a.example.test:2380\n_etcd-server._tcp=found http://a.example.test:2380",
			[]string{"https://a.example.test:2380", "http://a.example.test:2380"},
			"",
		},
		{
			"one half fails, the other is enough",
			[]string{plain + "a.example.test."},
			"", "",
			[]string{"_etcd-server-ssl._tcp.example.test."},
			"_etcd-server-ssl._tcp=failed\n_etcd-server._tcp=found http://a.example.test:2380",
			[]string{"http://a.example.test:2380"},
			"",
		},
		{
			"a dot behind the domain, capitals in the record",
			[]string{"_ETCD-server._tcp.Example.test. 1 IN SRV 0 0 2380 B.example.test."},
			"example.test.", "", nil,
			"_etcd-server-ssl._tcp.example.test.=absent\n_etcd-server._tcp.example.test.=found http://B.example.test:2380",
			[]string{"http://B.example.test:2380"},
			"",
		},
		{
			"a target that is not there, one of IPv6",
			[]string{plain + "gone.example.test.", "_etcd-server._tcp.example.test. 1 IN SRV 1 0 2380 six.example.test."},
			"", "", nil,
			"_etcd-server-ssl._tcp=absent\n_etcd-server._tcp=found !no such host gone.example.test http://six.example.test:2380",
			[]string{"http://six.example.test:2380"},
			"",
		},
		{
			"targets that are not there alone",
			[]string{plain + "gone.example.test."},
			"", "", nil,
			"_etcd-server-ssl._tcp=absent\n_etcd-server._tcp=found !no such host gone.example.test", nil,
			"none of its 1 records can be used: no such host gone.example.test",
		},
		{
			"no such service, and port 0",
			[]string{ssl + ".", "_etcd-server._tcp.example.test. 1 IN SRV 0 0 0 a.example.test."},
			"", "", nil,
			"_etcd-server-ssl._tcp=found !its target says that there is no such service\n_etcd-server._tcp=found !its port is 0", nil, "its port is 0",
		},
		{
			"a suffix stands behind -ssl",
			[]string{"_etcd-server-ssl-east._tcp.example.test. 1 IN SRV 0 0 2380 b.example.test.", plain + "a.example.test."},
			"", "east", nil,
			"_etcd-server-ssl-east._tcp=found https://b.example.test:2380\n_etcd-server-east._tcp=absent",
			[]string{"https://b.example.test:2380"},
			"",
		},
		{
			"a suffix too many",
			[]string{plain + "a.example.test."},
			"", "east", nil,
			"_etcd-server-ssl-east._tcp=absent\n_etcd-server-east._tcp=absent\n_etcd-server._tcp=near miss ", nil, "without the name of --discovery-srv-name",
		},
		{
			"underscores",
			[]string{"_etcd_server._tcp.example.test. 1 IN SRV 0 0 2380 a.example.test."},
			"", "", nil,
			"_etcd-server-ssl._tcp=absent\n_etcd-server._tcp=absent\n_etcd_server._tcp=near miss ", nil,
			"there is _etcd_server._tcp.example.test (a hyphen belongs between etcd and server)",
		},
		{
			"for clients",
			[]string{"_etcd-client._tcp.example.test. 1 IN SRV 0 0 2379 a.example.test."},
			"", "", nil,
			"_etcd-server-ssl._tcp=absent\n_etcd-server._tcp=absent\n_etcd-client._tcp=near miss ", nil, "there is _etcd-client._tcp.example.test (it is for clients",
		},
		{
			"without _tcp",
			[]string{"_etcd-server.example.test. 1 IN SRV 0 0 2380 a.example.test."},
			"", "", nil,
			"_etcd-server-ssl._tcp=absent\n_etcd-server._tcp=absent\n_etcd-server=near miss ", nil, "there is _etcd-server.example.test (._tcp is missing in it)",
		},
		{
			"neither", nil, "", "", nil, "_etcd-server-ssl._tcp=absent\n_etcd-server._tcp=absent", nil,
			"neither _etcd-server-ssl._tcp.example.test nor _etcd-server._tcp.example.test is there",
		},
		{
			"both fail", nil, "", "",
			[]string{"_etcd-server-ssl._tcp.example.test.", "_etcd-server._tcp.example.test."},
			"_etcd-server-ssl._tcp=failed\n_etcd-server._tcp=failed", nil, "server misbehaving",
		},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			server := newDNS(t, append(slices.Clone(hosts), test.records...)...)
			for _, name := range test.fails {
				server.set(func(d *fakeDNS) { d.fails[name] = true })
			}
			lookup := srvLookup{resolver: server.resolver, domain: test.domain, suffix: test.suffix}
			if lookup.domain == "" {
				lookup.domain = "example.test"
			}
			names, urls, err := lookup.find(t.Context())
			if got := srvFates(names); got != test.want {
				t.Errorf("got\n%s\nwant\n%s", got, test.want)
			}
			if !slices.Equal(urls, test.urls) {
				t.Errorf("got %q, want %q", urls, test.urls)
			}
			if (err == nil) != (test.err == "") || err != nil && !strings.Contains(err.Error(), test.err) {
				t.Errorf("got %v, want %q", err, test.err)
			}
			for _, name := range names {
				if name.Reason == "" || name.Took <= 0 {
					t.Errorf("not explained: %+v", name)
				}
			}
		})
	}
	t.Run("addresses", func(t *testing.T) {
		names, _, err := (&srvLookup{resolver: newDNS(t, append(slices.Clone(hosts), plain+"a.example.test.")...).resolver, domain: "example.test"}).find(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if got := names[1].Records[0]; !slices.Equal(got.Addresses, []string{"127.0.0.1", "127.0.0.2"}) || got.Port != 2380 {
			t.Errorf("got %+v", got)
		}
	})
}

func TestSRVOfASilentNameServer(t *testing.T) {
	server := newDNS(t).set(func(d *fakeDNS) { d.silent = true })
	resolution, err := New(Config{SRVDomain: "example.test", Resolver: server.resolver, SourceTimeout: 300 * time.Millisecond}).Resolve(t.Context())
	if err == nil || !strings.Contains(err.Error(), "no answer of the name server within") {
		t.Errorf("got %v", err)
	}
	checkComplete(t, resolution)
}

// The records change when all known peers have gone.
func TestFollowerAsksTheDNSAgain(t *testing.T) {
	old, next := newPeer(t, clusterA), newPeer(t, clusterA)
	record := func(p *fakePeer) string {
		_, port, _ := net.SplitHostPort(hostOf(t, p.URL))
		return fmt.Sprintf("_etcd-server._tcp.example.test. 1 IN SRV 0 0 %s here.example.test.", port)
	}
	server := newDNS(t, "here.example.test. 1 IN A 127.0.0.1", record(old))
	f := NewFollower(Config{SRVDomain: "example.test", Resolver: server.resolver, DialTimeout: time.Second})
	refresh(t, f)
	moved := newDNS(t, record(next))
	const key = "_etcd-server._tcp.example.test. SRV"
	server.set(func(d *fakeDNS) { d.zone[key] = moved.zone[key] })
	old.set(func(p *fakePeer) { p.down = true })
	if m := refresh(t, f); !slices.Equal(m.PeerURLs, []string{next.URL}) {
		t.Errorf("got %+v", m)
	}
}

func TestParseSRVDomain(t *testing.T) {
	for raw, good := range map[string]bool{
		"example.test": true, "example.test.": true, "a-b.c_d.test": true, "localhost": true,
		"": false, ".": false, "a..b": false, "http://example.test": false, "exa mple.test": false,
		"_etcd-server._tcp.example.test": false, strings.Repeat("a", 64) + ".test": false, strings.Repeat("a.", 130): false,
	} {
		if err := ParseSRVDomain(raw); (err == nil) != good {
			t.Errorf("%q: got %v", raw, err)
		}
	}
}

// FuzzSRV lets a name server say anything.
func FuzzSRV(f *testing.F) {
	f.Add("a.example.test.", uint16(2380), "https")
	f.Add(".", uint16(0), "http")
	f.Add("a b\x00\".", uint16(1), "http")
	f.Fuzz(func(t *testing.T, target string, port uint16, scheme string) {
		if scheme != "https" {
			scheme = "http"
		}
		record := SRVRecord{Target: strings.TrimSuffix(target, "."), Port: port, State: RecordSkipped}
		record.name(scheme)
		if record.State == RecordSkipped {
			if record.Reason == "" || record.PeerURL != "" {
				t.Fatalf("not explained: %+v", record)
			}
			return
		}
		if again, err := parsePeerURL(record.PeerURL); err != nil || again != record.PeerURL {
			t.Fatalf("%q: %q, %v", record.PeerURL, again, err)
		}
		if _, err := parseTarget(record.PeerURL); err != nil {
			t.Fatal(err)
		}
	})
}
