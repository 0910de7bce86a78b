package promote

import (
	"maps"
	"slices"
	"strings"
	"testing"
)

func TestSettingsOfTheMember(t *testing.T) {
	knows := Binary{Version: "3.7.3", flags: map[string]bool{"trusted-ca-file": true, "client-cert-auth": true, "snapshot-count": true}}
	for _, test := range []struct {
		name     string
		native   bool
		settings string
		flags    string
		want     string // variables
		dropped  string
	}{
		{name: "none"},
		{name: "as the proxy has them", settings: "snapshot-count=5 name=p proxy=on", want: "ETCD_SNAPSHOT_COUNT=5"},
		{name: "unknown", settings: "enable-v2=true old=1", dropped: "enable-v2 old"},
		{name: "CA alone", settings: "trusted-ca-file=/ca.pem", want: "ETCD_TRUSTED_CA_FILE=/ca.pem"},
		{name: "certificates not wanted", settings: "trusted-ca-file=/ca.pem client-cert-auth=false", want: "ETCD_CLIENT_CERT_AUTH=false"},
		{
			name: "certificates wanted", settings: "trusted-ca-file=/ca.pem client-cert-auth=true",
			want: "ETCD_CLIENT_CERT_AUTH=true ETCD_TRUSTED_CA_FILE=/ca.pem",
		},
		{name: "CA at a native proxy", native: true, settings: "trusted-ca-file=/ca.pem", want: "ETCD_TRUSTED_CA_FILE=/ca.pem"},
		{name: "beside a flag", settings: "snapshot-count=5", flags: "--snapshot-count=6"},
		{name: "beside a flag with a word", settings: "snapshot-count=5", flags: "-snapshot-count 6"},
		{name: "a flag alone", flags: "--trusted-ca-file=/ca.pem"},
	} {
		t.Run(test.name, func(t *testing.T) {
			r := Request{EtcdFlags: strings.Fields(test.flags)}
			proxy := Standing{Native: test.native, Settings: flagValues(dashed(test.settings))}
			before := maps.Clone(proxy.Settings)
			c := r.candidate(&proxy, knows, nil)
			got, dropped := passed(c.Settings, c.EtcdFlags, knows)
			if text := strings.Join(got.Environ(), " "); text != test.want || strings.Join(dropped, " ") != test.dropped {
				t.Errorf("got %q, dropped %q; want %q and %q", text, dropped, test.want, test.dropped)
			}
			if !maps.Equal(before, proxy.Settings) {
				t.Errorf("the proxy's own settings are now %q", proxy.Settings)
			}
		})
	}
}

func dashed(settings string) []string {
	words := strings.Fields(settings)
	for i := range words {
		words[i] = "--" + words[i]
	}
	return words
}

func TestTLSFilesBehindTheDashes(t *testing.T) {
	r := Request{EtcdFlags: []string{"--cert-file", "/c.pem", "--key-file=/k.pem", "--peer-client-cert-auth", "--pre-vote"}}
	c := r.candidate(&Standing{Settings: map[string]string{"cert-file": "/proxy.pem"}}, Binary{}, nil)
	want := map[string]string{"cert-file": "/c.pem", "key-file": "/k.pem", "peer-client-cert-auth": "true", "pre-vote": "true"}
	if !maps.Equal(c.Settings, want) {
		t.Errorf("the checks see %q, want %q", c.Settings, want)
	}
}

func TestPrivateSocket(t *testing.T) {
	for version, want := range map[string]struct{ url, socket, dir string }{
		"3.4.23": {"unix://member:0", "/d/etcdops/member:0", "/d/etcdops"},
		"3.5.35": {"unix:///d/etcdops/member.sock", "/d/etcdops/member.sock", "/d"},
		"3.7.3":  {"unix:///d/etcdops/member.sock", "/d/etcdops/member.sock", "/d"},
	} {
		t.Run(version, func(t *testing.T) {
			plan := Plan{Name: "m2", DataDir: "/d"}
			plan.decideService(&Candidate{Binary: Binary{Version: version}, ListenClientURLs: []string{"http://10.0.0.4:2379"}})
			p := Promotion{Journal: &Journal{Plan: plan}}
			s, final := p.service(), p.Journal.Plan.Service
			urls := "ETCD_LISTEN_CLIENT_URLS=http://10.0.0.4:2379," + want.url
			if !slices.Contains(s.Variables.Environ(), urls) || plan.Socket != want.socket || s.workingDir() != want.dir {
				t.Errorf("it listens with %q, is asked at %s, and works in %s", s.Variables.Environ(), plan.Socket, s.workingDir())
			}
			if final.workingDir() != "/d" {
				t.Errorf("it goes on to work in %s", final.workingDir())
			}
		})
	}
}
