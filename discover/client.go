package discover

import (
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/zap"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

// versionLimit bounds the answer to /version, in bytes.
const versionLimit = 64 << 10

// client is a gRPC client of one member at one URL.
type client struct {
	url    string
	etcd   *clientv3.Client
	doubts error // what was odd about the answer over HTTP; nil if nothing
}

// connect reaches the member at the URL, without a user. It first asks for
// /version over HTTP/1.1: gRPC keeps the cause of a failed connect to itself,
// and the version is told without rights too.
func (i *Inspector) connect(ctx context.Context, clientURL string) (c *client, version string, err error) {
	to, err := parseTarget(clientURL)
	if err != nil {
		return nil, "", err
	}
	version, doubts := i.version(ctx, to)
	var connect *connectError
	var silent *silenceError
	if errors.As(doubts, &connect) {
		return nil, "", connect
	}
	if doubts != nil && TLSCause(doubts) != "" { // said behind the handshake
		return nil, "", doubts
	}
	if errors.As(doubts, &silent) {
		return nil, "", fmt.Errorf("it accepts connections, but gave %w", silent)
	}
	etcd, err := clientv3.New(i.config(ctx, clientURL))
	if err != nil {
		return nil, "", err
	}
	return &client{url: clientURL, etcd: etcd, doubts: doubts}, version, nil
}

// logIn is connect with the user, for a member that was reached before. The
// error is ErrNeedsUser if there is none.
func (i *Inspector) logIn(ctx context.Context, clientURL string) (*client, error) {
	if i.Username == "" || i.Password == "" {
		return nil, ErrNeedsUser
	}
	config := i.config(ctx, clientURL)
	config.Username, config.Password = i.Username, i.Password
	start := time.Now()
	etcd, err := clientv3.New(config)
	c := &client{url: clientURL, etcd: etcd}
	if err != nil {
		return nil, fmt.Errorf("log in as %s: %w", i.Username, c.explain(err, start))
	}
	return c, nil
}

func (i *Inspector) config(ctx context.Context, clientURL string) clientv3.Config {
	options := append(ServerNameOptions(i.TLS), grpc.WithNoProxy())
	if to, err := parseTarget(clientURL); err == nil && i.Dial != nil && to.network == "tcp" {
		options = append(options, grpc.WithContextDialer(func(ctx context.Context, address string) (net.Conn, error) {
			return i.Dial(ctx, to.network, address, to.secure)
		}))
	}
	return clientv3.Config{
		Endpoints: []string{clientURL},
		TLS:       i.TLS,
		Context:   ctx,
		Logger:    zap.NewNop(),
		// The first failure is what the operator wants to know.
		MaxUnaryRetries: 1,
		DialOptions:     options,
	}
}

// ServerNameOptions make gRPC verify a server by the name in a configuration, if there
// is one: by itself it takes the host of each endpoint (credentials/tls.go of grpc-go,
// ClientHandshake).
func ServerNameOptions(conf *tls.Config) []grpc.DialOption {
	if conf == nil || conf.ServerName == "" {
		return nil
	}
	return []grpc.DialOption{grpc.WithAuthority(conf.ServerName)}
}

// version asks for /version. It may take two thirds of the time: a hung member
// is known by its silence, a slow one still has a third to answer the rest.
func (i *Inspector) version(ctx context.Context, to target) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, i.timeout()*2/3)
	defer cancel()
	return askVersion(ctx, dialer{way: i.Dial, tls: i.TLS, timeout: i.dialTimeout()}, to)
}

// askVersion asks for /version, and by that whether an etcd is there at all.
func askVersion(ctx context.Context, d dialer, to target) (string, error) {
	answer, err := d.get(ctx, to, "/version", versionLimit)
	if err != nil {
		return "", err
	}
	if speaksTLS(answer) {
		return "", errors.New("it speaks TLS: is its URL https?")
	}
	var said struct {
		Version string `json:"etcdserver"`
	}
	if err := json.Unmarshal(answer.body, &said); err != nil {
		return "", fmt.Errorf("answer to /version has status %d and is not etcd's", answer.status)
	}
	return oneLine(said.Version), nil
}

func (c *client) status(ctx context.Context) (*clientv3.StatusResponse, error) {
	start := time.Now()
	answer, err := c.etcd.Status(ctx, c.url)
	return answer, c.explain(err, start)
}

// read reads a key: through the quorum, or from a learner, which serves no
// other reads, its own data.
func (c *client) read(ctx context.Context, learner bool) error {
	var options []clientv3.OpOption
	if learner {
		options = append(options, clientv3.WithSerializable())
	}
	start := time.Now()
	_, err := c.etcd.Get(ctx, "health", options...)
	return c.explain(err, start)
}

// members is the list that the member has itself, so no quorum is needed.
func (c *client) members(ctx context.Context) (*clientv3.MemberListResponse, error) {
	start := time.Now()
	list, err := c.etcd.MemberList(ctx, clientv3.WithSerializable())
	return list, c.explain(err, start)
}

// explain says that there was no answer where gRPC speaks of a deadline, and
// gives an odd answer over HTTP as the cause.
func (c *client) explain(err error, start time.Time) error {
	if err == nil {
		return nil
	}
	switch code := status.Code(err); {
	case errors.Is(err, context.Canceled):
	case code == codes.DeadlineExceeded, code == codes.Canceled:
		// The member learns our deadline and may reset the stream at it, just
		// before our own clock says so.
		err = &silenceError{"answer", time.Since(start)}
	default:
		err = silence(err, "answer", start)
	}
	var silent *silenceError
	if errors.As(err, &silent) && c.doubts != nil {
		return fmt.Errorf("no gRPC: %s", cause(c.doubts))
	}
	return err
}

func (c *client) close() {
	// It only ends connections; there is nothing to lose.
	_ = c.etcd.Close()
}
