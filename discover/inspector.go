package discover

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"time"

	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"
)

// defaultInspectTimeout bounds asking one member or endpoint.
const defaultInspectTimeout = 3 * time.Second

// ErrNeedsUser is wrapped by List's error where the cluster has auth on and
// answers only users.
var ErrNeedsUser = errors.New("the cluster has auth on and answers users only")

// Inspector asks members how they are, over their client URLs. The zero value
// asks without a user.
type Inspector struct {
	// TLS is how https client URLs are asked. If nil, the system's roots are
	// trusted and no client certificate is shown.
	TLS *tls.Config

	// Explain words an error of TLS with a member for an operator, and is "" for
	// others. If nil, TLSCause does.
	Explain func(err error) string

	// Dial is the way to members; nil means straight on.
	Dial Dial

	// Username and Password are given to members that answer users only.
	Username, Password string

	// Timeout bounds asking one member. 0 means 3 s.
	Timeout time.Duration

	// DialTimeout bounds the TCP and TLS connect. 0 means DefaultDialTimeout.
	DialTimeout time.Duration
}

// Inspect asks all members at the same time, each at its own client URLs. It
// needs no quorum: what cannot be learnt is unknown, with the cause in Reason.
// The rows are in the order of the members.
func (i *Inspector) Inspect(ctx context.Context, members []Member) []MemberStatus {
	rows := make([]MemberStatus, len(members))
	var all sync.WaitGroup
	for n, m := range members {
		all.Go(func() { rows[n] = i.inspect(ctx, m) })
	}
	all.Wait()
	markSkew(rows)
	return rows
}

func (i *Inspector) inspect(ctx context.Context, m Member) MemberStatus {
	row := newMemberStatus(m)
	if !m.Started() || len(m.ClientURLs) == 0 {
		return row
	}
	ctx, cancel := context.WithTimeout(ctx, i.timeout())
	defer cancel()
	var causes []string
	for _, clientURL := range m.ClientURLs {
		asked := row
		err := i.askMember(ctx, clientURL, m, &asked)
		if err == nil {
			return asked
		}
		causes = append(causes, clientURL+": "+i.cause(err))
	}
	row.Status, row.Reason = MemberUnreachable, strings.Join(causes, "; ")
	return row
}

// askMember fills the row from one client URL. An error means that the member
// is not reached there.
func (i *Inspector) askMember(ctx context.Context, clientURL string, m Member, row *MemberStatus) error {
	c, version, err := i.connect(ctx, clientURL)
	if err != nil {
		return err
	}
	defer c.close()
	row.Version = version

	status, err := c.status(ctx)
	denied := isDenied(err)
	if err != nil && !denied {
		return err
	}
	if err == nil {
		if err := fillStatus(row, m, status); err != nil {
			return err
		}
	}
	readHealth(ctx, c, m, status, row)
	if !denied {
		return nil
	}
	// The read came first: without quorum nobody can log in, and the time is
	// used up by trying.
	status, err = i.statusAsUser(ctx, clientURL)
	if err != nil {
		row.NeedsUser = errors.Is(err, ErrNeedsUser) || errors.Is(err, rpctypes.ErrAuthFailed) || isDenied(err)
		if row.Reason == "" {
			row.Reason = cause(err)
		}
		return nil
	}
	return fillStatus(row, m, status)
}

func (i *Inspector) statusAsUser(ctx context.Context, clientURL string) (*clientv3.StatusResponse, error) {
	c, err := i.logIn(ctx, clientURL)
	if err != nil {
		return nil, err
	}
	defer c.close()
	return c.status(ctx)
}

func fillStatus(row *MemberStatus, m Member, status *clientv3.StatusResponse) error {
	if answered := status.Header.GetMemberId(); answered != m.ID {
		return fmt.Errorf("member %s answers there: check the advertise-client-urls of %s", hexID(answered), m.Name)
	}
	row.Leader = status.Leader == m.ID
	row.Version = status.Version
	row.DBSize = status.DbSize
	row.RaftTerm, row.RaftIndex = status.RaftTerm, status.RaftIndex
	row.RaftAppliedIndex = status.RaftAppliedIndex
	row.Alarms = alarms(status.Errors)
	return nil
}

var (
	alarmKind   = regexp.MustCompile(`\balarm:\s*(\w+)`)
	alarmMember = regexp.MustCompile(`\bmemberID:\s*(\d+)`)
)

// alarms picks the alarms from the errors of a status answer, where each stands
// as the text form of an AlarmMember (server/etcdserver/api/v3rpc/maintenance.go);
// the white space in it varies.
func alarms(problems []string) []string {
	var found []string
	for _, problem := range problems {
		kind := alarmKind.FindStringSubmatch(problem)
		if kind == nil {
			continue
		}
		alarm := kind[1]
		if member := alarmMember.FindStringSubmatch(problem); member != nil {
			if id, err := strconv.ParseUint(member[1], 10, 64); err == nil {
				alarm += " " + hexID(id)
			}
		}
		found = append(found, alarm)
	}
	return found
}

// readHealth reads a key, which for a voter needs the cluster's quorum, as
// `etcdctl endpoint health` does (etcdctl/ctlv3/command/ep_command.go). status
// is nil where it may not be asked for.
func readHealth(ctx context.Context, c *client, m Member, status *clientv3.StatusResponse, row *MemberStatus) {
	row.Status = MemberUnhealthy
	if status != nil {
		if row.Reason = statusProblem(status); row.Reason != "" {
			return
		}
	}
	err := c.read(ctx, m.IsLearner)
	var silent *silenceError
	switch {
	// The permission is judged after the read has passed the quorum
	// (server/etcdserver/v3_server.go, Range).
	case err == nil || isDenied(err):
		row.Status = MemberHealthy
	case errors.As(err, &silent):
		row.Reason = silent.Error() + " to a read that needs the quorum: is it lost?"
	default:
		row.Reason = cause(err)
	}
}

// statusProblem is what the member itself says is wrong.
func statusProblem(status *clientv3.StatusResponse) string {
	if status.Leader == 0 {
		return "it has no leader: the quorum is lost or an election is going on"
	}
	var problems []string
	for _, problem := range status.Errors {
		switch {
		case strings.Contains(problem, "NOSPACE"):
			problem = "alarm NOSPACE: the space quota of the database is used up"
		case strings.Contains(problem, "CORRUPT"):
			problem = "alarm CORRUPT: the data of members differ"
		}
		problems = append(problems, oneLine(problem))
	}
	return strings.Join(problems, "; ")
}

// isDenied knows the answers of a member that has auth on to somebody without
// the right (api/v3rpc/rpctypes/error.go).
func isDenied(err error) bool {
	return errors.Is(err, rpctypes.ErrPermissionDenied) || errors.Is(err, rpctypes.ErrUserEmpty)
}

func (i *Inspector) cause(err error) string {
	if i.Explain != nil {
		if text := i.Explain(err); text != "" {
			return text
		}
	}
	return cause(err)
}

func (i *Inspector) timeout() time.Duration {
	if i.Timeout > 0 {
		return i.Timeout
	}
	return defaultInspectTimeout
}

func (i *Inspector) dialTimeout() time.Duration {
	if i.DialTimeout > 0 {
		return i.DialTimeout
	}
	return DefaultDialTimeout
}
