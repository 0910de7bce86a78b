package commands

import (
	"bytes"
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"slices"
	"strings"

	"sigs.k8s.io/yaml"
)

// configFileSetting names the config file. Unlike with etcd, flags and
// variables beat what the file says.
const configFileSetting = "config-file"

// configSections maps the keys of the two nested sections of etcd's config file
// to flags (server/embed/config.go, securityConfig). An empty flag is a key
// without one.
var configSections = map[string]map[string]string{
	"client-transport-security": {
		"cert-file":        "cert-file",
		"key-file":         "key-file",
		"client-cert-file": "client-cert-file",
		"client-key-file":  "client-key-file",
		"client-cert-auth": "client-cert-auth",
		"trusted-ca-file":  "trusted-ca-file",
		"auto-tls":         "auto-tls",
		"allowed-cn":       "",
		"allowed-hostname": "client-cert-allowed-hostname",
	},
	"peer-transport-security": {
		"cert-file":        "peer-cert-file",
		"key-file":         "peer-key-file",
		"client-cert-file": "peer-client-cert-file",
		"client-key-file":  "peer-client-key-file",
		"client-cert-auth": "peer-client-cert-auth",
		"trusted-ca-file":  "peer-trusted-ca-file",
		"auto-tls":         "peer-auto-tls",
		"allowed-cn":       "peer-cert-allowed-cn",
		"allowed-hostname": "peer-cert-allowed-hostname",
	},
}

// allowedCN is a key by which etcd shuts clients out, and we can't: to pass it over
// would let them in.
const allowedCN = "client-transport-security.allowed-cn"

// fileOnlyKeys are keys of etcd's config file that are no flags and mean
// nothing to a proxy.
var fileOnlyKeys = []string{
	"experimental-snapshot-catch-up-entries",
	"socket-options",
}

// readConfigFile fills s.file from the file that --config-file or
// ETCD_CONFIG_FILE names, if any.
func (s *Settings) readConfigFile() error {
	if _, known := s.table[configFileSetting]; !known {
		return nil
	}
	path := s.String(configFileSetting)
	if path == "" {
		return nil
	}
	content, err := os.ReadFile(path)
	if err != nil {
		return s.Bad(configFileSetting, "name a YAML file that this user can read, with etcd's flag names as keys", "%v", err)
	}
	keys, err := parseYAML(content, !s.others)
	if err != nil {
		return s.Bad(configFileSetting, "mend the file: one \"flag-name: value\" a line", "%s: %v", path, err)
	}
	s.path = path
	s.file = make(map[string]string)
	for _, key := range slices.Sorted(maps.Keys(keys)) {
		if err := s.readKey(key, keys[key]); err != nil {
			return err
		}
	}
	return nil
}

// parseYAML, where it is strict, refuses a key that is there twice, because only
// one of the two would count. Numbers keep their digits.
func parseYAML(content []byte, strict bool) (map[string]any, error) {
	toJSON := yaml.YAMLToJSON
	if strict {
		toJSON = yaml.YAMLToJSONStrict
	}
	text, err := toJSON(content)
	if err != nil {
		return nil, err
	}
	decoder := json.NewDecoder(bytes.NewReader(text))
	decoder.UseNumber()
	var keys map[string]any
	if err := decoder.Decode(&keys); err != nil {
		return nil, fmt.Errorf("not a list of keys and values: %w", err)
	}
	return keys, nil
}

func (s *Settings) readKey(key string, value any) error {
	if flags, found := configSections[key]; found {
		return s.readSection(key, flags, value)
	}
	if slices.Contains(fileOnlyKeys, key) {
		return nil
	}
	if key == discoverySection {
		return s.readDiscovery(value)
	}
	setting, known := s.table[key]
	switch {
	case s.others && isDiscoveryKey(key):
		return usageError(discoveryForm, "%s in %s: etcd reads it in the section %s alone", key, s.path, discoverySection)
	case s.others && (!known || key == configFileSetting):
		return nil
	}
	if !known || key == configFileSetting {
		return s.unknownKey(key, key)
	}
	if setting.Ignored {
		return nil
	}
	return s.store(key, key, value)
}

