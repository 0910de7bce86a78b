package proxy

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"slices"
	"time"

	"etcdops/proxy/director"
	"etcdops/proxy/policy"
)

// state is what the proxy knows of its cluster, replaced as a whole.
type state struct {
	view View
	have bool  // a list was got once
	err  error // of the last refresh
	// wrong is that error where another cluster answers.
	wrong *policy.WrongClusterError
	used  []Endpoint
	// waiting is what the refresh under way waits for.
	waiting string
}

// WrongClusterError is what Server.Members returns where another cluster answers.
type WrongClusterError = policy.WrongClusterError

// Endpoint is one client URL of the cluster and what the proxy makes of it.
type Endpoint struct {
	URL        string `json:"url"`
	MemberID   string `json:"member_id"` // hex, 16 digits
	MemberName string `json:"member_name"`
	Used       bool   `json:"used"`
	Why        string `json:"why,omitempty"` // why it is not used
	Healthy    bool   `json:"healthy"`
	// Foreign is the cluster that answers there, in hex, if it is another one.
	Foreign string `json:"foreign,omitempty"`
}

// Words of Endpoint.Why.
const (
	whyLearner = "learner"
	whyOwn     = "it is this proxy's own address"
)

// follow keeps the list of members up to date, asking as looks says. A failed
// refresh changes nothing.
func (s *Server) follow(ctx context.Context) {
	s.view.Store(&state{err: errors.New("the cluster was not asked yet")})
	looks := looks{interval: s.RefreshInterval}
	var call refreshCall
	for {
		view, err := s.Members(ctx)
		if ctx.Err() != nil {
			return
		}
		if err == nil {
			s.refreshed.Add(1)
		} else {
			s.refreshFailed.Add(1)
		}
		old := s.view.Load()
		var wrong *policy.WrongClusterError
		if errors.As(err, &wrong) {
			s.director.Recheck()
		}
		switch {
		case err == nil:
			s.adopt(ctx, view)
			if !old.have || old.err != nil {
				s.Logger.Info("following the cluster", "cluster_id", hexID(view.ClusterID), "members", len(view.Members))
			}
			s.notify(fmt.Sprintf("STATUS=following cluster %s, %d endpoints", hexID(view.ClusterID), s.director.Size()))
		case old.have:
			next := *old
			next.err, next.wrong, next.waiting = err, wrong, ""
			s.view.Store(&next)
			s.Logger.Warn("refresh failed, the last list stays", "age", time.Since(old.view.At).Round(time.Second), "error", err)
			s.notify(fmt.Sprintf("STATUS=list is %v old: %v", time.Since(old.view.At).Round(time.Second), err))
		default:
			if old.err == nil || old.err.Error() != err.Error() {
				s.Logger.Warn("no cluster found yet, trying each second", "error", err)
			}
			s.view.Store(&state{err: err, wrong: wrong})
			s.notify("STATUS=no cluster found yet: " + err.Error())
		}
		wait := looks.next(s.director.Size(), s.view.Load().view.Members, err != nil)
		if call.done != nil {
			close(call.done)
		}
		call = refreshCall{}
		t := time.NewTimer(wait)
		select {
		case <-ctx.Done():
			t.Stop()
			return
		case <-t.C:
		case call = <-s.refreshes:
			t.Stop()
		}
	}
}

// looks says when the list of members is looked at next.
type looks struct {
	interval time.Duration
	soon     time.Duration // the next pause while members are expected
	expected []uint64      // their IDs
}

// next is the pause before the next look: a second while there is no endpoint,
// else the interval. A member that has no client URL yet is about to come, as
// where the whole cluster starts together with its proxies: it is looked for
// after 1, 2, 4 … seconds, but not for ever, as it may never start.
func (l *looks) next(endpoints int, members []Member, failed bool) time.Duration {
	switch {
	case endpoints == 0:
		l.expected = nil
		return min(l.interval, retryInterval)
	case failed: // peers that disagree have time to agree
		return l.interval
	}
	var expected []uint64
	for _, m := range members {
		if len(m.ClientURLs) > 0 {
			continue
		}
		expected = append(expected, m.ID)
		if !slices.Contains(l.expected, m.ID) {
			l.soon = retryInterval
		}
	}
	l.expected = expected
	if expected == nil {
		return l.interval
	}
	pause := min(l.interval, l.soon)
	l.soon = 2 * pause
	return pause
}

