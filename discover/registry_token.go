package discover

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net/url"
	"path"
	"strconv"
	"strings"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/zap"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

// Defaults of etcd's v3 discovery (server/embed/config.go).
const (
	DefaultDiscoveryDialTimeout      = 2 * time.Second
	DefaultDiscoveryRequestTimeout   = 5 * time.Second
	DefaultDiscoveryKeepAliveTime    = 2 * time.Second
	DefaultDiscoveryKeepAliveTimeout = 6 * time.Second
)

// DiscoveryClient is how the endpoints of v3 discovery are asked.
type DiscoveryClient struct {
	// DialTimeout and RequestTimeout bound a connect and a request to one
	// endpoint. 0 means the default.
	DialTimeout, RequestTimeout time.Duration

	// KeepAliveTime is after which silence a connection is probed,
	// KeepAliveTimeout how long the answer may take. 0 means the default.
	KeepAliveTime, KeepAliveTimeout time.Duration

	// Username and Password are given if the first is not empty.
	Username, Password string
}

// withDefaults fills in what is 0.
func (c DiscoveryClient) withDefaults() DiscoveryClient {
	for _, d := range []struct {
		value *time.Duration
		or    time.Duration
	}{
		{&c.DialTimeout, DefaultDiscoveryDialTimeout},
		{&c.RequestTimeout, DefaultDiscoveryRequestTimeout},
		{&c.KeepAliveTime, DefaultDiscoveryKeepAliveTime},
		{&c.KeepAliveTimeout, DefaultDiscoveryKeepAliveTimeout},
	} {
		if *d.value == 0 {
			*d.value = d.or
		}
	}
	return c
}

// ParseDiscoveryEndpoint checks one of --discovery-endpoints: a client URL or
// host:port. An error is a *BadURLError.
func ParseDiscoveryEndpoint(raw string) error {
	const hint = "write client URLs such as http://10.0.0.1:2379, with commas between"
	if !strings.Contains(raw, "://") {
		raw = "http://" + raw
	}
	if u, err := url.Parse(raw); err == nil && u.User != nil {
		return &BadURLError{"it has a user name", "leave that out, and give --discovery-user"}
	}
	if _, err := parseTarget(raw); err != nil {
		return &BadURLError{err.Error(), hint}
	}
	return nil
}

// registryPrefix is where v3 discovery keeps its tokens
// (server/etcdserver/api/v3discovery/discovery.go).
const registryPrefix = "/_etcd/registry"

// tokenRegistry reads a registry over the v3 API, by Range and Watch alone. Its
// endpoints are asked one after the other until one answers.
type tokenRegistry struct {
	token     string
	endpoints []string
	tls       *tls.Config
	config    DiscoveryClient
	dialer    dialer

	client   *clientv3.Client // of the endpoint that answered last; nil without
	endpoint string
	doubts   error // what was odd about its answer over HTTP; nil if nothing
	revision int64 // of the last look
}

func newTokenRegistry(config Config) *tokenRegistry {
	r := &tokenRegistry{
		token: config.DiscoveryToken, endpoints: config.DiscoveryEndpoints,
		tls: config.DiscoveryTLS, config: config.DiscoveryClient.withDefaults(),
	}
	r.dialer = dialer{tls: r.tls, timeout: r.config.DialTimeout, resolver: config.Resolver}
	return r
}

func (r *tokenRegistry) close() {
	if r.client != nil {
		_ = r.client.Close() // it only ends connections; there is nothing to lose
		r.client = nil
	}
}

func (r *tokenRegistry) look(ctx context.Context) (*Registry, error) {
	if r.client != nil {
		registry, err := r.read(ctx)
		var final *RegistryError
		if err == nil || errors.As(err, &final) {
			return registry, err
		}
		r.close()
	}
	var causes []string
	for i, endpoint := range r.endpoints {
		registry, err := r.lookAt(ctx, endpoint, len(r.endpoints)-i)
		var final *RegistryError
		if err == nil || errors.As(err, &final) {
			return registry, err
		}
		causes = append(causes, endpoint+": "+cause(err))
	}
	return nil, errors.New(strings.Join(causes, "; "))
}

// lookAt reads the registry at one endpoint, the first of so many that are left
// to be asked: each has its share of the time.
func (r *tokenRegistry) lookAt(ctx context.Context, endpoint string, left int) (*Registry, error) {
	if deadline, ok := ctx.Deadline(); ok {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, time.Until(deadline)/time.Duration(left))
		defer cancel()
	}
	if err := r.connect(ctx, endpoint); err != nil {
		return nil, err
	}
	registry, err := r.read(ctx)
	var final *RegistryError
	if err != nil && !errors.As(err, &final) {
		r.close()
	}
	return registry, err
}

