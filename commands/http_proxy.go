package commands

import (
	"bufio"
	"cmp"
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	"golang.org/x/net/http/httpproxy"
)

// proxyVariables send the members' traffic through an HTTP proxy, but only with
// --honor-proxy-env.
var proxyVariables = []string{"HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY", "http_proxy", "https_proxy", "no_proxy"}

// memberDial is how members are reached, given to all that connects to them; nil
// for straight on.
type memberDial = func(ctx context.Context, network, address string, secure bool) (net.Conn, error)

// environmentDial reaches members through the HTTP proxy that the environment
// names: HTTP_PROXY for http, HTTPS_PROXY for https, NO_PROXY for neither; localhost
// and loopback addresses never (golang.org/x/net/http/httpproxy). It asks for a
// tunnel with CONNECT (RFC 9110 section 9.3.6), because gRPC needs the connection
// as it is.
func environmentDial(env *Env) (memberDial, error) {
	first := func(names ...string) (value, name string) {
		for _, name := range names {
			if value := env.Getenv(name); value != "" {
				return value, name
			}
		}
		return "", ""
	}
	var config httpproxy.Config
	config.NoProxy, _ = first("NO_PROXY", "no_proxy")
	for _, of := range []struct {
		into  *string
		names []string
	}{{&config.HTTPProxy, []string{"HTTP_PROXY", "http_proxy"}}, {&config.HTTPSProxy, []string{"HTTPS_PROXY", "https_proxy"}}} {
		value, name := first(of.names...)
		u, err := url.Parse(value)
		if value != "" && (err != nil || u.Hostname() == "" || u.Scheme != "http") {
			return nil, usageError("write it as http://host:port, or leave out --honor-proxy-env", "%s: it is not the URL of an HTTP proxy", name)
		}
		*of.into = value
	}
	choose := config.ProxyFunc()
	return func(ctx context.Context, network, address string, secure bool) (net.Conn, error) {
		var by *url.URL
		if network == "tcp" {
			target := &url.URL{Scheme: "http", Host: address}
			if secure {
				target.Scheme = "https"
			}
			var err error
			if by, err = choose(target); err != nil {
				return nil, err
			}
		}
		d := net.Dialer{KeepAlive: 30 * time.Second}
		d.SetMultipathTCP(false)
		if by == nil {
			return d.DialContext(ctx, network, address)
		}
		at := net.JoinHostPort(by.Hostname(), cmp.Or(by.Port(), "80"))
		c, err := d.DialContext(ctx, network, at)
		if err != nil {
			return nil, throughProxy(ctx, "connect to HTTP proxy "+at, err)
		}
		if err := connectThrough(ctx, c, by, address); err != nil {
			_ = c.Close()
			return nil, throughProxy(ctx, "HTTP proxy "+at, err)
		}
		return c, nil
	}, nil
}

// throughProxy names the HTTP proxy in an error, which is not the member's: who looks
// for the cause of it shall not find it alone.
func throughProxy(ctx context.Context, step string, err error) error {
	if ctx.Err() != nil {
		return fmt.Errorf("%s: %w", step, err)
	}
	var op *net.OpError
	if errors.As(err, &op) {
		err = op.Err
	}
	return fmt.Errorf("%s: %v", step, err) //nolint:errorlint // hidden on purpose
}

// honorEnvironment gives the identities their way to members, and, with a logger,
// names the variables that have no meaning here.
func honorEnvironment(env *Env, s *Settings, ids *identities, logger *slog.Logger) error {
	honor, err := s.Bool("honor-proxy-env")
	if err != nil {
		return err
	}
	if honor {
		if ids.Dial, err = environmentDial(env); err != nil {
			return err
		}
	}
	if logger == nil {
		return nil
	}
	if honor {
		logger.Info("members are reached by the environment's HTTP proxy", "http", hostOf(env, "HTTP_PROXY", "http_proxy"),
			"https", hostOf(env, "HTTPS_PROXY", "https_proxy"), "but_for", cmp.Or(env.Getenv("NO_PROXY"), env.Getenv("no_proxy")))
	}
	if names := meaninglessVariables(env, s, honor); len(names) > 0 {
		hint := ""
		if slices.ContainsFunc(names, func(name string) bool { return slices.Contains(proxyVariables, name) }) {
			hint = "members are reached through HTTP_PROXY with --honor-proxy-env alone"
		}
		logger.Warn("variables of the environment that mean nothing to this proxy", "names", strings.Join(names, ","), "hint", hint)
	}
	return nil
}

// hostOf is the host of the first variable that is set, without a password.
func hostOf(env *Env, names ...string) string {
	for _, name := range names {
		if u, err := url.Parse(env.Getenv(name)); err == nil && u.Host != "" {
			return u.Host
		}
	}
	return "none"
}

// connectLimit bounds the head of the answer to CONNECT, in bytes.
const connectLimit = 8 << 10

// connectThrough asks the HTTP proxy for a tunnel.
func connectThrough(ctx context.Context, c net.Conn, by *url.URL, address string) error {
	stop := context.AfterFunc(ctx, func() { _ = c.SetDeadline(time.Unix(1, 0)) })
	err := askForTunnel(c, by, address)
	if !stop() { // the deadline is set, or will be
		return cmp.Or(context.Cause(ctx), err)
	}
	return err
}

func askForTunnel(c net.Conn, by *url.URL, address string) error {
	head := "CONNECT " + address + " HTTP/1.1\r\nHost: " + address + "\r\n"
	if by.User != nil {
		password, _ := by.User.Password()
		head += "Proxy-Authorization: Basic " + base64.StdEncoding.EncodeToString([]byte(by.User.Username()+":"+password)) + "\r\n"
	}
	if _, err := io.WriteString(c, head+"\r\n"); err != nil {
		return err
	}
	// Byte by byte: what follows the head is the member's.
	var answer strings.Builder
	for one := make([]byte, 1); !strings.HasSuffix(answer.String(), "\r\n\r\n"); {
		if answer.Len() > connectLimit {
			return errors.New("its answer to CONNECT is too long")
		}
		if _, err := io.ReadFull(c, one); err != nil {
			return fmt.Errorf("no answer to CONNECT: %w", err)
		}
		answer.WriteByte(one[0])
	}
	res, err := http.ReadResponse(bufio.NewReader(strings.NewReader(answer.String())), &http.Request{Method: http.MethodConnect})
	if err != nil {
		return err
	}
	defer res.Body.Close()
	if res.StatusCode != http.StatusOK {
		return fmt.Errorf("CONNECT %s was answered %s", address, res.Status)
	}
	return nil
}

// meaninglessVariables are those set ones that etcd's proxy read, or etcd reads,
// and this proxy does not.
func meaninglessVariables(env *Env, s *Settings, honorProxy bool) []string {
	var names []string
	for _, entry := range env.Environ {
		name, value, _ := strings.Cut(entry, "=")
		if value == "" {
			continue
		}
		if rest, ours := strings.CutPrefix(name, "ETCD_"); ours {
			setting, known := s.table[strings.ToLower(strings.ReplaceAll(rest, "_", "-"))]
			if !known || setting.Ignored {
				names = append(names, name)
			}
		}
		if !honorProxy && slices.Contains(proxyVariables, name) {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	return slices.Compact(names)
}
