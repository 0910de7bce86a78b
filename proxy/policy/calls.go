package policy

// A call is one of etcd's gRPC methods and its paths in the JSON gateway.
type call struct {
	method string   // full: /package.Service/Method
	paths  []string // behind the gateway's prefix; all are asked with POST
	kind   kind
}

// kind is what a proxy must know of a call. The zero value refuses.
type kind uint8

const (
	// refused changes something, or may.
	refused kind = iota
	// read changes nothing: it passes on a readonly proxy, and may be sent to a
	// second member.
	read
	// repeatable changes nothing and may be sent to a second member, but is kept
	// from a readonly proxy's clients: it gives all of the data away, or serves a
	// call that is refused.
	repeatable
	// judged reads or changes by what is in it.
	judged
)

// calls are all methods of etcd 3.7 and of the gRPC services beside them. A test
// holds them against the descriptors of the services, so that a new one is
// classified before it can pass (etcd api/v3/etcdserverpb/rpc.proto, v3lock.proto,
// v3election.proto).
var calls = []call{
	{"/etcdserverpb.KV/Range", []string{"/kv/range"}, read},
	{"/etcdserverpb.KV/RangeStream", nil, read},
	{"/etcdserverpb.KV/Put", []string{"/kv/put"}, refused},
	{"/etcdserverpb.KV/DeleteRange", []string{"/kv/deleterange"}, refused},
	{"/etcdserverpb.KV/Txn", []string{"/kv/txn"}, judged},
	{"/etcdserverpb.KV/Compact", []string{"/kv/compaction"}, refused},
	{"/etcdserverpb.Watch/Watch", []string{"/watch"}, read},
	{"/etcdserverpb.Lease/LeaseGrant", []string{"/lease/grant"}, refused},
	{"/etcdserverpb.Lease/LeaseRevoke", []string{"/lease/revoke", "/kv/lease/revoke"}, refused},
	{"/etcdserverpb.Lease/LeaseKeepAlive", []string{"/lease/keepalive"}, refused},
	{"/etcdserverpb.Lease/LeaseTimeToLive", []string{"/lease/timetolive", "/kv/lease/timetolive"}, read},
	{"/etcdserverpb.Lease/LeaseLeases", []string{"/lease/leases", "/kv/lease/leases"}, read},
	{"/etcdserverpb.Cluster/MemberAdd", []string{"/cluster/member/add"}, refused},
	{"/etcdserverpb.Cluster/MemberRemove", []string{"/cluster/member/remove"}, refused},
	{"/etcdserverpb.Cluster/MemberUpdate", []string{"/cluster/member/update"}, refused},
	{"/etcdserverpb.Cluster/MemberList", []string{"/cluster/member/list"}, read},
	{"/etcdserverpb.Cluster/MemberPromote", []string{"/cluster/member/promote"}, refused},
	{"/etcdserverpb.Maintenance/Alarm", []string{"/maintenance/alarm"}, judged},
	{"/etcdserverpb.Maintenance/Status", []string{"/maintenance/status"}, read},
	{"/etcdserverpb.Maintenance/Defragment", []string{"/maintenance/defragment"}, refused},
	{"/etcdserverpb.Maintenance/Hash", []string{"/maintenance/hash"}, read},
	{"/etcdserverpb.Maintenance/HashKV", []string{"/maintenance/hashkv"}, read},
	{"/etcdserverpb.Maintenance/Snapshot", []string{"/maintenance/snapshot"}, repeatable},
	{"/etcdserverpb.Maintenance/MoveLeader", []string{"/maintenance/transfer-leadership"}, refused},
	{"/etcdserverpb.Maintenance/Downgrade", []string{"/maintenance/downgrade"}, refused},
	{"/etcdserverpb.Auth/AuthEnable", []string{"/auth/enable"}, refused},
	{"/etcdserverpb.Auth/AuthDisable", []string{"/auth/disable"}, refused},
	{"/etcdserverpb.Auth/AuthStatus", []string{"/auth/status"}, read},
	{"/etcdserverpb.Auth/Authenticate", []string{"/auth/authenticate"}, read},
	{"/etcdserverpb.Auth/UserAdd", []string{"/auth/user/add"}, refused},
	{"/etcdserverpb.Auth/UserGet", []string{"/auth/user/get"}, read},
	{"/etcdserverpb.Auth/UserList", []string{"/auth/user/list"}, read},
	{"/etcdserverpb.Auth/UserDelete", []string{"/auth/user/delete"}, refused},
	{"/etcdserverpb.Auth/UserChangePassword", []string{"/auth/user/changepw"}, refused},
	{"/etcdserverpb.Auth/UserGrantRole", []string{"/auth/user/grant"}, refused},
	{"/etcdserverpb.Auth/UserRevokeRole", []string{"/auth/user/revoke"}, refused},
	{"/etcdserverpb.Auth/RoleAdd", []string{"/auth/role/add"}, refused},
	{"/etcdserverpb.Auth/RoleGet", []string{"/auth/role/get"}, read},
	{"/etcdserverpb.Auth/RoleList", []string{"/auth/role/list"}, read},
	{"/etcdserverpb.Auth/RoleDelete", []string{"/auth/role/delete"}, refused},
	{"/etcdserverpb.Auth/RoleGrantPermission", []string{"/auth/role/grant"}, refused},
	{"/etcdserverpb.Auth/RoleRevokePermission", []string{"/auth/role/revoke"}, refused},
	{"/v3lockpb.Lock/Lock", []string{"/lock/lock"}, refused},
	{"/v3lockpb.Lock/Unlock", []string{"/lock/unlock"}, refused},
	{"/v3electionpb.Election/Campaign", []string{"/election/campaign"}, refused},
	{"/v3electionpb.Election/Proclaim", []string{"/election/proclaim"}, refused},
	{"/v3electionpb.Election/Leader", []string{"/election/leader"}, repeatable},
	{"/v3electionpb.Election/Observe", []string{"/election/observe"}, repeatable},
	{"/v3electionpb.Election/Resign", []string{"/election/resign"}, refused},
	{"/grpc.health.v1.Health/Check", nil, read},
	{"/grpc.health.v1.Health/List", nil, read},
	{"/grpc.health.v1.Health/Watch", nil, read},
	{"/grpc.reflection.v1.ServerReflection/ServerReflectionInfo", nil, read},
	{"/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo", nil, read},
}

