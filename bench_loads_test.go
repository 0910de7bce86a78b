//go:build bench

package main

// benchLoads are the loads with the bars that the project has set itself.
func benchLoads() []*benchLoad {
	return []*benchLoad{
		{
			name: "range-10", does: "v3 range, 100 streams on 10 connections, closed loop", run: runRate,
			rate: &rateLoad{conns: 10, streams: 10, kind: rangeOne, few: true, bars: fewConnections},
		},
		{
			name: "put-10", does: "v3 put, 100 streams on 10 connections, closed loop", run: runRate,
			rate: &rateLoad{conns: 10, streams: 10, kind: putOne, few: true, bars: fewConnections},
		},
		{
			name: "range-100", does: "v3 range, 100 streams on 100 connections, closed loop", run: runRate,
			rate: &rateLoad{conns: 100, streams: 1, kind: rangeOne, few: true, bars: []benchBar{
				atLeast(throughput, "direct", 0.9, 1.1),
				atMost(proxyCPU, "gateway", 1.15, 0.8),
				atMost(etcdCPU, "direct", 0.85, 0.6),
			}},
		},
		{
			name: "range-1000", does: "v3 range, 1,000 streams on 1,000 connections, closed loop", run: runRate,
			rate: &rateLoad{conns: 1000, streams: 1, kind: rangeOne, few: true, bars: []benchBar{
				atLeast(throughput, "direct", 0.9, 1.2),
				atMost(proxyCPU, "gateway", 1.1, 0.7),
				atMost(etcdCPU, "direct", 0.7, 0.55),
			}},
		},
		{
			name: "put-1000", does: "v3 put, 1,000 streams on 1,000 connections, closed loop", run: runRate,
			rate: &rateLoad{conns: 1000, streams: 1, kind: putOne, few: true, bars: []benchBar{
				atLeast(throughput, "direct", 0.9, 1.1),
				atMost(proxyCPU, "gateway", 1.15, 0),
				atMost(etcdCPU, "direct", 0.85, 0),
			}},
		},
		{
			name: "v2-get", does: "v2 GET, 64 connections, closed loop, etcd 3.5", run: runRate,
			rate: &rateLoad{conns: 64, streams: 1, kind: getV2, v2: true, bars: v2Bars},
		},
		{
			name: "v2-put", does: "v2 PUT, 64 connections, closed loop, etcd 3.5", run: runRate,
			rate: &rateLoad{conns: 64, streams: 1, kind: putV2, v2: true, bars: v2Bars},
		},
		{
			name: "single", does: "v3 range, 1 stream on 1 connection, closed loop", run: runRate,
			rate: &rateLoad{conns: 1, streams: 1, kind: rangeOne, added: true, bars: []benchBar{
				atMost(addedLatency, "gateway", 2, 0),
			}},
		},
		{
			name: "open", does: "v3 range, 100 connections, open loop at half of what direct can do at most", run: runOpen,
			rate: &rateLoad{conns: 100, streams: 1, kind: rangeOne, bars: []benchBar{
				atMost(latency99, "direct", 1.3, 0),
				atMost(proxyCPU, "gateway", 1.5, 0),
			}},
		},
		{
			name: "watch", does: "10,000 Watch streams on 100 connections that all see the same key; one write a second", run: runWatch,
			rate: &rateLoad{conns: 100, streams: 100, unit: "event", bars: []benchBar{
				atMost(latency99, "direct", 1.3, 0),
			}},
		},
		{name: "memory", does: "resident memory of the proxy, idle, and what clients add to it", run: runMemory},
	}
}

var (
	fewConnections = []benchBar{
		atLeast(throughput, "direct", 0.85, 1),
		atMost(proxyCPU, "gateway", 1.8, 1),
		atMost(proxyCPU, "grpc-proxy", 0.2, 0),
		atMost(etcdCPU, "direct", 1.05, 0),
	}
	v2Bars = []benchBar{
		atLeast(throughput, "v2-proxy", 1.5, 2),
		atMost(proxyCPU, "v2-proxy", 0.4, 0.25),
		atMost(proxyCPU, "haproxy", 1.4, 1),
	}
)
