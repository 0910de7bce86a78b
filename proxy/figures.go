package proxy

import (
	"cmp"
	"slices"

	"etcdops/proxy/socket"
	"etcdops/proxy/stats"
)

// Figures are what the proxy counts, since its start unless they say "now".
type Figures struct {
	Requests []RequestCount `json:"requests"`
	Failed   int64          `json:"failed"` // of them, those without a member's whole answer
	Retries  []ReasonCount  `json:"retries"`
	Refusals []ReasonCount  `json:"refusals"`

	Open              []ReasonCount     `json:"open_requests"`      // now, by kind
	Connections       []ReasonCount     `json:"client_connections"` // now, by protocol; "none": no byte has come
	MemberConnections []ConnectionCount `json:"member_connections"` // now

	Bytes       ByteCount   `json:"client_bytes"`
	MemberBytes []ByteCount `json:"member_bytes"`

	Refreshes    []ReasonCount `json:"refreshes"` // of the member list, by result
	Certificates []Certificate `json:"certificates"`
	TLSLoads     []TLSLoad     `json:"tls_loads"`
}

// RequestCount is how many requests ended in one way.
type RequestCount struct {
	API    string `json:"api"`    // v2, json, grpc or other
	Method string `json:"method"` // the call, or HTTP's method
	Result string `json:"result"` // gRPC's code, HTTP's class of status, or none
	Member string `json:"member"` // who answered, "none" for the proxy itself
	Count  int64  `json:"count"`
}

// ReasonCount is a count by reason, kind or result.
type ReasonCount struct {
	Reason string `json:"reason"`
	Count  int64  `json:"count"`
}

// ConnectionCount is how many connections there are to a member.
type ConnectionCount struct {
	Member   string `json:"member"`
	Protocol string `json:"protocol"` // http1 or http2
	Count    int64  `json:"count"`
}

// ByteCount is what went over the connections of the clients, or of a member.
type ByteCount struct {
	Member   string `json:"member,omitempty"`
	Received int64  `json:"received"`
	Sent     int64  `json:"sent"`
}

// noMember is the member of an answer that is the proxy's own.
const noMember = "none"

// memberName is how a member is called in figures.
func memberName(name string, id uint64) string { return cmp.Or(name, hexID(id)) }

// figures reads all counters.
func (s *Server) figures() Figures {
	f := Figures{
		Requests: []RequestCount{}, MemberConnections: []ConnectionCount{}, MemberBytes: []ByteCount{}, Certificates: []Certificate{},
		Failed: s.h1stats.Failed.Load() + s.h2.Stats.Failed.Load(),
		Bytes:  ByteCount{Received: s.clientBytes.Read.Load(), Sent: s.clientBytes.Written.Load()},
	}
	s.retries.Each(func(c stats.Cause, n int64) { f.Retries = append(f.Retries, ReasonCount{c.String(), n}) })
	s.refusals.Each(func(r stats.Reason, n int64) { f.Refusals = append(f.Refusals, ReasonCount{r.String(), n}) })
	f.Refreshes = []ReasonCount{{"ok", s.refreshed.Load()}, {"failed", s.refreshFailed.Load()}}
	f.open(s)
	f.connections(s)
	f.answers(s)
	f.Certificates = slices.Concat(certificates("listener", s.listenTLS.Load()), certificates("members", s.memberTLS.Load()), certificates("peers", s.peerTLS.Load()))
	f.TLSLoads = s.lastTLSLoads()
	return f
}

func (f *Figures) open(s *Server) {
	all, waits := s.h1.Underway()
	f.Open = []ReasonCount{{"http", int64(max(all-waits, 0))}, {"http_wait", int64(waits)}}
	s.h2.Open(func(kind string, n int64) { f.Open = append(f.Open, ReasonCount{kind, n}) })
}

func (f *Figures) connections(s *Server) {
	open := s.conns.count()
	one, two := s.h1stats.Connections.Load(), s.h2.Stats.Connections.Load()
	one -= s.h2.Bridged() // which have none of their own
	f.Connections = []ReasonCount{{"http1", one}, {"http2", two}, {"none", max(int64(open)-one-two, 0)}}
}

// answers adds up what the endpoints of each member count.
func (f *Figures) answers(s *Server) {
	count := map[RequestCount]int64{}
	add := func(a *stats.Answers, member string) {
		a.Each(func(api stats.API, method, result string, n int64) {
			count[RequestCount{API: api.String(), Method: method, Result: result, Member: member}] += n
		})
	}
	add(&s.answers, noMember)
	one, two := s.h1.MemberConnections(), s.h2.MemberConnections()
	connections := map[ConnectionCount]int64{}
	bytes := map[string]*socket.Bytes{}
	counted := map[*stats.Answers]bool{}
	for _, e := range s.director.States() {
		member := memberName(e.MemberName, e.MemberID)
		connections[ConnectionCount{Member: member, Protocol: "http1"}] += int64(one[e.Endpoint])
		connections[ConnectionCount{Member: member, Protocol: "http2"}] += int64(two[e.Endpoint])
		if counted[e.Answers] {
			continue // by another URL of this member
		}
		counted[e.Answers] = true
		add(e.Answers, member)
		if bytes[member] == nil {
			bytes[member] = &socket.Bytes{}
		}
		bytes[member].Read.Add(e.Bytes.Read.Load())
		bytes[member].Written.Add(e.Bytes.Written.Load())
	}
	for r, n := range count {
		r.Count = n
		f.Requests = append(f.Requests, r)
	}
	slices.SortFunc(f.Requests, func(a, b RequestCount) int {
		return cmp.Or(cmp.Compare(a.API, b.API), cmp.Compare(a.Method, b.Method), cmp.Compare(a.Result, b.Result), cmp.Compare(a.Member, b.Member))
	})
	for c, n := range connections {
		c.Count = n
		f.MemberConnections = append(f.MemberConnections, c)
	}
	slices.SortFunc(f.MemberConnections, func(a, b ConnectionCount) int {
		return cmp.Or(cmp.Compare(a.Member, b.Member), cmp.Compare(a.Protocol, b.Protocol))
	})
	for member, b := range bytes {
		f.MemberBytes = append(f.MemberBytes, ByteCount{member, b.Read.Load(), b.Written.Load()})
	}
	slices.SortFunc(f.MemberBytes, func(a, b ByteCount) int { return cmp.Compare(a.Member, b.Member) })
}
