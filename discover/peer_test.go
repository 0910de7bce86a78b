package discover

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"
)

func resolvePeers(t *testing.T, config Config, peerURLs ...string) (*Resolution, error) {
	t.Helper()
	config.InitialCluster = cluster(peerURLs...)
	return New(config).Resolve(t.Context())
}

func TestPeerAnswers(t *testing.T) {
	const one = `[{"id":18446744073709551615,"peerURLs":["http://a:2380"],"name":"a","clientURLs":["http://a:2379"]}]`
	for _, test := range []struct {
		name   string
		status int
		id     string
		body   string
		reason string // "" = a good answer
	}{
		{"good, an ID over 2^53", 200, "cdf818194e3a8c32", one, ""},
		{"good, short cluster ID, unknown fields", 200, "a1", `[{"id":1,"name":"a","new":{}}]`, ""},
		{"no cluster ID", 200, "", one, "not the peer port"},
		{"bad cluster ID", 200, "wxyz", one, "bad X-Etcd-Cluster-Id"},
		{"cluster ID 0", 200, "0", one, "not in a cluster yet"},
		{"not found", 404, "a1", one, "status 404: is this a client port"},
		{"server error", 500, "a1", one, "status 500"},
		{"a bomb, which is not unpacked", 200, "a1", "\x1f\x8b\b" + strings.Repeat("\x00", 100), "not a JSON array"},
		{"redirect", 307, "a1", one, "redirects of peers are not followed"},
		{"TLS port", 400, "", "Client sent an HTTP request to an HTTPS server.\n", "it speaks TLS"},
		{"empty list", 200, "a1", `[]`, "empty list"},
		{"null", 200, "a1", `null`, "not a JSON array"},
		{"an object", 200, "a1", `{"members":[]}`, "not a JSON array"},
		{"empty body", 200, "a1", ``, "not a JSON array"},
		{"cut short", 200, "a1", one[:40], "cut short"},
		{"ID is a string", 200, "a1", `[{"id":"1"}]`, "not a list of members"},
		{"ID too large", 200, "a1", `[{"id":18446744073709551616}]`, "not a list of members"},
		{"wrong type", 200, "a1", `[{"id":1,"clientURLs":"http://a:2379"}]`, "not a list of members"},
		{"huge", 200, "a1", "[" + strings.Repeat(" ", membersLimit) + "]", "larger than 4194304 bytes"},
	} {
		t.Run(test.name, func(t *testing.T) {
			server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				w.Header().Set("Location", "http://"+r.Host+"/members")
				if test.id != "" {
					w.Header().Set("X-Etcd-Cluster-Id", test.id)
				}
				w.WriteHeader(test.status)
				_, _ = w.Write([]byte(test.body))
			}))
			defer server.Close()
			resolution, err := resolvePeers(t, Config{}, server.URL)
			peer := resolution.Peers[0]
			if test.reason == "" {
				if err != nil || peer.State != PeerAnswered || peer.Members != 1 {
					t.Errorf("got %+v, %v", peer, err)
				}
				return
			}
			if err == nil || peer.State != PeerFailed || !strings.Contains(peer.Reason, test.reason) {
				t.Errorf("got %+v, want failed with %q", peer, test.reason)
			}
		})
	}
}

func TestPeerBodyCutShortByTheConnection(t *testing.T) {
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("X-Etcd-Cluster-Id", "a1")
		w.Header().Set("Content-Length", "100")
		_, _ = w.Write([]byte(`[]`))
	}))
	defer server.Close()
	resolution, _ := resolvePeers(t, Config{}, server.URL)
	if reason := resolution.Peers[0].Reason; reason != "answer is cut short" {
		t.Errorf("got %q", reason)
	}
}

func TestPeerThatClosesTheConnection(t *testing.T) {
	server := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {
		panic(http.ErrAbortHandler)
	}))
	defer server.Close()
	resolution, _ := resolvePeers(t, Config{}, server.URL)
	if reason := resolution.Peers[0].Reason; reason != "connection closed without an answer: does it speak TLS?" {
		t.Errorf("got %q", reason)
	}
}

func TestPeerFailuresSayTheCause(t *testing.T) {
	plain := newPeer(t, clusterA)
	secure := httptest.NewUnstartedServer(plain)
	secure.Config.ErrorLog = log.New(io.Discard, "", 0)
	secure.StartTLS()
	defer secure.Close()
	roots := x509.NewCertPool()
	roots.AddCert(secure.Certificate())
	silent := hungURL(t)

	for _, test := range []struct {
		name    string
		peerURL string
		tls     *tls.Config
		reason  string // "" = it answers
	}{
		{"refused", refusingURL(t), nil, "connection refused"},
		{"unknown authority", secure.URL, nil, "certificate signed by unknown authority"},
		{"trusted authority", secure.URL, &tls.Config{RootCAs: roots}, ""},
		{
			"other name", secure.URL, &tls.Config{RootCAs: roots, ServerName: "etcd.test"},
			"not etcd.test",
		},
		{"https to a plain port", "https://" + hostOf(t, plain.URL), nil, "does not speak TLS"},
		{"http to a TLS port", "http://" + hostOf(t, secure.URL), nil, "it speaks TLS"},
		{"TLS to a silent port", "https://" + hostOf(t, silent), nil, "no TLS handshake within 100ms"},
	} {
		t.Run(test.name, func(t *testing.T) {
			config := Config{PeerTLS: test.tls, DialTimeout: 5 * time.Second}
			if strings.Contains(test.reason, "100ms") {
				config.DialTimeout = 100 * time.Millisecond
			}
			resolution, err := resolvePeers(t, config, test.peerURL)
			peer := resolution.Peers[0]
			if test.reason == "" {
				if err != nil {
					t.Errorf("got %+v, %v", peer, err)
				}
				return
			}
			if peer.State != PeerFailed || !strings.Contains(peer.Reason, test.reason) {
				t.Errorf("got %+v, want %q", peer, test.reason)
			}
			if strings.Contains(err.Error(), "deadline exceeded") || strings.Contains(err.Error(), "\n") {
				t.Errorf("error %q", err)
			}
		})
	}
}

