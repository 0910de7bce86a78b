package h2

import (
	"errors"
	"fmt"

	"golang.org/x/net/http2/hpack"

	"etcdops/proxy/director"
	"etcdops/proxy/policy"
	"etcdops/proxy/stats"
)

// loopText is what a request that came back to us is refused with. Its answer
// bears our Refusal, by which we know it again when a member brings it.
const loopText = "etcdops: the request came back to this proxy: " + policy.LoopHint

// refuseLoop refuses what has been here before. A question of our own is no
// client's refusal: it comes back for as long as somebody leads it here.
func (cc *clientConn) refuseLoop(s *stream, h *requestHead) {
	if !h.asksCluster {
		cc.refuse(s, stats.Loop, grpcFailedPrecondition, loopText)
		return
	}
	cc.take(s)
	s.fail(grpcFailedPrecondition, loopText, &cc.rd.b)
}

// tellCluster answers another proxy's question for the cluster's ID.
func (cc *clientConn) tellCluster(s *stream, id uint64) {
	cc.take(s)
	cc.mu.Lock()
	defer cc.mu.Unlock()
	s.client.headers([]hpack.HeaderField{
		{Name: ":status", Value: "200"},
		{Name: "content-type", Value: "application/grpc"},
		{Name: director.ClusterIDField, Value: fmt.Sprintf("%016x", id)},
		{Name: "grpc-status", Value: "0"},
	}, true)
	cc.rd.b.add(cc.conn)
}

// refusedByUs says whether a trailers-only response is a refusal of ours.
func (m *memberConn) refusedByUs(fields []hpack.HeaderField) bool {
	return valueOf(fields, ":status") != "" && m.r.Instance.Refused(valueOf(fields, "proxy-status"))
}

// cameBack ends a stream whose request came back to us: nobody has processed it,
// so it goes on as one that the member refused.
func (m *memberConn) cameBack(sd *side) {
	m.ep.LeadsBack()
	m.closeHalf(sd)
	sd.s.lost(sd, false, director.ErrLoop, &m.rd.b)
}

// blame notes a member that the request has been to, and what failed there. A
// loop is the last cause only where there is no other. s.mu is held.
func (s *stream) blame(ep *director.Endpoint, cause error) {
	s.tried = append(s.tried, ep)
	if s.lastErr == nil || !errors.Is(cause, director.ErrLoop) {
		s.lastErr = cause
	}
}
