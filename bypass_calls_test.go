package main

import (
	"bytes"
	"compress/gzip"
	"context"
	"crypto/tls"
	"encoding/binary"
	"errors"
	"io"
	"net"
	"slices"
	"strings"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"
	"google.golang.org/protobuf/proto"
)

// bypassCall is one request on a connection of its own over HTTP/2: its fields,
// name and value by turns, its body in frames of so many bytes, and the fields of
// its trailer. The answer is its status and gRPC status, "RST" with an error's
// name, or "GOAWAY".
type bypassCall struct {
	name                string
	fields              []string
	body                string
	pieces              int // bytes in a frame; 0: one frame
	trailer             []string
	readonly, readwrite string
	only                string
}

func (row *bypassCall) send(ctx context.Context, address string, conf *tls.Config) (string, error) {
	var c net.Conn
	var err error
	if conf == nil {
		c, err = dialEnd(ctx, address)
	} else {
		conf = conf.Clone()
		conf.NextProtos = []string{"h2"}
		c, err = (&tls.Dialer{Config: conf}).DialContext(ctx, "tcp", address)
	}
	if err != nil {
		return "", err
	}
	defer c.Close()
	if err := c.SetDeadline(time.Now().Add(10 * time.Second)); err != nil {
		return "", err
	}
	if err := row.write(c); err != nil {
		return "", err
	}
	return readOutcome(http2.NewFramer(io.Discard, c))
}

// write sends all of the request at once.
func (row *bypassCall) write(c io.Writer) error {
	out := bytes.NewBufferString(http2.ClientPreface)
	framer := http2.NewFramer(out, nil)
	framer.AllowIllegalWrites = true
	if err := framer.WriteSettings(); err != nil {
		return err
	}
	var block bytes.Buffer
	encoder := hpack.NewEncoder(&block)
	headers := func(fields []string, end bool) error {
		block.Reset()
		for field := range slices.Chunk(fields, 2) {
			if err := encoder.WriteField(hpack.HeaderField{Name: field[0], Value: field[1]}); err != nil {
				return err
			}
		}
		return framer.WriteHeaders(http2.HeadersFrameParam{StreamID: 1, BlockFragment: block.Bytes(), EndHeaders: true, EndStream: end})
	}
	if err := headers(row.fields, row.body == "" && row.trailer == nil); err != nil {
		return err
	}
	rest := []byte(row.body)
	for len(rest) > 0 {
		piece := rest
		if row.pieces > 0 {
			piece = rest[:min(row.pieces, len(rest))]
		}
		rest = rest[len(piece):]
		if err := framer.WriteData(1, len(rest) == 0 && row.trailer == nil, piece); err != nil {
			return err
		}
	}
	if row.trailer != nil {
		if err := headers(row.trailer, true); err != nil {
			return err
		}
	}
	_, err := c.Write(out.Bytes())
	return err
}

func readOutcome(framer *http2.Framer) (string, error) {
	framer.ReadMetaHeaders = hpack.NewDecoder(4096, nil)
	var got []string
	var text bytes.Buffer // of the answer, whichever way
	for {
		frame, err := framer.ReadFrame()
		if err != nil {
			return strings.Join(append(got, "cut"), " "), err
		}
		end := false
		switch f := frame.(type) {
		case *http2.GoAwayFrame:
			return strings.Join(append(got, "GOAWAY", f.ErrCode.String()), " "), nil
		case *http2.RSTStreamFrame:
			return strings.Join(append(got, "RST", f.ErrCode.String()), " "), nil
		case *http2.MetaHeadersFrame:
			for _, field := range f.Fields {
				switch field.Name {
				case ":status", "grpc-status":
					got = append(got, field.Value)
				case "grpc-message":
					text.WriteString(field.Value)
				}
			}
			end = f.StreamEnded()
		case *http2.DataFrame:
			text.Write(f.Data())
			end = f.StreamEnded()
		}
		if end {
			got = append(got[:len(got)-1], ownWord(got[len(got)-1], text.String()))
			return strings.Join(got, " "), nil
		}
	}
}

// grpcPut and those below are etcd's messages.
var (
	grpcPut   = wire(&pb.PutRequest{Key: []byte("bypass"), Value: []byte("x")})
	grpcRange = wire(&pb.TxnRequest{Success: []*pb.RequestOp{{Request: &pb.RequestOp_RequestRange{RequestRange: &pb.RangeRequest{Key: []byte("a")}}}}})
	grpcTxn   = wire(&pb.TxnRequest{Success: []*pb.RequestOp{{Request: &pb.RequestOp_RequestPut{RequestPut: &pb.PutRequest{Key: []byte("bypass")}}}}})
	grpcElse  = wire(&pb.TxnRequest{
		Compare: []*pb.Compare{{Key: []byte("a"), Target: pb.Compare_VERSION, Result: pb.Compare_GREATER, TargetUnion: &pb.Compare_Version{Version: 9}}},
		Failure: []*pb.RequestOp{{Request: &pb.RequestOp_RequestPut{RequestPut: &pb.PutRequest{Key: []byte("bypass")}}}},
	})
	grpcGrant = wire(&pb.LeaseGrantRequest{TTL: 9000})
	// A oneof twice: the last one counts.
	grpcTwice = string([]byte{0x12, 12, 0x0a, 3, 0x0a, 1, 'a', 0x12, 5, 0x0a, 3, 'b', 'y', 'p'})
)

func wire(message proto.Message) string {
	text, err := proto.Marshal(message)
	if err != nil {
		panic(err)
	}
	return string(text)
}

// grpcMessage puts gRPC's prefix before a message.
func grpcMessage(message string) string { return grpcPrefixed(0, message) }

func grpcPrefixed(flag byte, message string) string {
	return string(binary.BigEndian.AppendUint32([]byte{flag}, uint32(len(message)))) + message
}

func grpcCompressed(message string) string {
	var text bytes.Buffer
	w := gzip.NewWriter(&text)
	_, err := io.WriteString(w, message)
	if err = errors.Join(err, w.Close()); err != nil {
		panic(err)
	}
	return grpcPrefixed(1, text.String())
}

// with is fields with other values for some, name and value by turns, and more
// behind them.
func with(fields []string, others ...string) []string {
	fields = slices.Clone(fields)
	for other := range slices.Chunk(others, 2) {
		done := false
		for i := 0; i < len(fields); i += 2 {
			if fields[i] == other[0] {
				fields[i+1], done = other[1], true
			}
		}
		if !done {
			fields = append(fields, other...)
		}
	}
	return fields
}

func fieldsOf(method, path, kind string) []string {
	fields := []string{":method", method, ":scheme", "http", ":path", path, ":authority", "e"}
	if kind != "" {
		fields = append(fields, "content-type", kind)
	}
	return fields
}

// asJSON and asGRPC are a bypassCall's fields.
func asJSON(path string) []string { return fieldsOf("POST", path, "application/json") }

func asGRPC(path string) []string {
	return append(fieldsOf("POST", path, "application/grpc"), "te", "trailers")
}
