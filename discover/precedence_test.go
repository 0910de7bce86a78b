package discover

import (
	"fmt"
	"net"
	"strings"
	"testing"
	"time"
)

// What a source does in the table below.
const (
	isUnset = iota
	works
	fails
	hangs
	conducts // how many there are
)

var conductNames = [conducts]string{"unset", "works", "fails", "hangs"}

// sourceRig holds one of each source for each conduct.
type sourceRig struct {
	urls, statics [conducts]string
	resolvers     [conducts]*net.Resolver
	filePeer      *fakePeer
}

// newSourceRig's working sources lead each to a peer of its own, all of one
// cluster.
func newSourceRig(t *testing.T) *sourceRig {
	t.Helper()
	byURL, bySRV, static := newPeer(t, clusterA), newPeer(t, clusterA), newPeer(t, clusterA)
	_, port, err := net.SplitHostPort(hostOf(t, bySRV.URL))
	if err != nil {
		t.Fatal(err)
	}
	silent := newDNS(t).set(func(d *fakeDNS) { d.silent = true })
	return &sourceRig{
		urls:    [conducts]string{"", newRegistryServer(t, "1", "m="+byURL.URL).token(), refusingURL(t) + "/token", hungURL(t) + "/token"},
		statics: [conducts]string{"", cluster(static.URL), cluster(refusingURL(t)), cluster(hungURL(t))},
		resolvers: [conducts]*net.Resolver{
			nil,
			newDNS(t, "here.example.test. 1 IN A 127.0.0.1", fmt.Sprintf("_etcd-server._tcp.example.test. 1 IN SRV 0 0 %s here.example.test.", port)).resolver,
			newDNS(t).resolver,
			silent.resolver,
		},
		filePeer: newPeer(t, clusterA),
	}
}

func (r *sourceRig) config(url, srv, static int) Config {
	c := Config{DiscoveryURL: r.urls[url], InitialCluster: r.statics[static], Resolver: r.resolvers[srv]}
	if srv != isUnset {
		c.SRVDomain = "example.test"
	}
	return c
}

// TestPrecedenceOfAllSources walks all that URL, SRV and static can do: 4³, each
// without a cluster file, with one for the same flags and with one for others.
// A source that hangs costs its own deadline and no other's.
func TestPrecedenceOfAllSources(t *testing.T) {
	const deadline = 4 * time.Second // live ones have it too, on a busy machine
	rig := newSourceRig(t)
	local := newPeer(t, clusterA)
	replaceDefaults(t, local.URL)
	t.Run("cases", func(t *testing.T) {
		for _, file := range []string{"none", "same", "other"} {
			for url := range conducts {
				for srv := range conducts {
					for static := range conducts {
						name := fmt.Sprintf("url %s, srv %s, static %s, file %s", conductNames[url], conductNames[srv], conductNames[static], file)
						t.Run(name, func(t *testing.T) {
							t.Parallel()
							config := rig.config(url, srv, static)
							config.DataDir, config.SourceTimeout = t.TempDir(), deadline
							if file != "none" {
								flags := "some others"
								if file == "same" {
									peerURLs, _ := ParseInitialCluster(config.InitialCluster)
									flags = config.canonicalFlags(peerURLs)
								}
								writeFile(t, config.DataDir, fmt.Sprintf(`{"PeerURLs":[%q],"cluster_id":"cdf818194e3a8c32","flags":%q}`, rig.filePeer.URL, flags))
							}
							checkPrecedence(t, config, file, [3]int{url, srv, static})
						})
					}
				}
			}
		}
	})
}

func checkPrecedence(t *testing.T, config Config, file string, conduct [3]int) {
	t.Helper()
	resolution, err := New(config).Resolve(t.Context())
	want, used, waits := expectedFates(file, conduct)
	if got := fates(resolution.Sources); got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
	if (err == nil) != (used != "") {
		t.Errorf("used is %q, error %v", used, err)
	}
	checkComplete(t, resolution)
	hung := 0
	for _, source := range resolution.Sources {
		if source.State == SourceFailed && strings.Contains(source.Reason, "no answer") {
			hung++
			if source.Took < config.SourceTimeout*9/10 || source.Took > config.SourceTimeout+10*time.Second {
				t.Errorf("%s took %v", source.Name, source.Took)
			}
		}
	}
	if hung != waits {
		t.Errorf("%d sources hung, want %d", hung, waits)
	}
}

