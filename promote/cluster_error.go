package promote

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"etcdops/discover"
)

// What a cluster with auth on says to a user; without one, it is
// discover.ErrNeedsUser. Nothing was changed.
var (
	ErrWrongPassword = errors.New("the cluster knows no such user, or the password is wrong")
	ErrNeedsRoot     = errors.New("the user may not change the members: it needs the role root")
)

// RefusedError is a refusal that asking again would not change. Nothing was
// changed.
type RefusedError struct{ Err error }

// Error implements error.
func (e *RefusedError) Error() string { return "the cluster refuses: " + plain(e.Err) }

// Unwrap returns etcd's answer.
func (e *RefusedError) Unwrap() error { return e.Err }

// GaveUpError says that a refusal which mostly passes did not, or that no voter
// could be asked. Nothing was changed.
type GaveUpError struct {
	After time.Duration
	Err   error // the last answer
}

// Error implements error.
func (e *GaveUpError) Error() string {
	return fmt.Sprintf("gave up after %s: %s", e.After.Round(time.Second), plain(e.Err))
}

// Unwrap returns the last answer.
func (e *GaveUpError) Unwrap() error { return e.Err }

// UnknownOutcomeError says that a change was asked for and that it is not known
// whether the cluster has made it, or will. The members' list tells, once it
// can be read.
type UnknownOutcomeError struct{ Err error }

// Error implements error.
func (e *UnknownOutcomeError) Error() string {
	return "it is not known whether the cluster was changed: " + plain(e.Err)
}

// Unwrap returns what was last seen.
func (e *UnknownOutcomeError) Unwrap() error { return e.Err }

// WrongClusterError says that another cluster answers at an endpoint. It was
// asked no more.
type WrongClusterError struct {
	Endpoint  string
	Want, Got uint64
}

// Error implements error.
func (e *WrongClusterError) Error() string {
	return fmt.Sprintf("%s belongs to cluster %016x, not to %016x", e.Endpoint, e.Got, e.Want)
}

// WrongMemberError says that another member answers on the new one's socket.
type WrongMemberError struct{ Want, Got uint64 }

// Error implements error.
func (e *WrongMemberError) Error() string {
	return fmt.Sprintf("member %016x answers in place of %016x", e.Got, e.Want)
}

// OtherLearnerError says that another learner is in the way: mostly etcd
// allows one. Nothing was changed.
type OtherLearnerError struct{ Member discover.Member }

// Error implements error.
func (e *OtherLearnerError) Error() string {
	return "the cluster has another learner already: " + describe(e.Member)
}

// UnstartedError says that a voter was added before and has never started, so
// that no list of names is complete. Nothing was changed.
type UnstartedError struct{ Member discover.Member }

// Error implements error.
func (e *UnstartedError) Error() string {
	return describe(e.Member) + " was added and has never started"
}

// TakenError says that a member has what the new one was to get. Nothing was
// changed.
type TakenError struct {
	Member discover.Member
	What   string // e.g. "the name m4"
}

// Error implements error.
func (e *TakenError) Error() string { return describe(e.Member) + " has " + e.What + " already" }

// VoterError says that a member is a voter, which is not removed.
type VoterError struct{ ID uint64 }

// Error implements error.
func (e *VoterError) Error() string {
	return fmt.Sprintf("member %016x is a voter: removing it is not a promotion's to decide", e.ID)
}

// GoneError says that the learner is no member any more.
type GoneError struct{ ID uint64 }

// Error implements error.
func (e *GoneError) Error() string {
	return fmt.Sprintf("member %016x is no member of the cluster any more: it was removed", e.ID)
}

// StalledError says that a learner made no progress.
type StalledError struct {
	For  time.Duration
	Last Progress
	Err  error // what was last in the way
}

// Error implements error.
func (e *StalledError) Error() string {
	return fmt.Sprintf("the learner made no progress for %s: %s", e.For.Round(time.Second), plain(e.Err))
}

