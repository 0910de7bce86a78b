package discover

import (
	"bytes"
	"compress/gzip"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/url"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

func TestURLRegistryCauses(t *testing.T) {
	var bomb bytes.Buffer
	packer := gzip.NewWriter(&bomb)
	_, _ = packer.Write(make([]byte, 2*registryLimit))
	_ = packer.Close()
	answer := func(status int, body string) http.HandlerFunc {
		return func(w http.ResponseWriter, _ *http.Request) {
			w.WriteHeader(status)
			_, _ = w.Write([]byte(body))
		}
	}
	for _, test := range []struct {
		name   string
		handle http.HandlerFunc // nil: a real registry with this size and these members
		size   string
		values []string
		want   string // of the cause; "" = none
		final  bool
	}{
		{"full", nil, "1", entries("http://a:2380"), "", false},
		{"token not found", nil, "", nil, "token not found", true},
		{"size missing", nil, "", entries("http://a:2380"), "size missing", true},
		{"size is a word", nil, "three", nil, `bad size "three"`, true},
		{"size is 0", nil, "0", nil, `bad size "0"`, true},
		{"size is negative", nil, "-3", nil, `bad size "-3"`, true},
		{"a web page", answer(200, "<html>hello</html>"), "", nil, "not a discovery service", true},
		{"other JSON", answer(200, `{"node":null}`), "", nil, "not a discovery service", true},
		{"wrong types", answer(200, `{"node":{"nodes":[{"createdIndex":"x"}]}}`), "", nil, "not a discovery service", true},
		{"etcd without the v2 API", answer(404, "404 page not found\n"), "", nil, "--discovery-token", true},
		{"forbidden", answer(403, "no"), "", nil, "not a discovery service: its answer has status 403", true},
		{"wants a user", answer(401, `{"message":"Insufficient credentials"}`), "", nil, "it wants a user", true},
		{"in trouble", answer(503, ""), "", nil, "answer has status 503", false},
		{"too many", answer(429, ""), "", nil, "answer has status 429", false},
		{"a value in place of the token", answer(200, `{"node":{"value":"3"}}`), "", nil, "not a folder", true},
		{"huge", answer(200, `{"node":{"value":"`+strings.Repeat("x", registryLimit)+`"}}`), "", nil, "larger than", true},
		{"a bomb", func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Encoding", "gzip")
			_, _ = w.Write(bomb.Bytes())
		}, "", nil, "not a discovery service", true},
		{"cut short", func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Length", "100")
			_, _ = w.Write([]byte("{"))
		}, "", nil, "connection closed", false},
		{"closes", func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) }, "", nil, "connection closed", false},
		{"redirects for ever", func(w http.ResponseWriter, r *http.Request) {
			http.Redirect(w, r, r.URL.Path+"x", http.StatusTemporaryRedirect)
		}, "", nil, "redirects more than 5 times", true},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			var token string
			if test.handle == nil {
				token = newRegistryServer(t, test.size, test.values...).token()
			} else {
				server := httptest.NewServer(test.handle)
				t.Cleanup(server.Close)
				token = server.URL + fakeToken
			}
			registry, err := ReadRegistry(t.Context(), Config{DiscoveryURL: token})
			if test.want == "" {
				if err != nil || registry.Size != 1 || len(registry.Members) != 1 {
					t.Errorf("got %+v, %v", registry, err)
				}
				return
			}
			var final *RegistryError
			if err == nil || !strings.Contains(err.Error(), test.want) || errors.As(err, &final) != test.final || strings.Contains(err.Error(), "\n") {
				t.Errorf("got %v, want %q, final %v", err, test.want, test.final)
			}
		})
	}
}

func TestURLRegistryThatCannotBeReached(t *testing.T) {
	secure := httptest.NewTLSServer(http.NotFoundHandler())
	defer secure.Close()
	plain := newRegistryServer(t, "1", entries("http://a:2380")...)
	for name, test := range map[string]struct {
		config Config
		want   string
	}{
		"refused":               {Config{DiscoveryURL: refusingURL(t) + "/token"}, "connection refused"},
		"no such host":          {Config{DiscoveryURL: "http://nobody.invalid/token", Resolver: newDNS(t).resolver}, "no such host nobody.invalid"},
		"unknown authority":     {Config{DiscoveryURL: secure.URL + "/token"}, "certificate signed by unknown authority"},
		"hangs":                 {Config{DiscoveryURL: hungURL(t) + "/token", SourceTimeout: 100 * time.Millisecond}, "no answer within"},
		"https on a plain port": {Config{DiscoveryURL: strings.Replace(plain.token(), "http:", "https:", 1)}, "does not speak TLS"},
		"dead proxy": {
			Config{DiscoveryURL: plain.token(), DiscoveryProxy: strings.TrimPrefix(refusingURL(t), "http://")},
			"through the discovery proxy: connection refused",
		},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := ReadRegistry(t.Context(), test.config)
			var final *RegistryError
			if err == nil || !strings.Contains(err.Error(), test.want) || errors.As(err, &final) {
				t.Errorf("got %v, want %q", err, test.want)
			}
		})
	}
}