func (s *Settings) readSection(section string, flags map[string]string, value any) error {
	if value == nil {
		return nil
	}
	keys, ok := value.(map[string]any)
	if !ok {
		return usageError(fmt.Sprintf("write its keys below %s, indented", section),
			"%s in %s: want keys and values", section, s.path)
	}
	for _, key := range slices.Sorted(maps.Keys(keys)) {
		flag, known := flags[key]
		if !known && s.others {
			continue
		}
		if !known {
			return s.unknownKey(section+"."+key, key)
		}
		if section+"."+key == allowedCN && !s.others && keys[key] != nil && keys[key] != "" {
			return usageError("name the hosts of the clients in allowed-hostname; or take it out", "%s in %s: common names are not looked at here, so that every client of the CA would come in", allowedCN, s.path)
		}
		if flag == "" || s.table[flag].Ignored {
			continue
		}
		if err := s.store(section+"."+key, flag, keys[key]); err != nil {
			return err
		}
	}
	return nil
}

// discoverySection is the section of etcd's config file for v3 discovery
// (server/embed/config.go, DiscoveryCfg).
const discoverySection = "discovery-config"

// discoveryForm is how that section is written.
const discoveryForm = "write discovery-config: {token: TOKEN, client: {endpoints: [http://host:2379]}}"

// discoveryKeys maps the keys of that section to flags (client/v3/config.go,
// ConfigSpec). An empty flag is a key without one.
var discoveryKeys = map[string]string{
	"token":                                  "discovery-token",
	"client.endpoints":                       "discovery-endpoints",
	"client.dial-timeout":                    "discovery-dial-timeout",
	"client.request-timeout":                 "discovery-request-timeout",
	"client.keepalive-time":                  "discovery-keepalive-time",
	"client.keepalive-timeout":               "discovery-keepalive-timeout",
	"client.max-request-bytes":               "",
	"client.max-recv-bytes":                  "",
	"client.secure.cert":                     "discovery-cert",
	"client.secure.key":                      "discovery-key",
	"client.secure.cacert":                   "discovery-cacert",
	"client.secure.server-name":              "",
	"client.secure.insecure-transport":       "discovery-insecure-transport",
	"client.secure.insecure-skip-tls-verify": "discovery-insecure-skip-tls-verify",
	"client.auth.username":                   "discovery-user",
	"client.auth.password":                   "discovery-password",
}

// isDiscoveryKey tells whether a flag has a key in that section.
func isDiscoveryKey(flag string) bool {
	return slices.Contains(slices.Collect(maps.Values(discoveryKeys)), flag)
}

// readDiscovery reads the section for v3 discovery, in which times are
// nanoseconds.
func (s *Settings) readDiscovery(value any) error {
	if value == nil {
		return nil
	}
	keys := map[string]any{}
	flatten(keys, "", value)
	for _, key := range slices.Sorted(maps.Keys(keys)) {
		flag, known := discoveryKeys[key]
		full := discoverySection + "." + key
		switch {
		case !known:
			return usageError(discoveryForm, "%s in %s: unknown key", full, s.path)
		case flag == "":
			continue
		}
		value := keys[key]
		if number, isNumber := value.(json.Number); isNumber && (strings.HasSuffix(key, "-time") || strings.HasSuffix(key, "-timeout")) {
			value = number.String() + "ns"
		}
		if err := s.store(full, flag, value); err != nil {
			return err
		}
	}
	return nil
}

// flatten joins the keys of nested sections with dots.
func flatten(flat map[string]any, prefix string, value any) {
	section, nested := value.(map[string]any)
	if !nested {
		flat[strings.TrimSuffix(prefix, ".")] = value
		return
	}
	for key, value := range section {
		flatten(flat, prefix+key+".", value)
	}
}

// store keeps a value as text, as a flag would give it.
func (s *Settings) store(key, name string, value any) error {
	switch value := value.(type) {
	case nil: // a key without a value is one that is not set
	case string:
		s.file[name] = value
	case bool, json.Number:
		s.file[name] = fmt.Sprint(value)
	case []any:
		parts := make([]string, len(value))
		for i, part := range value {
			parts[i] = fmt.Sprint(part)
		}
		s.file[name] = strings.Join(parts, ",")
	default:
		return usageError(fmt.Sprintf("write %s: VALUE", key), "%s in %s: want one value, not keys below it", key, s.path)
	}
	return nil
}

// unknownKey words a key that nobody would read. key is its full name, last
// the part that is compared with what is known.
func (s *Settings) unknownKey(key, last string) error {
	names := append(slices.Collect(maps.Keys(configSections)), discoverySection)
	for name, setting := range s.table {
		if !setting.Ignored && name != configFileSetting {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	hint := "take it out; the keys are the flags of --help without their dashes"
	if near := nearest(last, names); near != "" {
		hint = fmt.Sprintf("did you mean %s?", near)
	}
	return usageError(hint, "%s in %s: unknown key", key, s.path)
}
