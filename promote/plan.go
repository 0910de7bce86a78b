package promote

import (
	"fmt"
	"maps"
	"path/filepath"
	"slices"
	"strings"

	"etcdops/discover"
)

// Steps of a promotion.
const (
	StepAdd       = "add"        // the member is added to the cluster
	StepPrint     = "print"      // its variables are printed
	StepAside     = "aside"      // <data-dir>/proxy is renamed
	StepStopProxy = "stop-proxy" // without hand-over: the proxy ends before etcd starts
	StepStart     = "start"      // etcd is started
	StepCatchUp   = "catch-up"   // the learner catches up and becomes a voter
	StepServe     = "serve"      // the new member answers clients itself
	StepHandOver  = "hand-over"  // new connections reach etcd
	StepDrain     = "drain"      // the proxy's connections end, then the proxy
	StepFinish    = "finish"     // the service is made to last, leftovers are removed
	stepUndo      = "undo"
)

// Supervisors of the etcd that a promotion starts.
const (
	SuperviseSystemd = "systemd" // a unit
	SuperviseDetach  = "detach"  // a session of its own; nothing restarts it
)

// maxSocketPath is the longest path of a unix socket that etcd can bind, in
// bytes (sun_path of Linux, less its terminator).
const maxSocketPath = 107

// Request is what the operator asked for.
type Request struct {
	Name                     string
	DataDir                  string // absolute
	InitialAdvertisePeerURLs []string
	ListenPeerURLs           []string
	ListenClientURLs         []string // if empty, the proxy's
	AdvertiseClientURLs      []string // if empty, those to listen on that others can reach
	EtcdFlags                []string // behind --
	Voter                    bool     // without the learner's stage
	Supervisor               string   // SuperviseSystemd, SuperviseDetach; "" = found out
	Unit                     string   // the proxy's unit; "" = found out
	KeepProxyDir             bool
	StageEnv                 bool     // add, print, and stop there
	Environ                  []string // of whoever asks
}

// Standing is what is known of the proxy that stands in the member's place.
type Standing struct {
	Process      Process           `json:"process"`
	Native       bool              `json:"native"` // etcd --proxy
	UID          uint32            `json:"uid"`
	GID          uint32            `json:"gid"`
	NamespacePID int               `json:"namespace_pid"`
	Pod          bool              `json:"pod"`
	ClusterID    uint64            `json:"-"`
	Listeners    []Listener        `json:"listeners"`
	Settings     map[string]string `json:"settings"` // etcd flags without dashes; paths absolute
	Args         []string          `json:"args"`     // how it was started, to start it again
	Dir          string            `json:"dir"`
	Environ      []string          `json:"environ"` // ETCD_ variables and what a program needs, no secrets
	Unit         string            `json:"unit"`    // whose main process it is; "" = none
	Within       string            `json:"within"`  // unit whose process it is, the main one or another; "" = none
	Apart        bool              `json:"apart"`   // it lives in another network namespace
}

// Listener is one client URL of a running proxy.
type Listener struct {
	URL      string `json:"url"`
	Network  string `json:"network"` // tcp or unix
	Address  string `json:"address"` // bound
	HandOver bool   `json:"hand_over"`
	Why      string `json:"why,omitempty"` // why it can't be handed over
}

// Plan is a promotion before anything was changed. Its JSON form is the head
// of the journal.
type Plan struct {
	Name         string                  `json:"name"`
	DataDir      string                  `json:"data_dir"`
	WALDir       string                  `json:"wal_dir,omitempty"`
	WALDirThere  bool                    `json:"wal_dir_there,omitempty"` // before
	ClusterID    string                  `json:"cluster_id"`              // 16 hex digits
	Members      []discover.MemberStatus `json:"members"`                 // before
	PeerURLs     []string                `json:"peer_urls"`
	Voter        bool                    `json:"voter"`
	HandOver     bool                    `json:"hand_over"`
	WhyNot       string                  `json:"why_no_hand_over,omitempty"`
	Supervisor   string                  `json:"supervisor"`
	KeepProxyDir bool                    `json:"keep_proxy_dir"`
	Proxy        Standing                `json:"proxy"`
	Service      Service                 `json:"service"`
	Socket       string                  `json:"socket"` // the new member's own
	Stamp        string                  `json:"stamp"`  // in the names of what is set aside
	Steps        []string                `json:"steps"`
	Unset        []string                `json:"unset"`
	Dropped      []string                `json:"dropped,omitempty"` // settings that this etcd does not know
}

