package proxy

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"time"

	"etcdops/proxy/director"
)

// Paths of the control socket that change nothing.
const (
	StatusPath  = "/v1/status"
	FiguresPath = "/v1/figures"
)

// StatusAndFigures is the answer of FiguresPath.
type StatusAndFigures struct {
	Status  Status  `json:"status"`
	Figures Figures `json:"figures"`
}

// controlName is the control socket's name in our folder.
const controlName = "control.sock"

// Status is what the control socket tells of a running proxy.
type Status struct {
	Version          string     `json:"version"`
	PID              int        `json:"pid"`
	Mode             string     `json:"mode"` // "on" or "readonly"
	DataDir          string     `json:"data_dir"`
	ListenClientURLs []string   `json:"listen_client_urls"`
	Started          time.Time  `json:"started"`
	ClusterID        string     `json:"cluster_id"`        // hex, empty while no cluster is known
	ListAt           *time.Time `json:"list_at,omitempty"` // when the member list was got
	RefreshError     string     `json:"refresh_error,omitempty"`
	Waiting          string     `json:"waiting,omitempty"` // what the refresh under way waits for
	PeerURLs         []string   `json:"peer_urls"`
	Endpoints        []Endpoint `json:"endpoints"`
	NotReady         []string   `json:"not_ready"`               // why /readyz says no; empty where it says yes
	WrongCluster     string     `json:"wrong_cluster,omitempty"` // the one that answers instead, hex

	UID uint32 `json:"uid"` // effective, of this process
	GID uint32 `json:"gid"`
	// Promotion is "", "held", "handed over" or "drained".
	Promotion string           `json:"promotion"`
	Listeners []ListenerStatus `json:"listeners"`
}

// Status is the proxy's present state.
func (s *Server) Status() Status {
	st := Status{
		Version: s.Version, PID: os.Getpid(), Mode: "on", DataDir: s.DataDir, Started: s.started,
		PeerURLs: []string{}, Endpoints: []Endpoint{},
		NotReady: append([]string{}, s.notReady()...),
		UID:      uint32(os.Geteuid()), GID: uint32(os.Getegid()),
		Promotion: s.promotion.is(), Listeners: s.listenerStates(),
	}
	if s.Readonly {
		st.Mode = "readonly"
	}
	for _, l := range s.listeners {
		st.ListenClientURLs = append(st.ListenClientURLs, l.url.String())
	}
	var wrong *WrongClusterError
	if errors.As(s.refuse(), &wrong) {
		st.WrongCluster = hexID(wrong.Seen)
	}
	v := s.view.Load()
	if v == nil {
		return st
	}
	switch st.Waiting = v.waiting; {
	case v.waiting != "":
	case v.err != nil:
		st.RefreshError = v.err.Error()
	}
	if !v.have {
		return st
	}
	st.ClusterID, st.ListAt = hexID(v.view.ClusterID), &v.view.At
	st.PeerURLs = append(st.PeerURLs, v.view.PeerURLs...)
	states := map[string]director.State{}
	for _, e := range s.director.States() {
		states[e.URL] = e
	}
	for _, e := range v.used {
		if now := states[e.URL]; e.Used {
			e.Healthy, e.Why, e.Foreign = now.Healthy, now.Reason, ""
			if now.Foreign != 0 {
				e.Foreign = hexID(now.Foreign)
			}
			e.Used = now.Reason != director.ErrLoop.Error()
		}
		st.Endpoints = append(st.Endpoints, e)
	}
	return st
}

// control is the socket by which other commands of ours ask this process.
type control struct {
	path  string
	serve *http.Server
	done  chan struct{}
}

// openControl listens on the control socket. Our lock is held, so a socket that
// is already there is a dead one.
func (s *Server) openControl(ctx context.Context) (*control, error) {
	path := filepath.Join(s.DataDir, stateFolder, controlName)
	if err := os.Remove(path); err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, fmt.Errorf("remove old control socket: %w", err)
	}
	short, done, err := shortPath(path)
	if err != nil {
		return nil, fmt.Errorf("open control socket: %w", err)
	}
	defer done()
	var lc net.ListenConfig
	l, err := lc.Listen(ctx, "unix", short)
	if err != nil {
		return nil, fmt.Errorf("open control socket: %w", err)
	}
	l.(*net.UnixListener).SetUnlinkOnClose(false) // its name may be one of /proc/self/fd
	if err := os.Chmod(path, 0o600); err != nil {
		_ = l.Close()
		return nil, fmt.Errorf("open control socket: %w", err)
	}
	mux := http.NewServeMux()
	mux.HandleFunc("GET "+FiguresPath, func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		_ = json.NewEncoder(w).Encode(StatusAndFigures{s.Status(), s.figures()})
	})
	mux.HandleFunc("GET "+StatusPath, func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		_ = json.NewEncoder(w).Encode(s.Status())
	})
	s.promotionPaths(mux)
	if s.Accept != nil {
		mux.HandleFunc("POST "+AcceptPath, answer(s.acceptCluster))
	}
	for pattern, h := range s.Control {
		mux.HandleFunc(pattern, h)
	}
	c := &control{path: path, done: make(chan struct{})}
	c.serve = &http.Server{
		Handler: mux, ReadHeaderTimeout: controlTimeout,
		BaseContext: func(net.Listener) context.Context { return ctx }, ErrorLog: s.quietLog(),
	}
	go func() {
		defer close(c.done)
		_ = c.serve.Serve(&guarded{l, s.Logger}) // ends with close
	}()
	return c, nil
}

func (c *control) close() {
	_ = c.serve.Close()
	<-c.done
	_ = os.Remove(c.path)
}
