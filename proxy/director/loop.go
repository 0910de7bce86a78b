package director

import (
	"errors"
	"strings"
	"time"
)

// ErrLoop says that what was sent to an endpoint came back to this proxy and was
// refused here: nobody has processed it.
var ErrLoop = errors.New("it leads back to this proxy")

// loopWait is how long an endpoint that leads back stays out at least. A good
// probe alone does not end it: where another proxy lies between, the probe may be
// led to a member, and requests back to us.
const loopWait = 5 * time.Minute

// loopHint tells who can mend a loop.
const loopHint = "correct that member's --advertise-client-urls"

// LeadsBack condemns the endpoint because of an ErrLoop. What is under way there
// is not cut: other proxies may lie between, and may have led it to a member. The
// warning is given once; what comes and goes after it is no news.
func (e *Endpoint) LeadsBack() {
	s := &e.state
	s.mu.Lock()
	known, told := s.loop, s.told
	s.loop, s.told = true, true
	if !known {
		s.reason, s.since = ErrLoop.Error(), time.Now()
		e.down.Store(true)
	}
	s.mu.Unlock()
	if !known {
		e.d.recount()
	}
	switch {
	case !told:
		e.d.Logger.Warn("endpoint leads back to this proxy, not used", "member", e.MemberName, "url", e.URL, "hint", loopHint)
	case !known:
		e.d.Logger.Info("endpoint leads back again, not used", "member", e.MemberName, "url", e.URL)
	}
}

// ledBack says whether the Proxy-Status values of an answer to a call of our own
// are those of our refusal.
func (e *Endpoint) ledBack(status []string) bool {
	return e.d.LedBack != nil && len(status) > 0 && e.d.LedBack(strings.Join(status, ","))
}

// viaField is the line of an HTTP/1.1 head that marks a call of our own.
func (d *Director) viaField() string {
	if d.Via == "" {
		return ""
	}
	return "Via: " + d.Via + "\r\n"
}

// release makes a condemned endpoint usable if it was out for long enough.
func (e *Endpoint) release() bool {
	s := &e.state
	s.mu.Lock()
	defer s.mu.Unlock()
	wait := e.d.FailureWait
	if s.loop {
		wait = max(wait, loopWait)
	}
	if time.Since(s.since) < wait {
		return false
	}
	s.loop, s.reason, s.since = false, "", time.Now()
	e.down.Store(false)
	return true
}