// candidate is the part of a plan that the preflight judges.
func (r *Request) candidate(proxy *Standing, binary Binary, members []discover.MemberStatus) *Candidate {
	listen := r.ListenClientURLs
	if len(listen) == 0 {
		for _, l := range proxy.Listeners {
			listen = append(listen, l.URL)
		}
	}
	advertise := r.AdvertiseClientURLs
	if len(advertise) == 0 {
		advertise = reachable(listen, allLoopback(members))
	}
	var reused []string
	for _, l := range proxy.Listeners {
		reused = append(reused, l.URL)
	}
	settings := proxy.memberSettings()
	maps.Copy(settings, flagValues(r.EtcdFlags))
	return &Candidate{
		Name: r.Name, DataDir: r.DataDir, WALDir: proxy.Settings["wal-dir"],
		InitialAdvertisePeerURLs: r.InitialAdvertisePeerURLs, ListenPeerURLs: r.ListenPeerURLs,
		ListenClientURLs: listen, AdvertiseClientURLs: advertise,
		Settings: settings, EtcdFlags: r.EtcdFlags, Binary: binary, Voter: r.Voter, Reused: reused,
		ProxyPID: proxy.Process.PID, ProxyNamespacePID: proxy.NamespacePID, ProxyInPod: proxy.Pod,
		ProxyClusterID: proxy.ClusterID, StageEnv: r.StageEnv, Environ: r.Environ, UID: proxy.UID, GID: proxy.GID,
	}
}

// memberSettings are the proxy's settings as a member is to have them. To a
// member --trusted-ca-file means that each client shows a certificate, whatever
// --client-cert-auth says (ServerConfig, client/pkg/transport/listener.go). Where
// our proxy was told to want none, its clients must not be shut out.
func (s *Standing) memberSettings() map[string]string {
	settings := map[string]string{}
	maps.Copy(settings, s.Settings)
	if auth, told := settings["client-cert-auth"]; !s.Native && told && !isTrue(auth) {
		delete(settings, "trusted-ca-file")
	}
	return settings
}

// steps lists what the promotion will do, in order.
func (p *Plan) steps() []string {
	switch {
	case p.HandOver:
		return []string{StepAdd, StepPrint, StepAside, StepStart, StepCatchUp, StepServe, StepHandOver, StepDrain, StepFinish}
	default:
		return []string{StepAdd, StepPrint, StepAside, StepStopProxy, StepStart, StepCatchUp, StepServe, StepFinish}
	}
}

// decideHandOver tells whether etcd can stand behind the proxy's ports, and if
// not, why not.
func decideHandOver(proxy *Standing, c *Candidate) (can bool, why string) {
	switch {
	case proxy.Native:
		return false, "a native etcd proxy can't share its ports"
	case !c.Binary.Knows("socket-reuse-port"):
		return false, fmt.Sprintf("etcd %s has no --socket-reuse-port", c.Binary.Version)
	case proxy.Apart:
		return false, "the proxy lives in another network namespace"
	}
	for _, l := range proxy.Listeners {
		switch {
		case !l.HandOver:
			return false, l.URL + ": " + l.Why
		case !slices.Contains(c.ListenClientURLs, l.URL):
			return false, "etcd would not listen on " + l.URL
		}
	}
	return true, ""
}

// variables are what makes etcd the new member. The order is that of etcd's
// member add, then the addresses, then the rest.
func (p *Plan) variables(initialCluster string) Variables {
	first := Variables{
		{"ETCD_NAME", p.Name},
		{"ETCD_INITIAL_CLUSTER", initialCluster},
		{"ETCD_INITIAL_ADVERTISE_PEER_URLS", strings.Join(p.PeerURLs, ",")},
		{"ETCD_INITIAL_CLUSTER_STATE", "existing"},
	}
	return append(first, p.Service.Variables...)
}

