package discover

import (
	"errors"
	"fmt"
	"net/url"
	"slices"
	"strconv"
	"strings"
)

// BadClusterError names the entry of --initial-cluster that cannot be used.
type BadClusterError struct {
	Entry  string // as the operator wrote it, without outer white space
	Reason string // what is wrong with it
	Hint   string // what to write instead
}

func (e *BadClusterError) Error() string {
	return fmt.Sprintf("bad entry %q in --initial-cluster: %s", e.Entry, e.Reason)
}

// ParseInitialCluster returns the peer URLs of an --initial-cluster value, in
// the order given and each once. Names may be repeated, entries may be
// surrounded by white space, and empty entries are passed over, all as etcd
// does (client/pkg/types/urlsmap.go). An error is a *BadClusterError.
func ParseInitialCluster(value string) ([]string, error) {
	var peerURLs []string
	for entry := range strings.SplitSeq(value, ",") {
		entry = strings.TrimSpace(entry)
		if entry == "" {
			continue
		}
		_, peerURL, err := parseEntry(entry)
		if err != nil {
			return nil, err
		}
		if !slices.Contains(peerURLs, peerURL) {
			peerURLs = append(peerURLs, peerURL)
		}
	}
	if len(peerURLs) == 0 {
		return nil, &BadClusterError{
			Entry:  strings.TrimSpace(value),
			Reason: "it names no member",
			Hint:   "write --initial-cluster name=http://host:2380,… or leave it out",
		}
	}
	return peerURLs, nil
}

// parseEntry reads name=peerURL, without white space around it. An error is a
// *BadClusterError.
func parseEntry(entry string) (name, peerURL string, err error) {
	name, rawURL, found := strings.Cut(entry, "=")
	name, rawURL = strings.TrimSpace(name), strings.TrimSpace(rawURL)
	const form = "write it as name=http://host:2380"
	switch {
	case !found:
		return "", "", &BadClusterError{entry, `it has no "=" between a name and a peer URL`, form}
	case name == "":
		return "", "", &BadClusterError{entry, `it has no name before the "="`, form}
	case rawURL == "":
		return "", "", &BadClusterError{entry, `it has no peer URL after the "="`, form}
	}
	if peerURL, err = parsePeerURL(rawURL); err != nil {
		return "", "", &BadClusterError{entry, err.Error(), form}
	}
	return name, peerURL, nil
}

// parsePeerURL accepts what etcd accepts as a peer URL (types.NewURLs), except
// unix sockets: a proxy asks its peers over the network.
func parsePeerURL(raw string) (string, error) {
	u, err := url.Parse(raw)
	if err != nil {
		// url.Error repeats the whole URL, which the caller names already.
		var parseError *url.Error
		if errors.As(err, &parseError) {
			err = parseError.Err
		}
		if strings.Contains(err.Error(), "first path segment") {
			return "", errNoScheme
		}
		return "", fmt.Errorf("its URL is not valid: %w", err)
	}
	switch {
	case !strings.Contains(raw, "://"):
		return "", errNoScheme
	case u.Scheme != "http" && u.Scheme != "https":
		return "", fmt.Errorf("the scheme of its URL is %q, not http or https", u.Scheme)
	case u.User != nil:
		return "", errors.New("its URL has a user name: peers are asked without one")
	case u.Hostname() == "":
		return "", errors.New("its URL has no host")
	case u.Path != "" || u.RawQuery != "" || u.ForceQuery || u.Fragment != "":
		return "", errors.New("its URL goes on after the port: a peer URL ends there")
	case u.Port() == "":
		return "", errors.New("its URL has no port")
	}
	if port, err := strconv.ParseUint(u.Port(), 10, 16); err != nil || port == 0 {
		return "", fmt.Errorf("port %s is not between 1 and 65535", u.Port())
	}
	return (&url.URL{Scheme: u.Scheme, Host: u.Host}).String(), nil
}

var errNoScheme = errors.New("its URL has no scheme: http:// or https:// is missing")