// A discovery service may send us on to the etcd behind it.
func TestURLRegistryFollowsRedirects(t *testing.T) {
	registry := newRegistryServer(t, "2", entries("http://a:2380", "http://b:2380")...)
	front := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		http.Redirect(w, r, registry.URL+"/v2/keys/_etcd/registry"+r.URL.RequestURI(), http.StatusTemporaryRedirect)
	}))
	defer front.Close()
	got, err := ReadRegistry(t.Context(), Config{DiscoveryURL: front.URL + "/token"})
	if err != nil || len(got.Members) != 2 {
		t.Errorf("got %+v, %v", got, err)
	}

	secure := httptest.NewTLSServer(http.RedirectHandler(registry.token(), http.StatusTemporaryRedirect))
	defer secure.Close()
	_, err = ReadRegistry(t.Context(), Config{DiscoveryURL: secure.URL + "/token", DiscoveryTLS: trusting(secure)})
	if err == nil || !strings.Contains(err.Error(), "redirects from https to http") {
		t.Errorf("to plain HTTP: got %v", err)
	}
}

func TestURLRegistryGoesThroughItsProxy(t *testing.T) {
	registry := newRegistryServer(t, "1", entries("http://a:2380")...)
	var asked []string
	proxy := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		asked = append(asked, r.URL.String())
		registry.ServeHTTP(w, r)
	}))
	defer proxy.Close()
	t.Setenv("HTTP_PROXY", refusingURL(t)) // is nobody's business
	_, err := ReadRegistry(t.Context(), Config{
		DiscoveryURL: "http://registry.example" + fakeToken, DiscoveryProxy: strings.TrimPrefix(proxy.URL, "http://"),
	})
	if err != nil || len(asked) != 2 || !strings.HasPrefix(asked[0], "http://registry.example/v2/keys/") {
		t.Errorf("got %v, asked %q", err, asked)
	}
}

func TestRegistryOrder(t *testing.T) {
	node := func(created uint64, value string) Registered {
		return newRegistered(fmt.Sprint(created), value, created)
	}
	for _, test := range []struct {
		name     string
		size     int
		members  []Registered
		full     bool
		inside   []string // ids
		peerURLs []string
	}{
		{"none", 2, nil, false, nil, nil},
		{"not yet", 2, []Registered{node(7, "a=http://a:1")}, false, []string{"7"}, []string{"http://a:1"}},
		{
			"overfull, by creation", 2,
			[]Registered{node(9, "c=http://c:1"), node(7, "b=http://b:1"), node(3, "a=http://a:1,a=http://a:2")},
			true,
			[]string{"3", "7"},
			[]string{"http://a:1", "http://a:2", "http://b:1"},
		},
		{
			"a bad one counts and is not asked", 2,
			[]Registered{node(1, "nonsense"), node(2, "b=http://b:1"), node(3, "c=http://c:1")},
			true,
			[]string{"1", "2"},
			[]string{"http://b:1"},
		},
		{"bad ones alone", 1, []Registered{node(1, "a=ftp://a:1")}, true, []string{"1"}, nil},
	} {
		t.Run(test.name, func(t *testing.T) {
			r := newRegistry(test.size, test.members)
			inside := slices.DeleteFunc(slices.Clone(r.Members), func(m Registered) bool { return !m.InCluster })
			peerURLs, err := r.peerURLs()
			if r.Bootstrapped() != test.full || !slices.Equal(ids(inside), test.inside) || !slices.Equal(peerURLs, test.peerURLs) {
				t.Errorf("full %v, inside %v, peers %v, %v", r.Bootstrapped(), ids(inside), peerURLs, err)
			}
			if (err == nil) != (len(test.peerURLs) > 0) {
				t.Errorf("error %v", err)
			}
		})
	}
}

