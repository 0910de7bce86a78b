package commands

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"etcdops/discover"
	"etcdops/promote"
	"etcdops/proxy"
)

// carryOut runs a promotion and says how it ended.
func (t *promoteTalk) carryOut(ctx context.Context, p *promote.Promotion) error {
	result, err := p.Run(ctx)
	t.endBar()
	var half *promote.HalfwayError
	var undone *promote.UndoneError
	state, failure := "promoted", error(nil)
	switch {
	case errors.As(err, &half):
		state, failure = "half-way", t.explainHalfway(ctx, p, half)
	case errors.As(err, &undone):
		state, failure = "undone", t.explainUndone(ctx, p, undone)
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
	t.sayf("to undo: etcdctl member remove %s, and only when that has succeeded: stop this etcd, remove %s/member, start the proxy", r.MemberID, plan.DataDir)
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
	plan := &j.Plan
	t.sayf("a promotion of %s is under way in %s since %s", plan.Name, plan.DataDir, j.Began().Local().Format("2006-01-02 15:04:05"))
	t.sayf("member %s, peer URLs %s, etcd %s %s", orDash(j.Facts.MemberID), strings.Join(plan.PeerURLs, ","), plan.Service.Binary.Path, plan.Service.Binary.Version)
	done, notDone := j.Steps()
	t.sayDone(done, notDone)
	if j.Undoing() {
		t.say("it is being undone")
	}
}

// sayDone says what is done of a promotion and what is not.
func (t *promoteTalk) sayDone(done, notDone []string) {
	said := []string{}
	for _, step := range done {
		said = append(said, stepSays[step])
	}
	if len(said) == 0 {
		said = []string{"nothing"}
	}
	t.sayf("done: %s", strings.Join(said, ", "))
	t.sayf("not done: %s", strings.Join(notDone, ", "))
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
	var replaced *promote.ReplacedError
	dir := p.Journal.Plan.DataDir
	switch {
	case errors.As(err, &voter):
		err = fail(ExitRefused, err, fmt.Sprintf("go on with --continue; to take it out all the same: etcdctl member remove %016x, and only when that has succeeded: stop its etcd, remove %s/member, start the proxy", voter.ID, dir))
	case errors.As(err, &replaced):
		err = fail(ExitRefused, err, fmt.Sprintf("if it is meant to stay, this promotion is over: mv %s %s.over", promote.JournalPath(dir), promote.JournalPath(dir)))
	case errors.Is(err, proxy.ErrNoAnswer):
		err = fail(ExitHalfway, fmt.Errorf("not undone yet: %w", err), fmt.Sprintf("wake the proxy with kill -CONT %d, or end it, then run --abort again", p.Journal.Plan.Proxy.Process.PID))
	case err != nil:
		err = fail(ExitHalfway, fmt.Errorf("not undone yet: %w", err), "mend that, then run --abort again")
	}
	if err != nil {
		return errors.Join(t.failedDocument("half-way", err), err)
	}
	t.sayf("undone: the cluster, the folders and the proxy are as they were before; %s", p.Serving(ctx))
	return t.document("undone", nil)
}

// document prints the one document of --output json.
func (t *promoteTalk) document(state string, variables promote.Variables) error {
	if t.opts.Output != outputJSON {
		return nil
	}
	return writeJSON(t.env.Stdout, t.report(state, variables))
}

// failedDocument is document for a command that fails with err.
func (t *promoteTalk) failedDocument(state string, err error) error {
	if t.opts.Output != outputJSON {
		return nil
	}
	r := t.report(state, nil)
	r.Error = err.Error()
	return writeJSON(t.env.Stdout, r)
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
func (t *promoteTalk) explainHalfway(ctx context.Context, p *promote.Promotion, h *promote.HalfwayError) error {
	if ctx.Err() != nil && t.env.StderrTTY {
		fmt.Fprintln(t.env.Stderr) // behind the ^C of the terminal
	}
	t.sayDone(h.Done, h.NotDone)
	t.say(p.Serving(ctx))
	plan := &p.Journal.Plan
	again := "etcdops proxy promote --data-dir " + plan.DataDir
	hint := "go on with: " + again + " --continue"
	var replaced *promote.ReplacedError
	switch {
	case errors.As(h, &replaced):
		hint = fmt.Sprintf("if that member is meant to stay, this promotion is over: mv %s %s.over", promote.JournalPath(plan.DataDir), promote.JournalPath(plan.DataDir))
	case p.Journal.Undoing():
		hint = "mend that, then undo the rest with: " + again + " --abort"
	case !slices.Contains(h.Done, promote.StepCatchUp) && !plan.Voter:
		hint += "; or undo with: " + again + " --abort"
	}
	return fail(ExitHalfway, h, hint)
}

func (t *promoteTalk) explainUndone(ctx context.Context, p *promote.Promotion, u *promote.UndoneError) error {
	for _, line := range u.Log {
		t.say("etcd: " + line)
	}
	t.sayf("undone: the cluster, the folders and the proxy are as they were before; %s", p.Serving(ctx))
	hint := "mend the cause, then run it again"
	switch {
	case errors.Is(u, discover.ErrNeedsUser), errors.Is(u, promote.ErrNeedsRoot), errors.Is(u, promote.ErrWrongPassword):
		hint = "give a user with the root role: --user NAME --password-file FILE"
	}
	return fail(ExitFailed, u, hint)
}
