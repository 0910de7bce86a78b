package policy

import (
	"encoding/binary"
	"encoding/json"
	"strings"
	"testing"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
)

const (
	txnMethod, txnPath     = "/etcdserverpb.KV/Txn", "/v3/kv/txn"
	alarmMethod, alarmPath = "/etcdserverpb.Maintenance/Alarm", "/v3/maintenance/alarm"
)

// framed is a gRPC body of one message.
func framed(message []byte) []byte {
	return append(binary.BigEndian.AppendUint32([]byte{0}, uint32(len(message))), message...)
}

func rangeOp(key string) *pb.RequestOp {
	return &pb.RequestOp{Request: &pb.RequestOp_RequestRange{RequestRange: &pb.RangeRequest{Key: []byte(key), Limit: 3, SortOrder: pb.RangeRequest_DESCEND, Serializable: true, MaxModRevision: 9}}}
}

func nested(txn *pb.TxnRequest) *pb.RequestOp {
	return &pb.RequestOp{Request: &pb.RequestOp_RequestTxn{RequestTxn: txn}}
}

func deep(levels int) *pb.TxnRequest {
	txn := &pb.TxnRequest{Success: []*pb.RequestOp{rangeOp("a")}}
	for range levels {
		txn = &pb.TxnRequest{Success: []*pb.RequestOp{nested(txn)}}
	}
	return txn
}

var (
	putOp     = &pb.RequestOp{Request: &pb.RequestOp_RequestPut{RequestPut: &pb.PutRequest{Key: []byte("a")}}}
	deleteOp  = &pb.RequestOp{Request: &pb.RequestOp_RequestDeleteRange{RequestDeleteRange: &pb.DeleteRangeRequest{Key: []byte("a")}}}
	compareOp = &pb.Compare{Key: []byte("a"), RangeEnd: []byte("b"), TargetUnion: &pb.Compare_ModRevision{ModRevision: 7}, Result: pb.Compare_GREATER, Target: pb.Compare_MOD}
)

// TestJudge asks of each request both ways: over gRPC, and as the JSON that etcd's
// gateway takes for it.
func TestJudge(t *testing.T) {
	for name, test := range map[string]struct {
		request proto.Message
		passes  bool
	}{
		"empty":               {&pb.TxnRequest{}, true},
		"ranges":              {&pb.TxnRequest{Compare: []*pb.Compare{compareOp}, Success: []*pb.RequestOp{rangeOp("a"), rangeOp("b")}, Failure: []*pb.RequestOp{rangeOp("c")}}, true},
		"nested ranges":       {deep(3), true},
		"nested too deep":     {deep(40), false},
		"put":                 {&pb.TxnRequest{Success: []*pb.RequestOp{rangeOp("a"), putOp}}, false},
		"put in failure":      {&pb.TxnRequest{Failure: []*pb.RequestOp{putOp}}, false},
		"delete":              {&pb.TxnRequest{Success: []*pb.RequestOp{deleteOp}}, false},
		"nested put":          {&pb.TxnRequest{Success: []*pb.RequestOp{rangeOp("a"), nested(&pb.TxnRequest{Failure: []*pb.RequestOp{nested(&pb.TxnRequest{Success: []*pb.RequestOp{putOp}})}})}}, false},
		"alarm get":           {&pb.AlarmRequest{Action: pb.AlarmRequest_GET}, true},
		"alarm get, a member": {&pb.AlarmRequest{MemberID: 7, Alarm: pb.AlarmType_CORRUPT}, true},
		"alarm activate":      {&pb.AlarmRequest{Action: pb.AlarmRequest_ACTIVATE}, false},
		"alarm deactivate":    {&pb.AlarmRequest{Action: pb.AlarmRequest_DEACTIVATE}, false},
	} {
		t.Run(name, func(t *testing.T) {
			method, path := txnMethod, txnPath
			if _, isAlarm := test.request.(*pb.AlarmRequest); isAlarm {
				method, path = alarmMethod, alarmPath
			}
			wire, err := proto.Marshal(test.request)
			if err != nil {
				t.Fatal(err)
			}
			if refusal := JudgeGRPC(method, framed(wire)); (refusal == "") != test.passes {
				t.Errorf("gRPC: %q", refusal)
			}
			for _, form := range []protojson.MarshalOptions{{}, {UseProtoNames: true}, {EmitUnpopulated: false, Multiline: true}, {UseEnumNumbers: true}} {
				text, err := form.Marshal(test.request)
				if err != nil {
					t.Fatal(err)
				}
				if refusal := JudgeJSON(path, text); (refusal == "") != test.passes {
					t.Errorf("JSON %s: %q", text, refusal)
				}
			}
		})
	}
}

