package proxy

import (
	"context"
	"io"
	"log/slog"
	"net"
	"strings"
	"sync/atomic"
	"testing"
	"time"
)

// follows makes a proxy's list one member with one client URL, of a cluster whose
// ID is asked on each new connection.
func follows(s *Server, log *safeLog, url *atomic.Value) {
	s.Logger = slog.New(slog.NewTextHandler(log, nil))
	s.Members = func(context.Context) (View, error) {
		return View{ClusterID: 7, At: time.Now(), Members: []Member{{ID: 1, Name: "m", ClientURLs: []string{url.Load().(string)}}}}, nil
	}
}

// Two proxies that lead to each other do not wait for each other's question which
// cluster they follow: it is answered at once, and the request comes back.
func TestTwoProxiesLeadToEachOther(t *testing.T) {
	var log safeLog
	var one, two atomic.Value
	one.Store("http://127.0.0.1:1")
	two.Store("http://127.0.0.1:1")
	p := startServer(t, func(s *Server) { follows(s, &log, &one) })
	q := startServer(t, func(s *Server) { follows(s, &safeLog{}, &two) })
	one.Store("http://" + q.addr)
	two.Store("http://" + p.addr)
	waitUntil(t, "each has the other", func() bool { return uses(p, q.addr) && uses(q, p.addr) })
	for range 5 {
		began := time.Now()
		if status, body := get(t, "http://"+p.addr+"/version"); status != 508 || !strings.Contains(body, "m http://"+q.addr+": it leads back to this proxy") {
			t.Fatalf("got %d %s", status, body)
		}
		if took := time.Since(began); took > 2*time.Second {
			t.Fatalf("it took %v", took)
		}
	}
	if n := log.count(`level=WARN msg="endpoint leads back to this proxy, not used" member=m url=http://` + q.addr); n != 1 {
		t.Errorf("%d warnings", n)
	}
	if e := p.Status().Endpoints[0]; e.Used || e.Healthy || e.Why != "it leads back to this proxy" {
		t.Errorf("%+v", e)
	}
}

func uses(p *running, addr string) bool {
	e := p.Status().Endpoints
	return len(e) == 1 && e[0].URL == "http://"+addr
}

// Where something lies between that is no proxy of ours, the question itself comes
// back.
func TestForwardedToItself(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	var log safeLog
	var url atomic.Value
	url.Store("http://" + l.Addr().String())
	p := startServer(t, func(s *Server) { follows(s, &log, &url) })
	go func() {
		for {
			in, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				defer in.Close()
				out, err := net.Dial("tcp", p.addr)
				if err != nil {
					return
				}
				defer out.Close()
				go func() { _, _ = io.Copy(out, in); _ = out.Close() }()
				_, _ = io.Copy(in, out)
			}()
		}
	}()
	waitUntil(t, "it has a list", func() bool { return uses(p, l.Addr().String()) })
	for range 5 {
		if status, body := get(t, "http://"+p.addr+"/version"); status != 508 {
			t.Fatalf("got %d %s", status, body)
		}
	}
	if n := log.count(`level=WARN msg="endpoint leads back to this proxy, not used" member=m url=` + url.Load().(string)); n != 1 {
		t.Errorf("%d warnings", n)
	}
}