func TestRegistryTaken(t *testing.T) {
	full := newRegistry(2, []Registered{
		newRegistered("1", "a=http://a:1,a=http://a:2", 1), newRegistered("2", "b=http://b:1", 2), newRegistered("3", "c=http://c:1", 3),
	})
	for _, test := range []struct {
		name     string
		peerURLs []string
		want     bool
	}{
		{"one of the cluster", []string{"http://b:1"}, false},
		{"in another order, twice", []string{"http://a:2", "http://a:1", "http://a:2"}, false},
		{"a part is somebody else", []string{"http://a:1"}, true},
		{"registered too late", []string{"http://c:1"}, true},
		{"not registered", []string{"http://d:1"}, true},
	} {
		if got := full.Taken(test.peerURLs); got != test.want {
			t.Errorf("%s: got %v", test.name, got)
		}
	}
	if newRegistry(3, full.Members[:1]).Taken([]string{"http://d:1"}) {
		t.Error("one that is not full is taken")
	}
}

// What happens meanwhile is no member: updates, deletions and a changed size.
func TestBootstrapIsWaitedFor(t *testing.T) {
	peer := newPeer(t, clusterA)
	registry := newRegistryServer(t, "3", entries("http://a:2380")...)
	var mu sync.Mutex
	var said []string
	reached := make(chan string, 100)
	config := Config{DiscoveryURL: registry.token(), Waiting: func(w *WaitingError) {
		mu.Lock()
		defer mu.Unlock()
		said = append(said, w.Progress)
		reached <- w.Progress
	}}
	done := make(chan error, 1)
	var m Membership
	go func() {
		var err error
		m, err = NewFollower(config).Refresh(t.Context())
		done <- err
	}()
	awaitProgress := func(want string) {
		t.Helper()
		for deadline := time.After(10 * time.Second); ; {
			select {
			case progress := <-reached:
				if progress == want {
					return
				}
			case err := <-done:
				t.Fatalf("ended before %q: %v", want, err)
			case <-deadline:
				t.Fatalf("no %q, but %q", want, said)
			}
		}
	}
	awaitProgress("1 of 3 members registered")
	registry.change(func() { registry.nodes[0].Value = "a=http://a:2381" })
	awaitProgress("1 of 3 members registered")
	registry.add("b=http://b:2380")
	awaitProgress("2 of 3 members registered")
	registry.change(func() { registry.nodes = registry.nodes[:1] })
	awaitProgress("1 of 3 members registered")
	registry.change(func() { registry.size = "4" })
	awaitProgress("1 of 4 members registered")
	registry.change(func() { registry.status = http.StatusServiceUnavailable })
	awaitProgress("1 of 4 members registered, answer has status 503")
	registry.change(func() { registry.status, registry.size = 0, "2" })
	registry.add("m=" + peer.URL)
	if err := <-done; err != nil || m.ClusterID != clusterA {
		t.Errorf("got %+v, %v", m, err)
	}
	if registry.writes > 0 {
		t.Errorf("%d requests would have changed the registry", registry.writes)
	}
}

func TestBootstrapThatIsNotThereInTime(t *testing.T) {
	peer := newPeer(t, clusterA)
	registry := newRegistryServer(t, "2", entries(peer.URL)...)
	dataDir := t.TempDir()
	writeFile(t, dataDir, fmt.Sprintf(`{"PeerURLs":[%q],"cluster_id":"cdf818194e3a8c32","flags":"old"}`, peer.URL))
	start := time.Now()
	resolution, err := New(Config{
		DiscoveryURL: registry.token(), InitialCluster: cluster(peer.URL), DataDir: dataDir, BootstrapWait: 300 * time.Millisecond,
	}).Resolve(t.Context())
	var waiting *WaitingError
	if !errors.As(err, &waiting) || !errors.Is(err, ErrNoCluster) || waiting.Progress != "1 of 2 members registered" {
		t.Errorf("got %v", err)
	}
	// It never falls through, neither to another source nor to the file.
	want := "discovery=waiting initial-cluster=not reached default=not used cluster file=not reached"
	if got := fates(resolution.Sources); got != want || peer.timesAsked() > 0 {
		t.Errorf("got %s, and the peer was asked %d times", got, peer.timesAsked())
	}
	if took := time.Since(start); took < 300*time.Millisecond || took > 10*time.Second {
		t.Errorf("took %v", took)
	}
	checkComplete(t, resolution)
}

