package proxy

import (
	"bufio"
	"context"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"
)

// overUnix asks for /version at a unix socket.
func overUnix(t *testing.T, path string) string {
	t.Helper()
	c, err := dialUnix(t.Context(), path)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	_ = c.SetDeadline(time.Now().Add(5 * time.Second))
	if _, err := io.WriteString(c, "GET /version HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"); err != nil {
		t.Fatal(err)
	}
	res, err := http.ReadResponse(bufio.NewReader(c), nil)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	body, err := io.ReadAll(res.Body)
	if err != nil {
		t.Fatal(err)
	}
	return string(body)
}

func unixEtcd(t *testing.T, path string) {
	t.Helper()
	l, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	srv := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "etcd") })}
	go func() { _ = srv.Serve(l) }()
	t.Cleanup(func() { srv.Close() })
}

func TestUnixHandOver(t *testing.T) {
	dir := t.TempDir()
	path, side := filepath.Join(dir, "client.sock"), filepath.Join(dir, "side.sock")
	member := httpMember(t, "proxied")
	start := func(beside bool) *running {
		return startServer(t, func(s *Server) {
			s.ListenURLs = []url.URL{{Scheme: "unix", Path: path}}
			s.BesideMember = beside
			s.Members = func(context.Context) (View, error) {
				return View{At: time.Now(), Members: []Member{{ID: 1, Name: "m", ClientURLs: []string{member}}}}, nil
			}
		})
	}
	p := start(false)
	is := func(want string) {
		t.Helper()
		waitUntil(t, "the list is there", func() bool { return len(p.Status().Endpoints) == 1 })
		if got := overUnix(t, path); got != want {
			t.Fatalf("%s answered, want %s", got, want)
		}
	}
	post := func(asked string, request any) error {
		return (&ControlClient{Path: ControlPath(p.DataDir)}).Post(t.Context(), asked, request, nil)
	}
	is("proxied")
	if err := post(HoldPath, nil); err != nil {
		t.Fatal(err)
	}
	given := HandOverRequest{Unix: map[string]string{p.ListenURLs[0].String(): side}}
	for name, c := range map[string]struct {
		request HandOverRequest
		want    string
	}{
		"no side path":       {HandOverRequest{}, "not named"},
		"nobody there":       {given, "does not serve"},
		"an unknown URL too": {HandOverRequest{Unix: map[string]string{"unix:///other": side}}, "not named"},
	} {
		if err := post(HandOverPath, c.request); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v", name, err)
		}
	}
	is("proxied")
	unixEtcd(t, side)
	for range 2 { // and back
		for range 2 {
			if err := post(HandOverPath, given); err != nil {
				t.Fatal(err)
			}
			is("etcd")
		}
		if err := post(HoldPath, nil); err != nil {
			t.Fatal(err)
		}
		is("proxied")
	}
	if err := post(HandOverPath, given); err != nil {
		t.Fatal(err)
	}

	// A proxy that starts again takes the path until it is told otherwise.
	if err := p.end(); err != nil {
		t.Fatal(err)
	}
	is("etcd")
	p = start(true)
	is("proxied")
	if err := post(HandOverPath, given); err != nil {
		t.Fatal(err)
	}
	is("etcd")
	if err := p.end(); err != nil {
		t.Fatal(err)
	}
	is("etcd")
	entries, err := os.ReadDir(dir)
	if err != nil || len(entries) != 2 {
		t.Errorf("left behind: %v %v", entries, err)
	}
}

// waitingMember answers at once, but for paths below /wait.
func waitingMember(t *testing.T, leave <-chan struct{}) func(s *Server) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	srv := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if strings.HasPrefix(r.URL.Path, "/wait") {
			select {
			case <-leave:
			case <-r.Context().Done():
			}
		}
		_, _ = io.WriteString(w, "proxied")
	})}
	go func() { _ = srv.Serve(l) }()
	t.Cleanup(func() { srv.Close() })
	return func(s *Server) {
		s.Members = func(context.Context) (View, error) {
			return View{At: time.Now(), Members: []Member{{ID: 1, Name: "m", ClientURLs: []string{"http://" + l.Addr().String()}}}}, nil
		}
	}
}

func isDraining(p *running) func() bool {
	return func() bool {
		p.conns.mu.Lock()
		defer p.conns.mu.Unlock()
		return p.conns.draining
	}
}

