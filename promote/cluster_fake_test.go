package promote

import (
	"context"
	"net"
	"slices"
	"sync"
	"testing"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"google.golang.org/grpc"
)

const fakeCluster, fakeMember = 0xc1, 0xa1

// fakeVoter is a voter whose answers a test decides. It has a list of members,
// to which it adds and from which it removes.
type fakeVoter struct {
	pb.UnimplementedKVServer
	pb.UnimplementedClusterServer
	pb.UnimplementedMaintenanceServer

	url   string
	conns connections

	mu        sync.Mutex
	clusterID uint64
	members   []*pb.Member
	// answers are given to one change after the other, and then yes. A step
	// without an error is yes, too.
	answers []step
	// lists are the errors of one list after the other.
	lists   []error
	changes int
	index   uint64 // committed
	written func() // called at each Status, if not nil
	alarms  int    // how often it was asked for its alarms, which is an entry
}

// step is what becomes of one change.
type step struct {
	err   error  // the answer
	apply bool   // the change is made all the same
	cut   bool   // the connection is cut in place of the answer
	then  func() // called last, if not nil
}

func newFakeVoter(t *testing.T) *fakeVoter {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	f := &fakeVoter{
		url: "http://" + listener.Addr().String(), clusterID: fakeCluster,
		members: []*pb.Member{{ID: fakeMember, Name: "m1", PeerURLs: []string{"http://192.0.2.1:2380"}, ClientURLs: []string{"http://192.0.2.1:2379"}}},
	}
	f.conns.Listener = listener
	server := grpc.NewServer()
	pb.RegisterKVServer(server, f)
	pb.RegisterClusterServer(server, f)
	pb.RegisterMaintenanceServer(server, f)
	served := make(chan struct{})
	go func() {
		defer close(served)
		_ = server.Serve(&f.conns)
	}()
	t.Cleanup(func() {
		server.Stop()
		<-served
	})
	return f
}

func (f *fakeVoter) header() *pb.ResponseHeader {
	return &pb.ResponseHeader{ClusterId: f.clusterID, MemberId: fakeMember, RaftTerm: 2}
}

func (f *fakeVoter) Range(context.Context, *pb.RangeRequest) (*pb.RangeResponse, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	return &pb.RangeResponse{Header: f.header()}, nil
}

func (f *fakeVoter) MemberList(context.Context, *pb.MemberListRequest) (*pb.MemberListResponse, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if len(f.lists) > 0 {
		err := f.lists[0]
		f.lists = f.lists[1:]
		if err != nil {
			return nil, err
		}
	}
	return &pb.MemberListResponse{Header: f.header(), Members: slices.Clone(f.members)}, nil
}

func (f *fakeVoter) MemberAdd(_ context.Context, r *pb.MemberAddRequest) (*pb.MemberAddResponse, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	m := &pb.Member{ID: uint64(0xb0 + f.changes), PeerURLs: r.PeerURLs, IsLearner: r.IsLearner}
	if err := f.change(func() { f.members = append(f.members, m) }); err != nil {
		return nil, err
	}
	return &pb.MemberAddResponse{Header: f.header(), Member: m, Members: slices.Clone(f.members)}, nil
}

func (f *fakeVoter) MemberRemove(_ context.Context, r *pb.MemberRemoveRequest) (*pb.MemberRemoveResponse, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	remove := func() {
		f.members = slices.DeleteFunc(f.members, func(m *pb.Member) bool { return m.ID == r.ID })
	}
	if err := f.change(remove); err != nil {
		return nil, err
	}
	return &pb.MemberRemoveResponse{Header: f.header(), Members: slices.Clone(f.members)}, nil
}

func (f *fakeVoter) MemberPromote(_ context.Context, r *pb.MemberPromoteRequest) (*pb.MemberPromoteResponse, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	promote := func() {
		for i, m := range f.members {
			if m.ID == r.ID {
				f.members[i] = &pb.Member{ID: m.ID, Name: m.Name, PeerURLs: m.PeerURLs}
			}
		}
	}
	if err := f.change(promote); err != nil {
		return nil, err
	}
	return &pb.MemberPromoteResponse{Header: f.header(), Members: slices.Clone(f.members)}, nil
}

func (f *fakeVoter) Status(context.Context, *pb.StatusRequest) (*pb.StatusResponse, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.written != nil {
		f.written()
	}
	return &pb.StatusResponse{Header: f.header(), Leader: fakeMember, RaftIndex: f.index, RaftTerm: 2, DbSize: 1 << 20}, nil
}

func (f *fakeVoter) Alarm(context.Context, *pb.AlarmRequest) (*pb.AlarmResponse, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.alarms++
	f.index++
	return &pb.AlarmResponse{Header: f.header()}, nil
}

func (f *fakeVoter) change(apply func()) error {
	f.changes++
	s := step{apply: true}
	if len(f.answers) > 0 {
		s, f.answers = f.answers[0], f.answers[1:]
	}
	if s.err == nil && !s.cut || s.apply {
		apply()
	}
	if s.cut {
		f.conns.cut()
	}
	if s.then != nil {
		s.then()
	}
	return s.err
}

// asked is how many changes were asked for.
func (f *fakeVoter) asked() int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.changes
}

// connections is a listener that can cut what it has accepted.
type connections struct {
	net.Listener
	mu   sync.Mutex
	open []net.Conn
}

func (c *connections) Accept() (net.Conn, error) {
	conn, err := c.Listener.Accept()
	if err == nil {
		c.mu.Lock()
		c.open = append(c.open, conn)
		c.mu.Unlock()
	}
	return conn, err
}

func (c *connections) cut() {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, conn := range c.open {
		_ = conn.Close()
	}
	c.open = nil
}
