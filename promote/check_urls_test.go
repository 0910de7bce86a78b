package promote

import (
	"testing"

	"etcdops/discover"
)

// publicMembers are members that other machines can reach.
func publicMembers() []discover.MemberStatus {
	members := goodMembers(2)
	for i, ip := range []string{"10.0.0.1", "10.0.0.2"} {
		members[i].PeerURLs = []string{"http://" + ip + ":2380"}
		members[i].ClientURLs = []string{"http://" + ip + ":2379"}
	}
	return members
}

func TestCheckURLs(t *testing.T) {
	unstarted := func(role string) []discover.MemberStatus {
		return append(publicMembers(), discover.MemberStatus{
			ID: "000000000000000f", Name: "unstarted", Status: discover.MemberUnstarted, Role: role, PeerURLs: []string{"http://10.0.0.4:2380"},
		})
	}
	overTLS := publicMembers()
	for i := range overTLS {
		overTLS[i].PeerURLs = []string{"https://10.0.0.1:2380"}
	}
	for _, test := range []struct {
		refusalCase
		members []discover.MemberStatus // nil = publicMembers
	}{
		{refusalCase{"good", func(*Candidate) {}, "", "", ""}, nil},
		{refusalCase{"no URL", func(c *Candidate) { c.AdvertiseClientURLs = nil }, "missing-url", "--advertise-client-urls", "add --advertise-client-urls URL"}, nil},
		{refusalCase{"not a URL", func(c *Candidate) { c.ListenPeerURLs = []string{"10.0.0.4:2380"} }, "bad-url", "--listen-peer-urls 10.0.0.4:2380", "http://"}, nil},
		{refusalCase{"without a port", func(c *Candidate) { c.InitialAdvertisePeerURLs = []string{"http://10.0.0.4"} }, "bad-url", "no port", "http://"}, nil},
		{refusalCase{"with a path", func(c *Candidate) { c.ListenClientURLs = []string{"http://10.0.0.4:2379/x"} }, "bad-url", "more than", "http://"}, nil},
		{refusalCase{"without a host", func(c *Candidate) { c.ListenClientURLs = []string{"http://:2379"} }, "bad-url", "IP addresses only", "0.0.0.0"}, nil},
		{refusalCase{"advertised without a host", func(c *Candidate) { c.AdvertiseClientURLs = []string{"http://:2379"} }, "advertise-local", "unspecified", "--advertise-client-urls"}, nil},
		{refusalCase{"listening on a name", func(c *Candidate) { c.ListenPeerURLs = []string{"http://m4.example.org:2380"} }, "bad-url", "m4.example.org", "0.0.0.0"}, nil},
		{refusalCase{"listening on localhost", func(c *Candidate) { c.ListenClientURLs = []string{"http://localhost:2379", "unix:///run/x.sock"} }, "", "", ""}, nil},
		{refusalCase{"listening on a socket, with 3.4", func(c *Candidate) {
			c.Binary.Version, c.ListenClientURLs = "3.4.23", []string{"http://10.0.0.4:2379", "unix:///run/x.sock"}
		}, "bad-url", "unix:///run/x.sock: etcd 3.4.23 takes no path", "--listen-client-urls"}, nil},
		{refusalCase{"peers over a socket", func(c *Candidate) { c.InitialAdvertisePeerURLs = []string{"unix:///run/p.sock"} }, "bad-url", "TCP", ""}, nil},
		{refusalCase{"peer URL on loopback", func(c *Candidate) { c.InitialAdvertisePeerURLs = []string{"http://localhost:2380"} }, "peer-url-local", "loopback", "address of this host"}, nil},
		{refusalCase{"peer URL unspecified", func(c *Candidate) { c.InitialAdvertisePeerURLs = []string{"http://0.0.0.0:2380"} }, "peer-url-local", "unspecified", "address of this host"}, nil},
		{refusalCase{"all on one machine", func(c *Candidate) {
			c.InitialAdvertisePeerURLs = []string{"http://127.0.0.1:2380"}
			c.AdvertiseClientURLs = []string{"http://127.0.0.1:2379", "unix:///run/etcd.sock"}
		}, "", "", ""}, goodMembers(3)},
		{refusalCase{"unspecified on one machine", func(c *Candidate) { c.AdvertiseClientURLs = []string{"http://[::]:2379"} }, "advertise-local", "http://[::]:2379", "--advertise-client-urls"}, goodMembers(3)},
		{refusalCase{"clients told loopback", func(c *Candidate) { c.AdvertiseClientURLs = []string{"http://10.0.0.4:2379", "http://127.0.0.1:2379"} }, "advertise-local", "http://127.0.0.1:2379", "--advertise-client-urls"}, nil},
		{refusalCase{"clients told a socket", func(c *Candidate) { c.AdvertiseClientURLs = []string{"unix:///run/etcd.sock"} }, "advertise-local", "a socket of this machine", "--advertise-client-urls"}, nil},
		{refusalCase{"peer URL of a member", func(c *Candidate) { c.InitialAdvertisePeerURLs = []string{"http://10.0.0.2:2380"} }, "peer-url-taken", "member m2 (0000000000000002)", "this host's own address"}, nil},
		{refusalCase{"peer URL of a member, written otherwise", func(c *Candidate) { c.InitialAdvertisePeerURLs = []string{"http://[::ffff:10.0.0.2]:2380"} }, "peer-url-taken", "member m2", "this host's own address"}, nil},
		{refusalCase{"one of two is taken", func(c *Candidate) {
			c.InitialAdvertisePeerURLs = []string{"http://10.0.0.4:2380", "http://10.0.0.1:2380"}
		}, "peer-url-taken", "member m1", ""}, nil},
		{refusalCase{"taken by a learner that never started", func(c *Candidate) {
			c.InitialAdvertisePeerURLs = []string{"http://10.0.0.4:2380", "http://10.0.0.5:2380"}
		}, "peer-url-taken", "000000000000000f", "member remove 000000000000000f"}, unstarted(discover.RoleLearner)},
		{refusalCase{"ours, added before", func(*Candidate) {}, "", "", ""}, unstarted(discover.RoleLearner)},
		{refusalCase{"ours, added before as a voter", func(*Candidate) {}, "peer-url-taken", "000000000000000f", "add --voter"}, unstarted(discover.RoleVoter)},
		{refusalCase{"ours, added before as a voter, voter wanted", func(c *Candidate) { c.Voter = true }, "", "", ""}, unstarted(discover.RoleVoter)},
		{refusalCase{"client URL of a member", func(c *Candidate) {
			c.InitialAdvertisePeerURLs, c.ListenClientURLs = []string{"http://10.0.0.1:2379"}, []string{"http://10.0.0.4:4001"}
		}, "peer-url-is-client-url", "client URL of member m1", "2380"}, nil},
		{refusalCase{"client port of the proxy", func(c *Candidate) {
			c.InitialAdvertisePeerURLs, c.ListenClientURLs = []string{"http://10.0.0.4:2379"}, []string{"http://10.0.0.4:4001"}
			c.Reused = []string{"http://0.0.0.0:2379"}
		}, "peer-url-is-client-url", "http://0.0.0.0:2379", "2380"}, nil},
		{refusalCase{"peers in the clear among TLS", func(*Candidate) {}, "peer-scheme", "speak https", "https://"}, overTLS},
		{refusalCase{"listening with another scheme", func(c *Candidate) { c.ListenPeerURLs = []string{"https://10.0.0.4:2380"} }, "peer-scheme", "listens there with https", "same scheme"}, nil},
	} {
		t.Run(test.name, func(t *testing.T) {
			c := goodCandidate(t)
			c.InitialAdvertisePeerURLs, c.ListenPeerURLs = []string{"http://10.0.0.4:2380"}, []string{"http://10.0.0.4:2380"}
			c.ListenClientURLs, c.AdvertiseClientURLs = []string{"http://10.0.0.4:2379"}, []string{"http://10.0.0.4:2379"}
			test.change(c)
			members := test.members
			if members == nil {
				members = publicMembers()
			}
			expectOne(t, c.CheckURLs(t.Context(), members), test.check, test.problem, test.hint)
		})
	}
}

func TestAddressKind(t *testing.T) {
	for raw, want := range map[string]int{
		"http://10.0.0.1:2379":            addressPublic,
		"https://etcd.example.org:2379":   addressPublic,
		"http://[fd00::1]:2379":           addressPublic,
		"http://127.9.9.9:2379":           addressLoopback,
		"http://[::1]:2379":               addressLoopback,
		"http://LOCALHOST:2379":           addressLoopback,
		"http://localhost.:2379":          addressLoopback,
		"http://[::ffff:127.0.0.1]:2379":  addressLoopback,
		"http://0.0.0.0:2379":             addressUnspecified,
		"http://[::]:2379":                addressUnspecified,
		"http://:2379":                    addressUnspecified,
		"unix:///run/etcd.sock":           addressUnix,
		"unixs://localhost:12345":         addressUnix,
		"http://10.0.0.1":                 addressBad,
		"10.0.0.1:2379":                   addressBad,
		"http://user:secret@10.0.0.1:237": addressBad,
	} {
		t.Run(raw, func(t *testing.T) {
			if got := addressKind(raw); got != want {
				t.Errorf("got %d, want %d", got, want)
			}
		})
	}
}
