package h2

import (
	"strings"
	"testing"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"google.golang.org/protobuf/proto"

	"etcdops/proxy/policy"
)

const pathTxn = "/etcdserverpb.KV/Txn"

// txnBody is a gRPC message of a Txn with one operation.
func txnBody(t *testing.T, op *pb.RequestOp) []byte {
	t.Helper()
	wire, err := proto.Marshal(&pb.TxnRequest{Success: []*pb.RequestOp{op}})
	if err != nil {
		t.Fatal(err)
	}
	return append([]byte{0, 0, 0, 0, byte(len(wire))}, wire...)
}

// A Txn is judged whole before a member has a byte of it, however it comes.
func TestReadonlyJudgesATxn(t *testing.T) {
	reads := txnBody(t, &pb.RequestOp{Request: &pb.RequestOp_RequestRange{RequestRange: &pb.RangeRequest{Key: []byte("a")}}})
	writes := txnBody(t, &pb.RequestOp{Request: &pb.RequestOp_RequestPut{RequestPut: &pb.PutRequest{Key: []byte("a")}}})
	compressed := append([]byte{1}, reads[1:]...)
	for name, test := range map[string]struct {
		frames [][]byte
		status string
	}{
		"reads in one frame":        {[][]byte{reads}, "0"},
		"reads byte by byte":        {bytesOf(reads), "0"},
		"an empty frame at the end": {[][]byte{reads, nil}, "0"},
		"a write":                   {[][]byte{writes}, "12"},
		"a write byte by byte":      {bytesOf(writes), "12"},
		"a write behind reads":      {[][]byte{reads, writes}, "12"},
		"compressed":                {[][]byte{compressed}, "12"},
		"cut short":                 {[][]byte{reads[:len(reads)-1]}, "12"},
		"nothing":                   {[][]byte{nil}, "12"},
	} {
		t.Run(name, func(t *testing.T) {
			m := startMember(t, behave(nil))
			r := startRig(t, m.url)
			r.relay.Readonly = true
			c := dialRig(t, r.addr)
			id := c.nextID
			c.nextID += 2
			c.headers(id, false, ":method", "POST", ":scheme", "http", ":path", pathTxn, ":authority", "x", "content-type", "application/grpc", "te", "trailers")
			for i, frame := range test.frames {
				c.data(id, i == len(test.frames)-1, frame)
			}
			o := c.wait(id)
			if o.fields["grpc-status"] != test.status || test.status == "12" && !strings.Contains(o.fields["grpc-message"], "readonly") {
				t.Errorf("got %+v", o)
			}
			if reached := m.count(pathTxn) > 0; reached != (test.status == "0") {
				t.Errorf("reached a member: %v", reached)
			}
			if o := c.wait(c.open(pathRange, false)); o.fields["grpc-status"] != "0" {
				t.Errorf("the connection did not go on: %+v", o)
			}
		})
	}
}

func bytesOf(text []byte) [][]byte {
	var all [][]byte
	for i := range text {
		all = append(all, text[i:i+1])
	}
	return all
}

// What was kept of a request that its client has left is given up.
func TestReadonlyForgetsWhatIsLeft(t *testing.T) {
	m := startMember(t, behave(nil))
	r := startRig(t, m.url)
	r.relay.Readonly = true
	before := policy.Kept.Load()
	c := dialRig(t, r.addr)
	id := c.open(pathTxn, true)
	c.data(id, false, make([]byte, 10_000))
	waitFor(t, "it is kept", func() bool { return policy.Kept.Load() >= before+10_000 })
	if err := c.fr.WriteRSTStream(id, 8); err != nil {
		t.Fatal(err)
	}
	waitFor(t, "it is given up", func() bool { return policy.Kept.Load() == before })
	if m.count(pathTxn) > 0 {
		t.Error("it has reached the member")
	}
}
