package h2

import (
	"errors"

	"etcdops/proxy/director"
	"etcdops/proxy/policy"
	"etcdops/proxy/stats"
)

// route sends a gRPC request on its way: to the connection that the last one
// took, if that will do, else by a search of its own.
func (cc *clientConn) route(s *stream, h *requestHead, quiet bool) {
	for _, via := range h.via {
		if cc.r.Instance.Seen(via) {
			cc.refuseLoop(s, h)
			return
		}
	}
	if h.asksCluster && cc.r.ClusterID != nil {
		if id := cc.r.ClusterID(); id != 0 {
			cc.tellCluster(s, id)
			return
		}
	}
	if cc.r.Readonly {
		if refusal := policy.ReadonlyGRPC(s.path); refusal != "" {
			cc.refuse(s, stats.Readonly, grpcUnimplemented, "etcdops: "+refusal)
			return
		}
		if s.call.Judged() {
			cc.judge(s, nil, s.client.over)
			return
		}
	}
	cc.dispatch(s, quiet)
}

// dispatch gives a request that passes to a member.
func (cc *clientConn) dispatch(s *stream, quiet bool) {
	if cc.r.Refuse != nil {
		var wrong *policy.WrongClusterError
		switch err := cc.r.Refuse(); {
		case errors.As(err, &wrong): // which no new try mends: the client is told
			cc.refuse(s, stats.WrongCluster, grpcUnavailable, wrong.Error())
			return
		case err != nil:
			cc.r.Refusals.Refuse(stats.NoCluster, s.what(), cc.nc.RemoteAddr().String())
			s.unplaced(err, &cc.rd.b)
			return
		}
	}
	ep, err := cc.session.Endpoint(quiet)
	if err != nil {
		s.unplaced(err, &cc.rd.b)
		return
	}
	if cc.up == nil || cc.up.ep != ep || !cc.up.usable() {
		cc.up = cc.r.pool(ep).pick()
	}
	if cc.up == nil || !s.place(cc.up, &cc.rd.b) {
		cc.up, s.searched = nil, true
		cc.find(s)
	}
}

func (cc *clientConn) refuse(s *stream, reason stats.Reason, status int, message string) {
	cc.take(s)
	s.count(status)
	cc.r.Refusals.Refuse(reason, s.what(), cc.nc.RemoteAddr().String())
	s.fail(status, message, &cc.rd.b)
}

// take ends the request's way: we answer it ourselves.
func (cc *clientConn) take(s *stream) {
	s.mu.Lock()
	s.cancelled = true
	held := s.held()
	s.forgetRequest()
	s.mu.Unlock()
	s.creditClient(held, &cc.rd.b)
}

// find looks for a member for a request that has none, in a goroutine of its
// own, because dialling takes time and the reader must go on.
func (cc *clientConn) find(s *stream) {
	cc.r.tasks.Add(1)
	searching := cc.searching.Add(1)
	go func() {
		defer cc.r.tasks.Done()
		defer cc.searching.Add(-1)
		var b batch
		if searching > int64(cc.r.MaxStreams) { // requests that were reset while they searched count too
			s.unplaced(errNoSlot, &b)
		} else {
			cc.search(s, &b)
		}
		b.flush()
	}()
}

func (cc *clientConn) search(s *stream, b *batch) {
	for {
		s.mu.Lock()
		tried := s.tried
		s.mu.Unlock()
		var ep *director.Endpoint
		var err error
		if len(tried) == 0 {
			ep, err = cc.session.Endpoint(false)
		} else {
			ep, err = cc.session.Next(tried)
		}
		if err != nil {
			if back := s.goBack(); back != nil {
				ep, err = back, nil
			}
		}
		if err != nil {
			s.unplaced(err, b)
			return
		}
		for err == nil {
			var up *memberConn
			if up, err = cc.r.pool(ep).get(cc.ctx); err == nil && s.place(up, b) {
				return
			}
			// Where others took the slot between the look and the placing, the pool
			// has more, until it says no.
		}
		s.mu.Lock()
		s.blame(ep, err)
		gone := s.cancelled
		s.mu.Unlock()
		if gone {
			return
		}
	}
}

// goBack is the member that gave the request back with its connection, once.
func (s *stream) goBack() *director.Endpoint {
	s.mu.Lock()
	defer s.mu.Unlock()
	back := s.back
	s.back = nil
	return back
}
