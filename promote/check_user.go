package promote

import (
	"context"
	"errors"

	"etcdops/discover"
)

// CheckUser refuses a user who could not change the members: without this, it
// would be learnt from the add. It asks for the list of users, which has the
// same rights, changes nothing, and is told to everybody where auth is off
// (needAdminPermission, server/etcdserver/apply/auth.go).
//
// Where nobody answers there is no refusal: CheckCluster names who is silent.
func (c *Cluster) CheckUser(ctx context.Context) []Refusal {
	var found refusals
	err := c.mayChange(ctx)
	const hint = "add --user NAME --password-file FILE of a user with the role root"
	switch {
	case errors.Is(err, discover.ErrNeedsUser):
		found.add("needs-user", hint, "%v", err)
	case errors.Is(err, ErrWrongPassword), errors.Is(err, ErrNeedsRoot):
		found.add("needs-root", hint, "user %q: %v", c.Username, err)
	}
	return found
}

func (c *Cluster) mayChange(ctx context.Context) error {
	v, _, err := c.reach(ctx, 0)
	if err != nil {
		return err
	}
	defer v.close()
	ctx, cancel := context.WithTimeout(ctx, readTimeout)
	defer cancel()
	_, err = v.etcd.UserList(ctx)
	if problem := authProblem(err); problem != nil {
		return problem
	}
	return err
}