// running are the variables of the first run: etcd shares the proxy's ports and
// has a socket of its own by which we ask it.
func (p *Plan) running(initialCluster string) Variables {
	v := p.variables(initialCluster)
	for i := range v {
		if v[i].Name != "ETCD_LISTEN_CLIENT_URLS" {
			continue
		}
		urls := strings.Split(v[i].Value, ",")
		for n, raw := range urls {
			if path, ok := socketPath(raw); ok && p.HandOver {
				urls[n] = socketScheme(raw) + "://" + sidePath(path)
			}
		}
		return v.With(
			Variable{"ETCD_LISTEN_CLIENT_URLS", strings.Join(append(urls, p.socketURL()), ",")},
		).With(p.sharing()...)
	}
	return v
}

// socketURL is the private socket as etcd takes it.
func (p *Plan) socketURL() string {
	if !p.Service.Binary.takesSocketPaths() {
		return "unix://" + filepath.Base(p.Socket)
	}
	return "unix://" + p.Socket
}

// sharing lets etcd bind what the proxy still holds.
func (p *Plan) sharing() Variables {
	if !p.HandOver {
		return nil
	}
	return Variables{{"ETCD_SOCKET_REUSE_PORT", "true"}}
}

// sideSockets are the unix sockets that etcd listens on until the hand-over,
// by the client URL that they become. etcd removes and binds the path that it
// is given (client/pkg/transport/unix_listener.go), so it can't be the proxy's.
func (p *Plan) sideSockets() map[string]string {
	side := map[string]string{}
	for _, l := range p.Proxy.Listeners {
		if path, ok := socketPath(l.URL); ok {
			side[l.URL] = sidePath(path)
		}
	}
	return side
}

func sidePath(path string) string { return path + ".etcd" }

func socketScheme(raw string) string {
	scheme, _, _ := strings.Cut(raw, "://")
	return scheme
}

// socketPath is the path of a unix client URL, absolute or not.
func socketPath(raw string) (path string, ok bool) {
	scheme, rest, found := strings.Cut(raw, "://")
	if !found || scheme != "unix" && scheme != "unixs" {
		return "", false
	}
	return rest, true
}

// passed are the settings of the proxy that its etcd gets too, as variables,
// and the names of those that this etcd does not know. What is among etcd's
// flags is left to them: etcd ends where a flag and its variable are both given.
func passed(settings map[string]string, flags []string, binary Binary) (v Variables, dropped []string) {
	typed := flagValues(flags)
	var names []string
	for name := range settings {
		if !ours[name] && !strings.HasPrefix(name, "proxy") && !strings.HasPrefix(name, "discovery") && settings[name] != "" {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	for _, name := range names {
		if _, ok := typed[name]; ok {
			continue
		}
		if !binary.Knows(name) {
			dropped = append(dropped, name)
			continue
		}
		v = append(v, Variable{variableName(name), settings[name]})
	}
	return v, dropped
}

// ours are the settings that a promotion decides itself, and those of the proxy
// that mean nothing to a member.
var ours = map[string]bool{
	"name": true, "data-dir": true, "wal-dir": true, "config-file": true,
	"initial-cluster": true, "initial-cluster-state": true, "initial-cluster-token": true, "initial-advertise-peer-urls": true,
	"listen-client-urls": true, "listen-peer-urls": true, "advertise-client-urls": true,
	"socket-reuse-port": true, "socket-reuse-address": true, "force-new-cluster": true,
	"drain-timeout": true, "log-format": true, "strict-sources": true, "cluster-id": true, "honor-proxy-env": true,
	"max-connections": true, "max-header-bytes": true, "client-header-timeout": true, "client-idle-timeout": true,
	"allow-client-cert-cn": true,
	"listen-metrics-urls":  true, // the proxy listens there until it has handed over
}

func variableName(flag string) string {
	return "ETCD_" + strings.ToUpper(strings.ReplaceAll(flag, "-", "_"))
}

// asideOf is where a folder of the data directory goes.
func (p *Plan) asideOf(folder string) string {
	return filepath.Join(p.DataDir, folder+"."+p.Stamp)
}

// Expected are the variables as they will be, before the cluster was asked.
func (p *Plan) Expected(members []discover.Member) Variables {
	var entries []string
	for _, m := range members {
		for _, u := range m.PeerURLs {
			if m.Started() {
				entries = append(entries, m.Name+"="+u)
			}
		}
	}
	for _, u := range p.PeerURLs {
		entries = append(entries, p.Name+"="+u)
	}
	slices.Sort(entries)
	return p.variables(strings.Join(entries, ","))
}
