package discover

import (
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
)

const (
	clusterA = 0xcdf818194e3a8c32
	clusterB = 0x1111111111111111
)

// fakePeer answers GET /members as etcd does, or as a test wants.
type fakePeer struct {
	*httptest.Server
	mu        sync.Mutex
	clusterID uint64
	members   []Member
	down      bool
	asked     int
}

func newPeer(t *testing.T, clusterID uint64, members ...Member) *fakePeer {
	t.Helper()
	p := &fakePeer{clusterID: clusterID, members: members}
	p.Server = httptest.NewServer(p)
	t.Cleanup(p.Close)
	if len(members) == 0 {
		p.members = []Member{voter(1, p.URL)}
	}
	return p
}

func (p *fakePeer) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if r.URL.Path != "/members" || p.down {
		http.Error(w, "down", http.StatusServiceUnavailable)
		return
	}
	p.asked++
	w.Header().Set("X-Etcd-Cluster-Id", strconv.FormatUint(p.clusterID, 16))
	_, _ = w.Write(wireMembers(p.members))
}

func (p *fakePeer) set(change func(*fakePeer)) {
	p.mu.Lock()
	defer p.mu.Unlock()
	change(p)
}

func (p *fakePeer) timesAsked() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.asked
}

// wireMembers is the body of etcd's answer to GET /members.
func wireMembers(members []Member) []byte {
	type wire struct {
		ID         uint64   `json:"id"`
		PeerURLs   []string `json:"peerURLs"`
		IsLearner  bool     `json:"isLearner,omitempty"`
		Name       string   `json:"name,omitempty"`
		ClientURLs []string `json:"clientURLs,omitempty"`
	}
	list := []wire{}
	for _, m := range members {
		list = append(list, wire{m.ID, m.PeerURLs, m.IsLearner, m.Name, m.ClientURLs})
	}
	body, err := json.Marshal(list)
	if err != nil {
		panic(err)
	}
	return body
}

// voter is a started member with one client URL, which nobody dials.
func voter(id uint64, peerURLs ...string) Member {
	return Member{
		ID: id, Name: fmt.Sprintf("m%d", id), PeerURLs: peerURLs,
		ClientURLs: []string{fmt.Sprintf("http://10.0.0.%d:2379", id)},
	}
}

// refusingURL leads to a port that is bound but not listened on: connects are
// refused, and nobody else can take it.
func refusingURL(t *testing.T) string {
	t.Helper()
	fd, err := syscall.Socket(syscall.AF_INET, syscall.SOCK_STREAM, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { syscall.Close(fd) })
	if err := syscall.Bind(fd, &syscall.SockaddrInet4{Addr: [4]byte{127, 0, 0, 1}}); err != nil {
		t.Fatal(err)
	}
	bound, err := syscall.Getsockname(fd)
	if err != nil {
		t.Fatal(err)
	}
	return fmt.Sprintf("http://127.0.0.1:%d", bound.(*syscall.SockaddrInet4).Port)
}

// hungURL leads to a port that takes connections and never says a word.
func hungURL(t *testing.T) string {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { listener.Close() })
	return "http://" + listener.Addr().String()
}

func cluster(peerURLs ...string) string {
	var entries []string
	for n, peerURL := range peerURLs {
		entries = append(entries, fmt.Sprintf("m%d=%s", n, peerURL))
	}
	return strings.Join(entries, ",")
}

func hostOf(t *testing.T, rawURL string) string {
	t.Helper()
	u, err := url.Parse(rawURL)
	if err != nil {
		t.Fatal(err)
	}
	return u.Host
}
