package h2

import (
	"fmt"

	"etcdops/proxy/policy"
	"etcdops/proxy/stats"
)

// judge takes more of a request whose content decides on a readonly proxy
// whether it passes. It is kept until its end; no byte of it goes to a member
// before.
func (cc *clientConn) judge(s *stream, more []byte, end bool) {
	status, reason, refusal := s.collect(more, end)
	s.creditClient(len(more), &cc.rd.b)
	switch {
	case refusal != "":
		cc.refuse(s, reason, status, "etcdops: "+refusal)
	case end:
		cc.dispatch(s, false)
	}
}

// judging tells whether the request waits to be judged.
func (s *stream) judging() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.judged && !s.passed && !s.cancelled
}

// collect keeps more of a request that is to be judged, and at its end judges
// it: a refusal with its gRPC status, "" while it may pass. The window of what
// it keeps is given back at once, so that the rest can come; the limits bound it
// instead.
func (s *stream) collect(p []byte, end bool) (status int, reason stats.Reason, refusal string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.cancelled { // the client was cut off from outside its reader
		return 0, 0, ""
	}
	s.judged, s.end = true, end
	switch {
	case len(s.data)+len(p) > policy.JudgeLimit:
		return grpcResourceExhausted, stats.Readonly, fmt.Sprintf("%s over %d bytes is refused: this endpoint is readonly and looks into it", s.path, policy.JudgeLimit)
	case policy.Kept.Load() > policy.KeptLimit:
		return grpcResourceExhausted, stats.Memory, s.path + " is refused: too many requests are looked into now"
	}
	s.keep(p)
	s.sentUp = len(s.data) // for the client's window it is gone
	if !end {
		return 0, 0, ""
	}
	if refusal = policy.JudgeGRPC(s.path, s.data); refusal == "" {
		s.passed = true
	}
	return grpcUnimplemented, stats.Readonly, refusal
}
