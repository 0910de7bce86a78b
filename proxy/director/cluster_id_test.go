package director

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"go.etcd.io/etcd/api/v3/etcdserverpb"
	"google.golang.org/grpc"
	"google.golang.org/grpc/metadata"
)

// idServer is a member that answers watches with a cluster ID.
type idServer struct {
	etcdserverpb.UnimplementedWatchServer
	cluster atomic.Uint64
	asked   atomic.Int64
	via     atomic.Value // of the last watch
	hold    chan struct{}
}

func (s *idServer) Watch(w etcdserverpb.Watch_WatchServer) error {
	s.asked.Add(1)
	md, _ := metadata.FromIncomingContext(w.Context())
	s.via.Store(strings.Join(md.Get("via"), ","))
	req, err := w.Recv()
	if err != nil {
		return err
	}
	if c := req.GetCreateRequest(); string(c.GetKey()) <= string(c.GetRangeEnd()) {
		return errors.New("the range is not empty")
	}
	if s.hold != nil {
		select {
		case <-s.hold:
		case <-w.Context().Done():
			return w.Context().Err()
		}
	}
	return w.Send(&etcdserverpb.WatchResponse{Header: &etcdserverpb.ResponseHeader{ClusterId: s.cluster.Load()}, Created: true, Canceled: true})
}

func startIDServer(t *testing.T, cluster uint64) (*idServer, string) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s := &idServer{}
	s.cluster.Store(cluster)
	g := grpc.NewServer()
	etcdserverpb.RegisterWatchServer(g, s)
	go func() { _ = g.Serve(l) }()
	t.Cleanup(g.Stop)
	return s, "http://" + l.Addr().String()
}

// startGateway is a listener without gRPC, as --listen-client-http-urls makes it.
func startGateway(t *testing.T, answer string) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path != "/v3/watch" || r.Method != http.MethodPost {
			http.NotFound(w, r)
			return
		}
		fmt.Fprintln(w, answer)
		w.(http.Flusher).Flush()
		<-r.Context().Done() // as a watch: it does not end
	})}
	go func() { _ = s.Serve(l) }()
	t.Cleanup(func() { _ = s.Close() })
	return "http://" + l.Addr().String()
}

func TestDialVerifiesTheCluster(t *testing.T) {
	_, right := startIDServer(t, 7)
	_, wrong := startIDServer(t, 8)
	_, silent := startIDServer(t, 0)
	for name, tc := range map[string]struct {
		url     string
		pin     uint64
		foreign bool
		err     string
	}{
		"not pinned":                       {url: wrong},
		"the cluster that is followed":     {url: right, pin: 7},
		"another one":                      {url: wrong, pin: 7, foreign: true, err: "verify " + wrong + ": a member of cluster 0000000000000008 answers, but cluster 0000000000000007 is followed"},
		"one that does not say":            {url: silent, pin: 7, err: "which cluster it serves is not known: the answer has no cluster ID"},
		"the JSON gateway alone":           {url: startGateway(t, `{"result":{"header":{"cluster_id":"7"},"created":true}}`), pin: 7},
		"the JSON gateway of another one":  {url: startGateway(t, `{"result":{"header":{"cluster_id":"9"},"created":true}}`), pin: 7, foreign: true, err: "cluster 0000000000000009 answers"},
		"something else that speaks HTTP":  {url: startGateway(t, `hello`), pin: 7, err: "is not known"},
		"the gateway of what is no member": {url: startGateway(t, `{}`), pin: 7, err: "is not known"},
	} {
		t.Run(name, func(t *testing.T) {
			d := newDirector(t, nil)
			d.Update([]Member{{ClusterID: tc.pin, ID: 1, Name: "m", ClientURLs: []string{tc.url}}})
			e, err := d.choose(nil)
			if err != nil {
				t.Fatal(err)
			}
			c, err := e.Dial(t.Context(), "http/1.1")
			if err == nil {
				_ = c.Close()
			}
			var foreign *ForeignError
			var de *DialError
			switch {
			case (err != nil) != (tc.err != "") || err != nil && !strings.Contains(err.Error(), tc.err):
				t.Fatalf("got %v, want %q", err, tc.err)
			case err != nil && !errors.As(err, &de):
				t.Fatalf("%v is no DialError", err)
			case errors.As(err, &foreign) != tc.foreign || e.Usable() == tc.foreign || (d.Foreign() != nil) != tc.foreign:
				t.Fatalf("got %v, usable %v, %v", err, e.Usable(), d.Foreign())
			}
		})
	}
}

// TestForeignComesBack: when the cluster that is followed answers again, and when
// another one is followed.
func TestForeignComesBack(t *testing.T) {
	s, url := startIDServer(t, 8)
	d := newDirector(t, nil)
	d.Via = "2 etcdops-x"
	list := func(pin uint64) *Endpoint {
		d.Update([]Member{{ClusterID: pin, ID: 1, Name: "m", ClientURLs: []string{url}}})
		e, err := d.choose(nil)
		if err != nil {
			t.Fatal(err)
		}
		return e
	}
	e := list(7)
	if _, err := e.Dial(t.Context(), "h2"); err == nil {
		t.Fatal("connected")
	}
	if states := d.States(); states[0].Healthy || states[0].Foreign != 8 || !strings.Contains(states[0].Reason, "cluster") {
		t.Fatalf("got %+v", states[0])
	}
	if via := s.via.Load(); via != "2 etcdops-x" {
		t.Errorf("the question bears %q", via)
	}
	s.cluster.Store(7)
	eventually(t, "the probe has seen it", func() bool { return e.Usable() && d.Foreign() == nil })
	s.cluster.Store(8)
	d.Recheck()
	eventually(t, "the recheck has seen it", func() bool { return !e.Usable() && d.Foreign() != nil })
	if list(8) == e || d.Foreign() != nil {
		t.Error("the endpoint stays that of the cluster before")
	}
}

// TestOneQuestionForMany: connections that are made while a question is under way
// share the next one, and none takes an answer to a question that was put before it.
func TestOneQuestionForMany(t *testing.T) {
	s, url := startIDServer(t, 7)
	s.hold = make(chan struct{})
	d := newDirector(t, nil)
	d.Update([]Member{{ClusterID: 7, ID: 1, Name: "m", ClientURLs: []string{url}}})
	e, err := d.choose(nil)
	if err != nil {
		t.Fatal(err)
	}
	first := make(chan error, 1)
	go func() { first <- e.verify(t.Context(), time.Now()) }()
	eventually(t, "the first question is put", func() bool { return s.asked.Load() > 0 })
	before := s.asked.Load()
	const many = 50
	errs := make(chan error, many)
	for range many {
		go func() { errs <- e.verify(t.Context(), time.Now()) }()
	}
	gone, cancel := context.WithCancel(t.Context())
	cancel()
	if err := e.verify(gone, time.Now()); !errors.Is(err, context.Canceled) {
		t.Errorf("who left waits on: %v", err)
	}
	close(s.hold)
	for range many {
		if err := <-errs; err != nil {
			t.Fatal(err)
		}
	}
	if err := <-first; err != nil {
		t.Fatal(err)
	}
	if n := s.asked.Load() - before; n < 1 || n > 5 {
		t.Errorf("%d questions for %d connections", n, many)
	}
}
