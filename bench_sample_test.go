//go:build bench

package main

import (
	"math"
	"slices"
	"time"
)

// benchSample is one variant in one round.
type benchSample struct {
	requests          int // or events, of a watch
	elapsed           time.Duration
	mean, p99         time.Duration
	proxyCPU, etcdCPU time.Duration // of all requests together
	clientCPU         time.Duration // ours
	others            float64       // share of the machine that other processes took
}

// hears takes the latencies of all requests.
func (s *benchSample) hears(latencies []time.Duration) {
	s.requests = len(latencies)
	if s.requests == 0 {
		return
	}
	slices.Sort(latencies)
	var sum time.Duration
	for _, l := range latencies {
		sum += l
	}
	s.mean = sum / time.Duration(len(latencies))
	s.p99 = latencies[(len(latencies)*99-1)/100]
}

// benchRound is one sample of each variant, taken one after the other.
// What failed is not in it.
type benchRound map[string]*benchSample

// benchMetric is what is compared.
type benchMetric struct {
	name string
	of   func(r benchRound, variant string) float64
	// apart: the medians are divided, and not the figures of each round, because one
	// round's may be next to nothing.
	apart bool
}

var (
	throughput = &benchMetric{name: "throughput", of: func(r benchRound, variant string) float64 {
		return float64(r[variant].requests) / r[variant].elapsed.Seconds()
	}}
	proxyCPU = &benchMetric{name: "proxy CPU per request", of: func(r benchRound, variant string) float64 {
		return micros(r[variant].proxyCPU) / float64(r[variant].requests)
	}}
	etcdCPU = &benchMetric{name: "etcd CPU per request", of: func(r benchRound, variant string) float64 {
		return micros(r[variant].etcdCPU) / float64(r[variant].requests)
	}}
	clientCPU = &benchMetric{name: "client CPU per request", of: func(r benchRound, variant string) float64 {
		return micros(r[variant].clientCPU) / float64(r[variant].requests)
	}}
	meanLatency = &benchMetric{name: "mean latency", of: func(r benchRound, variant string) float64 {
		return micros(r[variant].mean)
	}}
	latency99 = &benchMetric{name: "p99", of: func(r benchRound, variant string) float64 {
		return micros(r[variant].p99)
	}}
	addedLatency = &benchMetric{name: "added mean latency", apart: true, of: func(r benchRound, variant string) float64 {
		return micros(r[variant].mean - r["direct"].mean)
	}}
)

func micros(d time.Duration) float64 { return float64(d) / float64(time.Microsecond) }

// medianOf is NaN of nothing.
func medianOf(values []float64) float64 {
	if len(values) == 0 {
		return math.NaN()
	}
	values = slices.Sorted(slices.Values(values))
	n := len(values)
	return (values[(n-1)/2] + values[n/2]) / 2
}

func medianMetric(rounds []benchRound, m *benchMetric, variant string) float64 {
	values := make([]float64, 0, len(rounds))
	for _, r := range rounds {
		if r[variant] != nil {
			values = append(values, m.of(r, variant))
		}
	}
	return medianOf(values)
}

// ratio is a variant's figure over another's: the median of the rounds' ratios, since
// the two of a round were measured one right after the other. NaN: there is none.
func ratio(rounds []benchRound, m *benchMetric, variant, other string) float64 {
	if m.apart {
		below := medianMetric(rounds, m, other)
		if below <= 0 {
			return math.NaN()
		}
		return max(0, medianMetric(rounds, m, variant)) / below
	}
	var ratios []float64
	for _, r := range rounds {
		if r[variant] == nil || r[other] == nil {
			continue
		}
		if below := m.of(r, other); below > 0 {
			ratios = append(ratios, m.of(r, variant)/below)
		}
	}
	return medianOf(ratios)
}

// benchBar is a ratio of etcdops to a rival that is to be reached.
type benchBar struct {
	metric *benchMetric
	rival  string
	least  bool // the ratio is at least limit, not at most
	limit  float64
	aim    float64 // what we would like besides; 0: nothing
}

func atLeast(m *benchMetric, rival string, limit, aim float64) benchBar {
	return benchBar{metric: m, rival: rival, least: true, limit: limit, aim: aim}
}

func atMost(m *benchMetric, rival string, limit, aim float64) benchBar {
	return benchBar{metric: m, rival: rival, limit: limit, aim: aim}
}

func (bar *benchBar) holds(got, limit float64) bool {
	if bar.least {
		return got >= limit
	}
	return got <= limit
}
