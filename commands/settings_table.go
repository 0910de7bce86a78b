package commands

import (
	"slices"
	"strings"
)

// Defaults of the proxy's flags; the times are etcd's, in milliseconds
// (server/etcdmain/config.go of 3.5).
const (
	defaultProxyMode       = "on"
	defaultName            = "default"
	defaultDataDir         = "${name}.etcd"
	defaultListenURLs      = "http://localhost:2379"
	defaultFailureWait     = "5000"
	defaultRefreshInterval = "30000"
	defaultDialTimeout     = "1000"
	defaultWriteTimeout    = "5000"
	defaultReadTimeout     = "0"
	defaultCertYears       = "1"
	defaultTLSMinVersion   = "TLS1.2"
	defaultDrainTimeout    = "5s"
	defaultMaxConnections  = "0"
	defaultMaxStreams      = "10000"
	defaultMaxHeaderBytes  = "65536"
	defaultHeaderTimeout   = "10s"
	defaultIdleTimeout     = "5m"

	// Those of etcd's v3 discovery (server/embed/config.go of 3.7).
	defaultDiscoveryDialTimeout      = "2s"
	defaultDiscoveryRequestTimeout   = "5s"
	defaultDiscoveryKeepAliveTime    = "2s"
	defaultDiscoveryKeepAliveTimeout = "6s"
	defaultDiscoveryInsecure         = "true"
)

// proxySettings is the flag table of proxy start: etcd's proxy flags, ours,
// and the flags of a member, which mean nothing to a proxy.
func proxySettings() []Setting {
	return slices.Concat(proxyFlags, discoveryFlags, tlsFlags, ownFlags, memberFlags())
}

// sourceSettings are the proxy's flags that say where the cluster is and how to
// talk to it, without those of the listener.
func sourceSettings() []Setting {
	return slices.DeleteFunc(proxySettings(), func(s Setting) bool {
		if strings.HasPrefix(s.Name, "discovery") {
			return s.Ignored
		}
		switch s.Name {
		case "initial-cluster", "strict-sources", "cluster-id", "data-dir", "name", "proxy-dial-timeout", "honor-proxy-env", configFileSetting,
			"client-cert-file", "client-key-file", "cert-file", "key-file", "trusted-ca-file",
			"peer-client-cert-file", "peer-client-key-file", "peer-cert-file", "peer-key-file", "peer-trusted-ca-file", "peer-auto-tls",
			"tls-server-name", "peer-tls-server-name", "tls-min-version", "tls-max-version", "cipher-suites":
			return false
		}
		return true
	})
}

var proxyFlags = []Setting{
	{Name: "proxy", Default: defaultProxyMode, Values: []string{"on", "readonly"}, Usage: "`MODE`: on passes every request; readonly refuses whatever is not known to be a read"},
	{Name: "listen-client-urls", Default: defaultListenURLs, Usage: "`URLS` to listen on, with commas between: http, https or unix"},
	{Name: "initial-cluster", Usage: "name=`PEERURL` of the members to ask for the member list, with commas between"},
	{Name: "data-dir", Default: defaultDataDir, Usage: "`DIR` of the proxy's memory, in DIR/proxy"},
	{Name: "wal-dir", Usage: "`DIR` of a member's log: a proxy does not start beside a member"},
	{Name: "name", Default: defaultName, Usage: "`NAME` of this proxy"},
	{Name: "proxy-failure-wait", Default: defaultFailureWait, Usage: "`TIME` that a failed endpoint is left alone"},
	{Name: "proxy-refresh-interval", Default: defaultRefreshInterval, Usage: "`TIME` between two looks at the member list"},
	{Name: "proxy-dial-timeout", Default: defaultDialTimeout, Usage: "`TIME` that a connection to a member may take to be made; 0: no limit"},
	{Name: "proxy-write-timeout", Default: defaultWriteTimeout, Usage: "`TIME` that one write to a member may take; 0: no limit"},
	{Name: "proxy-read-timeout", Default: defaultReadTimeout, Usage: "`TIME` that one read from a member may take; 0: no limit, as watches need it"},
	{Name: "cors", Usage: "`ORIGINS` that browsers may call from, with commas between, * for all; if not set, the members decide"},
}

