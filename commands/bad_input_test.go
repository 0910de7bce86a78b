package commands

import (
	"fmt"
	"os"
	"strconv"
	"strings"
	"testing"
)

// badInput is a command line that must not do anything.
type badInput struct {
	// $URL stands for a client URL that somebody listens on, $DIR for the
	// folder, $PID for this process.
	line    string
	environ []string // NAME=value
	code    int
	message string
	hint    string
}

// TestBadInput runs each line in a folder that makeBadFolder has filled.
func TestBadInput(t *testing.T) { refuseBadInput(t, badInputs) }

func refuseBadInput(t *testing.T, inputs map[string]badInput) {
	t.Helper()
	for name, test := range inputs {
		t.Run(name, func(t *testing.T) {
			t.Chdir(t.TempDir())
			used := makeBadFolder(t)
			dir, err := os.Getwd()
			if err != nil {
				t.Fatal(err)
			}
			fill := strings.NewReplacer("$URL", used, "$DIR", dir, "$PID", strconv.Itoa(os.Getpid())).Replace
			before := listFolder(t)
			env, stdout, stderr := testEnv(append([]string{"XDG_RUNTIME_DIR=" + dir}, test.environ...)...)
			code := Run(t.Context(), env, append([]string{programName}, strings.Fields(fill(test.line))...))
			want := fill("etcdops: " + test.message + "\nhint: " + test.hint + "\n")
			if code != test.code || stderr.String() != want {
				t.Errorf("exit code %d, stderr\n%swant %d and\n%s", code, stderr, test.code, want)
			}
			if stdout.Len() > 0 {
				t.Errorf("stdout: %s", stdout)
			}
			if after := listFolder(t); after != before {
				t.Errorf("the folder was\n%sand is\n%s", before, after)
			}
		})
	}
}

const (
	memberHint   = "write scheme, host and port, as in http://10.0.0.4:2380"
	urlHint      = "write URLs such as http://127.0.0.1:2379, https://0.0.0.0:2379 or unix:///run/etcd.sock, with commas between"
	clusterForm  = "write it as name=http://host:2380"
	startHint    = "run etcdops proxy start --help for its flags and examples"
	durationHint = "set %s to milliseconds or to a duration, such as 5000 or 5s"
)

func durationOf(where string) string { return fmt.Sprintf(durationHint, where) }

