// Package policy knows what a request is: a read or something else, and whether
// it has come round to us before. The relays ask it; it knows no connection.
package policy

import "strings"

// reads are the calls of etcd's gRPC services that change nothing, by full
// method (etcd api/v3/etcdserverpb/rpc.proto). Whatever is not here counts as a
// write: it is never sent to a second member.
var reads = map[string]bool{
	"/etcdserverpb.KV/Range":              true,
	"/etcdserverpb.KV/RangeStream":        true,
	"/etcdserverpb.Watch/Watch":           true,
	"/etcdserverpb.Lease/LeaseTimeToLive": true,
	"/etcdserverpb.Lease/LeaseLeases":     true,
	"/etcdserverpb.Cluster/MemberList":    true,
	"/etcdserverpb.Maintenance/Status":    true,
	"/etcdserverpb.Maintenance/Hash":      true,
	"/etcdserverpb.Maintenance/HashKV":    true,
	"/etcdserverpb.Auth/AuthStatus":       true,
	"/etcdserverpb.Auth/UserGet":          true,
	"/etcdserverpb.Auth/UserList":         true,
	"/etcdserverpb.Auth/RoleGet":          true,
	"/etcdserverpb.Auth/RoleList":         true,
	"/grpc.health.v1.Health/Check":        true,
	"/grpc.health.v1.Health/Watch":        true,
	"/etcdserverpb.Maintenance/Snapshot":  true,
	"/etcdserverpb.Auth/Authenticate":     true,
	"/v3electionpb.Election/Leader":       true,
	"/v3electionpb.Election/Observe":      true,
}

// jsonReads are the paths of etcd's JSON gateway behind its prefix that change
// nothing, although they are asked with POST (etcd api/v3, rpc.pb.gw.go).
var jsonReads = map[string]bool{
	"/kv/range":             true,
	"/watch":                true,
	"/lease/timetolive":     true,
	"/kv/lease/timetolive":  true,
	"/lease/leases":         true,
	"/kv/lease/leases":      true,
	"/cluster/member/list":  true,
	"/maintenance/status":   true,
	"/maintenance/hash":     true,
	"/maintenance/snapshot": true,
	"/auth/status":          true,
	"/auth/authenticate":    true,
	"/auth/user/get":        true,
	"/auth/user/list":       true,
	"/auth/role/get":        true,
	"/auth/role/list":       true,
	"/election/leader":      true,
	"/election/observe":     true,
}

// GRPCRead says whether a gRPC call is known to change nothing, so that it may
// be sent to a second member when the first did not answer.
func GRPCRead(fullMethod string) bool { return reads[fullMethod] }

// HTTPRead says the same of an HTTP request by its method and raw path
// (without the query). GET and HEAD are reads in etcd's v2 API, and in its JSON
// gateway nothing that writes answers to them.
func HTTPRead(method, path string) bool {
	switch method {
	case "GET", "HEAD", "OPTIONS":
		return true
	case "POST":
		for _, prefix := range []string{"/v3", "/v3beta", "/v3alpha"} {
			if rest, ok := strings.CutPrefix(path, prefix); ok && jsonReads[rest] {
				return true
			}
		}
	}
	return false
}