// discoveryFlags are etcd's, of 3.5 (the URL) and of 3.7 (the token).
var discoveryFlags = []Setting{
	{Name: "discovery", Usage: "v2 discovery `URL`, with its token: http://host:2379/v2/keys/_etcd/registry/TOKEN"},
	{Name: "discovery-proxy", Usage: "HTTP proxy `URL` towards the discovery URL"},
	{Name: "discovery-token", Usage: "`TOKEN` of a v3 discovery, at discovery-endpoints"},
	{Name: "discovery-endpoints", Usage: "client `URLS` of the etcd that keeps discovery-token, with commas between"},
	{Name: "discovery-srv", Usage: "DNS `DOMAIN` whose _etcd-server-ssl._tcp and _etcd-server._tcp records name the peers"},
	{Name: "discovery-srv-name", Usage: "`NAME` behind _etcd-server-ssl and _etcd-server, as in _etcd-server-NAME._tcp"},
	{Name: "strict-sources", Bool: true, Usage: "where a source fails, stop: try no other one"},
	{Name: "discovery-dial-timeout", Default: defaultDiscoveryDialTimeout, Usage: "`TIME` that a connection to discovery-endpoints may take to be made"},
	{Name: "discovery-request-timeout", Default: defaultDiscoveryRequestTimeout, Usage: "`TIME` that an answer of discovery-endpoints may take"},
	{Name: "discovery-keepalive-time", Default: defaultDiscoveryKeepAliveTime, Usage: "`TIME` of silence after which discovery-endpoints are probed"},
	{Name: "discovery-keepalive-timeout", Default: defaultDiscoveryKeepAliveTimeout, Usage: "`TIME` that the answer to such a probe may take"},
	{Name: "discovery-insecure-transport", Bool: true, Default: defaultDiscoveryInsecure, Usage: "discovery-endpoints without a scheme are http; =false: https"},
	{Name: "discovery-insecure-skip-tls-verify", Bool: true, Usage: "do not verify the certificates of discovery services"},
	{Name: "discovery-cert", Usage: "certificate `FILE` towards discovery services"},
	{Name: "discovery-key", Usage: "key `FILE` towards discovery services"},
	{Name: "discovery-cacert", Usage: "CA `FILE` that signed the certificates of discovery services"},
	{Name: "discovery-user", Usage: "`NAME` or NAME:PASSWORD of a user at discovery-endpoints"},
	{Name: "discovery-password", Usage: "`PASSWORD` of discovery-user"},
}

var tlsFlags = []Setting{
	{Name: "cert-file", Usage: "certificate `FILE` of the listener"},
	{Name: "key-file", Usage: "key `FILE` of the listener"},
	{Name: "trusted-ca-file", Usage: "CA `FILE` that signed the members' certificates, and the clients'"},
	{Name: "client-cert-auth", Bool: true, Usage: "let in only clients with a certificate"},
	{Name: "client-crl-file", Usage: "`FILE` of revoked client certificates"},
	{Name: "client-cert-file", Usage: "certificate `FILE` towards members, if not cert-file"},
	{Name: "client-key-file", Usage: "key `FILE` towards members, if not key-file"},
	{Name: "allow-client-cert-cn", Bool: true, Usage: "let the certificate towards members have a common name, which with auth on is the user of every client without a token"},
	{Name: "client-cert-allowed-hostname", Usage: "`NAMES` of which a client certificate must have one"},
	{Name: "auto-tls", Bool: true, Usage: "make a certificate for the listener"},
	{Name: "self-signed-cert-validity", Default: defaultCertYears, Usage: "`YEARS` that a certificate of auto-tls is valid"},
	{Name: "peer-cert-file", Usage: "certificate `FILE` towards the members' peer URLs"},
	{Name: "peer-key-file", Usage: "key `FILE` towards the members' peer URLs"},
	{Name: "peer-client-cert-file", Usage: "certificate `FILE` towards peer URLs, if not peer-cert-file"},
	{Name: "peer-client-key-file", Usage: "key `FILE` towards peer URLs, if not peer-key-file"},
	{Name: "peer-trusted-ca-file", Usage: "CA `FILE` that signed the members' peer certificates"},
	{Name: "peer-auto-tls", Bool: true, Usage: "the members' peer certificates are self-signed"},
	{Name: "tls-server-name", Usage: "`NAME` that the members' certificates are for, if not the host of their client URLs"},
	{Name: "peer-tls-server-name", Usage: "`NAME` that the certificates of the members' peer URLs are for, if not the host"},
	{Name: "tls-min-version", Default: defaultTLSMinVersion, Values: tlsVersions, Also: []string{""}, Usage: "least `VERSION` of TLS, on all sides"},
	{Name: "tls-max-version", Values: tlsVersions, Also: []string{""}, Usage: "highest `VERSION` of TLS, on all sides; if not set, what there is"},
	{Name: "cipher-suites", Usage: "`SUITES` of TLS 1.2, on all sides, with commas between; if not set, those that Go holds for safe"},
}

