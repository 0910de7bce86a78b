package commands

import "testing"

const metricsHint = "write URLs such as http://127.0.0.1:2381, with commas between"

// TestBadMetricsURLs is what --listen-metrics-urls does not take.
func TestBadMetricsURLs(t *testing.T) {
	refuseBadInput(t, map[string]badInput{
		"without a port": {
			`proxy start --listen-metrics-urls http://127.0.0.1`, nil, ExitUsage,
			`--listen-metrics-urls: "http://127.0.0.1" has no port`, metricsHint,
		},
		"without a scheme": {
			`proxy start`,
			[]string{"ETCD_LISTEN_METRICS_URLS=127.0.0.1:2381"},
			ExitUsage,
			`ETCD_LISTEN_METRICS_URLS: "127.0.0.1:2381" has no scheme`, metricsHint,
		},
		"a client URL's address": {
			`proxy start --listen-client-urls http://127.0.0.1:2379 --listen-metrics-urls https://127.0.0.1:2379`, nil, ExitUsage,
			`--listen-metrics-urls: 127.0.0.1:2379 is a client URL's`, "give it a port of its own",
		},
		"a unix socket": {
			`proxy start --listen-metrics-urls unix:///run/metrics.sock`, nil, ExitUsage,
			`--listen-metrics-urls: "unix:///run/metrics.sock" is neither http nor https`, metricsHint,
		},
		"another scheme": {
			`proxy start --listen-metrics-urls ftp://127.0.0.1:2381`, nil, ExitUsage,
			`--listen-metrics-urls: "ftp://127.0.0.1:2381" is neither http nor https`, metricsHint,
		},
		"a path": {
			`proxy start --listen-metrics-urls http://127.0.0.1:2381,http://127.0.0.1:2382/metrics`, nil, ExitUsage,
			`--listen-metrics-urls: "http://127.0.0.1:2382/metrics" has a path`, metricsHint,
		},
		"https without a certificate": {
			`proxy start --listen-metrics-urls https://127.0.0.1:2381`, nil, ExitUsage,
			"--listen-metrics-urls: https needs a certificate", "add --cert-file and --key-file, or --auto-tls",
		},
		"https for both without a certificate": {
			`proxy start --listen-client-urls https://127.0.0.1:2379 --listen-metrics-urls https://127.0.0.1:2381`, nil, ExitUsage,
			"--listen-client-urls: https needs a certificate", "add --cert-file and --key-file, or --auto-tls",
		},
		"an address in use": {
			`proxy start --data-dir p.etcd --listen-client-urls http://127.0.0.1:0 --listen-metrics-urls $URL`, nil, ExitFailed,
			"listen on $URL: bind: address already in use", "another process listens there: find it with ss -ltnp, or choose another --listen-metrics-urls",
		},
		"an address of another host": {
			`proxy start --data-dir p.etcd --listen-client-urls http://127.0.0.1:0 --listen-metrics-urls http://192.0.2.1:2381`, nil, ExitFailed,
			"listen on http://192.0.2.1:2381: bind: cannot assign requested address", "choose an address of this host in --listen-metrics-urls",
		},
	})
}
