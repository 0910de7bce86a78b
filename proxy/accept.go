package proxy

import (
	"context"
	"errors"
	"fmt"
	"strconv"
)

// AcceptPath is where the control socket takes another cluster as the one to
// follow.
const AcceptPath = "/v1/cluster/accept"

// AcceptRequest names the cluster, by its ID in hex.
type AcceptRequest struct {
	ClusterID string `json:"cluster_id"`
}

// AcceptAnswer is what is followed then.
type AcceptAnswer struct {
	Before    string `json:"before"` // hex; "" where no cluster was known
	ClusterID string `json:"cluster_id"`
	Members   int    `json:"members"`
	Endpoints int    `json:"endpoints"` // that requests may go to
}

// refreshCall asks follow for a refresh now; done is closed after it.
type refreshCall struct{ done chan struct{} }

// acceptCluster follows another cluster, if one of its peers answers. Where none
// does, nothing changes.
func (s *Server) acceptCluster(ctx context.Context, r AcceptRequest) (AcceptAnswer, error) {
	id, err := strconv.ParseUint(r.ClusterID, 16, 64)
	if err != nil || id == 0 {
		return AcceptAnswer{}, fmt.Errorf("%q is not the ID of a cluster", r.ClusterID)
	}
	if s.underWay() {
		return AcceptAnswer{}, errors.New("a promotion is under way here: end it first")
	}
	a := AcceptAnswer{}
	if v := s.view.Load(); v.have {
		a.Before = hexID(v.view.ClusterID)
	} else if v.wrong != nil {
		a.Before = hexID(v.wrong.Pinned)
	}
	if err := s.Accept(ctx, id); err != nil {
		return AcceptAnswer{}, err
	}
	if err := s.refreshNow(ctx); err != nil {
		return AcceptAnswer{}, err
	}
	v := s.view.Load()
	if !v.have || v.view.ClusterID != id {
		return AcceptAnswer{}, fmt.Errorf("cluster %016x was accepted, and then did not answer: %w", id, v.err)
	}
	if a.Before != hexID(id) {
		s.Logger.Warn("another cluster is followed, as an operator said", "before", a.Before, "cluster_id", hexID(id))
	}
	a.ClusterID, a.Members, a.Endpoints = hexID(id), len(v.view.Members), s.director.Size()
	return a, nil
}

// refreshNow makes follow refresh, and waits until it has.
func (s *Server) refreshNow(ctx context.Context) error {
	call := refreshCall{make(chan struct{})}
	select {
	case s.refreshes <- call:
	case <-s.promotion.over:
		return errors.New("this proxy ends")
	case <-ctx.Done():
		return ctx.Err()
	}
	select {
	case <-call.done:
		return nil
	case <-s.promotion.over:
		return errors.New("this proxy ends")
	}
}