// Waiting says what Members waits for while it does, as that a cluster has all
// its members.
func (s *Server) Waiting(progress string) {
	next := *s.view.Load()
	if next.waiting == progress {
		return
	}
	s.Logger.Info("waiting", "progress", progress)
	next.waiting = progress
	s.view.Store(&next)
	s.notify("STATUS=" + progress)
}

// adopt makes a new list the one that requests go by.
func (s *Server) adopt(ctx context.Context, view View) {
	self := policy.Self{Listeners: s.addrs()}
	own := map[string]bool{}
	next := &state{view: view, have: true}
	var members []director.Member
	for _, m := range view.Members {
		dm := director.Member{ClusterID: view.ClusterID, ID: m.ID, Name: m.Name}
		for _, raw := range m.ClientURLs {
			e := Endpoint{URL: raw, MemberID: hexID(m.ID), MemberName: m.Name}
			u, err := url.Parse(raw)
			switch {
			case m.Learner:
				e.Why = whyLearner
			case err != nil:
				e.Why = "the URL can't be read: " + err.Error()
			case self.Is(ctx, u):
				e.Why = whyOwn
				s.sayOwn(own, m.Name, raw)
			default:
				e.Used = true
				dm.ClientURLs = append(dm.ClientURLs, raw)
			}
			next.used = append(next.used, e)
		}
		if len(m.ClientURLs) == 0 {
			next.used = append(next.used, Endpoint{MemberID: hexID(m.ID), MemberName: m.Name, Why: "unstarted"})
		}
		if len(dm.ClientURLs) > 0 {
			members = append(members, dm)
		}
	}
	s.saidOwn = own
	s.director.Update(members)
	s.view.Store(next)
}

// sayOwn logs that a member advertises an address of ours: a mistake that goes
// on, or the member that is about to take our place. It is said once, and again
// only after a list without it; own is what this list makes us say.
func (s *Server) sayOwn(own map[string]bool, member, raw string) {
	underWay := s.underWay()
	key := fmt.Sprint(underWay, " ", member, " ", raw)
	own[key] = true
	switch {
	case s.saidOwn[key]:
	case underWay:
		s.Logger.Info("new member advertises this port, which will be handed over to it", "member", member, "url", raw)
	default:
		s.Logger.Warn("member advertises this proxy, endpoint dropped", "member", member, "url", raw, "hint", policy.LoopHint)
	}
}

func (s *Server) addrs() []net.Addr {
	var out []net.Addr
	for _, l := range s.listeners {
		if l.path != "" {
			out = append(out, &net.UnixAddr{Name: l.path, Net: "unix"})
		} else {
			out = append(out, l.Addr())
		}
	}
	return out
}

// refuse says why no request can be served now, or nil.
func (s *Server) refuse() error {
	if s.director.Size() > 0 {
		if f := s.director.Foreign(); f != nil {
			return &policy.WrongClusterError{Pinned: f.Pinned, Seen: f.Seen}
		}
		return nil
	}
	st := s.view.Load()
	switch {
	case st != nil && st.wrong != nil:
		return st.wrong
	case st == nil || !st.have:
		err := errors.New("starting")
		switch {
		case st != nil && st.waiting != "":
			err = errors.New(st.waiting)
		case st != nil && st.err != nil:
			err = st.err
		}
		return fmt.Errorf("etcdops: no member of the cluster is known yet: %w", err)
	}
	return errors.New("etcdops: the cluster lists no client URL that can be used; see etcdops proxy members")
}

// servedCluster is the ID of the cluster whose members get requests now, or 0.
func (s *Server) servedCluster() uint64 {
	st := s.view.Load()
	if st == nil || !st.have || s.refuse() != nil {
		return 0
	}
	return st.view.ClusterID
}

// localEndpoints answers GET /v2/config/local/proxy as etcd's proxy did.
func (s *Server) localEndpoints(w http.ResponseWriter, r *http.Request) {
	if r.Method != http.MethodGet {
		w.Header().Set("Allow", "GET")
		http.Error(w, "Method Not Allowed", http.StatusMethodNotAllowed)
		return
	}
	list := s.director.Available()
	if list == nil {
		list = []string{}
	}
	body, err := json.Marshal(map[string][]string{"endpoints": list})
	if err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	w.Header().Set("Content-Type", "text/plain; charset=utf-8") // etcd's, by sniffing
	_, _ = w.Write(append(body, '\n'))
}

// hexID writes an ID as every output of ours does.
func hexID(id uint64) string { return fmt.Sprintf("%016x", id) }