// connect makes a client of one endpoint. It first asks for /version over
// HTTP/1.1: gRPC keeps the cause of a failed connect to itself. An odd answer is
// no more than a doubt: with --listen-client-http-urls etcd answers nothing but
// gRPC there.
func (r *tokenRegistry) connect(ctx context.Context, endpoint string) error {
	ctx, cancel := context.WithTimeout(ctx, r.config.DialTimeout+r.config.RequestTimeout)
	defer cancel()
	clientURL := endpointURL(endpoint, r.tls != nil)
	to, err := parseTarget(clientURL)
	if err != nil {
		return err
	}
	var failed *connectError
	var silent *silenceError
	_, r.doubts = askVersion(ctx, r.dialer, to)
	if errors.As(r.doubts, &failed) || errors.As(r.doubts, &silent) {
		return r.doubts
	}
	start := time.Now()
	tlsConfig := r.tls
	if !to.secure {
		tlsConfig = nil
	}
	r.client, err = clientv3.New(clientv3.Config{
		Endpoints: []string{clientURL}, TLS: tlsConfig, Logger: zap.NewNop(),
		Context:     context.WithoutCancel(ctx), // close ends it
		DialTimeout: r.config.DialTimeout, MaxUnaryRetries: 1,
		DialKeepAliveTime: r.config.KeepAliveTime, DialKeepAliveTimeout: r.config.KeepAliveTimeout,
		Username: r.config.Username, Password: r.config.Password,
		DialOptions: []grpc.DialOption{grpc.WithNoProxy()},
	})
	r.endpoint = endpoint
	if err != nil {
		r.client = nil
		return r.explain(err, start)
	}
	return nil
}

// explain makes an odd answer over HTTP the cause where gRPC found nobody.
func (r *tokenRegistry) explain(err error, start time.Time) error {
	switch code := status.Code(err); {
	case errors.Is(err, context.Canceled):
		return err
	case code == codes.DeadlineExceeded, code == codes.Canceled:
		err = &silenceError{"answer", time.Since(start)}
	default:
		err = silence(err, "answer", start)
	}
	var silent *silenceError
	if r.doubts != nil && (errors.As(err, &silent) || status.Code(err) == codes.Unavailable) {
		return r.doubts
	}
	return err
}

// read asks for the size and the members, as etcd does.
func (r *tokenRegistry) read(ctx context.Context) (*Registry, error) {
	size, err := r.get(ctx, path.Join(registryPrefix, r.token, "_config", "size"))
	if err != nil {
		return nil, err
	}
	entries, err := r.get(ctx, r.membersKey(), clientv3.WithPrefix())
	if err != nil {
		return nil, err
	}
	r.revision = entries.Header.GetRevision()
	switch {
	case len(size.Kvs) == 0 && len(entries.Kvs) == 0:
		return nil, errTokenNotFound
	case len(size.Kvs) == 0:
		return nil, errSizeMissing
	}
	value := string(size.Kvs[0].Value)
	count, err := strconv.Atoi(value)
	if err != nil || count <= 0 {
		return nil, badSize(value)
	}
	var members []Registered
	for _, kv := range entries.Kvs {
		// What has no "=" is no member to etcd either (clusterInfo.add).
		if value := strings.TrimSpace(string(kv.Value)); strings.Contains(value, "=") {
			members = append(members, newRegistered(path.Base(string(kv.Key)), value, uint64(kv.CreateRevision)))
		}
	}
	return newRegistry(count, members), nil
}

// membersKey is what the members' keys begin with. etcd's own prefix has no
// slash at its end.
func (r *tokenRegistry) membersKey() string {
	return path.Join(registryPrefix, r.token, "members") + "/"
}

func (r *tokenRegistry) get(ctx context.Context, key string, options ...clientv3.OpOption) (*clientv3.GetResponse, error) {
	ctx, cancel := context.WithTimeout(ctx, r.config.RequestTimeout)
	defer cancel()
	start := time.Now()
	answer, err := r.client.Get(ctx, key, options...)
	switch code := status.Code(err); {
	case err == nil:
		return answer, nil
	case code == codes.Unimplemented:
		return nil, notDiscovery(r.endpoint + " does not speak etcd's v3 API")
	case isDenied(err):
		return nil, fmt.Errorf("%s: check --discovery-user", cause(err))
	}
	return nil, r.explain(err, start)
}

func (r *tokenRegistry) await(ctx context.Context) error {
	if r.client == nil {
		return errors.New("not connected")
	}
	ctx, cancel := context.WithCancel(clientv3.WithRequireLeader(ctx))
	defer cancel()
	for answer := range r.client.Watch(ctx, r.membersKey(), clientv3.WithPrefix(), clientv3.WithRev(r.revision+1)) {
		if err := answer.Err(); err != nil || len(answer.Events) > 0 {
			return err
		}
	}
	return ctx.Err()
}
