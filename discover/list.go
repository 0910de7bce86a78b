package discover

import (
	"context"
	"errors"
	"strings"
)

// List returns the members by the first of the client endpoints that answers,
// in the order given. An endpoint is a client URL or host:port, which means
// https where TLS is set. It needs no quorum, and may therefore be behind. The
// error names the cause for each endpoint, and wraps ErrNeedsUser where one
// answers users only.
func (i *Inspector) List(ctx context.Context, endpoints []string) (clusterID uint64, members []Member, err error) {
	if len(endpoints) == 0 {
		return 0, nil, errors.New("list members: no endpoint is given")
	}
	var failures []error
	for _, endpoint := range endpoints {
		clusterID, members, err = i.listFrom(ctx, endpointURL(endpoint, i.TLS != nil))
		if err == nil {
			return clusterID, members, nil
		}
		failures = append(failures, &endpointError{endpoint, i.cause(err), err})
	}
	return 0, nil, &listError{failures}
}

func (i *Inspector) listFrom(ctx context.Context, clientURL string) (uint64, []Member, error) {
	ctx, cancel := context.WithTimeout(ctx, i.timeout())
	defer cancel()
	c, _, err := i.connect(ctx, clientURL)
	if err != nil {
		return 0, nil, err
	}
	defer c.close()
	list, err := c.members(ctx)
	if isDenied(err) {
		user, loginErr := i.logIn(ctx, clientURL)
		if loginErr != nil {
			return 0, nil, loginErr
		}
		defer user.close()
		list, err = user.members(ctx)
	}
	if err != nil {
		return 0, nil, err
	}
	members := make([]Member, 0, len(list.Members))
	for _, m := range list.Members {
		members = append(members, Member{
			ID: m.ID, Name: m.Name, PeerURLs: m.PeerURLs, ClientURLs: m.ClientURLs, IsLearner: m.IsLearner,
		})
	}
	return list.Header.GetClusterId(), members, nil
}

// endpointURL makes a URL of host:port.
func endpointURL(endpoint string, secure bool) string {
	endpoint = strings.TrimSpace(endpoint)
	switch {
	case strings.Contains(endpoint, "://"):
		return endpoint
	case secure:
		return "https://" + endpoint
	}
	return "http://" + endpoint
}

// endpointError is why one endpoint gave no list.
type endpointError struct {
	endpoint, cause string
	err             error
}

func (e *endpointError) Error() string { return e.endpoint + ": " + e.cause }
func (e *endpointError) Unwrap() error { return e.err }

// listError is why no endpoint gave a list, in one line.
type listError struct{ endpoints []error }

func (e *listError) Unwrap() []error { return e.endpoints }

func (e *listError) Error() string {
	texts := make([]string, len(e.endpoints))
	for n, err := range e.endpoints {
		texts[n] = err.Error()
	}
	return "list members: " + strings.Join(texts, "; ")
}
