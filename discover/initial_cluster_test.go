package discover

import (
	"errors"
	"slices"
	"strings"
	"testing"
)

func TestParseInitialCluster(t *testing.T) {
	for _, test := range []struct {
		name  string
		value string
		want  []string
	}{
		{"one member", "infra0=http://10.0.0.1:2380", []string{"http://10.0.0.1:2380"}},
		{
			"order is kept", "b=http://b:2380,a=https://a:2380",
			[]string{"http://b:2380", "https://a:2380"},
		},
		{
			"several URLs of one name", "a=http://a:2380,a=http://a:7001",
			[]string{"http://a:2380", "http://a:7001"},
		},
		{
			"white space and empty entries", " a = http://a:2380 ,\n b=http://b:2380 , ,",
			[]string{"http://a:2380", "http://b:2380"},
		},
		{"repeated URLs", "a=http://a:2380,b=http://a:2380", []string{"http://a:2380"}},
		{"ipv6 with a zone", "a=http://[fe80::1%25eth0]:2380", []string{"http://[fe80::1%25eth0]:2380"}},
		{"scheme in capitals", "a=HTTP://a:2380", []string{"http://a:2380"}},
	} {
		t.Run(test.name, func(t *testing.T) {
			got, err := ParseInitialCluster(test.value)
			if err != nil || !slices.Equal(got, test.want) {
				t.Errorf("got %q, %v, want %q", got, err, test.want)
			}
		})
	}
}

func TestParseInitialClusterNamesTheBadEntry(t *testing.T) {
	for _, test := range []struct {
		name   string
		value  string
		entry  string
		reason string
	}{
		{"no equals sign", "a=http://a:2380,http://b:2380", "http://b:2380", `no "="`},
		{"no name", "=http://a:2380", "=http://a:2380", "no name"},
		{"no URL", "a= ,b=http://b:2380", "a=", "no peer URL"},
		{"no scheme, a name", "a=host:2380", "a=host:2380", "no scheme"},
		{"no scheme, an address", "a=10.0.0.1:2380", "a=10.0.0.1:2380", "no scheme"},
		{"no scheme, no port", "a=host", "a=host", "no scheme"},
		{"other scheme", "a=ftp://a:2380", "a=ftp://a:2380", `"ftp"`},
		{"path", "a=http://a:2380/v2", "a=http://a:2380/v2", "goes on after the port"},
		{"slash", "a=http://a:2380/", "a=http://a:2380/", "goes on after the port"},
		{"query", "a=http://a:2380?x", "a=http://a:2380?x", "goes on after the port"},
		{"no port", "a=http://a", "a=http://a", "no port"},
		{"empty port", "a=http://a:", "a=http://a:", "no port"},
		{"port is a word", "a=http://a:etcd", "a=http://a:etcd", "invalid port"},
		{"port too large", "a=http://a:70000", "a=http://a:70000", "between 1 and 65535"},
		{"port zero", "a=http://a:0", "a=http://a:0", "between 1 and 65535"},
		{"no host", "a=http://:2380", "a=http://:2380", "no host"},
		{"user", "a=http://u:p@a:2380", "a=http://u:p@a:2380", "user name"},
		{"semicolon", "a=http://a:2380;b=http://b:2380", "a=http://a:2380;b=http://b:2380", "not valid"},
		{"only commas", " , ", ",", "no member"},
	} {
		t.Run(test.name, func(t *testing.T) {
			_, err := ParseInitialCluster(test.value)
			var bad *BadClusterError
			if !errors.As(err, &bad) {
				t.Fatalf("got %v, want a BadClusterError", err)
			}
			if bad.Entry != test.entry || bad.Hint == "" || !strings.Contains(err.Error(), test.reason) {
				t.Errorf("got entry %q, hint %q, message %q", bad.Entry, bad.Hint, err)
			}
			if strings.Contains(err.Error(), "\n") {
				t.Errorf("message has several lines: %q", err)
			}
		})
	}
}

func TestCanonicalFlagsIgnoreOrderAndSpacing(t *testing.T) {
	flags := func(value string) string {
		peerURLs, err := ParseInitialCluster(value)
		if err != nil {
			t.Fatal(err)
		}
		return Config{}.canonicalFlags(peerURLs)
	}
	if one, two := flags("a=http://a:1,b=http://b:1"), flags(" x=http://b:1, y=http://a:1"); one != two {
		t.Errorf("%q and %q should be equal", one, two)
	}
	if flags("a=http://a:1") == (Config{}).canonicalFlags(nil) {
		t.Error("a set source equals none")
	}
}

func FuzzParseInitialCluster(f *testing.F) {
	f.Add("infra0=http://10.0.0.1:2380,infra1=https://[::1]:2380")
	f.Add(" a = http://a:2380 ,, a=http://a:7001,")
	f.Add("a=http://%zz:2380,=,b")
	f.Fuzz(func(t *testing.T, value string) {
		peerURLs, err := ParseInitialCluster(value)
		if err != nil {
			var bad *BadClusterError
			if !errors.As(err, &bad) || bad.Hint == "" || strings.Contains(err.Error(), "\n") {
				t.Fatalf("error %q is not a one-line BadClusterError with a hint", err)
			}
			return
		}
		for _, peerURL := range peerURLs {
			if again, err := parsePeerURL(peerURL); err != nil || again != peerURL {
				t.Fatalf("%q does not parse to itself: %q, %v", peerURL, again, err)
			}
			if _, err := parseTarget(peerURL); err != nil {
				t.Fatalf("%q cannot be asked: %v", peerURL, err)
			}
		}
		if len(peerURLs) == 0 {
			t.Fatal("no error and no peer URL")
		}
	})
}