func TestJudgeGRPCWhatCannotBeRead(t *testing.T) {
	good, _ := proto.Marshal(&pb.TxnRequest{Success: []*pb.RequestOp{rangeOp("a")}})
	put, _ := proto.Marshal(&pb.TxnRequest{Success: []*pb.RequestOp{putOp}})
	unknown := protowire.AppendVarint(protowire.AppendTag(append([]byte{}, good...), 99, protowire.VarintType), 1)
	compressed := framed(good)
	compressed[0] = 1
	for name, body := range map[string][]byte{
		"nothing":                     nil,
		"a part of the prefix":        {0, 0, 0},
		"compressed":                  compressed,
		"cut short":                   framed(good)[:8],
		"too long for its prefix":     append(framed(good), 0),
		"two messages":                append(framed(good), framed(put)...),
		"a put behind an empty one":   append(framed(nil), framed(put)...),
		"an unknown field":            framed(unknown),
		"a group":                     framed(protowire.AppendTag(protowire.AppendTag(nil, 2, protowire.StartGroupType), 2, protowire.EndGroupType)),
		"success as a number":         framed(protowire.AppendVarint(protowire.AppendTag(nil, 2, protowire.VarintType), 1)),
		"a tag that is not valid":     framed([]byte{0xff}),
		"a range with a key of 8 bit": framed(protowire.AppendBytes(protowire.AppendTag(nil, 2, protowire.BytesType), protowire.AppendBytes(protowire.AppendTag(nil, 1, protowire.BytesType), []byte{0x08, 0x01}))),
	} {
		if refusal := JudgeGRPC(txnMethod, body); refusal == "" || !strings.Contains(refusal, "readonly") {
			t.Errorf("%s: %q", name, refusal)
		}
	}
	// The last one of a oneof counts for etcd: any put refuses.
	both := append(append([]byte{}, protowire.AppendBytes(protowire.AppendTag(nil, 2, protowire.BytesType), mustMarshal(t, putOp))...), good...)
	if refusal := JudgeGRPC(txnMethod, framed(both)); refusal == "" {
		t.Error("a put before a range passes")
	}
}

func mustMarshal(t *testing.T, m proto.Message) []byte {
	t.Helper()
	wire, err := proto.Marshal(m)
	if err != nil {
		t.Fatal(err)
	}
	return wire
}

