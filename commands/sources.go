package commands

import (
	"errors"
	"log/slog"
	"slices"
	"strings"
	"time"

	"etcdops/discover"
)

// sourceNames are the settings that say where the cluster is.
var sourceNames = []string{"discovery", "discovery-token", "discovery-endpoints", "discovery-srv", "initial-cluster"}

// namesSource tells whether one of them is set.
func namesSource(s *Settings) bool {
	return slices.ContainsFunc(sourceNames, func(name string) bool { return s.String(name) != "" })
}

// sourceConfig is where the settings say that the cluster is. checkSources has
// passed.
func sourceConfig(s *Settings, ids *identities, dialTimeout time.Duration, logger *slog.Logger) (discover.Config, error) {
	strict, err := s.Bool("strict-sources")
	if err != nil {
		return discover.Config{}, err
	}
	client, err := discoveryClient(s)
	if err != nil {
		return discover.Config{}, err
	}
	id, anyCluster, err := clusterID(s)
	if err != nil {
		return discover.Config{}, err
	}
	return discover.Config{
		Dial: ids.Dial, ClusterID: id, AnyCluster: anyCluster,
		DiscoveryURL: s.String("discovery"), DiscoveryProxy: s.String("discovery-proxy"),
		DiscoveryToken: s.String("discovery-token"), DiscoveryEndpoints: s.List("discovery-endpoints"),
		DiscoveryClient: client, DiscoveryTLS: ids.Discovery,
		SRVDomain: s.String("discovery-srv"), SRVName: s.String("discovery-srv-name"),
		InitialCluster: s.String("initial-cluster"), DataDir: s.String("data-dir"), Strict: strict,
		PeerTLS: ids.Peers, ExplainPeer: ids.explainPeer(s), DialTimeout: dialTimeout, Logger: logger,
	}, nil
}

// clusterID is the cluster that has to be followed; 0 where it is not said.
func clusterID(s *Settings) (id uint64, anyCluster bool, err error) {
	switch value := s.String("cluster-id"); value {
	case "":
		return 0, false, nil
	case "any":
		return 0, true, nil
	default:
		if id, err = parseClusterID(value); err != nil {
			return 0, false, s.Bad("cluster-id", clusterIDHint(value)+"; or any", "%q is not the ID of a cluster", value)
		}
		return id, false, nil
	}
}

func discoveryClient(s *Settings) (discover.DiscoveryClient, error) {
	var client discover.DiscoveryClient
	for name, to := range map[string]*time.Duration{
		"discovery-dial-timeout": &client.DialTimeout, "discovery-request-timeout": &client.RequestTimeout,
		"discovery-keepalive-time": &client.KeepAliveTime, "discovery-keepalive-timeout": &client.KeepAliveTimeout,
	} {
		value, err := s.Duration(name)
		if err != nil {
			return client, err
		}
		if value == 0 {
			return client, s.Bad(name, "write a time such as 5s, or leave it out", "without a limit a dead service would be waited for")
		}
		*to = value
	}
	client.Username, client.Password = s.String("discovery-user"), s.String("discovery-password")
	if client.Password == "" {
		client.Username, client.Password, _ = strings.Cut(client.Username, ":")
	}
	return client, nil
}

// checkSources refuses what says where the cluster is and can't be read: to
// pass over it could lead to a stranger's cluster.
func checkSources(s *Settings) error {
	for _, check := range []func(*Settings) error{checkDiscoveryURL, checkDiscoveryToken, checkDiscoverySRV, checkInitialCluster, checkClusterID} {
		if err := check(s); err != nil {
			return err
		}
	}
	return nil
}

func checkDiscoveryURL(s *Settings) error {
	if value := s.String("discovery"); value != "" {
		if _, err := discover.ParseDiscoveryURL(value); err != nil {
			return badURL(s, "discovery", value, err)
		}
	}
	if value := s.String("discovery-proxy"); value != "" {
		if _, err := discover.ParseDiscoveryProxy(value); err != nil {
			return badURL(s, "discovery-proxy", value, err)
		}
	}
	return nil
}

// badURL says what is wrong with a value, without showing a password in it.
func badURL(s *Settings, name, value string, err error) error {
	var bad *discover.BadURLError
	if !errors.As(err, &bad) {
		return err
	}
	if at := strings.LastIndex(value, "@"); at >= 0 {
		value = "…" + value[at:]
	}
	return s.Bad(name, bad.Hint, "%q: %s", value, bad.Reason)
}

func checkDiscoveryToken(s *Settings) error {
	token, endpoints := s.String("discovery-token"), s.List("discovery-endpoints")
	switch {
	case strings.HasPrefix(token, "/"):
		return s.Bad("discovery-token", "write TOKEN for the key /_etcd/registry/TOKEN", "%q is a key, not a token", token)
	case token != "" && len(endpoints) == 0:
		return s.Bad("discovery-token", "add --discovery-endpoints with the client URLs of the etcd that keeps the token", "there is no --discovery-endpoints to it")
	case token == "" && len(endpoints) > 0:
		return s.Bad("discovery-endpoints", "add --discovery-token", "there is no --discovery-token to it")
	}
	for _, endpoint := range endpoints {
		if err := discover.ParseDiscoveryEndpoint(endpoint); err != nil {
			return badURL(s, "discovery-endpoints", endpoint, err)
		}
	}
	return nil
}

func checkDiscoverySRV(s *Settings) error {
	domain, suffix := s.String("discovery-srv"), s.String("discovery-srv-name")
	if domain != "" {
		if err := discover.ParseSRVDomain(domain); err != nil {
			return badURL(s, "discovery-srv", domain, err)
		}
	}
	if suffix != "" && domain == "" {
		return s.Bad("discovery-srv-name", "add --discovery-srv DOMAIN, or leave it out", "there is no --discovery-srv to it")
	}
	if suffix != "" && (strings.Contains(suffix, ".") || discover.ParseSRVDomain(suffix) != nil) {
		return s.Bad("discovery-srv-name", "write NAME for records such as _etcd-server-NAME._tcp", "%q is not a part of a DNS name", suffix)
	}
	return nil
}

func checkInitialCluster(s *Settings) error {
	if s.String("initial-cluster") == "" {
		return nil
	}
	_, err := discover.ParseInitialCluster(s.String("initial-cluster"))
	var bad *discover.BadClusterError
	if errors.As(err, &bad) {
		return s.Bad("initial-cluster", bad.Hint, "bad entry %q: %s", bad.Entry, bad.Reason)
	}
	return err
}

func checkClusterID(s *Settings) error {
	_, _, err := clusterID(s)
	return err
}