// gatewayPrefixes are those that etcd's JSON gateway had: 3.2 /v3alpha, 3.3
// /v3beta, since 3.4 /v3.
var gatewayPrefixes = []string{"/v3", "/v3beta", "/v3alpha"}

// NumCalls is the number of values of Call: the calls, and one for all others.
const NumCalls = 54 + 1

// Call stands for one of etcd's gRPC methods; 0 for one that is not known.
type Call uint8

// CallOf finds the call of a full gRPC method.
func CallOf(fullMethod string) Call { return callOf[fullMethod] }

// CallAt finds the call of a path in the JSON gateway, with its prefix.
func CallAt(path string) Call { return callAt[path] }

// String names the call as service and method, "other" where it is not known.
func (c Call) String() string {
	if c == 0 {
		return "other"
	}
	return calls[c-1].method[1:]
}

var (
	callOf = map[string]Call{}
	callAt = map[string]Call{} // with each prefix
)

func init() {
	if len(calls)+1 != NumCalls {
		panic("policy: NumCalls is not the number of calls and one")
	}
	for i, c := range calls {
		callOf[c.method] = Call(i + 1)
		for _, path := range c.paths {
			for _, prefix := range gatewayPrefixes {
				callAt[prefix+path] = Call(i + 1)
			}
		}
	}
}

// kind is what must be known of the call; one that is not known is refused.
func (c Call) kind() kind {
	if c == 0 {
		return refused
	}
	return calls[c-1].kind
}

// ChangesNothing says that the call may be sent to a second member when the first
// did not answer.
func (c Call) ChangesNothing() bool {
	k := c.kind()
	return k == read || k == repeatable
}

// Judged says that what is in the call decides whether it passes on a readonly
// proxy: JudgeGRPC or JudgeJSON must see it whole.
func (c Call) Judged() bool { return c.kind() == judged }