func TestJudgeJSON(t *testing.T) {
	const op = `{"requestRange":{"key":"YQ=="}}`
	for text, passes := range map[string]bool{
		`{"success":[` + op + `]}`:                       true,
		`{"success":[{"request_range":{"key":"YQ=="}}]}`: true,
		`{"compare":[{"key":"YQ==","version":"1"}]}`:     true,
		` { } `: true,
		`{"success":[{"requestPut":{"key":"YQ=="}}]}`:                  false,
		`{"success":[{"request_put":{"key":"YQ=="}}]}`:                 false,
		`{"success":[{"requestDeleteRange":{}}]}`:                      false,
		`{"Success":[{"requestPut":{}}]}`:                              false,
		`{"success":[],"success":[{"requestPut":{}}]}`:                 false,
		`{"success":[` + op + `],"success":[` + op + `]}`:              false,
		`{"success":[` + op + `],"Success":[]}`:                        false,
		`{"success":[{"requestRange":{},"request_range":{}}]}`:         false,
		`{"success":[{"requestRange":{},"requestTxn":{}}]}`:            false,
		`{"success":[{"requestRange":{"key":"YQ==","put":1}}]}`:        false,
		`{"compare":[{"version":"1","create_revision":"1"}]}`:          false,
		`{"success":[{"requestTxn":{"failure":[{"requestPut":{}}]}}]}`: false,
		`{"success":` + op + `}`:                                       false,
		`{"success":null}`:                                             false,
		`{"success":[null]}`:                                           false,
		`{"unknown":1}`:                                                false,
		`{} {}`:                                                        false,
		`{}x`:                                                          false,
		`[]`:                                                           false,
		`"success"`:                                                    false,
		``:                                                             false,
		`{"success":[`:                                                 false,
		`{"success":[{"requestRange":{"key":["YQ=="]}}]}`:              false,
	} {
		if refusal := JudgeJSON(txnPath, []byte(text)); (refusal == "") != passes {
			t.Errorf("%s: %q", text, refusal)
		}
	}
	for text, passes := range map[string]bool{
		`{}`: true, `{"action":"GET"}`: true, `{"action":0}`: true, `{"memberID":"7","alarm":"NOSPACE"}`: true,
		`{"action":"ACTIVATE"}`: false, `{"action":1}`: false, `{"action":"get"}`: false, `{"action":"1"}`: false,
		`{"action":true}`: false, `{"action":0.0}`: false, `{"action":0,"action":1}`: false, `{"Action":"ACTIVATE"}`: false,
	} {
		if refusal := JudgeJSON(alarmPath, []byte(text)); (refusal == "") != passes {
			t.Errorf("alarm %s: %q", text, refusal)
		}
	}
}

// writes tells whether a message has a put or a delete anywhere.
func writes(message protoreflect.Message) bool {
	found := false
	message.Range(func(field protoreflect.FieldDescriptor, value protoreflect.Value) bool {
		if field.Kind() != protoreflect.MessageKind {
			return true
		}
		switch name := field.Name(); {
		case name == "request_put", name == "request_delete_range":
			found = true
		case field.IsList():
			for i := range value.List().Len() {
				found = found || writes(value.List().Get(i).Message())
			}
		default:
			found = found || writes(value.Message())
		}
		return !found
	})
	return found
}

// FuzzJudgeGRPC: what passes is, to etcd's own decoder, a Txn that writes nothing.
func FuzzJudgeGRPC(f *testing.F) {
	good, _ := proto.Marshal(deep(2))
	put, _ := proto.Marshal(&pb.TxnRequest{Success: []*pb.RequestOp{rangeOp("a"), putOp}})
	f.Add(good)
	f.Add(put)
	f.Add([]byte{0x12, 0x04, 0x12, 0x02, 0x0a, 0x00})
	f.Fuzz(func(t *testing.T, wire []byte) {
		if JudgeGRPC(txnMethod, framed(wire)) != "" {
			return
		}
		var txn pb.TxnRequest
		if err := proto.Unmarshal(wire, &txn); err == nil && writes(txn.ProtoReflect()) {
			t.Fatalf("%x passes and writes: %v", wire, &txn)
		}
	})
}

// FuzzJudgeJSON: the same for what the gateway's decoder makes of it.
func FuzzJudgeJSON(f *testing.F) {
	f.Add(`{"success":[{"requestRange":{"key":"YQ=="}},{"request_txn":{"failure":[]}}]}`)
	f.Add(`{"success":[{"requestPut":{"key":"YQ=="}}]}`)
	f.Add(`{"success":[],"Success":[{"request_put":{}}]}`)
	f.Fuzz(func(t *testing.T, text string) {
		if JudgeJSON(txnPath, []byte(text)) != "" {
			return
		}
		var txn pb.TxnRequest
		lenient := protojson.UnmarshalOptions{DiscardUnknown: true} // as the gateway
		if err := lenient.Unmarshal([]byte(text), &txn); err == nil && writes(txn.ProtoReflect()) {
			t.Fatalf("%s passes and writes: %v", text, &txn)
		}
		if !json.Valid([]byte(text)) {
			t.Fatalf("%q passes and is no JSON", text)
		}
	})
}
