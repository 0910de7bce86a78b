package main

import (
	"context"
	"fmt"
	"net/http"
	"slices"
	"strings"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
)

// state is what writes change, a line for each: the revision, keys and their
// hash, the compaction, leases, members, alarms, users, roles, the revision of
// authentication, a downgrade, and the index of v2. It has nothing of raft,
// where a read may leave a trace.
func (e *callEnd) state(ctx context.Context) (string, error) {
	var text strings.Builder
	say := func(format string, args ...any) { fmt.Fprintf(&text, format+"\n", args...) }
	token := e.token(ctx)
	say("authentication is on: %v", token != nil)
	ctx = metadata.AppendToOutgoingContext(ctx, token...)
	kv, lease, auth := pb.NewKVClient(e.conn), pb.NewLeaseClient(e.conn), pb.NewAuthClient(e.conn)
	cluster, maintenance := pb.NewClusterClient(e.conn), pb.NewMaintenanceClient(e.conn)

	keys, err := kv.Range(ctx, &pb.RangeRequest{Key: []byte{0}, RangeEnd: []byte{0}, CountOnly: true})
	if err != nil {
		return "", fmt.Errorf("state: keys: %w", err)
	}
	say("revision %d, keys %d", keys.Header.Revision, keys.Count)
	hash, err := maintenance.HashKV(ctx, &pb.HashKVRequest{})
	if err != nil {
		return "", fmt.Errorf("state: hash: %w", err)
	}
	say("hash %d, compacted %d", hash.Hash, hash.CompactRevision)
	leases, err := lease.LeaseLeases(ctx, &pb.LeaseLeasesRequest{})
	if err != nil {
		return "", fmt.Errorf("state: leases: %w", err)
	}
	var ids []int64
	for _, l := range leases.Leases {
		ids = append(ids, l.ID)
	}
	slices.Sort(ids)
	say("leases %d", ids)
	members, err := cluster.MemberList(ctx, &pb.MemberListRequest{})
	if err != nil {
		return "", fmt.Errorf("state: members: %w", err)
	}
	for _, m := range members.Members {
		say("member %x %q %q %q learner %v", m.ID, m.Name, m.PeerURLs, m.ClientURLs, m.IsLearner)
	}
	alarms, err := maintenance.Alarm(ctx, &pb.AlarmRequest{Action: pb.AlarmRequest_GET})
	if err != nil {
		return "", fmt.Errorf("state: alarms: %w", err)
	}
	for _, a := range alarms.Alarms {
		say("alarm %x %s", a.MemberID, a.Alarm)
	}
	self, err := maintenance.Status(ctx, &pb.StatusRequest{})
	if err != nil {
		return "", fmt.Errorf("state: status: %w", err)
	}
	say("leader %x, downgrade %v to %q", self.Leader, self.GetDowngradeInfo().GetEnabled(), self.GetDowngradeInfo().GetTargetVersion())
	if err := authState(ctx, auth, say); err != nil {
		return "", fmt.Errorf("state: users: %w", err)
	}
	index, err := e.v2Index(ctx)
	say("v2 index %s", index)
	return text.String(), err
}

func authState(ctx context.Context, auth pb.AuthClient, say func(string, ...any)) error {
	is, err := auth.AuthStatus(ctx, &pb.AuthStatusRequest{})
	if status.Code(err) == codes.Unimplemented { // before 3.5
		is, err = &pb.AuthStatusResponse{}, nil
	}
	if err != nil {
		return err
	}
	say("auth %v %d", is.Enabled, is.AuthRevision)
	users, err := auth.UserList(ctx, &pb.AuthUserListRequest{})
	if err != nil {
		return err
	}
	for _, name := range users.Users {
		user, err := auth.UserGet(ctx, &pb.AuthUserGetRequest{Name: name})
		if err != nil {
			return err
		}
		say("user %s %q", name, user.Roles)
	}
	roles, err := auth.RoleList(ctx, &pb.AuthRoleListRequest{})
	if err != nil {
		return err
	}
	for _, name := range roles.Roles {
		role, err := auth.RoleGet(ctx, &pb.AuthRoleGetRequest{Role: name})
		if err != nil {
			return err
		}
		say("role %s", name)
		for _, p := range role.Perm {
			say("  %s %q %q", p.PermType, p.Key, p.RangeEnd)
		}
	}
	return nil
}

// v2Index is X-Etcd-Index; empty where v2 is not served.
func (e *callEnd) v2Index(ctx context.Context) (string, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+e.address+"/v2/keys/", nil)
	if err != nil {
		return "", err
	}
	res, err := e.web.RoundTrip(req)
	if err != nil {
		return "", err
	}
	defer res.Body.Close()
	_, err = readUntil(res.Body, "")
	return res.Header.Get("X-Etcd-Index"), err
}
