package commands

import (
	"net/url"
	"strings"

	"golang.org/x/sys/unix"

	"etcdops/proxy"
)

const (
	// fileReserve is how many open files are kept for all but clients, and
	// filesPerClient what one client may need: its connection, and one to a member.
	fileReserve    = 100
	filesPerClient = 2
	// Bounds of what an operator may set.
	leastHeaderBytes = 1 << 10
	mostHeaderBytes  = 1 << 20
)

// setLimits reads the limits on clients.
func setLimits(s *Settings, server *proxy.Server) error {
	var err error
	if server.MaxConnections, err = s.Int("max-connections"); err != nil {
		return err
	}
	if server.MaxConnections == 0 {
		server.MaxConnections = affordableConnections()
	}
	if server.MaxStreams, err = s.Int("max-concurrent-streams"); err != nil {
		return err
	}
	const mostStreams = 1<<31 - 1 // etcd's own default is more, and means no limit
	server.MaxStreams = min(server.MaxStreams, mostStreams)
	if server.MaxStreams == 0 {
		return s.Bad("max-concurrent-streams", "write a number such as "+defaultMaxStreams, "without a stream no request passes")
	}
	if server.HeaderLimit, err = s.Int("max-header-bytes"); err != nil {
		return err
	}
	if server.HeaderLimit < leastHeaderBytes || server.HeaderLimit > mostHeaderBytes {
		return s.Bad("max-header-bytes", "write a number from 1024 to 1048576", "%d bytes are too few or too many", server.HeaderLimit)
	}
	if server.HeaderTimeout, err = s.Duration("client-header-timeout"); err != nil {
		return err
	}
	if server.HeaderTimeout == 0 {
		return s.Bad("client-header-timeout", "write a time such as "+defaultHeaderTimeout, "without a limit one slow client after the other would stay")
	}
	if server.IdleTimeout, err = s.Duration("client-idle-timeout"); err != nil {
		return err
	}
	if server.IdleTimeout == 0 {
		return s.Bad("client-idle-timeout", "write a time such as "+defaultIdleTimeout, "without a limit connections of clients that are gone would stay")
	}
	return nil
}

// affordableConnections is how many clients the process can have open files for;
// the runtime has raised its limit to the most that it may have.
func affordableConnections() int {
	var limit unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &limit); err != nil {
		return 0
	}
	const most = 1 << 20
	files := min(limit.Cur, most)
	return max(fileReserve, int(files-min(files, fileReserve))/filesPerClient)
}

// parseMetricsURLs reads the URLs of /livez, /readyz and /metrics.
func parseMetricsURLs(s *Settings) ([]url.URL, error) {
	const name = "listen-metrics-urls"
	if s.String(name) == "" {
		return nil, nil
	}
	const hint = "write URLs such as http://127.0.0.1:2381, with commas between"
	for _, raw := range s.List(name) {
		if u, err := url.Parse(raw); err == nil && strings.Contains(raw, "://") && u.Scheme != "http" && u.Scheme != "https" {
			return nil, s.Bad(name, hint, "%q is neither http nor https", raw)
		}
	}
	urls, err := parseURLs(s, name, hint)
	for _, u := range urls {
		for _, raw := range s.List("listen-client-urls") {
			if c, err := url.Parse(raw); err == nil && c.Host == u.Host {
				return nil, s.Bad(name, "give it a port of its own", "%s is a client URL's", u.Host)
			}
		}
	}
	return urls, err
}