// An operator's name for the peers' certificates beats the one that DNS SRV asks for,
// which beats the host; and what goes wrong is told in the words of ExplainPeer.
func TestPeerServerName(t *testing.T) {
	secure := httptest.NewUnstartedServer(newPeer(t, clusterA)) // its certificate is for example.com, and 127.0.0.1
	secure.Config.ErrorLog = log.New(io.Discard, "", 0)
	secure.StartTLS()
	defer secure.Close()
	roots := x509.NewCertPool()
	roots.AddCert(secure.Certificate())
	for _, test := range []struct {
		name, srv, operators string
		reason               string // "" = it answers
	}{
		{"the host", "", "", ""},
		{"of SRV", "srv.test", "", "certificate is valid for example.com"},
		{"of an operator", "", "op.test", "certificate is valid for example.com"},
		{"an operator's beats", "srv.test", "example.com", ""},
	} {
		t.Run(test.name, func(t *testing.T) {
			d := dialer{tls: &tls.Config{RootCAs: roots, ServerName: test.operators}, timeout: 5 * time.Second, serverName: test.srv}
			list := askPeer(t.Context(), d, secure.URL)
			if (list.err == nil) != (test.reason == "") || list.err != nil && !strings.HasPrefix(cause(list.err), test.reason) {
				t.Errorf("got %v, want %q", list.err, test.reason)
			}
		})
	}
	said := Config{PeerTLS: &tls.Config{RootCAs: roots, ServerName: "op.test"}, DialTimeout: 5 * time.Second, ExplainPeer: func(err error) string { return TLSCause(err) + ": see the flag" }}
	resolution, _ := resolvePeers(t, said, secure.URL)
	if reason := resolution.Peers[0].Reason; !strings.HasSuffix(reason, "not op.test: see the flag") {
		t.Errorf("got %q", reason)
	}
}

func TestHungPeerCostsTheHeadStart(t *testing.T) {
	good := newPeer(t, clusterA)
	last := refusingURL(t)
	start := time.Now()
	resolution, err := resolvePeers(t, Config{DialTimeout: time.Second}, hungURL(t), good.URL, last)
	if err != nil {
		t.Fatal(err)
	}
	if took := time.Since(start); took < headStart || took > membersTimeout/2 {
		t.Errorf("took %v, want the head start of %v", took, headStart)
	}
	hung, answered, after := resolution.Peers[0], resolution.Peers[1], resolution.Peers[2]
	if hung.State != PeerFailed || !strings.Contains(hung.Reason, "no longer waited for") {
		t.Errorf("hung peer: %+v", hung)
	}
	if answered.State != PeerAnswered || after.State != PeerNotAsked || after.Reason != good.URL+" answered first" {
		t.Errorf("others: %+v, %+v", answered, after)
	}
}

func TestFailedPeerCostsNoHeadStart(t *testing.T) {
	var dead []string
	for range 20 {
		dead = append(dead, refusingURL(t))
	}
	good := newPeer(t, clusterA)
	start := time.Now()
	if _, err := resolvePeers(t, Config{}, append(dead, good.URL)...); err != nil {
		t.Fatal(err)
	}
	if took := time.Since(start); took > 20*headStart/2 {
		t.Errorf("took %v: each refusal seems to have cost a head start", took)
	}
}

func TestCancelledResolveEndsAtOnce(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	peer := newPeer(t, clusterA)
	resolution, err := New(Config{InitialCluster: cluster(hungURL(t), peer.URL)}).Resolve(ctx)
	if err == nil || peer.timesAsked() > 0 {
		t.Errorf("got %v, peer asked %d times", err, peer.timesAsked())
	}
	if got := fates(resolution.Sources); got != "initial-cluster=not reached default=not used cluster file=not set" {
		t.Errorf("got %s", got)
	}
}

func FuzzDecodeMembers(f *testing.F) {
	f.Add("cdf818194e3a8c32", []byte(`[{"id":18446744073709551615,"peerURLs":["http://a:2380"],"name":"a","clientURLs":["http://a:2379"]}]`))
	f.Add("a1", []byte(`[{"id":1,"peerURLs":["http://a:2380"],"isLearner":true}]`))
	f.Add("0", []byte(`[null,{}]`))
	f.Fuzz(func(t *testing.T, clusterID string, body []byte) {
		header := http.Header{"X-Etcd-Cluster-Id": {clusterID}}
		id, members, err := decodeMembers(header, body)
		if err != nil {
			_ = cause(err)
			return
		}
		if id == 0 || len(members) == 0 {
			t.Fatal("no error and no cluster")
		}
		m := Membership{ClusterID: id, Members: members}
		for _, clientURL := range m.ClientURLs() {
			if _, err := parseTarget(clientURL); err != nil {
				t.Fatalf("unusable %q is used: %v", clientURL, err)
			}
		}
		voters, others := askablePeerURLs(members)
		for _, peerURL := range append(voters, others...) {
			if _, err := parsePeerURL(peerURL); err != nil {
				t.Fatalf("unusable %q would be asked: %v", peerURL, err)
			}
		}
	})
}
