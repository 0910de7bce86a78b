package main

import (
	"net"
	"net/netip"

	"github.com/rogpeppe/go-internal/testscript"
)

// cmdHostAddress names an address of a network interface of this machine that is
// not the loopback's. What is sent there does not leave the machine. One without
// a network has none; 127.0.0.1 is then all there is.
func cmdHostAddress(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 1 {
		ts.Fatalf("usage: hostaddress VAR")
	}
	addrs, err := net.InterfaceAddrs()
	ts.Check(err)
	ts.Setenv(args[0], "127.0.0.1")
	for _, a := range addrs {
		if p, err := netip.ParsePrefix(a.String()); err == nil && p.Addr().Is4() && p.Addr().IsGlobalUnicast() {
			ts.Setenv(args[0], p.Addr().String())
			return
		}
	}
}