// expectedFates is design.md's precedence, written once more: what each source
// comes to, which is used, and how many are waited for in vain.
func expectedFates(file string, conduct [3]int) (fates, used string, waits int) {
	var all []string
	add := func(name, state string) { all = append(all, name+"="+state) }
	anySet := conduct != [3]int{}
	if file == "same" {
		used = SourceClusterFile
		add(SourceClusterFile, SourceUsed)
	}
	for i, name := range []string{SourceDiscovery, SourceDiscoverySRV, SourceInitialCluster} {
		switch {
		case conduct[i] == isUnset:
			if name == SourceInitialCluster {
				add(name, SourceNotSet)
			}
		case used != "":
			add(name, SourceNotUsed)
		case conduct[i] == works:
			used = name
			add(name, SourceUsed)
		default:
			if conduct[i] == hangs {
				waits++
			}
			add(name, SourceFailed)
		}
	}
	switch {
	case anySet || used != "":
		add(SourceDefault, SourceNotUsed)
	default:
		used = SourceDefault
		add(SourceDefault, SourceUsed)
	}
	switch {
	case file == "none":
		add(SourceClusterFile, SourceNotSet)
	case file == "other" && used == "":
		used = SourceClusterFile
		add(SourceClusterFile, SourceUsed)
	case file == "other":
		add(SourceClusterFile, SourceNotReached)
	}
	return strings.Join(all, " "), used, waits
}

// With strict sources the first one that fails is the last one that is asked.
func TestStrictSources(t *testing.T) {
	rig := newSourceRig(t)
	replaceDefaults(t, refusingURL(t))
	for _, test := range []struct {
		name             string
		url, srv, static int
		file             string
		want             string
	}{
		{"the first works", works, fails, works, "", "discovery=used discovery-srv=not used initial-cluster=not used default=not used cluster file=not set"},
		{"the first fails", fails, works, works, "", "discovery=failed discovery-srv=not reached initial-cluster=not reached default=not used cluster file=not set"},
		{"the last fails", isUnset, isUnset, fails, "other", "initial-cluster=failed default=not used cluster file=not reached"},
		{"the file is no source", isUnset, isUnset, works, "dead", "cluster file=failed initial-cluster=used default=not used"},
		{"nor is the default", isUnset, isUnset, isUnset, "other", "initial-cluster=not set default=failed cluster file=used"},
	} {
		t.Run(test.name, func(t *testing.T) {
			config := rig.config(test.url, test.srv, test.static)
			config.Strict, config.DataDir = true, t.TempDir()
			peerURLs, _ := ParseInitialCluster(config.InitialCluster)
			switch test.file {
			case "other":
				writeFile(t, config.DataDir, fmt.Sprintf(`{"PeerURLs":[%q],"flags":"others"}`, rig.filePeer.URL))
			case "dead":
				writeFile(t, config.DataDir, fmt.Sprintf(`{"PeerURLs":[%q],"flags":%q}`, refusingURL(t), config.canonicalFlags(peerURLs)))
			}
			resolution, err := New(config).Resolve(t.Context())
			if got := fates(resolution.Sources); got != test.want || (err == nil) != strings.Contains(test.want, "=used") {
				t.Errorf("got  %s, %v\nwant %s", got, err, test.want)
			}
			checkComplete(t, resolution)
		})
	}
}

// Two sources of the first rank: the URL comes before the token.
func TestTokenComesAfterTheURL(t *testing.T) {
	peer := newPeer(t, clusterA)
	resolution, err := New(Config{
		DiscoveryURL: refusingURL(t) + "/token", DiscoveryToken: "T", DiscoveryEndpoints: []string{refusingURL(t)},
		InitialCluster: cluster(peer.URL),
	}).Resolve(t.Context())
	want := "discovery=failed discovery-token=failed initial-cluster=used default=not used cluster file=not set"
	if got := fates(resolution.Sources); err != nil || got != want {
		t.Errorf("got %s, %v", got, err)
	}
	if reason := resolution.Sources[1].Reason; !strings.Contains(reason, "connection refused") {
		t.Errorf("got %q", reason)
	}
}