var ownFlags = []Setting{
	{Name: "cluster-id", Usage: "`HEX` ID of the cluster to follow, or any: the one that answers first, whatever the proxy remembers"},
	{Name: "max-connections", Default: defaultMaxConnections, Usage: "`NUMBER` of client connections at most; 0: half of the files that the process may open"},
	{Name: "max-concurrent-streams", Default: defaultMaxStreams, Usage: "`NUMBER` of gRPC streams that a client may have open on one connection"},
	{Name: "max-header-bytes", Default: defaultMaxHeaderBytes, Usage: "`BYTES` that the head of a request may have"},
	{Name: "client-header-timeout", Default: defaultHeaderTimeout, Usage: "`TIME` that a client may take for the head of a request, or for a TLS handshake"},
	{Name: "client-idle-timeout", Default: defaultIdleTimeout, Usage: "`TIME` that a client connection may be without a request"},
	{Name: "honor-proxy-env", Bool: true, Usage: "reach members through HTTP_PROXY and HTTPS_PROXY, but for NO_PROXY"},
	{Name: "listen-metrics-urls", Usage: "`URLS` of /livez, /readyz and /metrics, with commas between: http or https"},
	{Name: "drain-timeout", Default: defaultDrainTimeout, Usage: "`TIME` that requests may take to finish after SIGTERM"},
	{
		Name: "log-level", Default: "info", Values: []string{"debug", "info", "warn", "error"},
		Also: []string{"dpanic", "panic", "fatal"}, Usage: "least `LEVEL` that is logged",
	},
	{Name: "log-format", Default: "text", Values: []string{"text", "json"}, Usage: "log as `FORMAT`"},
	{Name: configFileSetting, Usage: "YAML `FILE` with these flags as keys; flags and variables beat it"},
}

// tlsVersions are etcd's words (client/pkg/tlsutil/versions.go).
var tlsVersions = []string{"TLS1.2", "TLS1.3"}

// memberFlags are the other flags of etcd 3.5 and 3.4, so that a unit file that
// ran "etcd --proxy on" needs nothing changed but its command word.
func memberFlags() []Setting {
	settings := make([]Setting, 0, len(memberSwitches)+len(memberValues))
	for _, name := range memberSwitches {
		settings = append(settings, Setting{Name: name, Bool: true, Ignored: true})
	}
	for _, name := range memberValues {
		settings = append(settings, Setting{Name: name, Ignored: true})
	}
	return settings
}

// memberSwitches are etcd's boolean flags. Those of the last line were ignored
// by etcd itself.
var memberSwitches = []string{
	"debug", "enable-grpc-gateway", "enable-log-rotation", "enable-pprof", "enable-v2",
	"experimental-compact-hash-check-enabled", "experimental-enable-distributed-tracing",
	"experimental-enable-lease-checkpoint", "experimental-enable-lease-checkpoint-persist",
	"experimental-initial-corrupt-check", "experimental-memory-mlock",
	"experimental-peer-skip-client-san-verification", "experimental-stop-grpc-service-on-defrag",
	"experimental-txn-mode-write-with-shared-buffer", "force-new-cluster",
	"initial-election-tick-advance", "peer-client-cert-auth", "pre-vote",
	"socket-reuse-address", "socket-reuse-port", "strict-reconfig-check", "unsafe-no-fsync",
	"cluster-active-size", "cluster-remove-delay", "cluster-sync-interval", "config", "force", "max-result-buffer",
	"max-retry-attempts", "peer-election-timeout", "peer-heartbeat-interval", "retry-interval", "snapshot", "v", "vv",
}

// memberValues are etcd's flags that need a value.
var memberValues = []string{
	"advertise-client-urls", "auth-token", "auth-token-ttl", "auto-compaction-mode", "auto-compaction-retention",
	"backend-batch-interval", "backend-batch-limit", "backend-bbolt-freelist-type", "bcrypt-cost", "discovery-fallback",
	"election-timeout", "experimental-bootstrap-defrag-threshold-megabytes", "experimental-compact-hash-check-time",
	"experimental-compaction-batch-limit", "experimental-compaction-sleep-interval", "experimental-corrupt-check-time",
	"experimental-distributed-tracing-address", "experimental-distributed-tracing-instance-id",
	"experimental-distributed-tracing-sampling-rate", "experimental-distributed-tracing-service-name",
	"experimental-downgrade-check-time", "experimental-enable-v2v3", "experimental-snapshot-catchup-entries",
	"experimental-warning-apply-duration", "experimental-watch-progress-notify-interval",
	"grpc-keepalive-interval", "grpc-keepalive-min-time", "grpc-keepalive-timeout", "heartbeat-interval",
	"host-whitelist", "initial-advertise-peer-urls", "initial-cluster-state", "initial-cluster-token",
	"listen-client-http-urls", "listen-peer-urls", "log-output", "log-outputs",
	"log-package-levels", "log-rotation-config-json", "logger", "max-request-bytes",
	"max-snapshots", "max-txn-ops", "max-wals", "metrics", "peer-cert-allowed-cn", "peer-cert-allowed-hostname",
	"peer-crl-file", "quota-backend-bytes", "raft-read-timeout", "raft-write-timeout", "snapshot-count",
	"v2-deprecation",
}
