package discover

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"path"
	"strconv"
	"strings"
	"sync"
	"testing"
)

// fakeRegistry is a v2 discovery service with one token: it speaks as much of
// etcd's v2 API as a proxy asks for, and counts what would change it.
type fakeRegistry struct {
	*httptest.Server
	mu      sync.Mutex
	size    string
	nodes   []keyNode
	index   uint64
	changed chan struct{} // closed at the next change
	writes  int
	status  int // answered to everything, if not 0
}

const fakeToken = "/v2/keys/_etcd/registry/token"

func newRegistryServer(t *testing.T, size string, values ...string) *fakeRegistry {
	t.Helper()
	r := &fakeRegistry{size: size, changed: make(chan struct{})}
	for _, value := range values {
		r.add(value)
	}
	r.Server = httptest.NewServer(r)
	t.Cleanup(func() {
		r.CloseClientConnections() // waits too
		r.Close()
	})
	return r
}

func (r *fakeRegistry) token() string { return r.URL + fakeToken }

// add registers a member, as etcd would by PUT.
func (r *fakeRegistry) add(value string) {
	r.change(func() {
		r.nodes = append(r.nodes, keyNode{
			Key: fmt.Sprintf("/_etcd/registry/token/%x", 0xa0+r.index), Value: value, CreatedIndex: r.index,
		})
	})
}

// change changes the registry, as an event of etcd's.
func (r *fakeRegistry) change(do func()) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.index++
	do()
	close(r.changed)
	r.changed = make(chan struct{})
}

func (r *fakeRegistry) ServeHTTP(w http.ResponseWriter, request *http.Request) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if request.Method != http.MethodGet {
		r.writes++
	}
	if request.URL.Query().Get("wait") == "true" {
		after, _ := strconv.ParseUint(request.URL.Query().Get("waitIndex"), 10, 64)
		changed := r.changed
		if r.index < after {
			r.mu.Unlock()
			select {
			case <-changed:
			case <-request.Context().Done():
			}
			r.mu.Lock()
		}
	}
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("X-Etcd-Index", strconv.FormatUint(r.index, 10))
	var node map[string]any
	switch {
	case r.status != 0:
		w.WriteHeader(r.status)
		return
	case request.URL.Path == fakeToken && (r.size != "" || len(r.nodes) > 0):
		node = map[string]any{"key": "/_etcd/registry/token", "dir": true, "nodes": r.nodes}
	case request.URL.Path == fakeToken+"/_config/size" && r.size != "":
		node = map[string]any{"key": "/_etcd/registry/token/_config/size", "value": r.size}
	default:
		w.WriteHeader(http.StatusNotFound)
		_ = json.NewEncoder(w).Encode(map[string]any{
			"errorCode": keyNotFound, "message": "Key not found", "cause": strings.TrimPrefix(request.URL.Path, "/v2/keys"),
		})
		return
	}
	_ = json.NewEncoder(w).Encode(map[string]any{"action": "get", "node": node})
}

// entries are registry values, one for each peer.
func entries(peerURLs ...string) []string {
	var values []string
	for n, peerURL := range peerURLs {
		values = append(values, fmt.Sprintf("m%d=%s", n, peerURL))
	}
	return values
}

func ids(members []Registered) []string {
	var all []string
	for _, m := range members {
		all = append(all, path.Base(m.ID))
	}
	return all
}
