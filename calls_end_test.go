package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	_ "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/metadata"
	_ "google.golang.org/grpc/reflection/grpc_reflection_v1"
	_ "google.golang.org/grpc/reflection/grpc_reflection_v1alpha"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/reflect/protoregistry"
	"google.golang.org/protobuf/types/dynamicpb"
)

// callEnd is a proxy or a member that calls go to. Who calls a member with
// authentication on is root, as the tables have it.
type callEnd struct {
	address string // host:port
	conn    *grpc.ClientConn
	web     *http.Transport
}

func newCallEnd(address string) (*callEnd, error) {
	conn, err := grpc.NewClient(address, grpc.WithTransportCredentials(insecure.NewCredentials()), grpc.WithNoProxy(), grpc.WithDisableRetry())
	if err != nil {
		return nil, err
	}
	return &callEnd{address, conn, &http.Transport{}}, nil
}

func (e *callEnd) close() {
	_ = e.conn.Close()
	e.web.CloseIdleConnections()
}

// callAnswer is the name of a gRPC status or the number of an HTTP one, and the
// message or body.
type callAnswer struct{ status, text string }

func (a *callAnswer) good() bool { return a.status == "OK" || a.status == "200" }

// refused tells whether a readonly proxy gave the answer: 501, or UNIMPLEMENTED.
func (a *callAnswer) refused() bool {
	return (a.status == "501" || a.status == codes.Unimplemented.String()) && strings.Contains(a.text, "this endpoint is readonly")
}

// call makes a call. The words of it that begin with $ are of the member home.
func (e *callEnd) call(ctx context.Context, c *tableCall, way *callWay, home *callEnd) (*callAnswer, error) {
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	message, has := home.fill(ctx, c.message, way), home.fill(ctx, c.has, way)
	token := home.token(ctx)
	if way.method == "" {
		return e.callGRPC(metadata.AppendToOutgoingContext(ctx, token...), way.target, message, has)
	}
	req, err := http.NewRequestWithContext(ctx, way.method, "http://"+e.address, strings.NewReader(message))
	if err != nil {
		return nil, err
	}
	req.URL.Opaque = way.target // as it stands
	if c.isHTTP() {
		req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
		if strings.HasPrefix(message, "{") {
			req.Header.Set("Content-Type", "application/json")
		}
	}
	if len(token) > 0 {
		req.Header.Set("Authorization", token[1])
	}
	res, err := e.web.RoundTrip(req)
	if err != nil {
		return nil, fmt.Errorf("%s: %s: %w", e.address, way, err)
	}
	defer res.Body.Close()
	text, err := readUntil(res.Body, has)
	return &callAnswer{strconv.Itoa(res.StatusCode), text}, err
}

// readUntil reads to the end, or until what was read has the text.
func readUntil(r io.Reader, has string) (string, error) {
	var text strings.Builder
	piece := make([]byte, 4096)
	for {
		n, err := r.Read(piece)
		text.Write(piece[:n])
		switch {
		case has != "" && strings.Contains(text.String(), has), errors.Is(err, io.EOF):
			return text.String(), nil
		case err != nil:
			return text.String(), fmt.Errorf("read answer: %w", err)
		}
	}
}

// callGRPC makes a gRPC call with one message, and reads answers until one has
// the text; the first is enough where there is none.
func (e *callEnd) callGRPC(ctx context.Context, fullMethod, message, has string) (*callAnswer, error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	service, name, _ := strings.Cut(strings.TrimPrefix(fullMethod, "/"), "/")
	found, err := protoregistry.GlobalFiles.FindDescriptorByName(protoreflect.FullName(service))
	if err != nil {
		return nil, fmt.Errorf("%s: %w", fullMethod, err)
	}
	method := found.(protoreflect.ServiceDescriptor).Methods().ByName(protoreflect.Name(name))
	if method == nil {
		return nil, fmt.Errorf("%s is not described", fullMethod)
	}
	in := dynamicpb.NewMessage(method.Input())
	if err := protojson.Unmarshal([]byte(message), in); err != nil {
		return nil, fmt.Errorf("%s: %w", fullMethod, err)
	}
	stream, err := e.conn.NewStream(ctx, &grpc.StreamDesc{ServerStreams: true, ClientStreams: true}, fullMethod)
	if err == nil {
		err = stream.SendMsg(in)
	}
	if err == nil && !method.IsStreamingClient() {
		err = stream.CloseSend()
	}
	var text strings.Builder
	for answers := 0; err == nil || errors.Is(err, io.EOF); answers++ {
		out := dynamicpb.NewMessage(method.Output())
		if err = stream.RecvMsg(out); errors.Is(err, io.EOF) && answers > 0 {
			return &callAnswer{codes.OK.String(), text.String()}, nil
		} else if err != nil {
			break
		}
		json, err := protojson.Marshal(out)
		if err != nil {
			return nil, err
		}
		text.Write(json)
		if strings.Contains(text.String(), has) {
			return &callAnswer{codes.OK.String(), text.String()}, nil
		}
	}
	return &callAnswer{status.Code(err).String(), status.Convert(err).Message()}, nil
}

// token is root's, as metadata; none where authentication is off.
func (e *callEnd) token(ctx context.Context) []string {
	res, err := pb.NewAuthClient(e.conn).Authenticate(ctx, &pb.AuthenticateRequest{Name: "root", Password: rootPassword})
	if err != nil {
		return nil
	}
	return []string{"token", res.Token}
}

var fillWord = regexp.MustCompile(`\$(created:[A-Za-z0-9+/=]+|[a-z]+)`)

// fill puts in what the words that begin with $ stand for.
func (e *callEnd) fill(ctx context.Context, text string, way *callWay) string {
	text = strings.ReplaceAll(strings.ReplaceAll(text, "$lease", way.lease), "$p", way.mark)
	return fillWord.ReplaceAllStringFunc(text, func(word string) string {
		ctx := metadata.AppendToOutgoingContext(ctx, e.token(ctx)...)
		value := e.look(ctx, strings.TrimPrefix(word, "$"))
		if value == "" {
			return word
		}
		return value
	})
}

func (e *callEnd) look(ctx context.Context, word string) string {
	self, err := pb.NewMaintenanceClient(e.conn).Status(ctx, &pb.StatusRequest{})
	if err != nil {
		return ""
	}
	switch word {
	case "self":
		return strconv.FormatUint(self.Header.MemberId, 10)
	case "rev":
		return strconv.FormatInt(self.Header.Revision, 10)
	case "older":
		parts := strings.Split(self.Version, ".")
		minor, _ := strconv.Atoi(parts[1])
		return fmt.Sprintf("%s.%d.0", parts[0], minor-1)
	case "learner":
		list, err := pb.NewClusterClient(e.conn).MemberList(ctx, &pb.MemberListRequest{})
		if err != nil {
			return ""
		}
		i := slices.IndexFunc(list.Members, func(m *pb.Member) bool { return m.IsLearner })
		if i < 0 {
			return ""
		}
		return strconv.FormatUint(list.Members[i].ID, 10)
	}
	key, ok := strings.CutPrefix(word, "created:")
	request := &pb.RangeRequest{}
	if !ok || protojson.Unmarshal([]byte(`{"key":"`+key+`"}`), request) != nil {
		return ""
	}
	res, err := pb.NewKVClient(e.conn).Range(ctx, request)
	if err != nil || len(res.Kvs) != 1 {
		return ""
	}
	return strconv.FormatInt(res.Kvs[0].CreateRevision, 10)
}
