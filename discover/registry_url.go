package discover

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"path"
	"strconv"
	"strings"
	"time"
)

const (
	// registryLimit bounds each answer of a discovery service, in bytes.
	registryLimit = 4 << 20

	// redirectsMost is how many redirects of a discovery service are followed.
	redirectsMost = 5

	// keyNotFound is etcd's error code for a missing key of the v2 API
	// (server/etcdserver/api/v2error/error.go of 3.5).
	keyNotFound = 100
)

// BadURLError says why a value cannot be used as a discovery URL or endpoint.
type BadURLError struct {
	Reason string
	Hint   string // what to write instead
}

func (e *BadURLError) Error() string { return e.Reason }

// ParseDiscoveryURL reads a v2 discovery URL, whose path is the token's key
// taken literally, so that it works for a discovery service
// (https://discovery.example.org/TOKEN) and for an etcd
// (http://host:2379/v2/keys/_etcd/registry/TOKEN). An error is a *BadURLError.
func ParseDiscoveryURL(raw string) (*url.URL, error) {
	const hint = "write http://host:2379/v2/keys/_etcd/registry/TOKEN, or what your discovery service gave you"
	u, err := url.Parse(strings.TrimSpace(raw))
	switch {
	case err != nil || u.Scheme != "http" && u.Scheme != "https":
		return nil, &BadURLError{"it is not an http or https URL", hint}
	case u.Hostname() == "":
		return nil, &BadURLError{"it has no host", hint}
	case path.Join("/", u.Path) == "/":
		return nil, &BadURLError{"it has no token behind the host", hint}
	case u.RawQuery != "" || u.Fragment != "":
		return nil, &BadURLError{"it goes on after the token", hint}
	}
	clean := *u
	clean.Path, clean.RawPath, clean.ForceQuery = path.Join("/", u.Path), "", false
	return &clean, nil
}

// ParseDiscoveryProxy reads a --discovery-proxy, of which a bare host:port is
// an http one (etcd 3.5, v2discovery, newProxyFunc). An error is a
// *BadURLError.
func ParseDiscoveryProxy(raw string) (*url.URL, error) {
	u, err := url.Parse(raw)
	if err != nil || !strings.HasPrefix(u.Scheme, "http") {
		u, err = url.Parse("http://" + raw)
	}
	if err != nil || u.Hostname() == "" {
		return nil, &BadURLError{"it names no HTTP proxy", "write http://host:3128"}
	}
	return u, nil
}

// urlRegistry reads a registry over the v2 API, by GET alone. The answers and
// what they mean:
//
//	asked          answer                     meaning
//	_config/size   200, a node with a number  that many members
//	               200, another value         bad size
//	               404, code 100              the token: 404 too: token not found; else: size missing
//	TOKEN          200, a folder              its nodes, without _config, are the members
//	               404, code 100              token not found
//	either         3xx                        followed, up to five times, not from https to http
//	               401                        it wants a user, who stands in the URL
//	               5xx, 429                   the service is in trouble: may be asked again
//	               any other                  not a discovery service
type urlRegistry struct {
	token  url.URL
	client *http.Client
	index  uint64 // X-Etcd-Index of the last look
}

func newURLRegistry(config Config) (*urlRegistry, error) {
	token, err := ParseDiscoveryURL(config.DiscoveryURL)
	if err != nil {
		return nil, err
	}
	transport := &http.Transport{
		DialContext:            (&net.Dialer{Resolver: config.Resolver}).DialContext,
		TLSClientConfig:        config.DiscoveryTLS,
		DisableCompression:     true,
		DisableKeepAlives:      true,
		MaxResponseHeaderBytes: headerLimit,
	}
	if config.DiscoveryProxy != "" {
		proxy, err := ParseDiscoveryProxy(config.DiscoveryProxy)
		if err != nil {
			return nil, err
		}
		transport.Proxy = http.ProxyURL(proxy)
	}
	return &urlRegistry{token: *token, client: &http.Client{Transport: transport, CheckRedirect: redirected}}, nil
}

// redirected judges a redirect before it is followed.
func redirected(next *http.Request, before []*http.Request) error {
	last := before[len(before)-1].URL
	switch {
	case len(before) > redirectsMost:
		return notDiscovery(fmt.Sprintf("it redirects more than %d times", redirectsMost))
	case last.Scheme == "https" && next.URL.Scheme != "https":
		return notDiscovery("it redirects from https to " + next.URL.Scheme + "://" + next.URL.Host)
	}
	return nil
}

func (r *urlRegistry) close() { r.client.CloseIdleConnections() }