func TestBootstrapWhoseTokenGoes(t *testing.T) {
	registry := newRegistryServer(t, "2", entries("http://a:2380")...)
	friend := newPeer(t, clusterA)
	config := Config{DiscoveryURL: registry.token(), InitialCluster: cluster(friend.URL)}
	config.Waiting = func(*WaitingError) {
		go registry.change(func() { registry.size, registry.nodes = "", nil })
		config.Waiting = nil
	}
	resolution, err := New(config).Resolve(t.Context())
	if got := fates(resolution.Sources); err != nil || got != "discovery=failed initial-cluster=used default=not used cluster file=not set" {
		t.Errorf("got %s, %v", got, err)
	}
	if reason := resolution.Sources[0].Reason; reason != "token not found" {
		t.Errorf("got %q", reason)
	}
}

func TestBootstrapWaitEndsWithItsContext(t *testing.T) {
	registry := newRegistryServer(t, "2", entries("http://a:2380")...)
	ctx, cancel := context.WithCancel(t.Context())
	_, err := New(Config{DiscoveryURL: registry.token(), Waiting: func(*WaitingError) { cancel() }}).Resolve(ctx)
	if !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
}

// What answers in the service's place for a moment is no reason to turn to
// another source, which could be another cluster.
func TestBootstrapWaitOutlivesABalancer(t *testing.T) {
	peer, stranger := newPeer(t, clusterA), newPeer(t, clusterB)
	registry := newRegistryServer(t, "2", entries(peer.URL)...)
	said := make(chan string, 100)
	config := Config{DiscoveryURL: registry.token(), InitialCluster: cluster(stranger.URL), Waiting: func(w *WaitingError) { said <- w.Progress }}
	done := make(chan error, 1)
	f := NewFollower(config)
	go func() {
		_, err := f.Refresh(t.Context())
		done <- err
	}()
	<-said
	registry.change(func() { registry.status = http.StatusNotFound })
	for progress := range said {
		if strings.Contains(progress, "not a discovery service") {
			break
		}
	}
	registry.change(func() { registry.status, registry.size = 0, "1" })
	if err := <-done; err != nil || f.Last().ClusterID != clusterA || stranger.timesAsked() > 0 {
		t.Errorf("got %+v, %v, the stranger was asked %d times", f.Last(), err, stranger.timesAsked())
	}
}

// A registry that has shrunk keeps no proxy from the cluster that its file names.
func TestBootstrapIsNotWaitedForWithAClusterFile(t *testing.T) {
	peer := newPeer(t, clusterA)
	peer.set(func(p *fakePeer) { p.down = true })
	registry := newRegistryServer(t, "3", entries(peer.URL)...)
	config := Config{DiscoveryURL: registry.token(), DataDir: t.TempDir()}
	writeFile(t, config.DataDir, fmt.Sprintf(`{"PeerURLs":[%q],"cluster_id":"cdf818194e3a8c32","flags":%q}`, peer.URL, config.canonicalFlags(nil)))
	f := NewFollower(config)
	var waiting *WaitingError
	if _, err := f.Refresh(t.Context()); !errors.As(err, &waiting) {
		t.Fatalf("got %v", err)
	}
	peer.set(func(p *fakePeer) { p.down = false })
	refresh(t, f)
}

// Without an index a service is asked to wait from now on: asked for history, it
// would answer at once, again and again.
func TestBootstrapOfAServiceWithoutIndex(t *testing.T) {
	registry := newRegistryServer(t, "2", entries("http://a:2380")...)
	var waits atomic.Int32
	front := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Query().Get("wait") == "true" {
			waits.Add(1)
			if r.URL.Query().Get("waitIndex") == "" {
				<-r.Context().Done()
			}
		}
		recorder := httptest.NewRecorder()
		registry.ServeHTTP(recorder, r)
		w.WriteHeader(recorder.Code)
		_, _ = w.Write(recorder.Body.Bytes())
	}))
	defer front.Close()
	_, err := New(Config{DiscoveryURL: front.URL + fakeToken, BootstrapWait: 2 * time.Second}).Resolve(t.Context())
	var waiting *WaitingError
	if !errors.As(err, &waiting) || waits.Load() != 1 {
		t.Errorf("got %v after %d waits", err, waits.Load())
	}
}

