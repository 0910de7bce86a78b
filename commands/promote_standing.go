package commands

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"syscall"

	"etcdops/discover"
	"etcdops/promote"
	"etcdops/proxy"
)

// foundProxy is the proxy that is to become a member, and the way to its
// cluster.
type foundProxy struct {
	standing  promote.Standing
	endpoints []string // client URLs of members
	tls       *tls.Config
}

// findStanding asks the running proxy how it stands, or reads it from a native
// proxy's process.
func findStanding(ctx context.Context, opts *promoteOptions) (*foundProxy, error) {
	find := findOurs
	if opts.PID > 0 {
		find = findNative
	}
	found, err := find(ctx, opts)
	if err != nil {
		return nil, err
	}
	s := &found.standing
	hideSecrets(s)
	if s.NamespacePID, err = s.Process.NamespacePID(); err != nil {
		return nil, fail(ExitRefused, err, "run it as the proxy's user or root")
	}
	s.Pod, s.Apart = s.Process.Pod(), !s.Process.SharesNetwork()
	// Where systemd can't be asked, the proxy is taken for one without a unit.
	if unit, main, err := new(promote.Systemd).UnitOf(ctx, s.Process.PID); err == nil {
		s.Within = unit
		if main {
			s.Unit = unit
		}
	}
	if found.tls, err = membersTLS(opts, s.Settings); err != nil {
		return nil, err
	}
	return found, nil
}

// urlUser is the user and the password in a URL.
var urlUser = regexp.MustCompile(`([a-zA-Z][a-zA-Z0-9+.-]*://)[^/\s]*@`)

// hideSecrets keeps the passwords in URLs out of the journal and of what is
// printed. A command line that has one is not kept at all: what can't be started
// again as it was has to be started by hand.
func hideSecrets(s *promote.Standing) {
	for name, value := range s.Settings {
		s.Settings[name] = urlUser.ReplaceAllString(value, "$1***@")
	}
	if slices.ContainsFunc(slices.Concat(s.Args, s.Environ), urlUser.MatchString) || slices.ContainsFunc(parseEtcdArgs(s.Args), isSecretFlag) {
		s.Args, s.Environ = nil, slices.DeleteFunc(s.Environ, urlUser.MatchString)
	}
}

func isSecretFlag(flag etcdFlag) bool { return isSecret(variable(flag.name)) }

func findOurs(ctx context.Context, opts *promoteOptions) (*foundProxy, error) {
	client := proxy.ControlClient{Path: proxy.ControlPath(opts.Request.DataDir)}
	var status proxy.Status
	err := client.Get(ctx, "/v1/status", nil, &status)
	switch {
	case errors.Is(err, os.ErrNotExist), errors.Is(err, syscall.ECONNREFUSED):
		if logs, _ := filepath.Glob(filepath.Join(opts.Request.DataDir, "member", "wal", "*.wal")); len(logs) > 0 {
			return nil, &Failure{
				Code: ExitRefused, Message: opts.Request.DataDir + " is the data directory of a member already",
				Hint: "name the data directory of the proxy that is to become one; the members: etcdops proxy members --endpoints URL",
			}
		}
		return nil, &Failure{
			Code: ExitRefused, Message: "no proxy of ours runs in " + opts.Request.DataDir,
			Hint: "start it with etcdops proxy start, or name another --data-dir; for a native etcd proxy add --pid N",
		}
	case errors.Is(err, proxy.ErrNoAnswer):
		hint := "find its process with: pgrep -a etcdops"
		if peer, err := client.Peer(ctx); err == nil {
			hint = fmt.Sprintf("look at its process: ps -fp %d; if it is stopped: kill -CONT %d", peer.PID, peer.PID)
		}
		return nil, fail(ExitRefused, err, hint)
	case err != nil:
		return nil, fail(ExitRefused, err, "run it as the proxy's user or root")
	}
	if status.ClusterID == "" {
		return nil, &Failure{Code: ExitNoCluster, Message: "the proxy has found no cluster yet: " + status.RefreshError, Hint: "see why with: etcdops proxy discover, and the flags of that proxy"}
	}
	var report standingReport
	if err := client.Get(ctx, standingPath, nil, &report); err != nil {
		return nil, fail(ExitRefused, err, "is the proxy of another version than this command? Start it again with this one")
	}
	// The pid that the proxy has for itself may be another process's here.
	peer, err := client.Peer(ctx)
	var process promote.Process
	if err == nil {
		process, err = processOf(peer)
	}
	if err != nil {
		return nil, fail(ExitRefused, err, "run it on the machine and in the pid namespace of the proxy")
	}
	found := &foundProxy{standing: promote.Standing{
		Process: process, UID: peer.UID, GID: peer.GID,
		Settings: report.Settings, Args: report.Args, Dir: report.Dir, Environ: report.Environ,
	}}
	if exe, err := process.Exe(); err == nil && len(report.Args) > 0 && !strings.Contains(report.Args[0], "/") {
		found.standing.Args[0] = exe // it was found on a PATH that may have changed
	}
	if _, err := fmt.Sscanf(status.ClusterID, "%x", &found.standing.ClusterID); err != nil {
		return nil, fail(ExitRefused, fmt.Errorf("the proxy names the cluster %q", status.ClusterID), "")
	}
	for _, l := range status.Listeners {
		found.standing.Listeners = append(found.standing.Listeners, promote.Listener{
			URL: l.URL, Network: l.Network, Address: l.Address, HandOver: l.HandOver, Why: l.Why,
		})
	}
	for _, e := range status.Endpoints {
		if e.Used {
			found.endpoints = append(found.endpoints, e.URL)
		}
	}
	return found, nil
}