// Unwrap returns what was last in the way.
func (e *StalledError) Unwrap() error { return e.Err }

// ServeTimeoutError says that the new member's process lives and does not
// serve. It is a voter already: nothing is to be undone.
type ServeTimeoutError struct {
	For time.Duration
	Err error // the last answer; never nil
}

// Error implements error.
func (e *ServeTimeoutError) Error() string {
	return fmt.Sprintf("the new member is a voter, but has not served for %s: last answer: %s", e.For.Round(time.Second), plain(e.Err))
}

// Unwrap returns the last answer.
func (e *ServeTimeoutError) Unwrap() error { return e.Err }

// EndedError says that the new member's process ended.
type EndedError struct{ Err error } // what was last seen of it; never nil

// Error implements error.
func (e *EndedError) Error() string { return "etcd ended: last seen of it: " + plain(e.Err) }

// Unwrap returns what was last seen of the member.
func (e *EndedError) Unwrap() error { return e.Err }

// verdict is what an answer to a change means.
type verdict int

const (
	refused   verdict = iota // nothing was changed, and asking again is no use
	transient                // nothing was changed; it may pass
	unknown                  // it may have been changed
)

// passing are the refusals that pass: the asked member has not been connected
// to a quorum for five seconds, or is busy, or its token is of another time.
var passing = []error{
	rpctypes.ErrUnhealthy, rpctypes.ErrTooManyRequests, rpctypes.ErrInvalidAuthToken, rpctypes.ErrAuthOldRevision,
}

// judge sorts an error of a change. etcd's own errors are told by their text,
// because versions give one text different codes. Where in doubt, the outcome
// is unknown.
func judge(err error) verdict {
	for _, known := range passing {
		if errors.Is(err, known) {
			return transient
		}
	}
	code := status.Code(err)
	var etcd rpctypes.EtcdError
	if errors.As(err, &etcd) {
		code = etcd.Code()
	}
	switch code {
	case codes.InvalidArgument, codes.NotFound, codes.AlreadyExists, codes.PermissionDenied,
		codes.Unauthenticated, codes.FailedPrecondition, codes.Unimplemented, codes.OutOfRange:
		return refused
	}
	return unknown
}

// authProblem gives etcd's answers about users our words. It is nil where err
// is none of them.
func authProblem(err error) error {
	switch {
	case errors.Is(err, rpctypes.ErrUserEmpty), errors.Is(err, rpctypes.ErrUserNotFound):
		// Without a user, etcd takes the name in our certificate for one; a user
		// that we name and it does not know is told at the login, as the next.
		return discover.ErrNeedsUser
	case errors.Is(err, rpctypes.ErrAuthFailed):
		return ErrWrongPassword
	case errors.Is(err, rpctypes.ErrPermissionDenied):
		return ErrNeedsRoot
	}
	return nil
}

// isFinal tells whether no other voter would answer better.
func isFinal(err error) bool {
	var wrong *WrongClusterError
	return errors.As(err, &wrong) || errors.Is(err, discover.ErrNeedsUser) ||
		errors.Is(err, ErrWrongPassword) || errors.Is(err, ErrNeedsRoot)
}

// plain is the text of an error without what only programmers read.
func plain(err error) string {
	if errors.Is(err, context.DeadlineExceeded) {
		return "no answer in time"
	}
	text := strings.ReplaceAll(err.Error(), "\n", "; ") // of joined ones
	if carried, ok := status.FromError(err); ok {
		text = carried.Message()
	}
	text = strings.TrimPrefix(text, "etcdserver: ")
	if _, cause, found := strings.Cut(text, "transport: Error while dialing: "); found {
		return strings.TrimSuffix(cause, `"`)
	}
	return text
}

func describe(m discover.Member) string {
	name := m.Name
	if !m.Started() {
		name = "unstarted, " + strings.Join(m.PeerURLs, " ")
	}
	return fmt.Sprintf("member %016x (%s)", m.ID, name)
}
