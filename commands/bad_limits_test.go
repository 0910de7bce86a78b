package commands

import (
	"log/slog"
	"strings"
	"testing"
)

// TestBadLimits is about the limits on clients and the way to members.
func TestBadLimits(t *testing.T) { refuseBadInput(t, badLimits) }

const (
	headersHint  = "write a number from 1024 to 1048576"
	honorHint    = "write it as http://host:port, or leave out --honor-proxy-env"
	connectHint  = "set --max-connections to a whole number such as 0"
	streamsHint  = "set --max-concurrent-streams to a whole number such as 10000"
	noStreamHint = "write a number such as 10000"
)

var badLimits = map[string]badInput{
	"connections below zero": {
		`proxy start --max-connections -1`, nil, ExitUsage,
		`--max-connections: "-1" is not a number of at least 0`, connectHint,
	},
	"connections that are no number": {
		`proxy start --max-connections many`, nil, ExitUsage,
		`--max-connections: "many" is not a number of at least 0`, connectHint,
	},
	"connections in the environment": {
		`proxy start`,
		[]string{"ETCD_MAX_CONNECTIONS=1e3"},
		ExitUsage,
		`ETCD_MAX_CONNECTIONS: "1e3" is not a number of at least 0`, "set ETCD_MAX_CONNECTIONS to a whole number such as 0",
	},
	"connections beyond all numbers": {
		`proxy start --max-connections 99999999999999999999`, nil, ExitUsage,
		`--max-connections: "99999999999999999999" is not a number of at least 0`, connectHint,
	},
	"no streams": {
		`proxy start --max-concurrent-streams 0`, nil, ExitUsage,
		`--max-concurrent-streams: without a stream no request passes`, noStreamHint,
	},
	"streams that are no number": {
		`proxy start --max-concurrent-streams 1.5`, nil, ExitUsage,
		`--max-concurrent-streams: "1.5" is not a number of at least 0`, streamsHint,
	},
	"a head too short for a request": {
		`proxy start --max-header-bytes 1023`, nil, ExitUsage,
		`--max-header-bytes: 1023 bytes are too few or too many`, headersHint,
	},
	"a head too long for anything": {
		`proxy start --max-header-bytes 1048577`, nil, ExitUsage,
		`--max-header-bytes: 1048577 bytes are too few or too many`, headersHint,
	},
	"a head with a unit": {
		`proxy start --max-header-bytes 64KiB`, nil, ExitUsage,
		`--max-header-bytes: "64KiB" is not a number of at least 0`, "set --max-header-bytes to a whole number such as 65536",
	},
	"no time for a head": {
		`proxy start --client-header-timeout 0`, nil, ExitUsage,
		`--client-header-timeout: without a limit one slow client after the other would stay`, "write a time such as 10s",
	},
	"a time for heads that is none": {
		`proxy start --client-header-timeout soon`, nil, ExitUsage,
		`--client-header-timeout: "soon" is not a duration`, durationOf("--client-header-timeout"),
	},
	"idle for ever": {
		`proxy start --client-idle-timeout 0s`, nil, ExitUsage,
		`--client-idle-timeout: without a limit connections of clients that are gone would stay`, "write a time such as 5m",
	},
	"idle for less than nothing": {
		`proxy start --client-idle-timeout -5s`, nil, ExitUsage,
		`--client-idle-timeout: "-5s" is negative`, durationOf("--client-idle-timeout"),
	},
	"an HTTP proxy without a host": {
		`proxy start --honor-proxy-env`,
		[]string{"HTTP_PROXY=http://:3128"},
		ExitUsage,
		"HTTP_PROXY: it is not the URL of an HTTP proxy", honorHint,
	},
	"an HTTP proxy that is none, with a password": {
		`proxy discover --honor-proxy-env`,
		[]string{"HTTPS_PROXY=socks5://u:secret@h:1"},
		ExitUsage,
		"HTTPS_PROXY: it is not the URL of an HTTP proxy", honorHint,
	},
	"honor that is neither": {
		`proxy start`,
		[]string{"ETCD_HONOR_PROXY_ENV=maybe"},
		ExitUsage,
		`ETCD_HONOR_PROXY_ENV: "maybe" is neither true nor false`, "set ETCD_HONOR_PROXY_ENV to true or false",
	},
}

// A limit that the process can't keep is said.
func TestMoreConnectionsThanFiles(t *testing.T) {
	env, _, _ := testEnv("ETCD_MAX_CONNECTIONS=1000000000", "ETCD_DATA_DIR="+t.TempDir())
	s, err := loadSettings(proxySettings(), func(string) (string, bool) { return "", false }, env.Getenv)
	if err != nil {
		t.Fatal(err)
	}
	var log strings.Builder
	if _, _, err := newProxyServer(env, s, slog.New(slog.NewTextHandler(&log, nil))); err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(log.String(), "max_connections=1000000000") {
		t.Errorf("the log says %s", log.String())
	}
}