// Later, a bootstrap is not waited for: known members may come back.
func TestFollowerDoesNotWaitForABootstrapLater(t *testing.T) {
	peer := newPeer(t, clusterA)
	registry := newRegistryServer(t, "1", entries(peer.URL)...)
	f := NewFollower(Config{DiscoveryURL: registry.token(), BootstrapWait: 0})
	refresh(t, f)
	registry.change(func() { registry.size = "5" })
	peer.set(func(p *fakePeer) { p.down = true })
	var waiting *WaitingError
	if _, err := f.Refresh(t.Context()); !errors.As(err, &waiting) {
		t.Errorf("got %v", err)
	}
	peer.set(func(p *fakePeer) { p.down = false })
	refresh(t, f)
}

func TestParseDiscoveryURL(t *testing.T) {
	for raw, want := range map[string]string{
		"https://discovery.example.org/3e86b59982e49066c5d813af1c2e2579cbf573de": "https://discovery.example.org/3e86b59982e49066c5d813af1c2e2579cbf573de",
		"http://a:2379/v2/keys/_etcd/registry/T/":                                "http://a:2379/v2/keys/_etcd/registry/T",
		"http://a:2379//v2/keys/T":                                               "http://a:2379/v2/keys/T",
		"http://[::1]:2379/T":                                                    "http://[::1]:2379/T",
		"":                                                                       "",
		"discovery.example.org/T":                                                "",
		"ftp://a/T":                                                              "",
		"https://discovery.example.org":                                          "",
		"https://discovery.example.org/":                                         "",
		"http://a//.":                                                            "",
		"http://a/x/..":                                                          "",
		"http://a/T?":                                                            "http://a/T",
		"http:///T":                                                              "",
		"http://a/T?size=3":                                                      "",
	} {
		got, err := ParseDiscoveryURL(raw)
		var bad *BadURLError
		switch {
		case want == "" && (!errors.As(err, &bad) || bad.Hint == ""):
			t.Errorf("%q: got %v, %v", raw, got, err)
		case want != "" && (err != nil || got.String() != want):
			t.Errorf("%q: got %v, %v", raw, got, err)
		}
	}
}

func FuzzRegistryAnswer(f *testing.F) {
	f.Add(200, []byte(`{"action":"get","node":{"key":"/t","dir":true,"nodes":[{"key":"/t/a","value":"m=http://a:2380","createdIndex":3}]}}`), []byte("3"))
	f.Add(404, []byte(`{"errorCode":100,"cause":"/t"}`), []byte("0"))
	f.Add(200, []byte(`{"node":{"nodes":[{"createdIndex":18446744073709551616}]}}`), []byte("99999999999999999999"))
	f.Fuzz(func(t *testing.T, status int, body, value []byte) {
		answer, err := judgeAnswer(status, body)
		if (answer == nil) == (err == nil) {
			t.Fatalf("got %v and %v", answer, err)
		}
		if err != nil {
			return
		}
		var members []Registered
		for _, node := range answer.Node.Nodes {
			members = append(members, newRegistered(node.Key, node.Value+string(value), node.CreatedIndex))
		}
		r := newRegistry(1+len(members)/2, members)
		peerURLs, _ := r.peerURLs()
		for _, peerURL := range peerURLs {
			if again, err := parsePeerURL(peerURL); err != nil || again != peerURL {
				t.Fatalf("%q: %q, %v", peerURL, again, err)
			}
		}
		if _, err := json.Marshal(r); err != nil {
			t.Fatal(err)
		}
		r.Taken(peerURLs)
	})
}

func FuzzParseDiscoveryURL(f *testing.F) {
	f.Add("http://user:secret@a:2379/v2/keys/T")
	f.Add("http://%zz/T")
	f.Fuzz(func(t *testing.T, raw string) {
		u, err := ParseDiscoveryURL(raw)
		if err != nil {
			return
		}
		again, err := ParseDiscoveryURL(u.String())
		if err != nil || again.String() != u.String() {
			t.Fatalf("%q does not parse to itself: %v, %v", u, again, err)
		}
		flags := Config{DiscoveryURL: raw}.canonicalFlags(nil)
		if password, found := u.User.Password(); found && len(password) > 8 && strings.Contains(flags, url.QueryEscape(password)) && !strings.Contains(u.Path+u.Host, password) {
			t.Fatalf("%q holds the password", flags)
		}
	})
}
