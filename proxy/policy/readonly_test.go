package policy

import (
	"strings"
	"testing"
)

func TestReadonlyHTTP(t *testing.T) {
	for name, c := range map[string]struct {
		method, path, override, upgrade string
		passes                          bool
		judge                           string
	}{
		"v2 get":                      {"GET", "/v2/keys/a", "", "", true, ""},
		"v2 head":                     {"HEAD", "/v2/keys/a", "", "", true, ""},
		"v2 options":                  {"OPTIONS", "/v2/keys/a", "", "", true, ""},
		"v2 put":                      {"PUT", "/v2/keys/a", "", "", false, ""},
		"v2 post":                     {"POST", "/v2/keys/a", "", "", false, ""},
		"v2 delete":                   {"DELETE", "/v2/keys/a", "", "", false, ""},
		"a method that is not known":  {"BREW", "/v2/keys/a", "", "", false, ""},
		"lower case get":              {"get", "/v2/keys/a", "", "", false, ""},
		"connect":                     {"CONNECT", "/", "", "", false, ""},
		"health":                      {"GET", "/health", "", "", true, ""},
		"version, metrics":            {"GET", "/metrics", "", "", true, ""},
		"range":                       {"POST", "/v3/kv/range", "", "", true, ""},
		"range, beta":                 {"POST", "/v3beta/kv/range", "", "", true, ""},
		"range, alpha":                {"POST", "/v3alpha/kv/range", "", "", true, ""},
		"range by put":                {"PUT", "/v3/kv/range", "", "", true, ""}, // the gateway says 405
		"range, escaped":              {"POST", "/v3/kv%2Frange", "", "", true, ""},
		"watch":                       {"POST", "/v3/watch", "", "", true, ""},
		"watch by websocket":          {"GET", "/v3/watch", "", "websocket", true, ""},
		"watch by websocket, escaped": {"GET", "/v3/%77atch", "", "websocket", false, ""},
		"keep-alive by websocket":     {"GET", "/v3/lease/keepalive", "", "websocket", false, ""},
		"v2 by websocket":             {"GET", "/v2/keys/a", "", "websocket", false, ""},
		"h2c":                         {"GET", "/v3/watch", "", "h2c", false, ""},
		"put":                         {"POST", "/v3/kv/put", "", "", false, ""},
		"put by get":                  {"GET", "/v3/kv/put", "", "", false, ""},
		"put, escaped slash":          {"POST", "/v3/kv%2Fput", "", "", false, ""},
		"put, escaped letter":         {"POST", "/v3/k%76/put", "", "", false, ""},
		"put, escaped prefix":         {"GET", "/%763/kv/put", "", "", false, ""},
		"put, double slash":           {"GET", "/v3//kv/put", "", "", false, ""},
		"put, slashes before":         {"GET", "//v3/kv/put", "", "", false, ""},
		"put, dots":                   {"GET", "/v2/../v3/kv/put", "", "", false, ""},
		"put, back slash":             {"GET", `/x\..\v3/kv/put`, "", "", false, ""},
		"put, upper case":             {"GET", "/V3/KV/PUT", "", "", false, ""},
		"put, slash behind":           {"POST", "/v3/kv/put/", "", "", false, ""},
		"range, slash behind":         {"POST", "/v3/kv/range/", "", "", false, ""},
		"range with a verb":           {"POST", "/v3/kv/range:put", "", "", false, ""},
		"txn":                         {"POST", "/v3/kv/txn", "", "", true, "/v3/kv/txn"},
		"txn, escaped, beta":          {"POST", "/v3beta/k%76%2Ftxn", "", "", true, "/v3beta/kv/txn"},
		"alarm":                       {"POST", "/v3/maintenance/alarm", "", "", true, "/v3/maintenance/alarm"},
		"snapshot":                    {"POST", "/v3/maintenance/snapshot", "", "", false, ""},
		"unknown":                     {"GET", "/v3/kv/newcall", "", "", false, ""},
		"the prefix alone":            {"GET", "/v3", "", "", false, ""},
		"a version to come":           {"GET", "/v4/kv/range", "", "", false, ""},
		"override of a range":         {"POST", "/v3/kv/range", "PUT", "", false, ""},
		"override of a get":           {"GET", "/v2/keys/a", "PUT", "", false, ""},
		"a path that is not valid":    {"GET", "/v2/%zz", "", "", false, ""},
		"gRPC over HTTP/1.1":          {"POST", "/etcdserverpb.KV/Put", "", "", false, ""},
	} {
		t.Run(name, func(t *testing.T) {
			refusal, judge := ReadonlyHTTP(c.method, c.path, c.override, c.upgrade)
			if judge != c.judge {
				t.Errorf("judged as %q", judge)
			}
			if (refusal == "") != c.passes || refusal != "" && !strings.Contains(refusal, "readonly") {
				t.Errorf("%s %s: %q", c.method, c.path, refusal)
			}
		})
	}
}

func TestReadonlyGRPC(t *testing.T) {
	for method, passes := range map[string]bool{
		"/etcdserverpb.KV/Range":             true,
		"/etcdserverpb.KV/RangeStream":       true,
		"/etcdserverpb.Watch/Watch":          true,
		"/etcdserverpb.Auth/Authenticate":    true,
		"/grpc.health.v1.Health/Check":       true,
		"/etcdserverpb.KV/Txn":               true, // and is judged
		"/etcdserverpb.Maintenance/Snapshot": false,
		"/v3electionpb.Election/Leader":      false,
		"/etcdserverpb.KV/range":             false,
		"//etcdserverpb.KV/Range":            false,
		"/etcdserverpb.KV/Range/":            false,
		"/etcdserverpb.KV/Range%20":          false,
		"":                                   false,
	} {
		refusal := ReadonlyGRPC(method)
		if (refusal == "") != passes || refusal != "" && !strings.Contains(refusal, "readonly") {
			t.Errorf("%s: %q", method, refusal)
		}
	}
}
