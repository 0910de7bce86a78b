package proxy

import (
	"cmp"
	"runtime"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"etcdops/proxy/director"
)

// metric is one of the proxy's families.
func metric(name, help string, labels ...string) *prometheus.Desc {
	return prometheus.NewDesc("etcdops_proxy_"+name, help, labels, nil)
}

var (
	metricBuild       = metric("build_info", "The version of the proxy; always 1.", "version", "go_version")
	metricReady       = metric("ready", "Whether /readyz says so: 1 or 0.")
	metricRequests    = metric("requests_total", "Requests that ended, by API, call or HTTP method, result and the member that answered; none is the proxy itself.", "api", "method", "result", "member")
	metricFailed      = metric("failed_requests_total", "Requests without a member's whole answer.")
	metricRetries     = metric("retries_total", "Requests that went on to another member, by cause.", "cause")
	metricRefusals    = metric("refusals_total", "Requests and connections that the proxy refused, by reason.", "reason")
	metricOpen        = metric("open_requests", "Requests under way, by kind.", "kind")
	metricConnections = metric("client_connections", "Client connections, by protocol; none is one on which no byte has come.", "protocol")
	metricConnLimit   = metric("client_connections_limit", "How many client connections there may be; 0 is no limit.")
	metricMemberConns = metric("member_connections", "Connections to a member, by protocol.", "member", "protocol")
	metricBytes       = metric("client_bytes_total", "Bytes over the connections of clients, received or sent by the proxy.", "direction")
	metricMemberBytes = metric("member_bytes_total", "Bytes over the connections to a member, received or sent by the proxy.", "member", "direction")
	metricMemberUp    = metric("endpoint_up", "Whether a client URL that requests may go to is healthy: 1 or 0.", "member", "url")
	metricMembers     = metric("members", "Members on the list.")
	metricEndpoints   = metric("endpoints", "Client URLs that requests may go to.")
	metricUnused      = metric("unused_endpoints", "Client URLs on the list that requests may not go to, by reason.", "reason")
	metricListAge     = metric("member_list_age_seconds", "Age of the member list.")
	metricRefreshes   = metric("refreshes_total", "Looks at the member list, by result.", "result")
	metricCluster     = metric("cluster_info", "The cluster that is followed; always 1.", "cluster_id")
	metricWrong       = metric("wrong_cluster", "Whether no request is served because another cluster answers: 1 or 0.")
	metricCertificate = metric("certificate_expiry_timestamp_seconds", "When a certificate of the proxy's own ends, as Unix time.", "use", "subject")
	metricTLSLoaded   = metric("tls_last_reload_successful", "Whether what is in the TLS files of a side is used: 1 or 0.", "use")
	metricTLSLoadedAt = metric("tls_last_reload_success_timestamp_seconds", "When the TLS files of a side were loaded that are used, as Unix time.", "use")
)

// metrics are all families of ours.
var metrics = []*prometheus.Desc{
	metricBuild, metricReady, metricRequests, metricFailed, metricRetries, metricRefusals, metricOpen,
	metricConnections, metricConnLimit, metricMemberConns, metricBytes, metricMemberBytes, metricMemberUp, metricMembers,
	metricEndpoints, metricUnused, metricListAge, metricRefreshes, metricCluster, metricWrong, metricCertificate,
	metricTLSLoaded, metricTLSLoadedAt,
}

// collector gives Prometheus the figures of a server.
type collector struct{ s *Server }

// Describe implements prometheus.Collector.
func (collector) Describe(to chan<- *prometheus.Desc) {
	for _, d := range metrics {
		to <- d
	}
}

