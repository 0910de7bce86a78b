package commands

import (
	"fmt"
	"slices"
	"strings"

	"etcdops/promote"
)

// checkSame refuses to go on with a promotion while flags ask for another one:
// what was typed wrongly the first time is undone, and not carried on.
func (o *promoteOptions) checkSame(plan *promote.Plan) error {
	r := &o.Request
	variable := func(name string) []string {
		for _, v := range plan.Service.Variables {
			if v.Name == name {
				return strings.Split(v.Value, ",")
			}
		}
		return nil
	}
	for _, flag := range []struct {
		name       string
		asked, has []string
	}{
		{"initial-advertise-peer-urls", r.InitialAdvertisePeerURLs, plan.PeerURLs},
		{"listen-peer-urls", r.ListenPeerURLs, variable("ETCD_LISTEN_PEER_URLS")},
		{"listen-client-urls", r.ListenClientURLs, variable("ETCD_LISTEN_CLIENT_URLS")},
		{"advertise-client-urls", r.AdvertiseClientURLs, variable("ETCD_ADVERTISE_CLIENT_URLS")},
		{"supervisor", given(r.Supervisor), given(plan.Supervisor)},
		{"etcd", given(strings.TrimPrefix(o.Etcd, etcdEmbedded)), given(plan.Service.Binary.Path)},
		{"voter", given(onOff(r.Voter)), given(onOff(plan.Voter))},
		{"", r.EtcdFlags, plan.Service.Flags},
	} {
		if len(flag.asked) == 0 || slices.Equal(flag.asked, flag.has) {
			continue
		}
		has := strings.Join(flag.has, ",")
		if has == "" {
			has = "none"
		}
		what := "--" + flag.name
		if flag.name == "" {
			what = "flags behind --"
		}
		return &Failure{
			Code:    ExitRefused,
			Message: fmt.Sprintf("the promotion of %s under way in %s has other %s: %s", plan.Name, plan.DataDir, what, has),
			Hint:    "go on with it as it is: etcdops proxy promote --continue --data-dir " + plan.DataDir + "; or undo it with --abort, and begin anew",
		}
	}
	return nil
}

func given(value string) []string {
	if value == "" {
		return nil
	}
	return []string{value}
}

func onOff(set bool) string {
	if set {
		return "on"
	}
	return ""
}
