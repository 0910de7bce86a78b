package commands

import "testing"

func TestBadDiscovery(t *testing.T) { refuseBadInput(t, badDiscovery) }

const (
	discoveryURLHint = "write http://host:2379/v2/keys/_etcd/registry/TOKEN, or what your discovery service gave you"
	endpointHint     = "write client URLs such as http://10.0.0.1:2379, with commas between"
	domainHint       = "write a DNS domain such as example.org, whose _etcd-server._tcp records name the peers"
)

// badDiscovery are discoveries that nobody could follow: they are refused before
// anything is asked.
var badDiscovery = map[string]badInput{
	"url without scheme": {
		`proxy start --discovery discovery.example.org/T`, nil, ExitUsage,
		`--discovery: "discovery.example.org/T": it is not an http or https URL`, discoveryURLHint,
	},
	"url without token": {
		`proxy discover --discovery https://discovery.example.org/`, nil, ExitUsage,
		`--discovery: "https://discovery.example.org/": it has no token behind the host`, discoveryURLHint,
	},
	"url with a query, by variable": {
		`proxy members`,
		[]string{"ETCD_DISCOVERY=http://127.0.0.1:2379/T?size=3"},
		ExitUsage,
		`ETCD_DISCOVERY: "http://127.0.0.1:2379/T?size=3": it goes on after the token`, discoveryURLHint,
	},
	"url with a password, which is not shown": {
		`proxy start --discovery ftp://user:secret@127.0.0.1/T`, nil, ExitUsage,
		`--discovery: "…@127.0.0.1/T": it is not an http or https URL`, discoveryURLHint,
	},
	"proxy without a host": {
		`proxy start --discovery http://127.0.0.1:2379/T --discovery-proxy http://`, nil, ExitUsage,
		`--discovery-proxy: "http://": it names no HTTP proxy`, "write http://host:3128",
	},
	"token without endpoints": {
		`proxy start --discovery-token T`, nil, ExitUsage,
		"--discovery-token: there is no --discovery-endpoints to it", "add --discovery-endpoints with the client URLs of the etcd that keeps the token",
	},
	"endpoints without a token": {
		`proxy discover`,
		[]string{"ETCD_DISCOVERY_ENDPOINTS=http://127.0.0.1:2379"},
		ExitUsage,
		"ETCD_DISCOVERY_ENDPOINTS: there is no --discovery-token to it", "add --discovery-token",
	},
	"endpoint without a port": {
		`proxy start --discovery-token T --discovery-endpoints http://127.0.0.1:2379,http://127.0.0.1`, nil, ExitUsage,
		`--discovery-endpoints: "http://127.0.0.1": not of the form http://host:port: "http://127.0.0.1"`, endpointHint,
	},
	"endpoint with a user": {
		`proxy start --discovery-token T --discovery-endpoints http://root:secret@127.0.0.1:2379`, nil, ExitUsage,
		`--discovery-endpoints: "…@127.0.0.1:2379": it has a user name`, "leave that out, and give --discovery-user",
	},
	"timeout of nothing": {
		`proxy start --discovery-token T --discovery-endpoints http://127.0.0.1:2379 --discovery-request-timeout 0`, nil, ExitUsage,
		"--discovery-request-timeout: without a limit a dead service would be waited for", "write a time such as 5s, or leave it out",
	},
	"timeout is a word": {
		`proxy discover --discovery-dial-timeout soon`, nil, ExitUsage,
		`--discovery-dial-timeout: "soon" is not a duration`, durationOf("--discovery-dial-timeout"),
	},
	"switch is a word": {
		`proxy start`,
		[]string{"ETCD_DISCOVERY_INSECURE_TRANSPORT=perhaps"},
		ExitUsage,
		`ETCD_DISCOVERY_INSECURE_TRANSPORT: "perhaps" is neither true nor false`, "set ETCD_DISCOVERY_INSECURE_TRANSPORT to true or false",
	},
	"strict is a word": {
		`proxy start`,
		[]string{"ETCD_STRICT_SOURCES=perhaps"},
		ExitUsage,
		`ETCD_STRICT_SOURCES: "perhaps" is neither true nor false`, "set ETCD_STRICT_SOURCES to true or false",
	},
	"certificate without its key": {
		`proxy start --discovery-token T --discovery-endpoints https://127.0.0.1:2379 --discovery-cert good.pem`, nil, ExitUsage,
		"--discovery-cert (towards discovery services): there is no --discovery-key to it", "add --discovery-key with the key of the certificate",
	},
	"ca is no certificate": {
		`proxy start --discovery-cacert garbage`, nil, ExitUsage,
		"--discovery-cacert (towards discovery services): there is no certificate in garbage: it is no PEM file", "give a file with PEM certificates, as from: openssl x509 -in garbage -outform PEM",
	},
	"domain is a url": {
		`proxy start --discovery-srv http://example.org`, nil, ExitUsage,
		`--discovery-srv: "http://example.org": it is a URL, not a domain`, domainHint,
	},
	"domain with an empty part": {
		`proxy start --discovery-srv example..org`, nil, ExitUsage,
		`--discovery-srv: "example..org": "" is not a part of a domain name`, domainHint,
	},
	"domain with the service": {
		`proxy discover --discovery-srv _etcd-server._tcp.example.org`, nil, ExitUsage,
		`--discovery-srv: "_etcd-server._tcp.example.org": it names the service too`, "leave out the parts that begin with _: --discovery-srv example.org",
	},
	"domain is an address": {
		`proxy start --discovery-srv 127.0.0.1`, nil, ExitUsage,
		`--discovery-srv: "127.0.0.1": it is an address, not a domain`, domainHint,
	},
	"name without a domain": {
		`proxy start --discovery-srv-name east`, nil, ExitUsage,
		"--discovery-srv-name: there is no --discovery-srv to it", "add --discovery-srv DOMAIN, or leave it out",
	},
	"token is a key": {
		`proxy start --discovery-token /_etcd/registry/T --discovery-endpoints http://127.0.0.1:2379`, nil, ExitUsage,
		`--discovery-token: "/_etcd/registry/T" is a key, not a token`, "write TOKEN for the key /_etcd/registry/TOKEN",
	},
	"name with a dot": {
		`proxy start --discovery-srv example.org --discovery-srv-name a.b`, nil, ExitUsage,
		`--discovery-srv-name: "a.b" is not a part of a DNS name`, "write NAME for records such as _etcd-server-NAME._tcp",
	},
	"member without --": {
		`member start --name m1`, nil, ExitUsage,
		"unknown flag --name for etcdops member start", "write etcd's own flags behind --, as in: etcdops member start -- --name m1",
	},
	"member with another fallback": {
		`member start --discovery-fallback never -- --name m1`, nil, ExitUsage,
		`--discovery-fallback: "never" is not one of proxy, exit`, "write one of: proxy, exit",
	},
	"member with another fallback of etcd's": {
		`member start -- --name m1 --discovery-fallback never --discovery-token T`, nil, ExitUsage,
		`--discovery-fallback: "never" is neither proxy nor exit`, "write proxy or exit",
	},
	"member that is a proxy": {
		`member start -- --name m1`,
		[]string{"ETCD_PROXY=readonly"},
		ExitUsage,
		"ETCD_PROXY: this starts a member, not a proxy", "take it out, or run etcdops proxy start with these flags",
	},
	"member whose config file is not there": {
		`member start -- --config-file none.yml`, nil, ExitUsage,
		"--config-file: open none.yml: no such file or directory", "name a YAML file that this user can read, with etcd's flag names as keys",
	},
	"member whose etcd is not there": {
		`member start --etcd ./none -- --name m1`, nil, ExitRefused,
		`find etcd: exec: "./none": stat ./none: no such file or directory`, "name an etcd that runs here with --etcd PATH",
	},
	"member alone": {
		`member`, nil, ExitUsage,
		"etcdops member needs a command", "write one of: start; or run etcdops member --help",
	},
}
