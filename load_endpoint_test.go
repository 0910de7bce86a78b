package main

import (
	"bytes"
	"context"
	"crypto/tls"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"path/filepath"
	"strings"
	"sync"

	"go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/metadata"
)

// loadEndpoint is one client URL: http, https or unix.
type loadEndpoint struct {
	raw              string // as clientv3 has it
	network, address string
	tls              *tls.Config // nil: in the clear
	user, password   string
	book             *ledger

	mu    sync.Mutex
	token string // of requests that are not by clientv3
}

func newLoadEndpoint(raw string, l *load, book *ledger) (*loadEndpoint, error) {
	u, err := url.Parse(raw)
	if err != nil {
		return nil, err
	}
	e := &loadEndpoint{raw: raw, network: "tcp", address: u.Host, book: book}
	e.user, e.password, _ = strings.Cut(l.user, ":")
	switch u.Scheme {
	case "http":
	case "https":
		if e.tls, err = readTLS(l.ca, l.cert, l.key); err != nil {
			return nil, err
		}
	case "unix":
		if e.address, err = filepath.Abs(u.Host + u.Path); err != nil {
			return nil, err
		}
		e.network, e.raw = "unix", "unix://"+e.address
	default:
		return nil, fmt.Errorf("%s: the scheme is not http, https or unix", raw)
	}
	return e, nil
}

// dial notes who could not connect, whoever tries again then.
func (e *loadEndpoint) dial(ctx context.Context, _ string) (net.Conn, error) {
	c, err := new(net.Dialer).DialContext(ctx, e.network, e.address)
	if err != nil && ctx.Err() == nil {
		e.book.refuse(e.address, err)
	}
	return c, err
}

func (e *loadEndpoint) dialOptions() []grpc.DialOption {
	return []grpc.DialOption{grpc.WithContextDialer(e.dial), grpc.WithDisableServiceConfig()}
}

// conn is a gRPC connection whose requests are not tried again.
func (e *loadEndpoint) conn() (*grpc.ClientConn, error) {
	secure, host := insecure.NewCredentials(), e.address
	if e.tls != nil {
		secure = credentials.NewTLS(e.tls)
	}
	if e.network == "unix" {
		host = "localhost"
	}
	return grpc.NewClient("passthrough:///"+host,
		append(e.dialOptions(), grpc.WithTransportCredentials(secure), grpc.WithDisableRetry())...)
}

// withToken runs a request; a member that does not know the token, as one that
// has joined later, says so, and the request goes again with a new one: what
// clientv3 does.
func (e *loadEndpoint) withToken(ctx context.Context, do func(ctx context.Context) error) error {
	authorized, err := e.authorize(ctx)
	if err != nil {
		return err
	}
	err = do(authorized)
	if e.user == "" || err == nil || !isStaleToken(err) {
		return err
	}
	e.mu.Lock()
	e.token = ""
	e.mu.Unlock()
	if authorized, err = e.authorize(ctx); err != nil {
		return err
	}
	return do(authorized)
}

func isStaleToken(err error) bool {
	return strings.Contains(err.Error(), rpctypes.ErrorDesc(rpctypes.ErrGRPCInvalidAuthToken)) ||
		strings.Contains(err.Error(), rpctypes.ErrorDesc(rpctypes.ErrGRPCAuthOldRevision))
}

