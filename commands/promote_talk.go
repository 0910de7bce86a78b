package commands

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/cheggaaa/pb/v3"
	"github.com/dustin/go-humanize"

	"etcdops/discover"
	"etcdops/promote"
)

// progressPause is the time between two lines of progress where there is no
// terminal.
const progressPause = 5 * time.Second

// promoteTalk is what a promotion says: the variables, or one JSON document, on
// standard output, everything else on standard error.
type promoteTalk struct {
	env  *Env
	opts *promoteOptions
	prep *promote.Preparation
	// inspector asks how the members are, for the table at the end.
	inspector *discover.Inspector

	bar    *pb.ProgressBar
	spoken time.Time // of the last line of progress
	most   uint64    // entries behind at the most, the bar's full length
}

// promoteReport is the one document of --output json.
type promoteReport struct {
	State     string                  `json:"state"` // planned, refused, promoted, added, half-way, undone
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

func (t *promoteTalk) say(text string) {
	t.endBar()
	fmt.Fprintln(t.env.Stderr, text)
}

func (t *promoteTalk) sayf(format string, args ...any) { t.say(fmt.Sprintf(format, args...)) }

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
	if len(plan.Dropped) > 0 {
		t.sayf("note: this etcd does not know, and will not get: %s", strings.Join(plan.Dropped, ", "))
	}
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

// refusals lists every reason with its hint.
func (t *promoteTalk) refusals() error {
	all := t.prep.Refusals
	for _, r := range all {
		fmt.Fprintf(t.env.Stderr, "%s %s\n         %s %s\n", t.env.Err.Bad.Sprint("refused: "+r.Check+":"), oneLine(r.Problem), t.env.Err.Strong.Sprint("hint:"), oneLine(r.Hint))
	}
	message := fmt.Sprintf("refused for %d reasons, no changes made: %s", len(all), all[0].Check)
	if len(all) == 1 {
		message = fmt.Sprintf("refused, no changes made: %s: %s", all[0].Check, all[0].Problem)
	}
	return &Failure{Code: ExitRefused, Message: message, Hint: all[0].Hint}
}

// printVariables gives out the variables before anything is stopped. With
// --output json they are part of the document at the end.
func (t *promoteTalk) printVariables(v promote.Variables, unset []string) error {
	if t.opts.Output == outputJSON {
		return nil
	}
	return v.Format(t.env.Stdout, t.opts.EnvFormat, unset)
}

// progress shows how the learner catches up: a bar on a terminal, else a line
// each few seconds.
func (t *promoteTalk) progress(p promote.Progress) {
	if !p.Learner {
		return
	}
	text := describeProgress(p)
	if !t.env.StderrTTY {
		if time.Since(t.spoken) >= progressPause {
			t.spoken = time.Now()
			fmt.Fprintln(t.env.Stderr, text)
		}
		return
	}
	total, done := p.SnapshotTotal, p.SnapshotBytes
	if !p.Unknown {
		t.most = max(t.most, p.Behind, 1)
		total, done = int64(t.most), int64(t.most-p.Behind)
	}
	if t.bar == nil {
		t.bar = pb.New64(total).SetTemplateString(`{{bar . "[" "=" ">" " " "]"}} {{string . "text"}}`)
		t.bar.SetWriter(t.env.Stderr).Set(pb.Static, true).Set(pb.Terminal, true)
	}
	t.bar.SetTotal(max(total, 1)).SetCurrent(min(done, max(total, 1))).Set("text", text).Write()
}

func (t *promoteTalk) endBar() {
	if t.bar != nil {
		fmt.Fprintln(t.env.Stderr)
		t.bar = nil
	}
}

func describeProgress(p promote.Progress) string {
	left := ""
	if p.Left > 0 {
		left = fmt.Sprintf(", about %v left", p.Left.Round(time.Second))
	}
	if p.Unknown {
		return fmt.Sprintf("catching up: %s of %s received, %s/s%s", humanize.Bytes(uint64(p.SnapshotBytes)),
			humanize.Bytes(uint64(p.SnapshotTotal)), humanize.Bytes(uint64(p.Rate)), left)
	}
	return fmt.Sprintf("catching up: %s entries behind, %s/s%s", humanize.Comma(int64(p.Behind)), humanize.Comma(int64(p.Rate)), left)
}

// carryOut runs a promotion and says how it ended.
func (t *promoteTalk) carryOut(ctx context.Context, p *promote.Promotion) error {
	result, err := p.Run(ctx)
	t.endBar()
	var half *promote.HalfwayError
	var undone *promote.UndoneError
	state, failure := "promoted", error(nil)
	switch {
	case errors.As(err, &half):
		state, failure = "half-way", t.explainHalfway(half)
	case errors.As(err, &undone):
		state, failure = "undone", t.explainUndone(undone)
	case err != nil:
		return err
	case result.Stopped != "":
		state = "added"
	}
	var members []discover.MemberStatus
	if state == "promoted" {
		// The promotion is done, whether the table can be shown or not.
		_, list, _ := t.inspector.List(ctx, p.Cluster.Endpoints)
		members = t.inspector.Inspect(ctx, list)
	}
	if t.opts.Output == outputJSON {
		r := t.report(state, p.Variables())
		r.Result, r.Members = result, members
		if failure != nil {
			r.Error = failure.Error()
		}
		if undone != nil {
			r.Log = undone.Log
		}
		if err := writeJSON(t.env.Stdout, r); err != nil {
			return err
		}
	}
	if failure != nil {
		return failure
	}
	t.showMembers(members)
	t.showResult(result, p)
	return nil
}

func (t *promoteTalk) showResult(r *promote.Result, p *promote.Promotion) {
	plan := &p.Journal.Plan
	again := "etcdops proxy promote --data-dir " + plan.DataDir
	if r.Stopped != "" {
		t.sayf("%s is added as %s and waits; nothing was stopped", r.Name, r.MemberID)
		t.sayf("go on with: %s --continue; or undo with: %s --abort", again, again)
		return
	}
	t.sayf("%s %s (%s) is a voter of cluster %s after %v", t.env.Err.Good.Sprint("promoted:"), r.Name, r.MemberID, r.ClusterID,
		(time.Duration(r.TookMs) * time.Millisecond).Round(10*time.Millisecond))
	last := t.prepQuorum(plan)
	t.sayf("quorum %d of %d, the cluster may lose %d", last.Quorum, last.Voters, max(0, last.Tolerance))
	if r.HandOver {
		t.sayf("client ports handed over; requests refused %d, cut at the drain limit %d", r.Drained.Refused, r.Drained.Cut)
	} else {
		t.sayf("client ports were dark for %v", time.Duration(r.DarkMs)*time.Millisecond)
	}
	t.sayf("to undo: etcdctl member remove %s, stop this etcd, remove %s/member, start the proxy", r.MemberID, plan.DataDir)
	if r.Unit != "" {
		t.sayf("etcd runs as %s; see it with: systemctl status %s", r.Unit, r.Unit)
		return
	}
	t.sayf("etcd's log: %s", r.LogPath)
	t.sayf("a unit for it, to paste into /etc/systemd/system/%s:\n\n%s", promote.UnitName(r.Name), promote.UnitToPaste(p.FinalService()))
	t.say("nothing restarts this etcd after a reboot")
}

func (t *promoteTalk) prepQuorum(plan *promote.Plan) promote.QuorumRow {
	rows := promote.QuorumTable(plan.Members, plan.Voter)
	return rows[len(rows)-1]
}

// showJournal says where a promotion that was cut stands.
func (t *promoteTalk) showJournal(j *promote.Journal) {
	last := j.Last()
	if last == "" {
		last = "nothing was begun"
	}
	t.sayf("a promotion of %s is under way in %s since %s", j.Plan.Name, j.Plan.DataDir, j.Began().Local().Format("2006-01-02 15:04:05"))
	t.sayf("last entry of its journal: %s; member %s", last, orDash(j.Facts.MemberID))
}

func orDash(text string) string {
	if text == "" {
		return "-"
	}
	return text
}

// undo undoes a promotion and says so.
func (t *promoteTalk) undo(ctx context.Context, p *promote.Promotion) error {
	err := p.Undo(ctx)
	var voter *promote.VoterError
	switch {
	case errors.As(err, &voter):
		return fail(ExitRefused, err, fmt.Sprintf("go on with --continue; to take it out all the same: etcdctl member remove %016x, stop its etcd, remove %s/member, start the proxy", voter.ID, p.Journal.Plan.DataDir))
	case err != nil:
		return fail(ExitHalfway, fmt.Errorf("not undone yet: %w", err), "mend that, then run --abort again")
	}
	t.say("undone: the cluster, the folders and the proxy are as they were before")
	if t.opts.Output == outputJSON {
		return writeJSON(t.env.Stdout, t.report("undone", nil))
	}
	return nil
}

// stepSays is what each step has done, for a promotion that stopped behind it.
var stepSays = map[string]string{
	promote.StepAdd: "the member was added", promote.StepPrint: "its variables were printed",
	promote.StepAside: "the proxy's folder was set aside", promote.StepStopProxy: "the proxy was stopped",
	promote.StepStart: "etcd was started", promote.StepCatchUp: "the member became a voter",
	promote.StepServe: "the member serves", promote.StepHandOver: "the ports were handed over",
	promote.StepDrain: "the proxy was ended", promote.StepFinish: "everything was tidied up",
}

// explainHalfway says what was done, what was not, what serves, and what to type.
func (t *promoteTalk) explainHalfway(h *promote.HalfwayError) error {
	done := []string{}
	for _, step := range h.Done {
		done = append(done, stepSays[step])
	}
	if len(done) == 0 {
		done = []string{"nothing"}
	}
	t.sayf("done: %s", strings.Join(done, ", "))
	t.sayf("not done: %s", strings.Join(h.NotDone, ", "))
	plan := &t.prep.Plan
	switch {
	case contains(h.Done, promote.StepHandOver) || contains(h.Done, promote.StepServe) && !plan.HandOver:
		t.say("clients are served by the new member")
	case contains(h.Done, promote.StepStopProxy):
		t.say("nobody serves on the client ports")
	default:
		t.say("clients are served by the proxy, as before")
	}
	again := "etcdops proxy promote --data-dir " + plan.DataDir
	hint := "go on with: " + again + " --continue"
	if !contains(h.Done, promote.StepCatchUp) && !plan.Voter {
		hint += "; or undo with: " + again + " --abort"
	}
	return fail(ExitHalfway, h, hint)
}

func contains(steps []string, step string) bool {
	for _, s := range steps {
		if s == step {
			return true
		}
	}
	return false
}

func (t *promoteTalk) explainUndone(u *promote.UndoneError) error {
	for _, line := range u.Log {
		t.say("etcd: " + line)
	}
	t.say("undone: the cluster, the folders and the proxy are as they were before; clients are served by the proxy")
	hint := "mend the cause, then run it again"
	switch {
	case errors.Is(u, discover.ErrNeedsUser), errors.Is(u, promote.ErrNeedsRoot), errors.Is(u, promote.ErrWrongPassword):
		hint = "give a user with the root role: --user NAME --password-file FILE"
	}
	return fail(ExitFailed, u, hint)
}
