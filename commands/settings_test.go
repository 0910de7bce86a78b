package commands

import (
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

// world is where settings come from in a test.
type world struct {
	flags   map[string]string
	environ []string
	file    string // content of the config file; none if empty
}

// load returns the settings of proxy start in this world, and the path of the
// config file.
func (w world) load(t *testing.T) (settings *Settings, path string, err error) {
	t.Helper()
	env, _, _ := testEnv(w.environ...)
	if w.file != "" {
		path = filepath.Join(t.TempDir(), "etcd.yml")
		if err := os.WriteFile(path, []byte(w.file), 0o600); err != nil {
			t.Fatal(err)
		}
		env.Environ = append(env.Environ, "ETCD_CONFIG_FILE="+path)
	}
	flag := func(name string) (string, bool) {
		value, found := w.flags[name]
		return value, found
	}
	settings, err = loadSettings(proxySettings(), flag, env.Getenv)
	return settings, path, err
}

func TestSettingsPrecedence(t *testing.T) {
	for name, test := range map[string]struct {
		world         world
		setting       string
		value, origin string
	}{
		"default":                {world{}, "proxy", "on", originDefault},
		"default with the name":  {world{}, "data-dir", "default.etcd", originDefault},
		"default with my name":   {world{environ: []string{"ETCD_NAME=p1"}}, "data-dir", "p1.etcd", originDefault},
		"flag":                   {world{flags: map[string]string{"proxy": "readonly"}}, "proxy", "readonly", originFlag},
		"environment":            {world{environ: []string{"ETCD_PROXY=readonly"}}, "proxy", "readonly", originEnvironment},
		"config file":            {world{file: "proxy: readonly"}, "proxy", "readonly", originFile},
		"flag over environment":  {world{flags: map[string]string{"name": "f"}, environ: []string{"ETCD_NAME=e"}, file: "name: c"}, "name", "f", originFlag},
		"environment over file":  {world{environ: []string{"ETCD_NAME=e"}, file: "name: c"}, "name", "e", originEnvironment},
		"file over default":      {world{file: "name: c"}, "name", "c", originFile},
		"empty flag counts":      {world{flags: map[string]string{"initial-cluster": ""}, environ: []string{"ETCD_INITIAL_CLUSTER=a=b"}}, "initial-cluster", "", originFlag},
		"empty variable is none": {world{environ: []string{"ETCD_NAME="}, file: "name: c"}, "name", "c", originFile},
		"last variable wins":     {world{environ: []string{"ETCD_NAME=a", "ETCD_NAME=b"}}, "name", "b", originEnvironment},
		"dashes in the variable": {world{environ: []string{"ETCD_LISTEN_CLIENT_URLS=http://a:1"}}, "listen-client-urls", "http://a:1", originEnvironment},
		"file: number":           {world{file: "proxy-failure-wait: 7000"}, "proxy-failure-wait", "7000", originFile},
		"file: switch":           {world{file: "auto-tls: true"}, "auto-tls", "true", originFile},
		"file: list":             {world{file: "cors: [http://a, http://b]"}, "cors", "http://a,http://b", originFile},
		"file: no value":         {world{file: "name:"}, "name", "default", originDefault},
		"file: client section":   {world{file: "client-transport-security:\n  trusted-ca-file: ca.pem"}, "trusted-ca-file", "ca.pem", originFile},
		"file: suites":           {world{file: "cipher-suites: [A, B]"}, "cipher-suites", "A,B", originFile},
		"file: client switch":    {world{file: "client-transport-security: {client-cert-auth: true}"}, "client-cert-auth", "true", originFile},
		"file: client names":     {world{file: "client-transport-security: {allowed-hostname: [a, b]}"}, "client-cert-allowed-hostname", "a,b", originFile},
		"file: peer section":     {world{file: "peer-transport-security: {cert-file: p.pem}"}, "peer-cert-file", "p.pem", originFile},
		"file: empty section":    {world{file: "peer-transport-security:\nname: c"}, "name", "c", originFile},
		"file: member's keys":    {world{file: "heartbeat-interval: 100\nsocket-options: {reuse-port: true}\nlog-outputs: [stderr]\nname: c"}, "name", "c", originFile},
		"file: discovery token":  {world{file: "discovery-config: {token: T}"}, "discovery-token", "T", originFile},
		"file: endpoints":        {world{file: "discovery-config: {client: {endpoints: [a:1, b:1]}}"}, "discovery-endpoints", "a:1,b:1", originFile},
		"file: nanoseconds":      {world{file: "discovery-config: {client: {dial-timeout: 3000000000}}"}, "discovery-dial-timeout", "3000000000ns", originFile},
		"file: discovery TLS":    {world{file: "discovery-config: {client: {secure: {cacert: ca.pem}}}"}, "discovery-cacert", "ca.pem", originFile},
		"file: discovery user":   {world{file: "discovery-config: {client: {auth: {username: u}}}"}, "discovery-user", "u", originFile},
		"file: discovery, flags": {world{file: "discovery-token: T\nname: c"}, "discovery-token", "T", originFile},
		"member's variable":      {world{environ: []string{"ETCD_ENABLE_V2=perhaps", "ETCD_NAME=e"}}, "name", "e", originEnvironment},
		"etcd's log level":       {world{environ: []string{"ETCD_LOG_LEVEL=fatal"}}, "log-level", "fatal", originEnvironment},
	} {
		t.Run(name, func(t *testing.T) {
			settings, _, err := test.world.load(t)
			if err != nil {
				t.Fatal(err)
			}
			value, origin := settings.Lookup(test.setting)
			if value != test.value || origin != test.origin {
				t.Errorf("got %q from %s, want %q from %s", value, origin, test.value, test.origin)
			}
			if settings.IsSet(test.setting) != (test.origin != originDefault) {
				t.Errorf("IsSet is wrong")
			}
		})
	}
}

// TestBadSettings names in every message the place that has to be changed.
func TestBadSettings(t *testing.T) {
	duration := func(s *Settings) error { _, err := s.Duration("proxy-failure-wait"); return err }
	boolean := func(s *Settings) error { _, err := s.Bool("client-cert-auth"); return err }
	number := func(s *Settings) error { _, err := s.Int("self-signed-cert-validity"); return err }
	for name, test := range map[string]struct {
		world         world
		read          func(*Settings) error
		message, hint string // FILE stands for the config file
	}{
		"flag: choice": {
			world{flags: map[string]string{"proxy": "off"}},
			nil,
			`--proxy: "off" is not one of on, readonly`, "write one of: on, readonly",
		},
		"variable: choice": {
			world{environ: []string{"ETCD_LOG_FORMAT=xml"}},
			nil,
			`ETCD_LOG_FORMAT: "xml" is not one of text, json`, "write one of: text, json",
		},
		"file: choice": {
			world{file: "log-level: loud"},
			nil,
			`log-level in FILE: "loud" is not one of debug, info, warn, error`, "write one of: debug, info, warn, error",
		},
		"flag: duration": {
			world{flags: map[string]string{"proxy-failure-wait": "soon"}},
			duration,
			`--proxy-failure-wait: "soon" is not a duration`, "set --proxy-failure-wait to milliseconds or to a duration, such as 5000 or 5s",
		},
		"variable: duration": {
			world{environ: []string{"ETCD_PROXY_FAILURE_WAIT=5 s"}},
			duration,
			`ETCD_PROXY_FAILURE_WAIT: "5 s" is not a duration`, "set ETCD_PROXY_FAILURE_WAIT to milliseconds or to a duration, such as 5000 or 5s",
		},
		"file: duration": {
			world{file: "proxy-failure-wait: 1.5"},
			duration,
			`proxy-failure-wait in FILE: "1.5" is not a duration`, "set proxy-failure-wait in FILE to milliseconds or to a duration, such as 5000 or 5s",
		},
		"negative duration": {
			world{flags: map[string]string{"proxy-failure-wait": "-5s"}},
			duration,
			`--proxy-failure-wait: "-5s" is negative`, "set --proxy-failure-wait to milliseconds or to a duration, such as 5000 or 5s",
		},
		"negative milliseconds": {
			world{environ: []string{"ETCD_PROXY_FAILURE_WAIT=-1"}},
			duration,
			`ETCD_PROXY_FAILURE_WAIT: "-1" is negative`, "set ETCD_PROXY_FAILURE_WAIT to milliseconds or to a duration, such as 5000 or 5s",
		},
		"empty duration": {
			world{flags: map[string]string{"proxy-failure-wait": ""}},
			duration,
			`--proxy-failure-wait: "" is not a duration`, "set --proxy-failure-wait to milliseconds or to a duration, such as 5000 or 5s",
		},
		"variable: switch": {
			world{environ: []string{"ETCD_CLIENT_CERT_AUTH=ja"}},
			boolean,
			`ETCD_CLIENT_CERT_AUTH: "ja" is neither true nor false`, "set ETCD_CLIENT_CERT_AUTH to true or false",
		},
		"file: switch": {
			world{file: "client-transport-security: {client-cert-auth: ja}"},
			boolean,
			`client-cert-auth in FILE: "ja" is neither true nor false`, "set client-cert-auth in FILE to true or false",
		},
		"number": {
			world{environ: []string{"ETCD_SELF_SIGNED_CERT_VALIDITY=-1"}},
			number,
			`ETCD_SELF_SIGNED_CERT_VALIDITY: "-1" is not a number of at least 0`, "set ETCD_SELF_SIGNED_CERT_VALIDITY to a whole number such as 1",
		},
		"file: clients shut out by their common name": {
			world{file: "client-transport-security: {allowed-cn: ops}"},
			nil,
			"client-transport-security.allowed-cn in FILE: common names are not looked at here, so that every client of the CA would come in",
			"name the hosts of the clients in allowed-hostname; or take it out",
		},
		"file: unknown key": {
			world{file: "listen-client-url: http://a:1"},
			nil,
			"listen-client-url in FILE: unknown key", "did you mean listen-client-urls?",
		},
		"file: unlike any key": {
			world{file: "zzzzzzzzz: 1"},
			nil,
			"zzzzzzzzz in FILE: unknown key", "take it out; the keys are the flags of --help without their dashes",
		},
		"file: unknown key in a section": {
			world{file: "client-transport-security: {certfile: a}"},
			nil,
			"client-transport-security.certfile in FILE: unknown key", "did you mean cert-file?",
		},
		"file: names a config file": {
			world{file: "config-file: a"},
			nil,
			"config-file in FILE: unknown key", "take it out; the keys are the flags of --help without their dashes",
		},
		"file: keys below a value": {
			world{file: "name: {a: b}"},
			nil,
			"name in FILE: want one value, not keys below it", "write name: VALUE",
		},
		"file: section without keys": {
			world{file: "peer-transport-security: yes"},
			nil,
			"peer-transport-security in FILE: want keys and values", "write its keys below peer-transport-security, indented",
		},
		"file: absent": {
			world{flags: map[string]string{"config-file": "/nowhere/etcd.yml"}},
			nil,
			"--config-file: open /nowhere/etcd.yml: no such file or directory", "name a YAML file that this user can read, with etcd's flag names as keys",
		},
		"file: not YAML": {
			world{file: "name: [a"},
			nil,
			"ETCD_CONFIG_FILE: FILE: yaml: line 1: did not find expected ',' or ']'", `mend the file: one "flag-name: value" a line`,
		},
		"file: a key twice": {
			world{file: "name: a\nname: b"},
			nil,
			`ETCD_CONFIG_FILE: FILE: yaml: unmarshal errors:; line 2: key "name" already set in map`, `mend the file: one "flag-name: value" a line`,
		},
		"file: a list": {
			world{file: "- name"},
			nil,
			"ETCD_CONFIG_FILE: FILE: not a list of keys and values: json: cannot unmarshal array into Go value of type map[string]interface {}",
			`mend the file: one "flag-name: value" a line`,
		},
	} {
		t.Run(name, func(t *testing.T) {
			settings, path, err := test.world.load(t)
			if err == nil && test.read != nil {
				err = test.read(settings)
			}
			var failure *Failure
			if !errors.As(err, &failure) {
				t.Fatalf("got %v, want a Failure", err)
			}
			message := oneLine(failure.Error())
			if path != "" {
				message = strings.ReplaceAll(message, path, "FILE")
				failure.Hint = strings.ReplaceAll(failure.Hint, path, "FILE")
			}
			if failure.Code != ExitUsage || message != test.message || failure.Hint != test.hint {
				t.Errorf("exit code %d\n got %s\nwant %s\n got %s\nwant %s", failure.Code, message, test.message, failure.Hint, test.hint)
			}
		})
	}
}

func TestSettingsTypes(t *testing.T) {
	settings, _, err := world{
		flags:   map[string]string{"listen-client-urls": " http://a:1, ,unix:///s ", "auto-tls": "true"},
		environ: []string{"ETCD_PROXY_DIAL_TIMEOUT=1m30s", "ETCD_LOG_LEVEL=fatal"},
		file:    "proxy-write-timeout: 250",
	}.load(t)
	if err != nil {
		t.Fatal(err)
	}
	if got := settings.List("listen-client-urls"); !slices.Equal(got, []string{"http://a:1", "unix:///s"}) {
		t.Errorf("list: %q", got)
	}
	if got := settings.List("initial-cluster"); len(got) != 0 {
		t.Errorf("empty list: %q", got)
	}
	for name, want := range map[string]time.Duration{
		"proxy-dial-timeout": 90 * time.Second, "proxy-write-timeout": 250 * time.Millisecond,
		"proxy-read-timeout": 0, "proxy-refresh-interval": 30 * time.Second, "drain-timeout": 5 * time.Second,
	} {
		if got, err := settings.Duration(name); err != nil || got != want {
			t.Errorf("%s: %v, %v", name, got, err)
		}
	}
	for name, want := range map[string]bool{"auto-tls": true, "client-cert-auth": false} {
		if got, err := settings.Bool(name); err != nil || got != want {
			t.Errorf("%s: %v, %v", name, got, err)
		}
	}
	if got, err := settings.Int("self-signed-cert-validity"); err != nil || got != 1 {
		t.Errorf("number: %v, %v", got, err)
	}
	if got, err := settings.Level("log-level"); err != nil || got != slog.LevelError {
		t.Errorf("level: %v, %v", got, err)
	}
}

// TestUnitFileOfEtcd runs a line as it stood behind "etcd" in a unit file.
func TestUnitFileOfEtcd(t *testing.T) {
	got := runSample(t, "group", "daemon", "-proxy", "readonly", "--enable-v2", "--heartbeat-interval", "100",
		"--listen-client-urls", "http://127.0.0.1:2379,http://127.0.0.1:4001", "--force-new-cluster=false",
		"--client-cert-auth", "--auto-tls=false", "--logger=zap", "--strict-reconfig-check")
	want := `proxy=readonly (flag)
listen-client-urls=http://127.0.0.1:2379,http://127.0.0.1:4001 (flag)
client-cert-auth=true (flag)
auto-tls=false (flag)
name=default (default)
`
	if got.code != ExitDone || got.stdout != want {
		t.Errorf("got %+v, want %s", got, want)
	}
	got = runSample(t, "group", "daemon", "--proxy", "off")
	if got.code != ExitUsage || got.stdout != "" || !strings.Contains(got.stderr, `--proxy: "off"`) {
		t.Errorf("got %+v", got)
	}
}

// TestProxySettingsTable guards the table against slips that only an operator
// would see.
func TestProxySettingsTable(t *testing.T) {
	seen := make(map[string]bool)
	for _, setting := range proxySettings() {
		if seen[setting.Name] {
			t.Errorf("%s is there twice", setting.Name)
		}
		seen[setting.Name] = true
		if setting.Ignored != (setting.Usage == "") {
			t.Errorf("%s: only an ignored flag has no usage", setting.Name)
		}
		if !setting.Bool && !setting.Ignored && !strings.Contains(setting.Usage, "`") {
			t.Errorf("%s: the usage does not name the value", setting.Name)
		}
	}
	for section, flags := range configSections {
		for key, flag := range flags {
			if flag != "" && !seen[flag] {
				t.Errorf("%s.%s stands for %s, which is no flag", section, key, flag)
			}
		}
	}
}
