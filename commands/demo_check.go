package commands

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strings"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/zap"
	"google.golang.org/grpc"

	"etcdops/discover"
)

const (
	// checkPatience bounds one check.
	checkPatience = 15 * time.Second
	// electionPatience bounds the wait for a new leader.
	electionPatience = 30 * time.Second
	demoLease        = 60 // seconds
)

// check uses the proxy as clients do, kills a member, and does it again.
func (d *demo) check(ctx context.Context) error {
	client, err := clientv3.New(clientv3.Config{
		Endpoints: []string{d.url}, DialTimeout: checkPatience, Logger: zap.NewNop(), Context: ctx,
		DialOptions: []grpc.DialOption{grpc.WithNoProxy()},
	})
	if err != nil {
		return fmt.Errorf("make a client: %w", err)
	}
	defer client.Close()
	c := &checks{d: d, client: client, base: d.server.ListenURLs[0]}
	c.round(ctx, "")
	if len(d.members) >= defaultDemoMembers {
		c.kill(ctx)
		c.round(ctx, " after the loss of a member")
	} else {
		d.say("no member is killed: %d members have no quorum without one", len(d.members))
	}
	if ctx.Err() != nil {
		return ctx.Err()
	}
	if c.failed > 0 {
		fmt.Fprintf(d.env.Stdout, "%d checks failed, %d passed\n", c.failed, c.passed)
		return &Failure{
			Code: ExitFailed, Message: fmt.Sprintf("%d of %d checks failed", c.failed, c.failed+c.passed),
			Hint: "run it again with --keep DIR and see DIR/proxy.log",
		}
	}
	fmt.Fprintf(d.env.Stdout, "%d checks passed\n", c.passed)
	return nil
}

// checks counts what passed and prints a line for each.
type checks struct {
	d              *demo
	client         *clientv3.Client
	base           url.URL
	rounds         int
	passed, failed int
}

func (c *checks) do(ctx context.Context, name string, f func(ctx context.Context) error) {
	if ctx.Err() != nil {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, checkPatience)
	defer cancel()
	began := time.Now()
	err := f(ctx)
	took := time.Since(began).Round(100 * time.Microsecond)
	out := c.d.env.Out
	if err != nil {
		c.failed++
		fmt.Fprintf(c.d.env.Stdout, "%s  %s (%v): %s\n", out.Bad.Sprint("FAIL"), name, took, oneLine(err.Error()))
		return
	}
	c.passed++
	fmt.Fprintf(c.d.env.Stdout, "%s    %s (%v)\n", out.Good.Sprint("ok"), name, took)
}

// round writes and reads each way that a client has.
func (c *checks) round(ctx context.Context, when string) {
	c.rounds++
	key := fmt.Sprintf("demo/%d", c.rounds)
	c.do(ctx, "gRPC put"+when, func(ctx context.Context) error {
		_, err := c.client.Put(ctx, key, "by gRPC")
		return err
	})
	c.do(ctx, "gRPC get"+when, func(ctx context.Context) error { return c.wantValue(ctx, key, "by gRPC") })
	c.do(ctx, "gRPC watch event"+when, func(ctx context.Context) error { return c.watch(ctx, key+"/watched") })
	c.do(ctx, "gRPC lease"+when, func(ctx context.Context) error { return c.lease(ctx, key+"/leased") })
	c.do(ctx, "JSON put /v3/kv/put"+when, func(ctx context.Context) error {
		return c.post(ctx, "/v3/kv/put", map[string]any{"key": encode(key + "/json"), "value": encode("by JSON")}, &struct{}{})
	})
	c.do(ctx, "JSON get /v3/kv/range"+when, func(ctx context.Context) error {
		var answer struct {
			Kvs []struct{ Value []byte }
		}
		err := c.post(ctx, "/v3/kv/range", map[string]any{"key": encode(key + "/json")}, &answer)
		if err == nil && (len(answer.Kvs) != 1 || string(answer.Kvs[0].Value) != "by JSON") {
			err = fmt.Errorf("answer is %+v", answer)
		}
		return err
	})
	c.do(ctx, "JSON stream /v3/watch"+when, func(ctx context.Context) error { return c.watchJSON(ctx, key+"/streamed") })
}

func (c *checks) wantValue(ctx context.Context, key, value string) error {
	res, err := c.client.Get(ctx, key)
	if err != nil {
		return err
	}
	if len(res.Kvs) != 1 || string(res.Kvs[0].Value) != value {
		return fmt.Errorf("read %v instead of %q", res.Kvs, value)
	}
	return nil
}

func (c *checks) watch(ctx context.Context, key string) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	events := c.client.Watch(ctx, key, clientv3.WithCreatedNotify())
	if created := <-events; created.Err() != nil {
		return created.Err()
	}
	if _, err := c.client.Put(ctx, key, "seen"); err != nil {
		return err
	}
	got, ok := <-events
	switch {
	case !ok:
		return errors.New("the watch ended")
	case got.Err() != nil:
		return got.Err()
	case len(got.Events) != 1 || string(got.Events[0].Kv.Value) != "seen":
		return fmt.Errorf("events are %v", got.Events)
	}
	return nil
}