// badInputs says of each line what is wrong. The last six fail when the proxy
// starts, all others before.
var badInputs = map[string]badInput{
	"url without scheme": {
		`proxy start --listen-client-urls localhost:2379`, nil, ExitUsage,
		`--listen-client-urls: "localhost:2379" has no scheme`, urlHint,
	},
	"url with another scheme": {
		`proxy start --listen-client-urls ftp://127.0.0.1:2379`, nil, ExitUsage,
		`--listen-client-urls: "ftp://127.0.0.1:2379" has none of the schemes http, https, unix`, urlHint,
	},
	"url without port": {
		`proxy start --listen-client-urls http://127.0.0.1`, nil, ExitUsage,
		`--listen-client-urls: "http://127.0.0.1" has no port`, urlHint,
	},
	"url with a path": {
		`proxy start --listen-client-urls http://127.0.0.1:2379/v3`, nil, ExitUsage,
		`--listen-client-urls: "http://127.0.0.1:2379/v3" has a path`, urlHint,
	},
	"socket without a name": {
		`proxy start --listen-client-urls unix://`, nil, ExitUsage,
		`--listen-client-urls: "unix://" names no socket`, urlHint,
	},
	"no url": {
		`proxy start --listen-client-urls ,`, nil, ExitUsage,
		"--listen-client-urls: there is no URL to listen on", urlHint,
	},
	"url in the environment": {
		`proxy start`,
		[]string{"ETCD_LISTEN_CLIENT_URLS=127.0.0.1"},
		ExitUsage,
		`ETCD_LISTEN_CLIENT_URLS: "127.0.0.1" has no scheme`, urlHint,
	},
	"data directory is a file": {
		`proxy start --data-dir file`, nil, ExitUsage,
		"--data-dir: file is not a directory", "name a directory, or one that does not exist yet",
	},
	"data directory below a file": {
		`proxy start --data-dir file/p.etcd`, nil, ExitUsage,
		"--data-dir: can't use file/p.etcd: not a directory", "check the path and the rights with: ls -ld file/p.etcd",
	},
	"data directory is a file, discover": {
		`proxy discover --data-dir file`, nil, ExitUsage,
		"--data-dir: file is not a directory", "name a directory, or one that does not exist yet",
	},
	"unknown flag": {
		`proxy start --data-dri p.etcd`, nil, ExitUsage,
		"unknown flag --data-dri for etcdops proxy start", "did you mean --data-dir?",
	},
	"unknown flag before the command": {
		`proxy --data-dir p.etcd start`, nil, ExitUsage,
		"unknown flag --data-dir for etcdops proxy", "--data-dir belongs to etcdops proxy start: write it behind that",
	},
	"unknown flag behind an argument": {
		`proxy start on --nonsense`, nil, ExitUsage,
		"unknown flag --nonsense for etcdops proxy start", startHint,
	},
	"a word too many": {
		`proxy start on`, nil, ExitUsage,
		`etcdops proxy start takes no argument, and there is "on"`, startHint,
	},
	"a word too many, members": {
		`proxy members m1`, nil, ExitUsage,
		`etcdops proxy members takes no argument, and there is "m1"`, "run etcdops proxy members --help for its flags and examples",
	},
	"https without certificate": {
		`proxy start --listen-client-urls https://127.0.0.1:2379`, nil, ExitUsage,
		"--listen-client-urls: https needs a certificate", "add --cert-file and --key-file, or --auto-tls",
	},
	"client-cert-auth without ca": {
		`proxy start --client-cert-auth`, nil, ExitUsage,
		"--client-cert-auth: there is no CA to check client certificates with", "add --trusted-ca-file with the CA of the client certificates",
	},
	"members, certificate without key": {
		`proxy members --cert good.pem --endpoints $URL`, nil, ExitUsage,
		"--cert: there is no --key to it", "add --key with the key of the certificate",
	},
	"wrong duration": {
		`proxy start --proxy-failure-wait soon`, nil, ExitUsage,
		`--proxy-failure-wait: "soon" is not a duration`, durationOf("--proxy-failure-wait"),
	},
	"negative duration": {
		`proxy start --proxy-dial-timeout -5`, nil, ExitUsage,
		`--proxy-dial-timeout: "-5" is negative`, durationOf("--proxy-dial-timeout"),
	},
	"wrong duration in the environment": {
		`proxy start`,
		[]string{"ETCD_PROXY_READ_TIMEOUT=5 s"},
		ExitUsage,
		`ETCD_PROXY_READ_TIMEOUT: "5 s" is not a duration`, durationOf("ETCD_PROXY_READ_TIMEOUT"),
	},
	"no refresh": {
		`proxy start --proxy-refresh-interval 0`, nil, ExitUsage,
		"--proxy-refresh-interval: the list has to be refreshed", "write a time such as 30000 or 30s",
	},
	"wrong drain time": {
		`proxy start --drain-timeout 5sec`, nil, ExitUsage,
		`--drain-timeout: "5sec" is not a duration`, durationOf("--drain-timeout"),
	},
	"proxy off": {
		`proxy start --proxy off`, nil, ExitUsage,
		`--proxy: "off" is not one of on, readonly`, "write one of: on, readonly",
	},
	"proxy mode, nearly": {
		`proxy start --proxy readnoly`, nil, ExitUsage,
		`--proxy: "readnoly" is not one of on, readonly`, "did you mean readonly? write one of: on, readonly",
	},
	"proxy mode in the environment": {
		`proxy start`,
		[]string{"ETCD_PROXY=off"},
		ExitUsage,
		`ETCD_PROXY: "off" is not one of on, readonly`, "write one of: on, readonly",
	},
	"log level": {
		`proxy start --log-level loud`, nil, ExitUsage,
		`--log-level: "loud" is not one of debug, info, warn, error`, "write one of: debug, info, warn, error",
	},
	"initial cluster without names": {
		`proxy start --initial-cluster http://127.0.0.1:2380`, nil, ExitUsage,
		`--initial-cluster: bad entry "http://127.0.0.1:2380": it has no "=" between a name and a peer URL`, clusterForm,
	},
	"initial cluster without scheme": {
		`proxy start --initial-cluster m1=127.0.0.1:2380`, nil, ExitUsage,
		`--initial-cluster: bad entry "m1=127.0.0.1:2380": its URL has no scheme: http:// or https:// is missing`, clusterForm,
	},
	"initial cluster without port": {
		`proxy start --initial-cluster m1=http://127.0.0.1`, nil, ExitUsage,
		`--initial-cluster: bad entry "m1=http://127.0.0.1": its URL has no port`, clusterForm,
	},
	"initial cluster with a path": {
		`proxy discover --initial-cluster m1=http://127.0.0.1:2380/members`, nil, ExitUsage,
		`--initial-cluster: bad entry "m1=http://127.0.0.1:2380/members": its URL goes on after the port: a peer URL ends there`, clusterForm,
	},
	"initial cluster in the environment": {
		`proxy members`,
		[]string{"ETCD_INITIAL_CLUSTER=m1"},
		ExitUsage,
		`ETCD_INITIAL_CLUSTER: bad entry "m1": it has no "=" between a name and a peer URL`, clusterForm,
	},
	"config file that is not there": {
		`proxy start --config-file none.yml`, nil, ExitUsage,
		"--config-file: open none.yml: no such file or directory", "name a YAML file that this user can read, with etcd's flag names as keys",
	},
	"config file that is no yaml": {
		`proxy start --config-file garbage`, nil, ExitUsage,
		"--config-file: garbage: yaml: mapping values are not allowed in this context", `mend the file: one "flag-name: value" a line`,
	},
	"config file with an unknown key": {
		`proxy start --config-file unknown.yml`, nil, ExitUsage,
		"data-dri in unknown.yml: unknown key", "did you mean data-dir?",
	},
	"config file with a wrong value": {
		`proxy start`,
		[]string{"ETCD_CONFIG_FILE=wrong.yml"},
		ExitUsage,
		`proxy-failure-wait in wrong.yml: "soon" is not a duration`, durationOf("proxy-failure-wait in wrong.yml"),
	},
	"output format": {
		`proxy members -o yaml`, nil, ExitUsage,
		`-o: "yaml" is not one of table, json, simple`, "write one of: table, json, simple",
	},
	"output format, discover": {
		`proxy discover -o xml`, nil, ExitUsage,
		`-o: "xml" is not one of table, json, simple`, "write one of: table, json, simple",
	},
	"password without user": {
		`proxy members --password-file password`, nil, ExitUsage,
		"--password-file: there is no --user to it", "add --user NAME",
	},
	"password file that is not there": {
		`proxy members --user root --password-file none`, nil, ExitUsage,
		"--password-file: open none: no such file or directory", "check the path and the rights with: ls -l none",
	},
	"password file without password": {
		`proxy members --user root --password-file empty`, nil, ExitUsage,
		"--password-file: there is no password in empty", "write the password into its first line",
	},
	"user without password": {
		`proxy members --user root`, nil, ExitUsage,
		"--user: there is no password, and no terminal to ask for it", "add --password-file FILE",
	},
	"promote, nobody to promote": {
		`proxy promote m4 --initial-advertise-peer-urls http://127.0.0.1:2380`, nil, ExitUsage,
		"no running proxy is registered here", "name the proxy's data directory with --data-dir",
	},
	"promote, no name": {
		`proxy promote --data-dir p.etcd --initial-advertise-peer-urls http://127.0.0.1:2380`, nil, ExitUsage,
		"the new member has no name", "write for instance: etcdops proxy promote m4 --initial-advertise-peer-urls http://10.0.0.4:2380",
	},
	"promote, no peer url": {
		`proxy promote m4 --data-dir p.etcd`, nil, ExitUsage,
		"the new member has no peer URL",
		"add --initial-advertise-peer-urls with the URL by which the other members reach this machine, as in http://10.0.0.4:2380",
	},
	"promote, two names": {
		`proxy promote m4 m5 --data-dir p.etcd`, nil, ExitUsage,
		`"m5" is one word too many`, "one name for the member; etcd's own flags go behind --",
	},
	"promote, a name that is none": {
		`proxy promote m=4 --data-dir p.etcd`, nil, ExitUsage,
		`"m=4" is not a name for a member`, "choose letters, digits, dots and dashes",
	},
	"promote, forward and back": {
		`proxy promote --data-dir p.etcd --continue --abort`, nil, ExitUsage,
		"--continue and --abort contradict each other", "choose one",
	},
	"promote, go on and stop": {
		`proxy promote --data-dir p.etcd --continue --stage env`, nil, ExitUsage,
		"--stage env and --continue contradict each other", "leave out --stage to go on; to see the variables again, leave out --continue",
	},
	"promote, abort without doing it": {
		`proxy promote --data-dir p.etcd --abort --dry-run`, nil, ExitUsage,
		"--dry-run has no meaning with --abort", "run --abort without it: it asks before it changes anything",
	},
	"promote, pid that is none": {
		`proxy promote m4 --data-dir p.etcd --pid -1`, nil, ExitUsage,
		"--pid: -1 is not a process", "find it with: pgrep -a etcd",
	},
	"promote, pid not a number": {
		`proxy promote m4 --data-dir p.etcd --pid etcd`, nil, ExitUsage,
		`invalid value "etcd" for flag -pid: parse error`, "run etcdops proxy promote --help for its flags and examples",
	},
	"promote, pid without data directory": {
		`proxy promote m4 --pid 1`, nil, ExitUsage,
		"--pid: there is no --data-dir to it", "add --data-dir with the data directory of that proxy",
	},
	"promote, no time to stop": {
		`proxy promote m4 --data-dir p.etcd --stop-timeout 0s`, nil, ExitUsage,
		"--stop-timeout: 0s is no time", "write a time such as 30s",
	},
	"promote, no time to stall": {
		`proxy promote m4 --data-dir p.etcd --stall-timeout -1m`, nil, ExitUsage,
		"--stall-timeout: -1m0s is no time", "write a time such as 10m",
	},
	"promote, time without unit": {
		`proxy promote m4 --data-dir p.etcd --stop-timeout 30`, nil, ExitUsage,
		`invalid value "30" for flag -stop-timeout: parse error`, "run etcdops proxy promote --help for its flags and examples",
	},
	"promote, certificate without key": {
		`proxy promote m4 --data-dir p.etcd --cert good.pem`, nil, ExitUsage,
		"--cert: there is no --key to it", "add --key with the key of the certificate",
	},
	"promote, key without certificate": {
		`proxy promote m4 --data-dir p.etcd --key good-key.pem`, nil, ExitUsage,
		"--key: there is no --cert to it", "add --cert with the certificate of the key",
	},
	"promote, peer url without scheme": {
		`proxy promote m4 --data-dir p.etcd --initial-advertise-peer-urls 10.0.0.4:2380`, nil, ExitUsage,
		`--initial-advertise-peer-urls: "10.0.0.4:2380" has no scheme`, memberHint,
	},
	"promote, peer url on a socket": {
		`proxy promote m4 --data-dir p.etcd --listen-peer-urls unix:///run/peer.sock`, nil, ExitUsage,
		`--listen-peer-urls: "unix:///run/peer.sock" has none of the schemes http, https`, memberHint,
	},
	"promote, client url without port": {
		`proxy promote m4 --data-dir p.etcd --listen-client-urls http://10.0.0.4`, nil, ExitUsage,
		`--listen-client-urls: "http://10.0.0.4" has no host or no port`, memberHint,
	},
	"promote, client url without socket": {
		`proxy promote m4 --data-dir p.etcd --listen-client-urls unix://`, nil, ExitUsage,
		`--listen-client-urls: "unix://" names no socket`, "write a path, as in unix:///run/etcd.sock",
	},
	"promote, port too high": {
		`proxy promote m4 --data-dir p.etcd --advertise-client-urls http://10.0.0.4:70000`, nil, ExitUsage,
		`--advertise-client-urls: "http://10.0.0.4:70000" has a port over 65535`, memberHint,
	},
	"promote, url with a path": {
		`proxy promote m4 --data-dir p.etcd --advertise-client-urls http://10.0.0.4:2379/v3`, nil, ExitUsage,
		`--advertise-client-urls: "http://10.0.0.4:2379/v3" has more than scheme, host and port`, memberHint,
	},
	"promote, stage": {
		`proxy promote m4 --data-dir p.etcd --stage all`, nil, ExitUsage,
		`--stage: "all" is not one of env`, "write one of: env",
	},
	"promote, supervisor": {
		`proxy promote m4 --data-dir p.etcd --supervisor runit`, nil, ExitUsage,
		`--supervisor: "runit" is not one of systemd, detach`, "write one of: systemd, detach",
	},
	"promote, format of the variables": {
		`proxy promote m4 --data-dir p.etcd --env-format yaml`, nil, ExitUsage,
		`--env-format: "yaml" is not one of shell, env-file, systemd, json`, "write one of: shell, env-file, systemd, json",
	},
	"promote, output": {
		`proxy promote m4 --data-dir p.etcd -o simple`, nil, ExitUsage,
		`-o: "simple" is not one of table, json`, "write one of: table, json",
	},
	"promote, no proxy there": {
		`proxy promote m4 --data-dir $DIR/p.etcd --initial-advertise-peer-urls http://127.0.0.1:2380`, nil, ExitRefused,
		"no proxy of ours runs in $DIR/p.etcd", "start it with etcdops proxy start, or name another --data-dir; for a native etcd proxy add --pid N",
	},
	"promote, nothing to go on with": {
		`proxy promote --data-dir $DIR/p.etcd --continue`, nil, ExitRefused,
		"no promotion is under way in $DIR/p.etcd", "see the members with: etcdops proxy members",
	},
	"promote, nothing to undo": {
		`proxy promote --data-dir $DIR/p.etcd --abort --yes`, nil, ExitRefused,
		"no promotion is under way in $DIR/p.etcd", "see the members with: etcdops proxy members",
	},
	"promote, a journal that is none": {
		`proxy promote --data-dir $DIR/torn --continue`, nil, ExitRefused,
		"read the plan in journal $DIR/torn/etcdops/promotion.journal: invalid character 'n' looking for beginning of object key string",
		"the journal can't be read: mend or remove it by hand, after a look at etcdops proxy members",
	},
	"promote, a journal that is empty": {
		`proxy promote m4 --data-dir $DIR/cut`, nil, ExitRefused,
		"read journal $DIR/cut/etcdops/promotion.journal: it is empty",
		"the journal can't be read: mend or remove it by hand, after a look at etcdops proxy members",
	},
	"promote, another name than the one under way": {
		`proxy promote m5 --data-dir $DIR/halfway`, nil, ExitRefused,
		"the promotion of m4 is under way in /halfway, not that of m5",
		"go on with it: etcdops proxy promote --continue --data-dir /halfway; or undo it with --abort",
	},
	"promote, a process that is no etcd proxy": {
		`proxy promote m4 --pid $PID --data-dir $DIR/p.etcd --initial-advertise-peer-urls http://127.0.0.1:2380`, nil, ExitRefused,
		"process $PID is no etcd proxy: it has no --proxy on", "find it with: pgrep -a etcd",
	},
	"too many members": {
		`demo --members 10`, nil, ExitUsage,
		"--members: 10 is not from 1 to 9", "write --members 3, or another number from 1 to 9",
	},
	"no members": {
		`demo --members 0`, nil, ExitUsage,
		"--members: 0 is not from 1 to 9", "write --members 3, or another number from 1 to 9",
	},
	"members not a number": {
		`demo --members three`, nil, ExitUsage,
		`invalid value "three" for flag -members: parse error`, "run etcdops demo --help for its flags and examples",
	},
	"folder to keep is not empty": {
		`demo --keep member`, nil, ExitUsage,
		"--keep: member is not empty", "name an empty folder, or one that does not exist yet",
	},
	"folder to keep is a file": {
		`demo --keep file`, nil, ExitUsage,
		"--keep: mkdir file: not a directory", "name a folder that you may write",
	},
	"demo url without scheme": {
		`demo --listen-client-urls localhost:2379`, nil, ExitUsage,
		`--listen-client-urls: "localhost:2379" has no scheme`, urlHint,
	},
	"demo url with a port that is none": {
		`demo --listen-client-urls http://127.0.0.1:70000`, nil, ExitUsage,
		`--listen-client-urls: "http://127.0.0.1:70000" has a port over 65535`, urlHint,
	},
	"demo url with https": {
		`demo --listen-client-urls https://127.0.0.1:2379`, nil, ExitUsage,
		"--listen-client-urls: the demo has no certificate for https://127.0.0.1:2379",
		"write http:// or unix://; for TLS see etcdops proxy start --help",
	},
	"port in use": {
		`proxy start --data-dir p.etcd --listen-client-urls $URL`, nil, ExitFailed,
		"listen on $URL: bind: address already in use", "another process listens there: find it with ss -ltnp, or choose another --listen-client-urls",
	},
	"address of another host": {
		`proxy start --data-dir p.etcd --listen-client-urls http://192.0.2.1:2379`, nil, ExitFailed,
		"listen on http://192.0.2.1:2379: bind: cannot assign requested address", "choose an address of this host in --listen-client-urls",
	},
	"socket that is a file": {
		`proxy start --data-dir p.etcd --listen-client-urls unix://file`, nil, ExitFailed,
		"listen on unix://file: file exists and is not a socket", "name a path in --listen-client-urls where a socket can be made",
	},
	"data directory of a member": {
		`proxy start --data-dir member --listen-client-urls http://127.0.0.1:0`, nil, ExitRefused,
		"member/member/wal holds the log of an etcd member", "this is a member, start etcd there; or give the proxy another --data-dir",
	},
	"wal of a member elsewhere": {
		`proxy start --data-dir p.etcd --wal-dir member/member/wal --listen-client-urls http://127.0.0.1:0`, nil, ExitRefused,
		"member/member/wal holds the log of an etcd member", "this is a member, start etcd there; or give the proxy another --data-dir",
	},
	"foreign lock": {
		`proxy start --data-dir locked --listen-client-urls http://127.0.0.1:0`, nil, ExitLocked,
		"data directory locked is in use by process 4711", "one proxy a data directory: stop that process, or give this one another --data-dir",
	},
}
