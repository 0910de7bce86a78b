package commands

import (
	"bufio"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	"etcdops/discover"
	"etcdops/promote"
)

// newPromotion plans a promotion, asks, and carries it out.
func newPromotion(ctx context.Context, env *Env, opts *promoteOptions) error {
	found, err := findStanding(ctx, opts)
	if err != nil {
		return err
	}
	user, password, err := readUser(env, membersOptions{User: opts.User, PasswordFile: opts.PasswordFile})
	if err != nil {
		return err
	}
	inspector := &discover.Inspector{TLS: found.tls, Username: user, Password: password}
	clusterID, members, err := inspector.List(ctx, found.endpoints)
	if errors.Is(err, discover.ErrNeedsUser) {
		return fail(ExitRefused, err, "add --user NAME and --password-file FILE, of a user with the root role")
	}
	if err != nil {
		return fail(ExitNoCluster, err, "see the members with: etcdops proxy members; TLS files towards them: --cacert, --cert, --key")
	}
	binary, err := findBinary(ctx, opts, &found.standing)
	if err != nil {
		return err
	}
	prepare := func() *promote.Preparation {
		return promote.Prepare(ctx, opts.Request, found.standing, binary, clusterID, inspector.Inspect(ctx, members))
	}
	prep := prepare()
	if err := checkUser(ctx, prep, found.tls, user, password); err != nil {
		return err
	}
	if err := ctx.Err(); err != nil {
		return err // what was cancelled in the midst is no reason to refuse
	}
	talk := &promoteTalk{env: env, opts: opts, prep: prep}
	talk.showPlan()
	if opts.DryRun {
		return talk.dryRun(members)
	}
	if len(prep.Refusals) > 0 {
		return talk.refuse()
	}
	if err := confirm(ctx, env, opts, "Go ahead?"); err != nil {
		return err
	}
	release, err := promote.Lock(opts.Request.DataDir, found.standing.UID, found.standing.GID)
	if err != nil {
		return explainLock(err)
	}
	defer release()
	if promote.Unfinished(opts.Request.DataDir) {
		return &Failure{Code: ExitLocked, Message: "another promotion has begun in " + opts.Request.DataDir, Hint: "see where it stands with: etcdops proxy promote --continue --dry-run --data-dir " + opts.Request.DataDir}
	}
	// The question may have stood there for an hour: look once more, with the
	// lock held.
	if _, members, err = inspector.List(ctx, found.endpoints); err != nil {
		return fail(ExitNoCluster, err, "no changes made; see the members with: etcdops proxy members")
	}
	if !found.standing.Process.Alive() {
		return &Failure{Code: ExitRefused, Message: fmt.Sprintf("the proxy, process %d, has ended meanwhile; no changes made", found.standing.Process.PID), Hint: "run it again"}
	}
	if talk.prep = prepare(); ctx.Err() == nil && len(talk.prep.Refusals) > 0 {
		return talk.refuse()
	}
	if err := ctx.Err(); err != nil {
		return fmt.Errorf("no changes made: %w", context.Cause(ctx))
	}
	journal, err := talk.prep.Begin()
	if err != nil {
		return fail(ExitRefused, err, "no member was added; check the rights of "+opts.Request.DataDir)
	}
	if env.Journaled != nil {
		env.Journaled("plan")
	}
	p, err := newCarrier(opts, journal, talk, found.tls, user, password)
	if err != nil {
		return err
	}
	return talk.carryOut(ctx, p)
}

