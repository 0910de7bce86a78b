package policy

import "testing"

func TestHTTPRead(t *testing.T) {
	for name, c := range map[string]struct {
		method, path string
		want         bool
	}{
		"get":                     {"GET", "/v2/keys/a", true},
		"head":                    {"HEAD", "/health", true},
		"options":                 {"OPTIONS", "/", true},
		"range":                   {"POST", "/v3/kv/range", true},
		"range, old prefix":       {"POST", "/v3beta/kv/range", true},
		"watch":                   {"POST", "/v3/watch", true},
		"member list":             {"POST", "/v3/cluster/member/list", true},
		"put":                     {"POST", "/v3/kv/put", false},
		"txn":                     {"POST", "/v3/kv/txn", false},
		"compaction":              {"POST", "/v3/kv/compaction", false},
		"lease grant":             {"POST", "/v3/lease/grant", false},
		"keepalive":               {"POST", "/v3/lease/keepalive", false},
		"escaped range":           {"POST", "/v3/kv%2Frange", false},
		"range with slash behind": {"POST", "/v3/kv/range/", false},
		"range of no version":     {"POST", "/v4/kv/range", false},
		"range by put":            {"PUT", "/v3/kv/range", false},
		"v2 post":                 {"POST", "/v2/keys/a", false},
		"delete":                  {"DELETE", "/v2/keys/a", false},
		"lower case method":       {"get", "/", false},
		"unknown method":          {"BREW", "/", false},
	} {
		t.Run(name, func(t *testing.T) {
			if got := HTTPRead(c.method, c.path); got != c.want {
				t.Errorf("%s %s: %v", c.method, c.path, got)
			}
		})
	}
}

func TestChangesNothing(t *testing.T) {
	for method, want := range map[string]bool{
		"/etcdserverpb.KV/Range":               true,
		"/etcdserverpb.Watch/Watch":            true,
		"/etcdserverpb.KV/Put":                 false,
		"/etcdserverpb.KV/Txn":                 false,
		"/etcdserverpb.KV/Compact":             false,
		"/etcdserverpb.Lease/LeaseGrant":       false,
		"/etcdserverpb.Lease/LeaseKeepAlive":   false,
		"/etcdserverpb.Maintenance/Defragment": false,
		"/v3lockpb.Lock/Lock":                  false,
		"/v3electionpb.Election/Campaign":      false,
		"/unknown.Service/Get":                 false,
		"":                                     false,
	} {
		if got := CallOf(method).ChangesNothing(); got != want {
			t.Errorf("%s: %v", method, got)
		}
	}
}
