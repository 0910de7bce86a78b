package policy

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"

	"go.etcd.io/etcd/api/v3/etcdserverpb"
	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/reflect/protoreflect"
)

const (
	// JudgeLimit is the longest request that is judged by its content, in bytes:
	// etcd's own limit of a request and what is around it (etcd 3.7,
	// embed.DefaultMaxRequestBytes and v3rpc's grpcOverheadBytes).
	JudgeLimit = 1536<<10 + 512<<10

	// judgeDepth is how deep transactions may be nested.
	judgeDepth = 32
)

// judgedRequests are the messages of the calls that are judged.
var judgedRequests = map[string]protoreflect.MessageDescriptor{
	"/etcdserverpb.KV/Txn":            (&etcdserverpb.TxnRequest{}).ProtoReflect().Descriptor(),
	"/etcdserverpb.Maintenance/Alarm": (&etcdserverpb.AlarmRequest{}).ProtoReflect().Descriptor(),
}

// readMessages are the messages that change nothing: a Txn passes where nothing
// else is in it. A message in them that is not here, as a put, refuses.
var readMessages = map[protoreflect.FullName]bool{
	"etcdserverpb.TxnRequest":   true,
	"etcdserverpb.Compare":      true,
	"etcdserverpb.RequestOp":    true,
	"etcdserverpb.RangeRequest": true,
	"etcdserverpb.AlarmRequest": true,
}

// JudgeGRPC is why a readonly proxy refuses the body of a judged call; "" if all
// that is in it is reads. The body is gRPC's: one message behind its prefix, not
// compressed (grpc.io, PROTOCOL-HTTP2.md). Of the message, the wire is walked: a
// field that is not known, or not of its type, refuses.
func JudgeGRPC(fullMethod string, body []byte) (refusal string) {
	const prefix = 5
	switch {
	case len(body) < prefix:
		return fullMethod + " without a message is refused: this endpoint is readonly"
	case body[0] != 0:
		return fullMethod + " with a compressed message is refused: this endpoint is readonly and can't look into it"
	case uint64(binary.BigEndian.Uint32(body[1:])) != uint64(len(body)-prefix):
		return fullMethod + " without exactly one message is refused: this endpoint is readonly"
	}
	if err := judgeWire(judgedRequests[fullMethod], body[prefix:], judgeDepth); err != nil {
		return fmt.Sprintf("%s is refused, %v: this endpoint is readonly", fullMethod, err)
	}
	return ""
}

// judgeWire walks an encoded message.
func judgeWire(message protoreflect.MessageDescriptor, wire []byte, depth int) error {
	if depth == 0 {
		return errTooDeep
	}
	for len(wire) > 0 {
		number, kind, size := protowire.ConsumeTag(wire)
		if size < 0 {
			return errNotReadable
		}
		wire = wire[size:]
		field := message.Fields().ByNumber(number)
		if field == nil {
			return fmt.Errorf("it has an unknown field %d in a %s", number, message.Name())
		}
		if size = protowire.ConsumeFieldValue(number, kind, wire); size < 0 {
			return errNotReadable
		}
		value := wire[:size]
		wire = wire[size:]
		switch field.Kind() {
		case protoreflect.MessageKind:
			inner, n := protowire.ConsumeBytes(value)
			if kind != protowire.BytesType || n != len(value) {
				return errNotReadable
			}
			if err := judgeField(field); err != nil {
				return err
			}
			if err := judgeWire(field.Message(), inner, depth-1); err != nil {
				return err
			}
		case protoreflect.BytesKind, protoreflect.StringKind:
			if kind != protowire.BytesType {
				return errNotReadable
			}
		default: // the others are all varints
			number, n := protowire.ConsumeVarint(value)
			if kind != protowire.VarintType || n != len(value) {
				return errNotReadable
			}
			if isAction(field) && number != 0 {
				return errAction
			}
		}
	}
	return nil
}

var (
	errTooDeep     = fmt.Errorf("it is nested deeper than %d", judgeDepth)
	errNotReadable = errors.New("it can't be read")
	errAction      = errors.New("its action is not GET")
)