// resumePromotion goes on with a promotion that was cut, or undoes it.
func resumePromotion(ctx context.Context, env *Env, opts *promoteOptions, journal *promote.Journal) error {
	plan := &journal.Plan
	if name := opts.Request.Name; name != "" && name != plan.Name {
		return &Failure{
			Code: ExitRefused, Message: fmt.Sprintf("the promotion of %s is under way in %s, not that of %s", plan.Name, plan.DataDir, name),
			Hint: "go on with it: etcdops proxy promote --continue --data-dir " + plan.DataDir + "; or undo it with --abort",
		}
	}
	if err := opts.checkSame(plan); err != nil {
		return err
	}
	if !sameFolder(plan.DataDir, opts.Request.DataDir) {
		return &Failure{
			Code: ExitRefused, Message: fmt.Sprintf("the journal in %s is that of a promotion in %s", opts.Request.DataDir, plan.DataDir),
			Hint: "is it a copy? Remove its etcdops folder; the promotion itself: --data-dir " + plan.DataDir,
		}
	}
	talk := &promoteTalk{env: env, opts: opts, prep: &promote.Preparation{Plan: *plan}}
	talk.showJournal(journal)
	if opts.DryRun {
		return talk.document("under way", nil)
	}
	user, password, err := readUser(env, membersOptions{User: opts.User, PasswordFile: opts.PasswordFile})
	if err != nil {
		return err
	}
	question := "Go on with it?"
	if opts.Abort || journal.Undoing() {
		question = "Undo it?"
	}
	if err := confirm(ctx, env, opts, question); err != nil {
		return err
	}
	release, err := promote.Lock(plan.DataDir, plan.Service.UID, plan.Service.GID)
	if err != nil {
		return explainLock(err)
	}
	defer release()
	if journal, err = promote.OpenJournal(plan.DataDir); err != nil {
		if errors.Is(err, fs.ErrPermission) {
			return fail(ExitRefused, err, "run it as root: root began it")
		}
		return fail(ExitRefused, err, "another run may have ended it: see etcdops proxy members")
	}
	talk.prep.Plan = journal.Plan
	tlsConfig, err := membersTLS(opts, plan.Proxy.Settings)
	if err != nil {
		return err
	}
	p, err := newCarrier(opts, journal, talk, tlsConfig, user, password)
	if err != nil {
		return err
	}
	if opts.Abort || journal.Undoing() {
		return talk.undo(ctx, p)
	}
	done, err := p.DoneElsewhere(ctx)
	var started *promote.StartedElsewhereError
	switch {
	case errors.As(err, &started):
		return fail(ExitHalfway, err, fmt.Sprintf("when it has caught up: etcdctl member promote %016x, then run this again", started.Member.ID))
	case err != nil:
		return fail(ExitHalfway, err, "see the members with: etcdops proxy members")
	case done:
		talk.sayf("%s was started by somebody else and is a voter: nothing is left to do", plan.Name)
		return talk.document("promoted", p.Variables())
	}
	binary := journal.Plan.Service.Binary
	if journal.Plan.Service.Binary, err = promote.FindBinary(ctx, promote.Asker{UID: plan.Service.UID, GID: plan.Service.GID}, binary.Path, binary.Args...); err != nil {
		return fail(ExitHalfway, err, "put etcd "+binary.Version+" back there, or undo with --abort")
	}
	journal.Plan.Service.Binary.File = binary.File // of an etcd that may run already
	if p.StopAfter == "" {
		talk.prep.Refusals = append(plan.CheckPlace(), promote.Recheck(ctx, journal)...)
	}
	if len(talk.prep.Refusals) > 0 && ctx.Err() == nil {
		return talk.refuseResumed()
	}
	return talk.carryOut(ctx, p)
}

// sameFolder compares folders and not paths.
func sameFolder(a, b string) bool {
	one, err1 := os.Stat(a)
	other, err2 := os.Stat(b)
	return err1 == nil && err2 == nil && os.SameFile(one, other)
}

// newCarrier wires a promotion.
func newCarrier(opts *promoteOptions, journal *promote.Journal, talk *promoteTalk, tlsConfig *tls.Config, user, password string) (*promote.Promotion, error) {
	plan := &journal.Plan
	journal.Written = talk.env.Journaled
	talk.inspector = &discover.Inspector{TLS: tlsConfig, Username: user, Password: password}
	clusterID, endpoints, err := planCluster(plan)
	if err != nil {
		return nil, err
	}
	p := &promote.Promotion{
		Journal: journal,
		Cluster: &promote.Cluster{ID: clusterID, TLS: tlsConfig, Username: user, Password: password, Endpoints: endpoints, Say: talk.say},
		Joiner:  &promote.Joiner{Socket: plan.Socket, DataDir: plan.DataDir, WALDir: plan.WALDir},
		Proxy:   proxyOf(plan),
		Print:   talk.printVariables, Say: talk.say, Progress: talk.progress,
		StopTimeout: opts.StopTimeout, StallTimeout: opts.StallTimeout,
	}
	if opts.Request.StageEnv && !opts.Continue {
		p.StopAfter = promote.StepPrint
	}
	if plan.Supervisor == promote.SuperviseSystemd || plan.Proxy.Unit != "" {
		systemd := &promote.Systemd{}
		p.Units, p.Supervisor = systemd, systemd
	}
	if plan.Supervisor == promote.SuperviseDetach {
		p.Supervisor = &promote.Detached{}
	}
	return p, nil
}

