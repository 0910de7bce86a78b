package h2

import (
	"fmt"

	"etcdops/proxy/policy"
)

// judge takes more of a request whose content decides on a readonly proxy
// whether it passes. It is kept until its end; no byte of it goes to a member
// before.
func (cc *clientConn) judge(s *stream, more []byte, end bool) {
	status, refusal := s.collect(more, end)
	s.creditClient(len(more), &cc.rd.b)
	switch {
	case refusal != "":
		cc.refuse(s, status, "etcdops: "+refusal)
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
func (s *stream) collect(p []byte, end bool) (status int, refusal string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.judged, s.end = true, end
	switch {
	case len(s.data)+len(p) > policy.JudgeLimit:
		return grpcResourceExhausted, fmt.Sprintf("%s over %d bytes is refused: this endpoint is readonly and looks into it", s.path, policy.JudgeLimit)
	case policy.Kept.Load() > policy.KeptLimit:
		return grpcResourceExhausted, s.path + " is refused: too many requests are looked into now"
	}
	s.data = append(s.data, p...)
	policy.Kept.Add(int64(len(p)))
	s.sentUp = len(s.data) // for the client's window it is gone
	if !end {
		return 0, ""
	}
	if refusal = policy.JudgeGRPC(s.path, s.data); refusal == "" {
		s.passed = true
	}
	return grpcUnimplemented, refusal
}
