package promote

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"net/url"
	"strings"

	"etcdops/discover"
)

// endpoint is where a URL of etcd's leads.
type endpoint struct {
	scheme string // http, https, unix or unixs
	host   string // "" with unix and unixs
	port   string
	path   string // of the socket
}

func (e endpoint) secure() bool    { return e.scheme == "https" || e.scheme == "unixs" }
func (e endpoint) unix() bool      { return e.path != "" }
func (e endpoint) address() string { return net.JoinHostPort(e.host, e.port) }

// parseEndpoint reads a URL as etcd does (client/pkg/types/urls.go): no path
// behind a host, and never without a port.
func parseEndpoint(raw string) (endpoint, error) {
	u, err := url.Parse(raw)
	if err != nil {
		return endpoint{}, errors.New("it is not a URL")
	}
	switch u.Scheme {
	case "unix", "unixs":
		if u.Host+u.Path == "" {
			return endpoint{}, errors.New("it names no socket")
		}
		return endpoint{scheme: u.Scheme, path: u.Host + u.Path}, nil
	case "http", "https":
	default:
		return endpoint{}, errors.New("it is not an http, https, unix or unixs URL")
	}
	switch {
	case u.Path != "" || u.RawQuery != "" || u.User != nil:
		return endpoint{}, errors.New("it has more than a host and a port")
	case u.Port() == "":
		return endpoint{}, errors.New("it has no port")
	}
	return endpoint{scheme: u.Scheme, host: strings.ToLower(u.Hostname()), port: u.Port()}, nil
}

// The kinds of addresses, by whom they can be reached.
const (
	addressBad         = iota // not a URL of etcd's
	addressPublic             // by other machines, as far as it can be told
	addressLoopback           // by this machine alone
	addressUnspecified        // all addresses of whoever dials: good for listening only
	addressUnix               // a socket of this machine
)

// addressKind judges a URL by its text. Names other than localhost are not
// resolved: on many machines their own name resolves to loopback, for
// themselves alone.
func addressKind(raw string) int {
	e, err := parseEndpoint(raw)
	if err != nil {
		return addressBad
	}
	if e.unix() {
		return addressUnix
	}
	if e.host == "" {
		return addressUnspecified
	}
	if ip, err := netip.ParseAddr(e.host); err == nil {
		switch ip = ip.Unmap(); {
		case ip.IsUnspecified():
			return addressUnspecified
		case ip.IsLoopback():
			return addressLoopback
		}
		return addressPublic
	}
	if name := strings.TrimSuffix(e.host, "."); name == "localhost" || strings.HasSuffix(name, ".localhost") {
		return addressLoopback
	}
	return addressPublic
}

// allLoopback tells whether every member advertises to clients on this machine
// alone: then the whole cluster lives here.
func allLoopback(members []discover.MemberStatus) bool {
	for _, m := range members {
		if m.Status == discover.MemberUnstarted {
			continue // it has told no client URLs yet
		}
		if !onlyLocal(m.ClientURLs) {
			return false
		}
	}
	return len(members) > 0
}

// onlyLocal tells whether there are URLs and none of them can be reached from
// another machine.
func onlyLocal(urls []string) bool {
	for _, raw := range urls {
		if kind := addressKind(raw); kind != addressLoopback && kind != addressUnix {
			return false
		}
	}
	return len(urls) > 0
}

// kindName says in words what is wrong with an address that is advertised.
func kindName(kind int) string {
	switch kind {
	case addressLoopback:
		return "a loopback address, where every machine finds itself"
	case addressUnspecified:
		return "an unspecified address, where every machine finds itself"
	case addressUnix:
		return "a socket of this machine"
	}
	return fmt.Sprintf("an address of kind %d", kind)
}