// checkUser adds the refusal of a user who may not change the members, where
// their own answers have not shown that already.
func checkUser(ctx context.Context, prep *promote.Preparation, tlsConfig *tls.Config, user, password string) error {
	for _, m := range prep.Plan.Members {
		if m.NeedsUser {
			return nil
		}
	}
	id, endpoints, err := planCluster(&prep.Plan)
	if err != nil {
		return err
	}
	c := &promote.Cluster{ID: id, TLS: tlsConfig, Username: user, Password: password, Endpoints: endpoints}
	prep.Refusals = append(prep.Refusals, c.CheckUser(ctx)...)
	return nil
}

// planCluster is the cluster's ID and the client URLs of its voters.
func planCluster(plan *promote.Plan) (uint64, []string, error) {
	var id uint64
	if _, err := fmt.Sscanf(plan.ClusterID, "%x", &id); err != nil {
		return 0, nil, fail(ExitRefused, fmt.Errorf("the journal names no cluster: %w", err), "mend the journal by hand")
	}
	var endpoints []string
	for _, m := range plan.Members {
		if m.Role == discover.RoleVoter {
			endpoints = append(endpoints, m.ClientURLs...)
		}
	}
	return id, endpoints, nil
}

// findBinary finds the etcd that is to run: the one that was named, that of a
// native proxy, or the one on PATH.
func findBinary(ctx context.Context, opts *promoteOptions, standing *promote.Standing) (promote.Binary, error) {
	path := opts.Etcd
	if path == "" && standing.Native {
		exe, err := standing.Process.Exe()
		if err != nil {
			return promote.Binary{}, fail(ExitRefused, err, "name it with --etcd PATH")
		}
		path = exe
	}
	return etcdBinary(ctx, path, promote.Asker{UID: standing.UID, GID: standing.GID})
}

// etcdBinary is the etcd that --etcd names: a path, the one that is built in, or
// without either the one on PATH.
func etcdBinary(ctx context.Context, path string, as promote.Asker) (promote.Binary, error) {
	var args []string
	switch {
	case path == etcdEmbedded:
		self, err := os.Executable()
		if err != nil {
			return promote.Binary{}, err
		}
		path, args = self, []string{"etcd"}
	case path == "":
		found, err := exec.LookPath("etcd")
		if err != nil {
			return promote.Binary{}, &Failure{Code: ExitRefused, Message: "there is no etcd on PATH", Hint: "name it with --etcd PATH, or take the one built in with --etcd embedded"}
		}
		path = found
	case !strings.Contains(path, "/"):
		return promote.Binary{}, usageError("write the whole path, as in --etcd /usr/bin/etcd; or --etcd embedded", "--etcd: %q is not a path", path)
	}
	binary, err := promote.FindBinary(ctx, as, path, args...)
	if err != nil {
		return promote.Binary{}, fail(ExitRefused, err, "name an etcd that runs here with --etcd PATH")
	}
	return binary, nil
}

// confirm asks before anything is changed. A signal is an answer too.
func confirm(ctx context.Context, env *Env, opts *promoteOptions, question string) error {
	if opts.Yes {
		return nil
	}
	if !env.StdinTTY {
		return &Failure{Code: ExitRefused, Message: "not confirmed, no changes made", Hint: "add --yes, or run it on a terminal"}
	}
	fmt.Fprintf(env.Stderr, "%s Type yes: ", question)
	typed := make(chan string, 1)
	go func() {
		// No read of a terminal can be ended. After a signal this one ends with
		// the process, which has nothing left to do.
		line, _ := bufio.NewReader(env.Stdin).ReadString('\n')
		typed <- line
	}()
	var line string
	select {
	case line = <-typed:
	case <-ctx.Done():
		fmt.Fprintln(env.Stderr)
		return fmt.Errorf("no changes made: %w", context.Cause(ctx))
	}
	if strings.TrimSpace(line) != "yes" || !strings.HasSuffix(line, "\n") {
		return &Failure{Code: ExitRefused, Message: "not confirmed, no changes made", Hint: "run it again when you are ready; --dry-run shows the plan alone"}
	}
	return nil
}

func explainLock(err error) error {
	var locked *promote.LockedError
	if errors.As(err, &locked) {
		return fail(ExitLocked, err, "wait for it to end; it says on its own terminal where it stands")
	}
	return fail(ExitRefused, err, "run it as the proxy's user or root")
}

// absolute makes a path absolute against another process's folder.
func absolute(dir, path string) string {
	if path == "" || filepath.IsAbs(path) {
		return path
	}
	return filepath.Join(dir, path)
}
