package commands

import (
	"strings"
	"testing"
)

// What is wrong with a certificate leads to the flags of who asks; anything else to none.
func TestTrustFlagsHint(t *testing.T) {
	for _, test := range []struct {
		name, problem string
		own, proxy    string // how the hints begin
	}{
		{"unknown authority", "m1: certificate signed by unknown authority: see --cacert", "give --cacert FILE", "give the proxy --trusted-ca-file FILE"},
		{
			"refused", "read probe: it refused our TLS handshake: certificate required: see --client-cert-file",
			"give --cert FILE and --key FILE, a certificate by a CA", "give the proxy --client-cert-file FILE and --client-key-file FILE, a certificate by a CA",
		},
		{"version", "it refused our TLS handshake: protocol version not supported: see --tls-min-version", "give --tls-min-version", "give the proxy --tls-min-version"},
		{"name", "certificate is valid for etcd.test, not a.test: see --tls-server-name", "give --tls-server-name", "give the proxy --tls-server-name"},
		{"no certificate", "connection refused", "", ""},
	} {
		t.Run(test.name, func(t *testing.T) {
			own, proxy := ownTrustFlags.hint(test.problem), proxyTrustFlags.hint(test.problem)
			for got, want := range map[string]string{own: test.own, proxy: test.proxy} {
				if !strings.HasPrefix(got, want) || (got == "") != (want == "") {
					t.Errorf("got %q, want %q", got, want)
				}
			}
		})
	}
}