// Collect implements prometheus.Collector.
func (c collector) Collect(to chan<- prometheus.Metric) {
	count := func(d *prometheus.Desc, n int64, labels ...string) {
		to <- sample(d, prometheus.CounterValue, float64(n), labels)
	}
	gauge := func(d *prometheus.Desc, n float64, labels ...string) {
		to <- sample(d, prometheus.GaugeValue, n, labels)
	}
	f, status := c.s.figures(), c.s.Status()
	gauge(metricBuild, 1, status.Version, runtime.Version())
	gauge(metricReady, oneIf(len(status.NotReady) == 0))
	for _, r := range f.Requests {
		count(metricRequests, r.Count, r.API, r.Method, r.Result, r.Member)
	}
	count(metricFailed, f.Failed)
	for d, list := range map[*prometheus.Desc][]ReasonCount{metricRetries: f.Retries, metricRefusals: f.Refusals, metricRefreshes: f.Refreshes} {
		for _, r := range list {
			count(d, r.Count, r.Reason)
		}
	}
	for d, list := range map[*prometheus.Desc][]ReasonCount{metricOpen: f.Open, metricConnections: f.Connections} {
		for _, r := range list {
			gauge(d, float64(r.Count), r.Reason)
		}
	}
	gauge(metricConnLimit, float64(c.s.MaxConnections))
	for _, m := range f.MemberConnections {
		gauge(metricMemberConns, float64(m.Count), m.Member, m.Protocol)
	}
	count(metricBytes, f.Bytes.Received, "received")
	count(metricBytes, f.Bytes.Sent, "sent")
	for _, m := range f.MemberBytes {
		count(metricMemberBytes, m.Received, m.Member, "received")
		count(metricMemberBytes, m.Sent, m.Member, "sent")
	}
	c.cluster(status, gauge)
	for _, cert := range f.Certificates {
		gauge(metricCertificate, float64(cert.NotAfter.Unix()), cert.Use, cert.Subject)
	}
	for _, l := range f.TLSLoads {
		gauge(metricTLSLoaded, oneIf(l.Error == ""), l.Use)
		gauge(metricTLSLoadedAt, float64(l.At.Unix()), l.Use)
	}
}

// sample makes a sample; one that Prometheus does not take, as with a name that is
// not UTF-8, is an error of the scrape and no panic of the proxy.
func sample(d *prometheus.Desc, kind prometheus.ValueType, n float64, labels []string) prometheus.Metric {
	m, err := prometheus.NewConstMetric(d, kind, n, labels...)
	if err != nil {
		return prometheus.NewInvalidMetric(d, err)
	}
	return m
}

// cluster gives what the proxy knows of its cluster.
func (c collector) cluster(status Status, gauge func(d *prometheus.Desc, n float64, labels ...string)) {
	members, seen := map[string]bool{}, map[[2]string]bool{}
	used, unused := 0, map[string]int{}
	for _, e := range status.Endpoints {
		members[e.MemberID] = true
		at := [2]string{cmp.Or(e.MemberName, e.MemberID), e.URL}
		if e.URL == "" || seen[at] {
			continue
		}
		seen[at] = true
		if !e.Used {
			unused[unusedReason(e.Why)]++
			continue
		}
		used++
		gauge(metricMemberUp, oneIf(e.Healthy), at[0], at[1])
	}
	gauge(metricMembers, float64(len(members)))
	gauge(metricEndpoints, float64(used))
	for _, reason := range unusedReasons {
		gauge(metricUnused, float64(unused[reason]), reason)
	}
	gauge(metricWrong, oneIf(status.WrongCluster != ""))
	if status.ListAt != nil {
		gauge(metricListAge, time.Since(*status.ListAt).Seconds())
		gauge(metricCluster, 1, status.ClusterID)
	}
}

// unusedReasons are why a client URL gets no requests.
var unusedReasons = []string{"learner", "own_address", "loop", "unreadable"}

// unusedReason is the one of an Endpoint.Why.
func unusedReason(why string) string {
	switch why {
	case whyLearner:
		return "learner"
	case whyOwn:
		return "own_address"
	case director.ErrLoop.Error():
		return "loop"
	}
	return "unreadable"
}

func oneIf(yes bool) float64 {
	if yes {
		return 1
	}
	return 0
}