func (c *checks) lease(ctx context.Context, key string) error {
	lease, err := c.client.Grant(ctx, demoLease)
	if err != nil {
		return err
	}
	if _, err := c.client.Put(ctx, key, "leased", clientv3.WithLease(lease.ID)); err != nil {
		return err
	}
	alive, err := c.client.KeepAliveOnce(ctx, lease.ID)
	if err != nil {
		return err
	}
	if alive.TTL != demoLease {
		return fmt.Errorf("kept alive for %d s instead of %d s", alive.TTL, demoLease)
	}
	if _, err := c.client.Revoke(ctx, lease.ID); err != nil {
		return err
	}
	res, err := c.client.Get(ctx, key)
	if err == nil && len(res.Kvs) != 0 {
		err = errors.New("the key outlived its lease")
	}
	return err
}

// watchJSON reads the stream line by line: the event has to come while the
// stream is open.
func (c *checks) watchJSON(ctx context.Context, key string) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	res, err := c.request(ctx, "/v3/watch", map[string]any{"create_request": map[string]any{"key": encode(key)}})
	if err != nil {
		return err
	}
	defer res.Body.Close()
	stream := json.NewDecoder(res.Body)
	var answer struct {
		Result struct {
			Created bool
			Events  []struct{ Kv struct{ Value []byte } }
		}
	}
	if err := stream.Decode(&answer); err != nil || !answer.Result.Created {
		return fmt.Errorf("the watch was not created: %+v %w", answer, err)
	}
	if _, err := c.client.Put(ctx, key, "streamed"); err != nil {
		return err
	}
	if err := stream.Decode(&answer); err != nil {
		return err
	}
	if len(answer.Result.Events) != 1 || string(answer.Result.Events[0].Kv.Value) != "streamed" {
		return fmt.Errorf("events are %+v", answer.Result.Events)
	}
	return nil
}

// kill ends the leader, the hardest loss, with SIGKILL and waits for the next.
func (c *checks) kill(ctx context.Context) {
	report, err := membersByControl(ctx, c.d.control(), "", "")
	if err != nil {
		c.do(ctx, "members", func(context.Context) error { return err })
		return
	}
	victim := c.d.members[0]
	for _, m := range report.Members {
		for _, own := range c.d.members {
			if m.Leader && m.Name == own.name {
				victim = own
			}
		}
	}
	c.d.say("killing member %s, the leader", victim.name)
	c.do(ctx, "member "+victim.name+" killed", func(context.Context) error { return victim.etcd.Kill() })
	limit, cancel := context.WithTimeout(ctx, electionPatience)
	defer cancel()
	c.do(limit, "the cluster answers again", func(ctx context.Context) error {
		for {
			try, cancel := context.WithTimeout(ctx, checkPatience/10)
			_, err := c.client.Get(try, "demo")
			cancel()
			if err == nil || ctx.Err() != nil {
				return err
			}
		}
	})
	c.do(ctx, "the loss is seen by proxy members", func(ctx context.Context) error {
		report, err := membersByControl(ctx, c.d.control(), "", "")
		if err != nil {
			return err
		}
		for _, m := range report.Members {
			if m.Name == victim.name && m.Status != discover.MemberUnreachable {
				return fmt.Errorf("member %s is %s", m.Name, m.Status)
			}
		}
		return nil
	})
}

func encode(text string) string { return base64.StdEncoding.EncodeToString([]byte(text)) }

func (c *checks) post(ctx context.Context, path string, body, answer any) error {
	res, err := c.request(ctx, path, body)
	if err != nil {
		return err
	}
	defer res.Body.Close()
	return json.NewDecoder(res.Body).Decode(answer)
}

func (c *checks) request(ctx context.Context, path string, body any) (*http.Response, error) {
	text, err := json.Marshal(body)
	if err != nil {
		return nil, err
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, targetURL(c.base, path), bytes.NewReader(text))
	if err != nil {
		return nil, err
	}
	res, err := httpClient(c.base).Do(req)
	if err != nil {
		return nil, err
	}
	if res.StatusCode != http.StatusOK {
		defer res.Body.Close()
		text, _ := io.ReadAll(io.LimitReader(res.Body, 1<<10))
		return nil, fmt.Errorf("%s: %s", res.Status, text)
	}
	return res, nil
}

// httpClient makes one connection a request and no detour by HTTP_PROXY.
func httpClient(u url.URL) *http.Client {
	return &http.Client{Transport: &http.Transport{
		DisableKeepAlives: true,
		DialContext: func(ctx context.Context, network, address string) (net.Conn, error) {
			var dialer net.Dialer
			if u.Scheme == "unix" {
				network, address = "unix", u.Host+u.Path
			}
			return dialer.DialContext(ctx, network, address)
		},
	}}
}

func targetURL(u url.URL, path string) string {
	if u.Scheme == "unix" {
		return "http://localhost" + path
	}
	return strings.TrimSuffix(u.String(), "/") + path
}

func httpGet(ctx context.Context, u url.URL, path string) (string, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, targetURL(u, path), nil)
	if err != nil {
		return "", err
	}
	res, err := httpClient(u).Do(req)
	if err != nil {
		return "", err
	}
	defer res.Body.Close()
	body, err := io.ReadAll(io.LimitReader(res.Body, 1<<16))
	return string(body), err
}