// findNative reads a native etcd proxy's flags and environment, and finds its
// cluster as that proxy did.
func findNative(ctx context.Context, opts *promoteOptions) (*foundProxy, error) {
	process, err := promote.FindProcess(opts.PID)
	if err != nil {
		return nil, fail(ExitRefused, err, "find it with: pgrep -a etcd")
	}
	args, err1 := process.Args()
	environ, err2 := process.Environ()
	dir, err3 := process.Dir()
	uid, gid, err4 := process.Owner()
	if err := errors.Join(err1, err2, err3, err4); err != nil {
		return nil, fail(ExitRefused, err, "run it as that process's user or root")
	}
	s, err := loadSettings(proxySettings(), readArgs(args[1:]), (&Env{Environ: environ}).Getenv)
	if err != nil {
		return nil, err
	}
	if mode, _ := s.Lookup("proxy"); !s.IsSet("proxy") || mode == "off" {
		return nil, &Failure{Code: ExitRefused, Message: fmt.Sprintf("process %d is no etcd proxy: it has no --proxy on", opts.PID), Hint: "find it with: pgrep -a etcd"}
	}
	if own := absolute(dir, s.String("data-dir")); own != opts.Request.DataDir {
		return nil, &Failure{Code: ExitRefused, Message: fmt.Sprintf("process %d works in %s, not in %s", opts.PID, own, opts.Request.DataDir), Hint: "add --data-dir " + own}
	}
	standing := promote.Standing{
		Process: process, Native: true, UID: uid, GID: gid, Settings: setSettings(s, dir),
		Args: args, Dir: dir, Environ: plainEnviron(environ),
	}
	if exe, err := process.Exe(); err == nil && !strings.Contains(args[0], "/") {
		standing.Args[0] = exe
	}
	for _, raw := range s.List("listen-client-urls") {
		standing.Listeners = append(standing.Listeners, promote.Listener{URL: raw, Why: "it is held by a native etcd proxy"})
	}
	ids, err := loadIdentities(absoluteSettings(standing.Settings), nil, nil)
	if err != nil {
		return nil, err
	}
	config, err := sourceConfig(s, ids, discover.DefaultDialTimeout, nil)
	if err != nil {
		return nil, err
	}
	config.DataDir, config.PreferFile, config.BootstrapWait = opts.Request.DataDir, true, bootstrapWait
	resolution, err := discover.New(config).Resolve(ctx)
	if err != nil {
		return nil, fail(ExitNoCluster, err, "see each step with: etcdops proxy discover --data-dir "+opts.Request.DataDir)
	}
	found := &foundProxy{standing: standing}
	if _, err := fmt.Sscanf(resolution.ClusterID, "%x", &found.standing.ClusterID); err != nil {
		return nil, fail(ExitNoCluster, err, "")
	}
	for _, c := range resolution.Clients {
		if c.Used {
			found.endpoints = append(found.endpoints, c.URL)
		}
	}
	return found, nil
}

// absoluteSettings are the settings of another process, all paths absolute.
func absoluteSettings(values map[string]string) *Settings {
	s := &Settings{table: map[string]Setting{}, getenv: func(string) string { return "" }}
	for _, setting := range proxySettings() {
		s.table[setting.Name] = setting
	}
	s.flag = func(name string) (string, bool) {
		value, found := values[name]
		return value, found
	}
	return s
}

// membersTLS is how members are reached: with etcdctl's flags, else as the proxy
// does.
func membersTLS(opts *promoteOptions, settings map[string]string) (*tls.Config, error) {
	s := absoluteSettings(settings).with(map[string]ownFlag{
		"client-cert-file": {"--cert", opts.CertFile}, "client-key-file": {"--key", opts.KeyFile}, "trusted-ca-file": {"--cacert", opts.CAFile},
	})
	ids, err := loadIdentities(s, nil, nil)
	if err != nil {
		return nil, err
	}
	return ids.Members, nil
}