// While it drains, who still comes is served, once. Then it idles until a signal.
func TestDrainByRequest(t *testing.T) {
	leave := make(chan struct{})
	p := startServer(t, waitingMember(t, leave))
	waitUntil(t, "the list is there", func() bool { return len(p.Status().Endpoints) == 1 })
	client := &ControlClient{Path: ControlPath(p.DataDir)}
	if err := client.Post(t.Context(), HoldPath, nil, nil); err != nil {
		t.Fatal(err)
	}
	slow := make(chan string, 1)
	go func() {
		c := http.Client{Timeout: 20 * time.Second, Transport: &http.Transport{}}
		defer c.CloseIdleConnections()
		res, err := c.Get("http://" + p.addr + "/wait")
		if err != nil {
			slow <- err.Error()
			return
		}
		defer res.Body.Close()
		body, _ := io.ReadAll(res.Body)
		slow <- string(body)
	}()
	waitUntil(t, "the request is under way", func() bool { return p.h1stats.Inflight.Load() == 1 })
	mute, err := net.Dial("tcp", p.addr) // never says a word
	if err != nil {
		t.Fatal(err)
	}
	defer mute.Close()
	answers := make(chan DrainAnswer, 2)
	for range 2 {
		go func() {
			var a DrainAnswer
			if err := client.Post(t.Context(), DrainPath, DrainRequest{Timeout: "20s"}, &a); err != nil {
				t.Error(err)
			}
			answers <- a
		}()
	}
	waitUntil(t, "it drains", isDraining(p))
	// The listeners are being closed: an undo must not believe that they stay.
	for _, path := range []string{HoldPath, ReleasePath, HandOverPath} {
		if err := client.Post(t.Context(), path, nil, nil); err == nil || !strings.Contains(err.Error(), "drained") {
			t.Errorf("%s during the drain: %v", path, err)
		}
	}
	for range 3 {
		c := http.Client{Timeout: 5 * time.Second}
		res, err := c.Get("http://" + p.addr + "/version")
		if err != nil {
			t.Fatal(err)
		}
		res.Body.Close()
		if res.StatusCode != 200 || !res.Close {
			t.Fatalf("%d, close %v", res.StatusCode, res.Close)
		}
	}
	close(leave)
	if got := <-slow; got != "proxied" {
		t.Errorf("the request under way got %q", got)
	}
	first, second := <-answers, <-answers
	if first != second || first.Cut+first.Refused != 0 {
		t.Errorf("drained: %+v, %+v", first, second)
	}
	var st Status
	if err := client.Get(t.Context(), "/v1/status", nil, &st); err != nil || st.Promotion != stageDrained {
		t.Errorf("status %q, %v", st.Promotion, err)
	}
	if c, err := net.Dial("tcp", p.addr); err == nil {
		c.Close()
		t.Error("a drained proxy still listens")
	}
	for _, path := range []string{HoldPath, ReleasePath, HandOverPath} {
		if err := client.Post(t.Context(), path, nil, nil); err == nil || !strings.Contains(err.Error(), "drained") {
			t.Errorf("%s: %v", path, err)
		}
	}
	if err := p.end(); err != nil {
		t.Error(err)
	}
}

// What is still open at the drain limit is counted.
func TestDrainCounts(t *testing.T) {
	leave := make(chan struct{})
	defer close(leave)
	p := startServer(t, waitingMember(t, leave))
	waitUntil(t, "the list is there", func() bool { return len(p.Status().Endpoints) == 1 })
	var clients sync.WaitGroup
	for _, path := range []string{"/wait", "/wait?wait=true", "/wait?wait=true&recursive=true"} {
		clients.Go(func() {
			if res, err := http.Get("http://" + p.addr + path); err == nil {
				res.Body.Close()
				t.Errorf("%s was answered %d", path, res.StatusCode)
			}
		})
	}
	waitUntil(t, "they are under way", func() bool { return p.h1stats.Inflight.Load() == 3 })
	var a DrainAnswer
	if err := (&ControlClient{Path: ControlPath(p.DataDir)}).Post(t.Context(), DrainPath, DrainRequest{Timeout: "20ms"}, &a); err != nil {
		t.Fatal(err)
	}
	clients.Wait()
	if a.Cut != 3 || a.CutWaits != 2 || a.CutStreams != 0 || a.Refused != 0 || a.TookMS < 20 {
		t.Errorf("got %+v", a)
	}
}

// The member that is to take our port is no mistake while that is under way.
func TestOwnAddressDuringAPromotion(t *testing.T) {
	var log safeLog
	member := httpMember(t, "ok")
	p := startServer(t, func(s *Server) {
		s.Logger = slog.New(slog.NewTextHandler(&log, nil))
		own := s.ListenURLs[0].String()
		s.Members = func(context.Context) (View, error) {
			return View{At: time.Now(), Members: []Member{
				{ID: 1, Name: "m", ClientURLs: []string{member}}, {ID: 2, Name: "new", ClientURLs: []string{own}},
			}}, nil
		}
	})
	waitUntil(t, "it warns", func() bool { return log.count("level=WARN msg=\"member advertises this proxy") > 0 })
	if err := (&ControlClient{Path: ControlPath(p.DataDir)}).Post(t.Context(), HoldPath, nil, nil); err != nil {
		t.Fatal(err)
	}
	waitUntil(t, "it tells", func() bool { return log.count("level=INFO msg=\"new member advertises this port") > 0 })
	warned := log.count("level=WARN")
	at := p.Status().ListAt
	waitUntil(t, "some more lists have come", func() bool { return p.Status().ListAt.Sub(*at) > 100*time.Millisecond })
	if n := log.count("new member advertises"); n != 1 || log.count("level=WARN") != warned {
		t.Errorf("told %d times, %d warnings before and %d after", n, warned, log.count("level=WARN"))
	}
	if e := p.Status().Endpoints; len(e) != 2 || e[1].Used {
		t.Errorf("endpoints %+v", e)
	}
}

// safeLog keeps what is logged.
type safeLog struct {
	mu   sync.Mutex
	text strings.Builder
}

func (l *safeLog) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.Write(p)
}

func (l *safeLog) count(what string) int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return strings.Count(l.text.String(), what)
}

// A path that names nothing is a bad request, and one that is asked wrongly too.
func TestPromotionRequests(t *testing.T) {
	p := startServer(t, nil)
	client := &ControlClient{Path: ControlPath(p.DataDir)}
	if err := client.Post(t.Context(), DrainPath, DrainRequest{Timeout: "soon"}, nil); err == nil || !strings.Contains(err.Error(), "write it as 5s") {
		t.Errorf("got %v", err)
	}
	if err := client.Post(t.Context(), HandOverPath, "text", nil); err == nil || !strings.Contains(err.Error(), "400") {
		t.Errorf("got %v", err)
	}
	st := p.Status()
	if st.UID != uint32(os.Geteuid()) || st.GID != uint32(os.Getegid()) || st.Promotion != "" || len(st.Listeners) != 1 {
		t.Errorf("got %+v", st)
	}
}
