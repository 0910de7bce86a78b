package policy

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"net/url"
	"testing"
)

func TestInstance(t *testing.T) {
	a, b := NewInstance(), NewInstance()
	if a == b || len(a) != len("etcdops-")+16 {
		t.Errorf("%s %s", a, b)
	}
	for name, c := range map[string]struct {
		via  string
		want bool
	}{
		"none":              {"", false},
		"ours":              {a.Via("1.1"), true},
		"ours, HTTP/2":      {a.Via("2"), true},
		"ours among others": {"1.0 fred, " + a.Via("1.1") + " (comment), 1.1 x", true},
		"another's":         {b.Via("1.1"), false},
		"only a part":       {a.Via("1.1") + "0", false},
		"name as protocol":  {string(a) + " x", false},
		"in a comment":      {"1.1 x " + string(a), false},
	} {
		t.Run(name, func(t *testing.T) {
			if got := a.Seen(c.via); got != c.want {
				t.Errorf("%q: %v", c.via, got)
			}
		})
	}
}

func TestSelf(t *testing.T) {
	tcp := func(s string) net.Addr { return net.TCPAddrFromAddrPort(netip.MustParseAddrPort(s)) }
	for name, c := range map[string]struct {
		listener net.Addr
		url      string
		want     bool
	}{
		"same address":              {tcp("10.0.0.1:2379"), "http://10.0.0.1:2379", true},
		"same address, mapped":      {tcp("[::ffff:10.0.0.1]:2379"), "http://10.0.0.1:2379", true},
		"another port":              {tcp("10.0.0.1:2379"), "http://10.0.0.1:2380", false},
		"another host":              {tcp("10.0.0.1:2379"), "http://10.0.0.9:2379", false},
		"all addresses, own":        {tcp("0.0.0.0:2379"), "http://10.0.0.1:2379", true},
		"all addresses, loopback":   {tcp("[::]:2379"), "http://127.0.0.1:2379", true},
		"all addresses, foreign":    {tcp("0.0.0.0:2379"), "http://10.0.0.9:2379", false},
		"unspecified":               {tcp("127.0.0.1:2379"), "http://0.0.0.0:2379", true},
		"unspecified, IPv6":         {tcp("10.0.0.1:2379"), "http://[::]:2379", true},
		"both unspecified":          {tcp("[::]:2379"), "http://0.0.0.0:2379", true},
		"localhost":                 {tcp("127.0.0.1:2379"), "http://localhost:2379", true},
		"another name of this host": {tcp("0.0.0.0:2379"), "https://me.example:2379", true},
		"name that leads elsewhere": {tcp("0.0.0.0:2379"), "https://other.example:2379", false},
		"name that leads nowhere":   {tcp("0.0.0.0:2379"), "https://no.example:2379", false},
		"unix":                      {&net.UnixAddr{Name: "/run/x", Net: "unix"}, "unix:///run/x", true},
		"another unix":              {&net.UnixAddr{Name: "/run/x", Net: "unix"}, "unix:///run/y", false},
		"unix against tcp":          {tcp("127.0.0.1:2379"), "unix:///run/x", false},
	} {
		t.Run(name, func(t *testing.T) {
			s := Self{
				Listeners: []net.Addr{c.listener},
				LookupNetIP: func(_ context.Context, _, host string) ([]netip.Addr, error) {
					switch host {
					case "localhost":
						return []netip.Addr{netip.MustParseAddr("::1"), netip.MustParseAddr("::ffff:127.0.0.1")}, nil
					case "me.example":
						return []netip.Addr{netip.MustParseAddr("10.0.0.1")}, nil
					case "other.example":
						return []netip.Addr{netip.MustParseAddr("10.0.0.9")}, nil
					}
					return nil, errors.New("no such host")
				},
				InterfaceAddrs: func() ([]net.Addr, error) {
					return []net.Addr{&net.IPNet{IP: net.IPv4(10, 0, 0, 1), Mask: net.CIDRMask(24, 32)}}, nil
				},
			}
			u, err := url.Parse(c.url)
			if err != nil {
				t.Fatal(err)
			}
			if got := s.Is(t.Context(), u); got != c.want {
				t.Errorf("%s on %s: %v", c.url, c.listener, got)
			}
		})
	}
}
