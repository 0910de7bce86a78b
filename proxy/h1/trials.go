package h1

import (
	"errors"
	"fmt"
	"net"
	"slices"

	"etcdops/proxy/director"
	"etcdops/proxy/stats"
)

// lateDials is how often a request goes again to the members that took no
// connection in time, once no other is left: as HAProxy's "retries" has it.
//
// A member whose queue of new connections is full (net.core.somaxconn, 4096)
// drops the first packet of another one. The system sends it again after a second
// (RFC 6298, 2.1), which is just when etcd's default of --proxy-dial-timeout gives
// up, and a client without a proxy would then be served.
const lateDials = 3

// trials are the members that a request was tried on.
type trials struct {
	failed []*director.Endpoint
	late   []*director.Endpoint // those of them that took no connection in time
	rounds int                  // how often late ones were tried again
	last   error                // why the last one failed, with its name
	why    stats.Cause
}

// add notes that a member failed.
func (t *trials) add(e *director.Endpoint, err error, why stats.Cause) {
	t.failed, t.last, t.why = append(t.failed, e), blame(t.last, e, err), why
	var de *director.DialError
	var timeout net.Error
	if errors.As(err, &de) && de.Step == "dial" && errors.As(err, &timeout) && timeout.Timeout() {
		t.late = append(t.late, e)
	}
}

// again lets the late members that are still usable be tried once more, and says
// whether there are any. One that is gone for good is condemned by the probe within
// some seconds.
func (t *trials) again() bool {
	late := slices.DeleteFunc(t.late, func(e *director.Endpoint) bool { return !e.Usable() })
	if t.late = nil; len(late) == 0 || t.rounds == lateDials {
		return false
	}
	t.rounds++
	t.failed = slices.DeleteFunc(t.failed, func(e *director.Endpoint) bool { return slices.Contains(late, e) })
	return true
}

// blame names the member and what failed there. A loop is the last cause only
// where there is no other.
func blame(last error, e *director.Endpoint, err error) error {
	if last != nil && errors.Is(err, director.ErrLoop) {
		return last
	}
	var de *director.DialError
	if errors.As(err, &de) {
		return fmt.Errorf("%s: %s: %w", e, de.Step, de.Err)
	}
	return fmt.Errorf("%s: %w", e, err)
}
