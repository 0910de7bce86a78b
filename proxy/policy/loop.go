package policy

import (
	"crypto/rand"
	"encoding/hex"
	"strings"
)

// Instance is the name of one running proxy in Via (RFC 9110 section 7.6.3). A
// request that carries it has been here before.
type Instance string

// NewInstance draws a name that no other proxy has.
func NewInstance() Instance {
	var b [8]byte
	_, _ = rand.Read(b[:]) // never fails since Go 1.24
	return Instance("etcdops-" + hex.EncodeToString(b[:]))
}

// Seen says whether one of the Via values of a request names this proxy.
func (i Instance) Seen(via string) bool {
	for part := range strings.SplitSeq(via, ",") {
		// received-protocol, received-by, and perhaps a comment
		if f := strings.Fields(part); len(f) > 1 && f[1] == string(i) {
			return true
		}
	}
	return false
}

// Via is the value that we add to a request received as protocol, "1.1" or "2".
func (i Instance) Via(protocol string) string { return protocol + " " + string(i) }

// Refusal is the Proxy-Status (RFC 9209) of the answer by which this proxy
// refuses what has been here before.
func (i Instance) Refusal() string { return string(i) + "; " + loopDetected }

// Refused says whether one of the Proxy-Status values of an answer is our own
// Refusal: the request came back to us, and nobody has processed it.
func (i Instance) Refused(status string) bool {
	for member := range strings.SplitSeq(status, ",") {
		name, parameters, _ := strings.Cut(member, ";")
		if strings.TrimSpace(name) != string(i) {
			continue
		}
		for p := range strings.SplitSeq(parameters, ";") {
			if strings.TrimSpace(p) == loopDetected {
				return true
			}
		}
	}
	return false
}

// loopDetected is the error of a Proxy-Status (RFC 9209, "Proxy Loop Detected").
const loopDetected = "error=proxy_loop_detected"

// LoopHint tells who can mend a loop.
const LoopHint = "a member of the cluster advertises this proxy as its own client URL; correct that member's --advertise-client-urls"
