package commands

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"etcdops/discover"
	"etcdops/promote"
)

// promoteReport is the one document of --output json.
type promoteReport struct {
	State     string                  `json:"state"` // planned, refused, added, under way, promoted, half-way, undone
	Plan      *promote.Plan           `json:"plan"`
	Quorum    []promote.QuorumRow     `json:"quorum,omitempty"`
	Refusals  []promote.Refusal       `json:"refusals,omitempty"`
	Risk      string                  `json:"risk,omitempty"`
	Members   []discover.MemberStatus `json:"members,omitempty"` // afterwards
	Variables map[string]string       `json:"variables,omitempty"`
	Unset     []string                `json:"unset,omitempty"`
	Result    *promote.Result         `json:"result,omitempty"`
	Error     string                  `json:"error,omitempty"`
	Log       []string                `json:"etcd_log,omitempty"`
}

// showPlan shows the members and the plan in eight lines.
func (t *promoteTalk) showPlan() {
	plan := &t.prep.Plan
	t.showMembers(plan.Members)
	rows := [][]string{
		{"member", fmt.Sprintf("%s in %s, cluster %s", plan.Name, plan.DataDir, plan.ClusterID)},
		{"etcd", strings.TrimSpace(fmt.Sprintf("%s %s %s", plan.Service.Binary.Path, strings.Join(plan.Service.Binary.Args, " "), plan.Service.Binary.Version))},
		{"peers", strings.Join(plan.PeerURLs, ",")},
		{"clients", fmt.Sprintf("%s, advertised as %s", t.variable("ETCD_LISTEN_CLIENT_URLS"), t.variable("ETCD_ADVERTISE_CLIENT_URLS"))},
		{"ports", t.ports()},
		{"kept by", t.keptBy()},
		{"quorum", quorumLine(t.prep.Quorum)},
		{"risk", t.prep.Risk},
	}
	for _, row := range rows {
		fmt.Fprintf(t.env.Stderr, "%s %s\n", t.env.Err.Strong.Sprintf("%-8s", row[0]), row[1])
	}
	if plan.Service.Binary.Knows("enable-v2") && !slices.ContainsFunc(append(plan.Service.Variables.Environ(), plan.Service.Flags...), isEnableV2) {
		t.say("note: clients of the v2 API need -- --enable-v2: without it the new member does not speak it")
	}
	if value := plan.Proxy.Settings["listen-metrics-urls"]; value != "" {
		t.sayf("note: %s stays the proxy's until it ends; give etcd one with -- --listen-metrics-urls=…", value)
	}
	if len(plan.Dropped) > 0 {
		t.sayf("note: this etcd does not know, and will not get: %s", strings.Join(plan.Dropped, ", "))
	}
}

func isEnableV2(setting string) bool {
	return strings.HasPrefix(setting, "ETCD_ENABLE_V2=") || strings.HasPrefix(strings.TrimLeft(setting, "-"), "enable-v2")
}

// showMembers shows the table of members, as proxy members does, where one
// talks.
func (t *promoteTalk) showMembers(members []discover.MemberStatus) {
	if len(members) == 0 {
		return
	}
	talk := *t.env
	talk.Stdout, talk.Out = t.env.Stderr, t.env.Err
	_ = talk.printTable(outputTable, membersTable(&talk, &membersReport{Members: members}))
}

func (t *promoteTalk) variable(name string) string {
	for _, v := range t.prep.Plan.Service.Variables {
		if v.Name == name {
			return v.Value
		}
	}
	return ""
}

func (t *promoteTalk) ports() string {
	if t.prep.Plan.HandOver {
		return "handed over while the proxy serves: no request fails"
	}
	return "dark between the proxy's end and etcd's readiness: " + t.prep.Plan.WhyNot
}

func (t *promoteTalk) keptBy() string {
	plan := &t.prep.Plan
	switch {
	case plan.Supervisor == promote.SuperviseDetach:
		return "nobody after a reboot (detached); log " + plan.Service.LogPath
	case plan.Service.DropIn:
		return "systemd, a drop-in for " + plan.Service.Unit
	default:
		return "systemd, unit " + plan.Service.Unit + "; the proxy's unit ends disabled"
	}
}

func quorumLine(rows []promote.QuorumRow) string {
	var parts []string
	for _, r := range rows {
		parts = append(parts, fmt.Sprintf("%s: %d of %d, may lose %d", r.Phase, r.Quorum, r.Voters, max(0, r.Tolerance)))
	}
	return strings.Join(parts, "; ")
}

// dryRun prints what would be printed, as far as it can be known before.
func (t *promoteTalk) dryRun(members []discover.Member) error {
	plan := &t.prep.Plan
	t.say("steps    " + strings.Join(plan.Steps, ", "))
	variables := plan.Expected(members)
	var err error
	if t.opts.Output == outputJSON {
		r := t.report("planned", variables)
		if len(t.prep.Refusals) > 0 {
			r.State = "refused"
		}
		err = writeJSON(t.env.Stdout, r)
	} else {
		err = variables.Format(t.env.Stdout, t.opts.EnvFormat, plan.Unset)
	}
	if err != nil {
		return err
	}
	if len(t.prep.Refusals) > 0 {
		return t.refusals()
	}
	t.say("dry run: no changes made")
	return nil
}

func (t *promoteTalk) report(state string, variables promote.Variables) *promoteReport {
	r := &promoteReport{
		State: state, Plan: &t.prep.Plan, Quorum: t.prep.Quorum, Refusals: t.prep.Refusals, Risk: t.prep.Risk,
		Unset: t.prep.Plan.Unset, Variables: map[string]string{},
	}
	for _, v := range variables {
		r.Variables[v.Name] = v.Value
	}
	return r
}

func (t *promoteTalk) refuse() error {
	if t.opts.Output == outputJSON {
		if err := writeJSON(t.env.Stdout, t.report("refused", nil)); err != nil {
			return err
		}
	}
	return t.refusals()
}

// refuseResumed refuses to go on with what was cut: the journal stays.
func (t *promoteTalk) refuseResumed() error {
	t.listRefusals()
	first := t.prep.Refusals[0]
	again := "etcdops proxy promote --data-dir " + t.prep.Plan.DataDir
	err := &Failure{
		Code: ExitHalfway, Message: fmt.Sprintf("nothing more was changed: %s: %s", first.Check, first.Problem),
		Hint: first.Hint + "; then " + again + " --continue, or undo with " + again + " --abort",
	}
	return errors.Join(t.failedDocument("half-way", err), err)
}

// refusals lists every reason with its hint.
func (t *promoteTalk) refusals() error {
	all := t.prep.Refusals
	t.listRefusals()
	message := fmt.Sprintf("refused for %d reasons, no changes made: %s", len(all), all[0].Check)
	if len(all) == 1 {
		message = fmt.Sprintf("refused, no changes made: %s: %s", all[0].Check, all[0].Problem)
	}
	return &Failure{Code: ExitRefused, Message: message, Hint: all[0].Hint}
}

func (t *promoteTalk) listRefusals() {
	for _, r := range t.prep.Refusals {
		fmt.Fprintf(t.env.Stderr, "%s %s\n         %s %s\n", t.env.Err.Bad.Sprint("refused: "+r.Check+":"), oneLine(r.Problem), t.env.Err.Strong.Sprint("hint:"), oneLine(r.Hint))
	}
}
