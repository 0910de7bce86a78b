//go:build bench

package main

import (
	"fmt"
	"math"
	"strings"
	"unicode/utf8"
)

// benchResult is what a load has shown.
type benchResult struct {
	name, does string
	header     []string
	rows       [][]string
	verdicts   []benchVerdict
	notes      []string
	disturbed  bool // by other processes: the verdicts mean little
}

// benchVerdict is a bar beside the figure.
type benchVerdict struct {
	bar, got string
	reached  bool
	unknown  bool   // there is no figure to compare with
	aim      string // "" where there is none
}

func (v *benchVerdict) word() string {
	switch {
	case v.unknown:
		return "not known"
	case v.reached:
		return "reached"
	default:
		return "**not reached**"
	}
}

// rateResult makes a table of the rounds' medians, and holds the ratios against the bars.
func rateResult(r *rateLoad, ends []*benchEnd, rounds []benchRound) *benchResult {
	unit := r.unit
	if unit == "" {
		unit = "request"
	}
	result := &benchResult{header: []string{
		"way", unit + "s/s", "÷ direct", "etcdops ÷ it", "mean ms", "p99 ms", "p99 ÷ direct",
		"proxy µs/" + unit, "etcdops ÷ it", "etcd µs/" + unit, "÷ direct",
	}}
	if r.added {
		result.header = append(result.header, "added mean ms")
	}
	for _, e := range ends {
		median := func(m *benchMetric) float64 { return medianMetric(rounds, m, e.name) }
		row := []string{
			e.name, figure("%.0f", median(throughput)), ratioText(rounds, throughput, e.name, "direct"),
			ratioText(rounds, throughput, ownVariant, e.name),
			figure("%.3f", median(meanLatency)/1000), figure("%.3f", median(latency99)/1000), ratioText(rounds, latency99, e.name, "direct"),
		}
		if e.proxy == nil {
			row = append(row, "–", "–")
		} else {
			row = append(row, figure("%.1f", median(proxyCPU)), ratioText(rounds, proxyCPU, ownVariant, e.name))
		}
		row = append(row, figure("%.1f", median(etcdCPU)), ratioText(rounds, etcdCPU, e.name, "direct"))
		if r.added {
			row = append(row, figure("%.3f", median(addedLatency)/1000))
		}
		result.rows = append(result.rows, row)
	}
	for _, bar := range r.bars {
		result.verdicts = append(result.verdicts, bar.judge(ends, rounds))
	}
	median, most := disturbance(rounds)
	result.disturbed = median > quietShare
	result.notes = append(result.notes, fmt.Sprintf("The client itself took %.0f µs/%s with direct, %.0f with etcdops. "+
		"Other processes and the kernel's own threads took %.0f %% of the machine meanwhile (median of the measurements; %.0f %% at most).",
		medianMetric(rounds, clientCPU, "direct"), unit, medianMetric(rounds, clientCPU, ownVariant), 100*median, 100*most))
	return result
}

func ratioText(rounds []benchRound, m *benchMetric, variant, other string) string {
	if variant == other {
		return "1"
	}
	return ratioWord(ratio(rounds, m, variant, other))
}

func ratioWord(r float64) string { return figure("%.2f", r) }

// figure is a number, or says that there is none.
func figure(format string, v float64) string {
	if math.IsNaN(v) {
		return "–"
	}
	return fmt.Sprintf(format, v)
}

func (bar *benchBar) judge(ends []*benchEnd, rounds []benchRound) benchVerdict {
	sign := "≤"
	if bar.least {
		sign = "≥"
	}
	v := benchVerdict{bar: fmt.Sprintf("%s %s %v × %s", bar.metric.name, sign, bar.limit, bar.rival)}
	there := false
	for _, e := range ends {
		there = there || e.name == bar.rival
	}
	got := math.NaN()
	if there {
		got = ratio(rounds, bar.metric, ownVariant, bar.rival)
	}
	if v.unknown = math.IsNaN(got); v.unknown {
		v.got = "nothing to compare with"
		return v
	}
	// The figures that are printed are those that are judged.
	got = math.Round(got*100) / 100
	v.got, v.reached = ratioWord(got), bar.holds(got, bar.limit)
	if bar.aim != 0 {
		v.aim = fmt.Sprintf("%v: no", bar.aim)
		if bar.holds(got, bar.aim) {
			v.aim = fmt.Sprintf("%v: yes", bar.aim)
		}
	}
	return v
}

// quietShare is what others may take of the machine in half of the measurements.
const quietShare = 0.1

// disturbance is the share of the machine that other processes took meanwhile.
func disturbance(rounds []benchRound) (median, most float64) {
	var shares []float64
	for _, r := range rounds {
		for _, s := range r {
			shares = append(shares, s.others)
			most = max(most, s.others)
		}
	}
	return medianOf(shares), most
}

// text is the result as markdown: it reads well on a terminal too.
func (r *benchResult) text() string {
	var b strings.Builder
	fmt.Fprintf(&b, "## %s\n\n%s.\n\n", r.name, r.does)
	writeTable(&b, r.header, r.rows)
	if len(r.verdicts) > 0 {
		rows := make([][]string, 0, len(r.verdicts))
		for _, v := range r.verdicts {
			rows = append(rows, []string{v.bar, v.got, v.word(), v.aim})
		}
		b.WriteString("\n")
		writeTable(&b, []string{"bar", "etcdops", "", "aim"}, rows)
	}
	for _, note := range r.notes {
		fmt.Fprintf(&b, "\n%s\n", note)
	}
	return b.String()
}

// writeTable writes a markdown table whose columns are even on a terminal too.
func writeTable(b *strings.Builder, header []string, rows [][]string) {
	widths := make([]int, len(header))
	for _, row := range append([][]string{header}, rows...) {
		for i, cell := range row {
			widths[i] = max(widths[i], utf8.RuneCountInString(cell), 3)
		}
	}
	line := func(row []string, blank string) {
		for i, cell := range row {
			fmt.Fprintf(b, "| %s%s ", cell, strings.Repeat(blank, widths[i]-utf8.RuneCountInString(cell)))
		}
		b.WriteString("|\n")
	}
	line(header, " ")
	dashes := make([]string, len(header))
	line(dashes, "-")
	for _, row := range rows {
		line(row, " ")
	}
}
