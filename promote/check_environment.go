package promote

import (
	"strconv"
	"strings"
)

// CheckEnvironment looks at where the proxy lives and at the variables that
// would reach etcd. Each variable that begins with ETCD_ is a flag.
func (c *Candidate) CheckEnvironment() []Refusal {
	var found refusals
	c.checkPlace(&found)
	for _, entry := range c.Environ {
		name, value, _ := strings.Cut(entry, "=")
		if !strings.HasPrefix(name, "ETCD_") || value == "" {
			continue // etcd takes an empty variable for none (pkg/flags/flag.go)
		}
		if why := c.breaks(name, value); why != "" {
			found.add("environment", "take it out of the unit, its EnvironmentFile= or the shell: unset "+name,
				"the variable %s %s", name, why)
		}
	}
	return found
}

// CheckPlace refuses to go on to the end where only --stage env may have been
// asked for: the proxy's end would end everything around it.
func (p *Plan) CheckPlace() []Refusal {
	c := Candidate{ProxyPID: p.Proxy.Process.PID, ProxyNamespacePID: p.Proxy.NamespacePID, ProxyInPod: p.Proxy.Pod}
	var found refusals
	c.checkPlace(&found)
	return found
}

// checkPlace refuses a proxy whose end would end everything around it.
func (c *Candidate) checkPlace(found *refusals) {
	if c.StageEnv || c.ProxyPID == 0 {
		return
	}
	const hint = "add --stage env: it adds the member and prints the variables with which you start etcd in its place"
	switch {
	case c.ProxyInPod:
		found.add("proxy-in-pod", hint, "the proxy (pid %d) lives in a pod: what restarts it is not ours", c.ProxyPID)
	case c.ProxyNamespacePID == 1:
		found.add("proxy-pid-1", hint, "the proxy (pid %d) is process 1 of its container, which ends with it", c.ProxyPID)
	}
}

// breaks says what a variable would do to a member that joins; "" if nothing
// that matters, also where the variables that we set take its place.
func (c *Candidate) breaks(name, value string) string {
	switch {
	case name == "ETCD_CONFIG_FILE":
		return "makes etcd ignore all flags and variables"
	case name == "ETCD_FORCE_NEW_CLUSTER" && isTrue(value):
		return "makes a cluster of its own"
	case name == "ETCD_INITIAL_CLUSTER_STATE" && value != "existing":
		return "is " + strconv.Quote(value) + ", and a member that joins must be told existing"
	case name == "ETCD_PROXY" && value != "off":
		return "makes a proxy instead of a member"
	case name == "ETCD_DISCOVERY_FALLBACK", name == "ETCD_DISCOVERY_PROXY":
		return "" // without discovery they mean nothing
	case strings.HasPrefix(name, "ETCD_DISCOVERY"):
		return "makes etcd look for a cluster by discovery, besides the one that it is given"
	case name == "ETCD_WAL_DIR" && value != c.WALDir:
		return "puts the log into " + value + ", which was not looked at"
	}
	flags, _ := etcdFlags(c.EtcdFlags)
	for _, flag := range flags {
		if name == variableName(flag) {
			return "stands beside the flag --" + flag + ": etcd ends where both are given"
		}
	}
	return ""
}

// isTrue reads a truth as etcd's flags do.
func isTrue(value string) bool {
	truth, err := strconv.ParseBool(value)
	return err == nil && truth
}
