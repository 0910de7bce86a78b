package policy

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func tcpAddr(s string) net.Addr { return net.TCPAddrFromAddrPort(netip.MustParseAddrPort(s)) }

func unixAddr(s string) net.Addr { return &net.UnixAddr{Name: s, Net: "unix"} }

// lookupName is the name server of the tests; as real ones do, it minds neither
// case nor a final dot.
func lookupName(_ context.Context, _, host string) ([]netip.Addr, error) {
	switch strings.TrimSuffix(strings.ToLower(host), ".") {
	case "localhost":
		return []netip.Addr{netip.MustParseAddr("::1"), netip.MustParseAddr("::ffff:127.0.0.1")}, nil
	case "me.example":
		return []netip.Addr{netip.MustParseAddr("10.0.0.1")}, nil
	case "both.example":
		return []netip.Addr{netip.MustParseAddr("10.0.0.9"), netip.MustParseAddr("10.0.0.1")}, nil
	case "any.example":
		return []netip.Addr{netip.IPv6Unspecified()}, nil
	case "link.example":
		return []netip.Addr{netip.MustParseAddr("fe80::1%eth0")}, nil
	case "other.example":
		return []netip.Addr{netip.MustParseAddr("10.0.0.9")}, nil
	}
	return nil, errors.New("no such host")
}

func TestSelf(t *testing.T) {
	for name, c := range map[string]struct {
		listener net.Addr
		url      string
		want     bool
	}{
		"same address":              {tcpAddr("10.0.0.1:2379"), "http://10.0.0.1:2379", true},
		"another port":              {tcpAddr("10.0.0.1:2379"), "http://10.0.0.1:2380", false},
		"another host":              {tcpAddr("10.0.0.1:2379"), "http://10.0.0.9:2379", false},
		"another loopback address":  {tcpAddr("127.0.0.1:2379"), "http://127.0.0.2:2379", false},
		"own, but not the bound":    {tcpAddr("127.0.0.1:2379"), "http://10.0.0.1:2379", false},
		"all addresses, own":        {tcpAddr("0.0.0.0:2379"), "http://10.0.0.1:2379", true},
		"all addresses, own IPv6":   {tcpAddr("[::]:2379"), "http://[fd00::1]:2379", true},
		"all addresses, loopback":   {tcpAddr("[::]:2379"), "http://127.0.0.1:2379", true},
		"all addresses, 127/8":      {tcpAddr("0.0.0.0:2379"), "http://127.9.9.9:2379", true},
		"all addresses, ::1":        {tcpAddr("0.0.0.0:2379"), "http://[::1]:2379", true},
		"all addresses, foreign":    {tcpAddr("0.0.0.0:2379"), "http://10.0.0.9:2379", false},
		"unspecified":               {tcpAddr("127.0.0.1:2379"), "http://0.0.0.0:2379", true},
		"unspecified, IPv6":         {tcpAddr("10.0.0.1:2379"), "http://[::]:2379", true},
		"unspecified, on ::1":       {tcpAddr("[::1]:2379"), "http://0.0.0.0:2379", true},
		"unspecified, another port": {tcpAddr("[::1]:2379"), "http://0.0.0.0:2380", false},
		"both unspecified":          {tcpAddr("[::]:2379"), "http://0.0.0.0:2379", true},
		"::1":                       {tcpAddr("[::1]:2379"), "http://[::1]:2379", true},
		"::1 against 127.0.0.1":     {tcpAddr("127.0.0.1:2379"), "http://[::1]:2379", false},

		"mapped listener":       {tcpAddr("[::ffff:10.0.0.1]:2379"), "http://10.0.0.1:2379", true},
		"mapped URL":            {tcpAddr("10.0.0.1:2379"), "http://[::ffff:10.0.0.1]:2379", true},
		"mapped loopback":       {tcpAddr("[::]:2379"), "http://[::ffff:127.0.0.1]:2379", true},
		"mapped unspecified":    {tcpAddr("127.0.0.1:2379"), "http://[::ffff:0.0.0.0]:2379", true},
		"mapped, in hex":        {tcpAddr("10.0.0.1:2379"), "http://[::ffff:a00:1]:2379", true},
		"zone in both":          {tcpAddr("[fe80::1%eth0]:2379"), "http://[fe80::1%25eth0]:2379", true},
		"zone in the URL":       {tcpAddr("[::]:2379"), "http://[fe80::1%25eth0]:2379", true},
		"zone in the listener":  {tcpAddr("[fe80::1%eth0]:2379"), "http://[::]:2379", true},
		"zone by its number":    {tcpAddr("[fe80::1%eth0]:2379"), "http://[fe80::1%252]:2379", true},
		"zone, another address": {tcpAddr("[::]:2379"), "http://[fe80::9%25eth0]:2379", false},
		"name with a zone":      {tcpAddr("[::]:2379"), "http://link.example:2379", true},

		"localhost":                 {tcpAddr("127.0.0.1:2379"), "http://localhost:2379", true},
		"localhost, ::1":            {tcpAddr("[::1]:2379"), "http://localhost:2379", true},
		"LOCALHOST":                 {tcpAddr("127.0.0.1:2379"), "HTTP://LOCALHOST:2379", true},
		"localhost with a dot":      {tcpAddr("127.0.0.1:2379"), "http://localhost.:2379", true},
		"another name of this host": {tcpAddr("0.0.0.0:2379"), "https://me.example:2379", true},
		"... in upper case, dotted": {tcpAddr("10.0.0.1:2379"), "https://Me.Example.:2379", true},
		"one address of a name":     {tcpAddr("10.0.0.1:2379"), "https://both.example:2379", true},
		"name of no address":        {tcpAddr("10.0.0.1:2379"), "https://any.example:2379", true},
		"name that leads elsewhere": {tcpAddr("0.0.0.0:2379"), "https://other.example:2379", false},
		"name that leads nowhere":   {tcpAddr("0.0.0.0:2379"), "https://no.example:2379", false},

		"port of http":            {tcpAddr("10.0.0.1:80"), "http://10.0.0.1", true},
		"port of http, a path":    {tcpAddr("10.0.0.1:80"), "http://me.example/", true},
		"port of https":           {tcpAddr("10.0.0.1:443"), "https://10.0.0.1", true},
		"port of https, not ours": {tcpAddr("10.0.0.1:80"), "https://10.0.0.1", false},
		"no port, not ours":       {tcpAddr("10.0.0.1:2379"), "http://10.0.0.1", false},
		"empty port":              {tcpAddr("10.0.0.1:80"), "http://10.0.0.1:", true},
		"port with a zero":        {tcpAddr("10.0.0.1:2379"), "http://10.0.0.1:02379", true},
		"port too large":          {tcpAddr("10.0.0.1:2379"), "http://10.0.0.1:67915", false}, // 65536 more
		"no host":                 {tcpAddr("10.0.0.1:2379"), "http://:2379", false},

		"unix":                 {unixAddr("/run/x"), "unix:///run/x", true},
		"another unix":         {unixAddr("/run/x"), "unix:///run/y", false},
		"unix with TLS":        {unixAddr("/run/x"), "unixs:///run/x", true},
		"unix in upper case":   {unixAddr("/run/x"), "unix:///RUN/X", false},
		"unix, written longer": {unixAddr("/run/x"), "unix:///run/../run/./x", true},
		"unix, host and port":  {unixAddr("localhost:2379"), "unix://localhost:2379", true},
		"unix against tcp":     {tcpAddr("127.0.0.1:2379"), "unix:///run/x", false},
		"tcp against unix":     {unixAddr("127.0.0.1:2379"), "http://127.0.0.1:2379", false},
	} {
		t.Run(name, func(t *testing.T) {
			s := Self{
				Listeners: []net.Addr{c.listener}, LookupNetIP: lookupName,
				InterfaceAddrs: func() ([]net.Addr, error) {
					return []net.Addr{
						&net.IPNet{IP: net.IPv4(10, 0, 0, 1), Mask: net.CIDRMask(24, 32)},
						&net.IPNet{IP: net.ParseIP("fd00::1"), Mask: net.CIDRMask(64, 128)},
						&net.IPNet{IP: net.ParseIP("fe80::1"), Mask: net.CIDRMask(64, 128)},
					}, nil
				},
			}
			if got := s.Is(t.Context(), parseURL(t, c.url)); got != c.want {
				t.Errorf("%s on %s: %v", c.url, c.listener, got)
			}
		})
	}
}