// judgeField refuses a message that may change something.
func judgeField(field protoreflect.FieldDescriptor) error {
	if !readMessages[field.Message().FullName()] {
		return fmt.Errorf("it has a %s", field.Name())
	}
	return nil
}

// isAction knows what makes an alarm request a write.
func isAction(field protoreflect.FieldDescriptor) bool {
	return field.FullName() == "etcdserverpb.AlarmRequest.action"
}

// JudgeJSON is JudgeGRPC for the gateway: one JSON object. Its keys are those of
// the message, in either spelling (snake_case, camelCase), exactly; a key that is
// not known, or there twice, in whatever spelling, and a second member of a oneof
// refuse: etcd passes over unknown keys, and readers of JSON differ in which of
// two they take.
func JudgeJSON(path string, body []byte) (refusal string) {
	decoder := json.NewDecoder(bytes.NewReader(body))
	decoder.UseNumber()
	err := judgeJSON(judgedRequests[methodOf(path)], decoder, judgeDepth)
	if err == nil {
		if _, end := decoder.Token(); !errors.Is(end, io.EOF) {
			err = errors.New("something follows it")
		}
	}
	if err != nil {
		return fmt.Sprintf("POST %s is refused, %v: this endpoint is readonly", path, err)
	}
	return ""
}

func judgeJSON(message protoreflect.MessageDescriptor, decoder *json.Decoder, depth int) error {
	if depth == 0 {
		return errTooDeep
	}
	if err := wantDelim(decoder, '{'); err != nil {
		return err
	}
	seen := map[protoreflect.FullName]bool{}
	for decoder.More() {
		token, err := decoder.Token()
		key, isKey := token.(string)
		if err != nil || !isKey {
			return errNotReadable
		}
		field := fieldOf(message, key)
		if field == nil {
			return fmt.Errorf("it has an unknown key %.40q in a %s", key, message.Name())
		}
		for _, name := range []protoreflect.FullName{field.FullName(), oneofOf(field)} {
			if name != "" && seen[name] {
				return fmt.Errorf("it has %.40q besides another", key)
			}
			seen[name] = true
		}
		if err := judgeValue(field, decoder, depth); err != nil {
			return err
		}
	}
	return wantDelim(decoder, '}')
}

func judgeValue(field protoreflect.FieldDescriptor, decoder *json.Decoder, depth int) error {
	switch {
	case field.Kind() != protoreflect.MessageKind:
		token, err := decoder.Token()
		if err != nil {
			return errNotReadable
		}
		switch value := token.(type) {
		case json.Delim, nil:
			return errNotReadable
		case string:
			if isAction(field) && value != "GET" {
				return errAction
			}
		case json.Number:
			if isAction(field) && value.String() != "0" {
				return errAction
			}
		case bool:
			if isAction(field) {
				return errAction
			}
		}
		return nil
	case !field.IsList():
		if err := judgeField(field); err != nil {
			return err
		}
		return judgeJSON(field.Message(), decoder, depth-1)
	}
	if err := judgeField(field); err != nil {
		return err
	}
	if err := wantDelim(decoder, '['); err != nil {
		return err
	}
	for decoder.More() {
		if err := judgeJSON(field.Message(), decoder, depth-1); err != nil {
			return err
		}
	}
	return wantDelim(decoder, ']')
}

func wantDelim(decoder *json.Decoder, want json.Delim) error {
	if token, err := decoder.Token(); err != nil || token != want {
		return errNotReadable
	}
	return nil
}

// fieldOf finds a field by one of its two spellings, exactly.
func fieldOf(message protoreflect.MessageDescriptor, key string) protoreflect.FieldDescriptor {
	if field := message.Fields().ByJSONName(key); field != nil {
		return field
	}
	return message.Fields().ByTextName(key)
}

// oneofOf names the oneof that a field is in; "" for none.
func oneofOf(field protoreflect.FieldDescriptor) protoreflect.FullName {
	if oneof := field.ContainingOneof(); oneof != nil {
		return oneof.FullName()
	}
	return ""
}

// methodOf is the method of a gateway's path.
func methodOf(path string) string {
	for _, c := range calls {
		for _, known := range c.paths {
			for _, prefix := range gatewayPrefixes {
				if prefix+known == path {
					return c.method
				}
			}
		}
	}
	return ""
}
