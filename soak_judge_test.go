//go:build bench

package main

import (
	"fmt"
	"slices"
)

// soakFigure is what must not grow.
type soakFigure struct {
	name string
	of   func(soakSample) float64
	unit float64
	// least: the least value of a span is compared and not the median: of the heap
	// that is what is in use, with the least garbage.
	least bool
	// factor and some are how much the late span may have: factor × early + some.
	factor, some float64
}

var soakFigures = []soakFigure{
	{name: "RSS in MiB", of: func(s soakSample) float64 { return s.rss }, unit: mib, factor: 1.1, some: 4},
	{name: "heap in MiB", of: func(s soakSample) float64 { return s.heap }, unit: mib, least: true, factor: 1.25, some: 4},
	{name: "goroutines", of: func(s soakSample) float64 { return s.goroutines }, unit: 1, factor: 1.25, some: 30},
	{name: "open files", of: func(s soakSample) float64 { return s.files }, unit: 1, factor: 1.25, some: 30},
}

// judgeSoak compares the second fifth of the time, when all is warm, with the last.
func judgeSoak(samples []soakSample) (complaints []string) {
	n := len(samples)
	early, late := samples[n/5:n*2/5], samples[n*4/5:]
	for _, f := range soakFigures {
		was, is := f.in(early), f.in(late)
		fmt.Printf("%s: %.1f, later %.1f\n", f.name, was, is)
		if is > f.factor*was+f.some {
			complaints = append(complaints, fmt.Sprintf("%s: grew from %.1f to %.1f", f.name, was, is))
		}
	}
	return complaints
}

func (f *soakFigure) in(span []soakSample) float64 {
	var values []float64
	for _, s := range span {
		values = append(values, f.of(s)/f.unit)
	}
	if f.least {
		return slices.Min(values)
	}
	return medianOf(values)
}