func parseURL(t *testing.T, raw string) *url.URL {
	t.Helper()
	u, err := url.Parse(raw)
	if err != nil {
		t.Fatal(err)
	}
	return u
}

// A path is ours however it is written: relative, or over a symbolic link.
func TestSelfUnixPaths(t *testing.T) {
	dir := t.TempDir()
	t.Chdir(dir)
	for _, path := range []string{"p.sock", "other.sock"} {
		l, err := net.Listen("unix", path)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = l.Close() })
	}
	if err := os.Mkdir("sub", 0o700); err != nil {
		t.Fatal(err)
	}
	for link, to := range map[string]string{"link": dir, "link.sock": "p.sock"} {
		if err := os.Symlink(to, link); err != nil {
			t.Fatal(err)
		}
	}
	abs := filepath.Join(dir, "p.sock")
	for name, c := range map[string]struct {
		listener, url string
		want          bool
	}{
		"relative and absolute":     {"p.sock", "unix://" + abs, true},
		"absolute and relative":     {abs, "unix://p.sock", true},
		"both relative":             {"./p.sock", "unix://p.sock", true},
		"relative, written longer":  {abs, "unix://sub/../p.sock", true},
		"over a folder's link":      {abs, "unix://" + dir + "/link/p.sock", true},
		"over a link to the socket": {abs, "unix://link.sock", true},
		"not there yet":             {"new.sock", "unix://" + dir + "/new.sock", true},
		"another":                   {abs, "unix://other.sock", false},
		"one that is not there":     {abs, "unix://sub/p.sock", false},
	} {
		t.Run(name, func(t *testing.T) {
			s := Self{Listeners: []net.Addr{unixAddr(c.listener)}}
			if got := s.Is(t.Context(), parseURL(t, c.url)); got != c.want {
				t.Errorf("%s on %s: %v", c.url, c.listener, got)
			}
		})
	}
}
