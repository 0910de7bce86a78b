package promote

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"etcdops/discover"
)

// Preparation is a promotion that has been looked at from all sides and has
// changed nothing.
type Preparation struct {
	Plan     Plan        `json:"plan"`
	Quorum   []QuorumRow `json:"quorum"`
	Refusals []Refusal   `json:"refusals"`
	// Risk is the one thing that can go wrong for clients.
	Risk string `json:"risk"`
}

// Prepare makes the plan of a promotion and finds every reason to refuse it.
func Prepare(ctx context.Context, r Request, proxy Standing, binary Binary, clusterID uint64, members []discover.MemberStatus) *Preparation {
	c := r.candidate(&proxy, binary, members)
	plan := Plan{
		Name: r.Name, DataDir: r.DataDir, WALDir: c.WALDir, ClusterID: fmt.Sprintf("%016x", clusterID), Members: members,
		PeerURLs: r.InitialAdvertisePeerURLs, Voter: r.Voter, KeepProxyDir: r.KeepProxyDir, Proxy: proxy,
		Stamp: stamp(time.Now()), Unset: leftovers(proxy.Environ),
	}
	_, err := os.Stat(plan.WALDir)
	plan.WALDirThere = err == nil
	plan.HandOver, plan.WhyNot = decideHandOver(&proxy, c)
	c.HandOver = plan.HandOver
	plan.decideSupervisor(&r)
	plan.decideService(c)
	plan.Steps = plan.steps()

	p := &Preparation{Plan: plan, Quorum: QuorumTable(members, r.Voter)}
	others := withoutOurs(members, r.InitialAdvertisePeerURLs)
	p.Refusals = slices.Concat(
		c.CheckCluster(clusterID, others),
		c.CheckBinary(others),
		c.CheckURLs(ctx, others),
		c.CheckHost(ctx, largestDB(members)),
		c.CheckTLS(),
		c.CheckEnvironment(),
		plan.checkUnit(),
		plan.checkReadonly(),
	)
	p.Risk = plan.risk(len(others))
	return p
}

// Begin writes the journal: from here on the promotion is under way.
func (p *Preparation) Begin() (*Journal, error) { return createJournal(p.Plan) }

// Recheck looks again, before etcd is started for the first time by a promotion
// that was cut or that stopped on purpose, at everything on this machine that
// can be in its way. It is of no use once etcd was started.
func Recheck(ctx context.Context, j *Journal) []Refusal {
	if j.has(StepStart, eventBegin) {
		return nil
	}
	plan := &j.Plan
	s := &plan.Service
	c := &Candidate{
		Name: plan.Name, DataDir: plan.DataDir, WALDir: plan.WALDir,
		InitialAdvertisePeerURLs: plan.PeerURLs, ListenPeerURLs: s.list("ETCD_LISTEN_PEER_URLS"),
		ListenClientURLs: s.list("ETCD_LISTEN_CLIENT_URLS"), AdvertiseClientURLs: s.list("ETCD_ADVERTISE_CLIENT_URLS"),
		Settings: plan.Proxy.Settings, EtcdFlags: s.Flags, Binary: s.Binary, Voter: plan.Voter, HandOver: plan.HandOver,
		ProxyPID: plan.Proxy.Process.PID, ProxyNamespacePID: plan.Proxy.NamespacePID, ProxyInPod: plan.Proxy.Pod,
		UID: s.UID, GID: s.GID,
	}
	for _, l := range plan.Proxy.Listeners {
		c.Reused = append(c.Reused, l.URL)
	}
	return slices.Concat(c.CheckBinary(plan.Members), c.CheckHost(ctx, largestDB(plan.Members)), c.CheckTLS(), c.CheckEnvironment())
}

// list are the parts of a variable of the service.
func (s *Service) list(name string) []string {
	for _, v := range s.Variables {
		if v.Name == name {
			return strings.Split(v.Value, ",")
		}
	}
	return nil
}

// withoutOurs leaves out a member that was added before for these very peer
// URLs and never started: it is the one that this promotion will start.
func withoutOurs(members []discover.MemberStatus, peerURLs []string) []discover.MemberStatus {
	return slices.DeleteFunc(slices.Clone(members), func(m discover.MemberStatus) bool {
		return m.Status == discover.MemberUnstarted && m.Role == discover.RoleLearner && sameURLs(m.PeerURLs, peerURLs)
	})
}

// decideSupervisor chooses who keeps etcd running, and in which unit.
func (p *Plan) decideSupervisor(r *Request) {
	unit := p.Proxy.Unit
	if r.Unit != "" {
		unit = serviceName(r.Unit)
	}
	p.Proxy.Unit = unit
	p.Supervisor = r.Supervisor
	if p.Supervisor == "" {
		p.Supervisor = SuperviseDetach
		if unit != "" {
			p.Supervisor = SuperviseSystemd
		}
	}
	if p.Supervisor != SuperviseSystemd {
		return
	}
	p.Service.Unit = UnitName(p.Name)
	if unit != "" && !p.HandOver {
		p.Service.Unit, p.Service.DropIn = unit, true
	}
}

