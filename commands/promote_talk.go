package commands

import (
	"fmt"
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

func (t *promoteTalk) say(text string) {
	t.endBar()
	fmt.Fprintln(t.env.Stderr, text)
}

func (t *promoteTalk) sayf(format string, args ...any) { t.say(fmt.Sprintf(format, args...)) }

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
		t.bar.SetWriter(t.env.Stderr).Set(pb.Static, true).Set(pb.Terminal, true).Set(pb.ReturnSymbol, "\r")
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
	if p.Unknown && p.SnapshotTotal == 0 {
		return "catching up: waiting for the new member's first answer"
	}
	if p.Unknown && p.SnapshotBytes == 0 {
		return "catching up: waiting for etcd to answer"
	}
	if p.Unknown {
		return fmt.Sprintf("catching up: %s of %s received, %s/s%s", humanize.Bytes(uint64(p.SnapshotBytes)),
			humanize.Bytes(uint64(p.SnapshotTotal)), humanize.Bytes(uint64(p.Rate)), left)
	}
	return fmt.Sprintf("catching up: %s entries behind, %s/s%s", humanize.Comma(int64(p.Behind)), humanize.Comma(int64(p.Rate)), left)
}