// keysAnswer is an answer of etcd's v2 API.
type keysAnswer struct {
	Node *struct {
		Value string    `json:"value"`
		Dir   bool      `json:"dir"`
		Nodes []keyNode `json:"nodes"`
	} `json:"node"`
	ErrorCode int    `json:"errorCode"`
	Message   string `json:"message"`
	Cause     string `json:"cause"`
}

type keyNode struct {
	Key          string `json:"key"`
	Value        string `json:"value"`
	Dir          bool   `json:"dir"`
	CreatedIndex uint64 `json:"createdIndex"`
}

func (r *urlRegistry) look(ctx context.Context) (*Registry, error) {
	folder, err := r.get(ctx, "", nil)
	if err != nil {
		return nil, err
	}
	size, err := r.size(ctx)
	if err != nil {
		return nil, err
	}
	if !folder.Node.Dir {
		return nil, &RegistryError{Reason: "the token is a key with a value, not a folder", ofToken: true}
	}
	var members []Registered
	for _, node := range folder.Node.Nodes {
		if id := path.Base(node.Key); id != "_config" && !node.Dir {
			members = append(members, newRegistered(id, node.Value, node.CreatedIndex))
		}
	}
	return newRegistry(size, members), nil
}

func (r *urlRegistry) size(ctx context.Context) (int, error) {
	answer, err := r.get(ctx, "/_config/size", nil)
	if errors.Is(err, errTokenNotFound) {
		return 0, errSizeMissing
	}
	if err != nil {
		return 0, err
	}
	size, err := strconv.Atoi(answer.Node.Value)
	if err != nil || size <= 0 {
		return 0, badSize(answer.Node.Value)
	}
	return size, nil
}

// await waits for the next event below the token. Where the service does not say
// how far it is, from now on: the next look may then come late.
func (r *urlRegistry) await(ctx context.Context) error {
	query := url.Values{"recursive": {"true"}, "wait": {"true"}}
	if r.index > 0 {
		query.Set("waitIndex", strconv.FormatUint(r.index+1, 10))
	}
	_, err := r.get(ctx, "", query)
	return err
}

// get asks for the token's folder or a key below it.
func (r *urlRegistry) get(ctx context.Context, key string, query url.Values) (*keysAnswer, error) {
	u := r.token
	u.Path += key
	u.RawQuery = query.Encode()
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, u.String(), http.NoBody)
	if err != nil {
		return nil, err
	}
	start := time.Now()
	response, err := r.client.Do(request)
	if err != nil {
		return nil, r.failed(err, start)
	}
	defer response.Body.Close()
	body, err := io.ReadAll(io.LimitReader(response.Body, registryLimit+1))
	switch {
	case err != nil:
		return nil, silence(err, "end of the answer", start)
	case len(body) > registryLimit:
		return nil, notDiscovery(fmt.Sprintf("its answer is larger than %d bytes", registryLimit))
	}
	if query == nil && key == "" {
		r.index, _ = strconv.ParseUint(response.Header.Get("X-Etcd-Index"), 10, 64)
	}
	return judgeAnswer(response.StatusCode, body)
}

// failed says where on the way it failed, if that is not the service itself.
func (r *urlRegistry) failed(err error, start time.Time) error {
	var operation *net.OpError
	if errors.As(err, &operation) && operation.Op == "proxyconnect" {
		return fmt.Errorf("through the discovery proxy: %s", cause(operation.Err))
	}
	return silence(err, "answer", start)
}

// judgeAnswer is the table of urlRegistry.
func judgeAnswer(status int, body []byte) (*keysAnswer, error) {
	var answer keysAnswer
	isJSON := json.Unmarshal(body, &answer) == nil
	switch {
	case status == http.StatusOK && isJSON && answer.Node != nil:
		return &answer, nil
	case status == http.StatusNotFound && isJSON && answer.ErrorCode == keyNotFound:
		return nil, errTokenNotFound
	case status == http.StatusUnauthorized && isJSON:
		return nil, &RegistryError{Reason: "it wants a user: write it into the URL, as http://user:password@host"}
	case status >= http.StatusInternalServerError || status == http.StatusTooManyRequests:
		return nil, fmt.Errorf("answer has status %d", status)
	case status == http.StatusNotFound:
		return nil, notDiscovery("its answer has status 404; the URL of an etcd goes on with /v2/keys/_etcd/registry/TOKEN, and one without the v2 API, as 3.6 and later, takes --discovery-token")
	case status == http.StatusOK:
		return nil, notDiscovery("its answer is not one of etcd's v2 API")
	}
	return nil, notDiscovery(fmt.Sprintf("its answer has status %d", status))
}