// decideService says what is started, with which settings.
func (p *Plan) decideService(c *Candidate) {
	s := &p.Service
	s.Binary, s.Flags = c.Binary, c.EtcdFlags
	s.Name, s.DataDir, s.UID, s.GID = p.Name, p.DataDir, c.UID, c.GID
	s.LogPath, s.Unset = p.DataDir+".log", p.Unset
	s.Variables = Variables{
		{"ETCD_LISTEN_PEER_URLS", strings.Join(c.ListenPeerURLs, ",")},
		{"ETCD_LISTEN_CLIENT_URLS", strings.Join(c.ListenClientURLs, ",")},
		{"ETCD_ADVERTISE_CLIENT_URLS", strings.Join(c.AdvertiseClientURLs, ",")},
		{"ETCD_DATA_DIR", p.DataDir},
	}
	if p.WALDir != "" {
		s.Variables = append(s.Variables, Variable{"ETCD_WAL_DIR", p.WALDir})
	}
	more, dropped := passed(c.Settings, c.EtcdFlags, c.Binary)
	s.Variables, p.Dropped = append(s.Variables, more...), dropped
	p.Socket = filepath.Join(p.DataDir, StateFolder, "member.sock")
	switch {
	case !c.Binary.takesSocketPaths():
		p.Socket = filepath.Join(p.DataDir, StateFolder, "member:0")
	case len(p.Socket) > maxSocketPath:
		p.Socket = filepath.Join(privateFolder(), "member.sock")
	}
}

// checkUnit refuses a unit where systemd is not, or not ours to command, and to
// write over one that somebody else made. Without systemd nothing could be
// undone either.
func (p *Plan) checkUnit() []Refusal {
	if p.Supervisor != SuperviseSystemd && p.Proxy.Unit == "" {
		return nil
	}
	if _, err := os.Stat(systemdFolder); err != nil {
		return []Refusal{{
			Check: "no-systemd", Problem: "systemd does not run this machine, so no unit can keep etcd running",
			Hint: "choose --supervisor detach, and leave --unit out",
		}}
	}
	if os.Geteuid() != 0 {
		return []Refusal{{
			Check: "not-root", Problem: "only root changes the units of systemd",
			Hint: "run it as root; etcd will run as the proxy's user all the same",
		}}
	}
	if unit := p.Proxy.Unit; unit != "" && unit != p.Proxy.Within {
		return []Refusal{p.notInUnit(unit)}
	}
	if p.Supervisor != SuperviseSystemd || p.Service.DropIn {
		return nil
	}
	path := filepath.Join("/etc/systemd/system", p.Service.Unit)
	if _, err := os.Lstat(path); err != nil {
		return nil
	}
	return []Refusal{{
		Check: "unit-taken", Problem: path + " exists already",
		Hint: "if nothing uses it, remove it: systemctl disable --now " + p.Service.Unit + " && rm " + path + "; or choose --supervisor detach",
	}}
}

// notInUnit refuses a unit that has nothing to do with the proxy: to stop it
// would leave the proxy running, and no unit could be disabled at the end.
func (p *Plan) notInUnit(unit string) Refusal {
	r := Refusal{
		Check: "unit", Problem: fmt.Sprintf("the proxy (pid %d) does not run in unit %s", p.Proxy.Process.PID, unit),
		Hint: "leave --unit out: the proxy runs in no unit",
	}
	if p.Proxy.Within != "" {
		r.Hint = "write --unit " + p.Proxy.Within + ": that is where it runs"
	}
	return r
}

// checkReadonly refuses to make a port writable behind everybody's back.
func (p *Plan) checkReadonly() []Refusal {
	if p.Proxy.Settings["proxy"] != "readonly" {
		return nil
	}
	return []Refusal{{
		Check: "readonly-proxy", Problem: "the proxy is readonly, and the member would take writes on the same ports",
		Hint: "if that is meant, start the proxy with --proxy on first",
	}}
}

// risk names what clients may notice.
func (p *Plan) risk(voters int) string {
	switch {
	case p.Voter:
		return "as a voter it counts for the quorum before it has any data: writes wait until it has caught up"
	case !p.HandOver:
		return "the client ports have no listener from the proxy's end until etcd is a voter that serves (" + p.WhyNot + ")"
	case voters == 1:
		return "with two voters both must live: from then on the loss of either stops writes"
	}
	return "streams still open at the drain limit end once with UNAVAILABLE, and their clients resume them"
}

// leftovers are the variables that a shell or a unit which ran a proxy may
// have, and that break or change a member's start.
func leftovers(environ []string) []string {
	names := []string{"ETCD_PROXY", "ETCD_DISCOVERY", "ETCD_DISCOVERY_SRV", "ETCD_DISCOVERY_TOKEN", "ETCD_DISCOVERY_ENDPOINTS"}
	for _, entry := range environ {
		name, _, _ := strings.Cut(entry, "=")
		if strings.HasPrefix(name, "ETCD_PROXY_") || strings.HasPrefix(name, "ETCD_DISCOVERY_") || name == "ETCD_INITIAL_CLUSTER_TOKEN" {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	return slices.Compact(names)
}

// reachable are the client URLs that a member may advertise: those that other
// machines can dial. loopback allows loopback addresses besides, for a cluster
// that lives on one machine.
func reachable(listen []string, loopback bool) []string {
	var urls []string
	for _, raw := range listen {
		kind := addressKind(raw)
		if kind == addressPublic || kind == addressLoopback && loopback {
			urls = append(urls, raw)
		}
	}
	return urls
}

func largestDB(members []discover.MemberStatus) int64 {
	var largest int64
	for _, m := range members {
		largest = max(largest, m.DBSize)
	}
	return largest
}
