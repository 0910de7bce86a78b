//go:build dns

package main

import (
	"testing"

	"github.com/rogpeppe/go-internal/testscript"
)

// TestDNS runs the scenarios for a real name server, which they start at the
// address that this system's /etc/resolv.conf names. scripts/test-dns makes a
// system of which that is true.
func TestDNS(t *testing.T) {
	testscript.Run(t, scriptParams("testdata/dns"))
}
