package commands

import (
	"fmt"
	"strings"
)

// trustFlags are what to give where a member and we do not trust each other's
// certificates.
type trustFlags struct {
	whom          string // " the proxy", or "" for the command itself
	ca, cert, key string
}

var (
	ownTrustFlags   = trustFlags{"", "--cacert", "--cert", "--key"}
	proxyTrustFlags = trustFlags{" the proxy", "--trusted-ca-file", "--client-cert-file", "--client-key-file"}
)

// hint is what to type next where a problem has the words of discover.TLSCause; ""
// for other ones.
func (f trustFlags) hint(problem string) string {
	switch {
	case strings.Contains(problem, "signed by unknown authority"):
		return fmt.Sprintf("give%s %s FILE with the CA that signed the members' certificates", f.whom, f.ca)
	case strings.Contains(problem, "refused our TLS handshake: protocol version"):
		return fmt.Sprintf("give%s --tls-min-version or --tls-max-version as the members have them", f.whom)
	case strings.Contains(problem, "refused our TLS handshake"):
		return fmt.Sprintf("give%s %s FILE and %s FILE, a certificate by a CA in the members' own --trusted-ca-file", f.whom, f.cert, f.key)
	case strings.Contains(problem, ": see --tls-server-name"):
		return fmt.Sprintf("give%s --tls-server-name with a name of the members' certificates, or name members by one", f.whom)
	}
	return ""
}
