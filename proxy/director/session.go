package director

import (
	"slices"
	"sync"
)

// Session ties one client connection to one member, so that the reads of a
// client follow its own writes. It is safe for concurrent use.
type Session struct {
	d *Director

	mu      sync.Mutex
	ep      *Endpoint
	shuffle uint64 // d.shuffle when ep was chosen
	closed  bool
}

// NewSession returns a session that has not chosen yet.
func (d *Director) NewSession() *Session { return &Session{d: d} }

// Endpoint returns the session's member, or chooses one: at first, when the
// member failed or left, and, where quiet says that nothing is under way on the
// client connection, after a shuffle. The error is ErrNoEndpoints.
func (s *Session) Endpoint(quiet bool) (*Endpoint, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.ep != nil && !s.ep.left.Load() && (!quiet || s.shuffle == s.d.shuffle.Load()) {
		if s.ep.healthy() || !s.d.AnyUsable() {
			return s.ep, nil
		}
	}
	return s.move(nil)
}

// Next moves the session to a member that is not in tried, unless it has moved
// to one already: the requests of one client that lost their member go on
// together. The error is ErrNoEndpoints when there is none; the session then
// stays where it is.
func (s *Session) Next(tried []*Endpoint) (*Endpoint, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.ep != nil && s.ep.Usable() && !slices.Contains(tried, s.ep) {
		return s.ep, nil
	}
	return s.move(tried)
}

func (s *Session) move(tried []*Endpoint) (*Endpoint, error) {
	shuffle := s.d.shuffle.Load()
	if s.ep != nil {
		s.ep.load.Add(-1) // its own weight does not count in the choice
	}
	next, err := s.d.choose(tried)
	if err != nil {
		if s.ep != nil {
			s.ep.load.Add(1)
		}
		return nil, err
	}
	if !s.closed {
		next.load.Add(1)
		s.ep, s.shuffle = next, shuffle
	} else {
		s.ep = nil
	}
	return next, nil
}

// Close gives the member back. It may be called more than once.
func (s *Session) Close() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.ep != nil {
		s.ep.load.Add(-1)
	}
	s.ep, s.closed = nil, true
}
