package proxy

import (
	"context"
	"time"
)

// cutMessage is what a request still open at the end of the drain is told.
const cutMessage = "etcdops: the proxy is stopping"

const (
	// lastWords is how long clients get to take the last frames after a cut.
	lastWords = 500 * time.Millisecond
	// landingTime is how long after a hand-over the listeners stay open: who had
	// begun to connect before it still comes to us.
	landingTime = time.Second
)

// drain lets what is under way end, up to timeout. With landing, the listeners
// stay open meanwhile.
func (s *Server) drain(kill context.Context, timeout time.Duration, landing bool) DrainAnswer {
	s.ending.Store(true)
	began, refused := time.Now(), s.h2.Stats.Late.Load()
	s.Logger.Info("draining", "timeout", timeout)
	limit, cancel := context.WithTimeout(kill, timeout)
	defer cancel()
	if !landing {
		s.stopAccepting()
	}
	s.h1.Drain()
	s.h2.Drain()
	s.conns.drain()
	if landing {
		s.waitForLanding(limit)
		s.conns.wait(limit)
		s.stopAccepting()
	}
	var a DrainAnswer
	if !s.conns.wait(limit) && kill.Err() == nil {
		a = s.cut(kill)
	}
	a.Refused = int(s.h2.Stats.Late.Load() - refused)
	a.TookMS = time.Since(began).Milliseconds()
	return a
}

func (s *Server) stopAccepting() {
	s.closeListeners()
	s.accepting.Wait()
}

func (s *Server) waitForLanding(limit context.Context) {
	s.promotion.mu.Lock()
	handed := s.promotion.handed
	s.promotion.mu.Unlock()
	if handed.IsZero() {
		return
	}
	t := time.NewTimer(time.Until(handed.Add(landingTime)))
	defer t.Stop()
	select {
	case <-t.C:
	case <-limit.Done():
	}
}

// cut ends all requests that are still open, and their connections.
func (s *Server) cut(kill context.Context) DrainAnswer {
	all, waits := s.h1.Underway() // before the cut of HTTP/2 ends those that it carries
	two := s.h2.Cut(cutMessage)
	a := DrainAnswer{Cut: all + two.Requests, CutStreams: two.Streams, CutWaits: waits + two.Waits}
	s.Logger.Info("drain limit reached", "cut", a.Cut, "streams", a.CutStreams, "waits", a.CutWaits)
	words, cancel := context.WithTimeout(kill, lastWords)
	defer cancel()
	s.conns.wait(words)
	s.cutConns()
	s.h1.Close()
	s.conns.wait(kill)
	return a
}
