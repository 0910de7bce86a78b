//go:build alerts

package main

import (
	"testing"

	"github.com/rogpeppe/go-internal/testscript"
)

// TestAlerts runs the scenarios in which Prometheus's promtool looks at a real proxy.
// scripts/test-alerts gets that program.
func TestAlerts(t *testing.T) {
	testscript.Run(t, scriptParams("testdata/alerts"))
}