// authorize gives a request the user's token.
func (e *loadEndpoint) authorize(ctx context.Context) (context.Context, error) {
	if e.user == "" {
		return ctx, nil
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.token == "" {
		conn, err := e.conn()
		if err != nil {
			return nil, err
		}
		defer conn.Close()
		res, err := etcdserverpb.NewAuthClient(conn).Authenticate(ctx, &etcdserverpb.AuthenticateRequest{Name: e.user, Password: e.password})
		if err != nil {
			return nil, fmt.Errorf("authenticate: %w", err)
		}
		e.token = res.Token
	}
	return metadata.NewOutgoingContext(ctx, metadata.Pairs(rpctypes.TokenFieldNameGRPC, e.token)), nil
}

// newClient makes a new gRPC connection for each request.
type newClient struct{ *loadEndpoint }

func (newClient) name() string { return "new-client" }
func (newClient) close()       {}

func (k newClient) put(ctx context.Context, key string) (revision int64, err error) {
	err = k.withToken(ctx, func(ctx context.Context) error {
		conn, err := k.conn()
		if err != nil {
			return err
		}
		defer conn.Close()
		res, err := etcdserverpb.NewKVClient(conn).Put(ctx, &etcdserverpb.PutRequest{Key: []byte(key), Value: []byte("x")})
		if err == nil {
			revision = res.Header.Revision
		}
		return err
	})
	return revision, err
}

func (k newClient) has(ctx context.Context, key string) (there bool, err error) {
	err = k.withToken(ctx, func(ctx context.Context) error {
		conn, err := k.conn()
		if err != nil {
			return err
		}
		defer conn.Close()
		res, err := etcdserverpb.NewKVClient(conn).Range(ctx, &etcdserverpb.RangeRequest{Key: []byte(key)})
		there = err == nil && len(res.Kvs) == 1
		return err
	})
	return there, err
}

// newHTTP makes a new HTTP/1.1 connection for each request.
type newHTTP struct{ *loadEndpoint }

func (newHTTP) name() string { return "new-http" }
func (newHTTP) close()       {}

// gatewayAnswer is what we need of etcd's JSON; its numbers are strings.
type gatewayAnswer struct {
	Header struct {
		Revision int64 `json:"revision,string"`
	}
	Kvs []struct{ Key []byte }
}

func (k newHTTP) put(ctx context.Context, key string) (int64, error) {
	answer, err := k.post(ctx, "/v3/kv/put", map[string]string{"key": encode(key), "value": encode("x")})
	return answer.Header.Revision, err
}

func (k newHTTP) has(ctx context.Context, key string) (bool, error) {
	answer, err := k.post(ctx, "/v3/kv/range", map[string]string{"key": encode(key)})
	return len(answer.Kvs) == 1, err
}

func encode(text string) string { return base64.StdEncoding.EncodeToString([]byte(text)) }

func (k newHTTP) post(ctx context.Context, path string, body map[string]string) (answer gatewayAnswer, err error) {
	text, err := json.Marshal(body)
	if err != nil {
		return answer, err
	}
	err = k.withToken(ctx, func(ctx context.Context) error {
		answer = gatewayAnswer{}
		return k.exchange(ctx, path, text, &answer)
	})
	return answer, err
}

func (k newHTTP) exchange(ctx context.Context, path string, body []byte, answer *gatewayAnswer) error {
	base := "http://" + k.address
	switch {
	case k.network == "unix":
		base = "http://localhost"
	case k.tls != nil:
		base = "https://" + k.address
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, base+path, bytes.NewReader(body))
	if err != nil {
		return err
	}
	if sent, ok := metadata.FromOutgoingContext(ctx); ok {
		req.Header.Set("Authorization", sent.Get(rpctypes.TokenFieldNameGRPC)[0])
	}
	res, err := (&http.Transport{
		DisableKeepAlives: true, TLSClientConfig: k.tls,
		TLSNextProto: map[string]func(string, *tls.Conn) http.RoundTripper{}, // HTTP/1.1 alone
		DialContext:  func(ctx context.Context, _, address string) (net.Conn, error) { return k.dial(ctx, address) },
	}).RoundTrip(req)
	if err != nil {
		return err
	}
	defer res.Body.Close()
	text, err := io.ReadAll(res.Body)
	if err != nil {
		return fmt.Errorf("read answer with status %s: %w", res.Status, err)
	}
	if res.StatusCode != http.StatusOK {
		return fmt.Errorf("status %s: %s", res.Status, bytes.TrimSpace(text))
	}
	return json.Unmarshal(text, answer)
}
