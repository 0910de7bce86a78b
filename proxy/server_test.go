package proxy

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// running is a proxy in this process.
type running struct {
	*Server
	addr string
	end  func() error
}

// startServer runs a proxy that learns its members from members. Its address is
// found by binding it before.
func startServer(t *testing.T, change func(s *Server)) *running {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	addr := l.Addr().String()
	l.Close()
	var ready sync.Once
	up := make(chan struct{})
	s := &Server{
		DataDir: t.TempDir(), ListenURLs: []url.URL{{Scheme: "http", Host: addr}},
		Members:         func(context.Context) (View, error) { return View{}, errors.New("nobody asked") },
		RefreshInterval: 20 * time.Millisecond, DialTimeout: time.Second, DrainTimeout: time.Second,
		Version: "test", Logger: slog.New(slog.DiscardHandler),
		Notify: func(state string) {
			if strings.HasPrefix(state, "READY=1") {
				ready.Do(func() { close(up) })
			}
		},
	}
	if change != nil {
		change(s)
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- s.Run(ctx, t.Context()) }()
	var once sync.Once
	var result error
	end := func() error {
		once.Do(func() { cancel(); result = <-done })
		return result
	}
	t.Cleanup(func() { _ = end() })
	select {
	case <-up:
	case err := <-done:
		t.Fatalf("the proxy ended: %v", err)
	case <-time.After(10 * time.Second):
		t.Fatal("the proxy is not ready after 10 s")
	}
	return &running{s, addr, end}
}

func waitUntil(t *testing.T, what string, so func() bool) {
	t.Helper()
	for limit := time.Now().Add(10 * time.Second); !so(); time.Sleep(time.Millisecond) { // between two looks
		if time.Now().After(limit) {
			t.Fatalf("not so after 10 s: %s", what)
		}
	}
}

func get(t *testing.T, url string) (int, string) {
	t.Helper()
	c := http.Client{Transport: &http.Transport{DisableKeepAlives: true}, Timeout: 5 * time.Second}
	res, err := c.Get(url)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	body, err := io.ReadAll(res.Body)
	if err != nil {
		t.Fatal(err)
	}
	return res.StatusCode, string(body)
}

// It listens at once, says 503 and why while there is no list, keeps the last
// list when a refresh fails, and says how old it is.
func TestListStays(t *testing.T) {
	member := httpMember(t, "a member")
	var fail atomic.Bool
	fail.Store(true)
	p := startServer(t, func(s *Server) {
		s.Members = func(context.Context) (View, error) {
			if fail.Load() {
				return View{}, errors.New("all peers are away")
			}
			return View{At: time.Now(), Members: []Member{{ID: 1, Name: "m", ClientURLs: []string{member}}}}, nil
		}
	})
	waitUntil(t, "the first refresh failed", func() bool { return p.Status().RefreshError == "all peers are away" })
	if status, body := get(t, "http://"+p.addr+"/version"); status != 503 || !strings.Contains(body, "all peers are away") {
		t.Fatalf("got %d %s", status, body)
	}
	fail.Store(false)
	waitUntil(t, "the list is there", func() bool { return p.Status().ListAt != nil })
	fail.Store(true)
	waitUntil(t, "a refresh has failed again", func() bool { return p.Status().RefreshError != "" })
	if status, body := get(t, "http://"+p.addr+"/version"); status != 200 || body != "a member" {
		t.Fatalf("got %d %s", status, body)
	}
	if p.Status().ListAt == nil {
		t.Fatal("the status does not say when the list was got")
	}
}

func httpMember(t *testing.T, answer string) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	srv := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, answer) })}
	go func() { _ = srv.Serve(l) }()
	t.Cleanup(func() { srv.Close() })
	return "http://" + l.Addr().String()
}

// A member that has no client URL yet is looked for soon, but less and less
// often: it may never start.
func TestLooks(t *testing.T) {
	const s = time.Second
	m := func(id uint64, urls ...string) Member { return Member{ID: id, ClientURLs: urls} }
	served := []Member{m(1, "http://m1"), m(2, "http://m2")}
	coming := []Member{m(1, "http://m1"), m(2)}
	another := []Member{m(1, "http://m1"), m(2), m(3)}
	l := looks{interval: 30 * s}
	for i, look := range []struct {
		endpoints int
		members   []Member
		failed    bool
		want      time.Duration
	}{
		{0, nil, true, s},
		{0, nil, true, s},
		{1, served, false, 30 * s},
		{1, coming, false, s},
		{1, coming, false, 2 * s},
		{0, coming, false, s},
		{0, coming, false, s},
		{1, coming, false, s},
		{1, coming, false, 2 * s},
		{1, coming, true, 30 * s}, // law 3: each second only while there are none
		{1, coming, false, 4 * s},
		{1, coming, false, 8 * s},
		{1, coming, false, 16 * s},
		{1, coming, false, 30 * s},
		{1, coming, false, 30 * s},
		{1, another, false, s},
		{1, another, false, 2 * s},
		{1, coming, false, 4 * s},
		{1, served, false, 30 * s},
		{1, served, true, 30 * s},
		{1, coming, false, s},
	} {
		if got := l.next(look.endpoints, look.members, look.failed); got != look.want {
			t.Errorf("look %d: the next after %v, want %v", i+1, got, look.want)
		}
	}
	l = looks{interval: s / 50}
	for range 3 {
		if got := l.next(1, coming, false); got != s/50 {
			t.Errorf("the next after %v, want the interval", got)
		}
	}

	var asked atomic.Int32
	p := startServer(t, func(s *Server) {
		s.RefreshInterval = time.Hour
		s.Members = func(context.Context) (View, error) {
			if asked.Add(1) == 1 {
				return View{At: time.Now(), Members: coming}, nil
			}
			return View{At: time.Now(), Members: served}, nil
		}
	})
	waitUntil(t, "both members are used", func() bool { return p.director.Size() == 2 })
}

// Learners, unstarted members and the proxy's own address are no endpoints.
func TestEndpoints(t *testing.T) {
	member := httpMember(t, "ok")
	var own atomic.Value
	var log safeLog
	own.Store("")
	p := startServer(t, func(s *Server) {
		s.Logger = slog.New(slog.NewTextHandler(&log, nil))
		_, port, _ := net.SplitHostPort(s.ListenURLs[0].Host)
		own.Store("http://localhost:" + port)
		s.Members = func(context.Context) (View, error) {
			return View{At: time.Now(), Members: []Member{
				{ID: 1, Name: "good", ClientURLs: []string{member}},
				{ID: 2, Name: "learner", ClientURLs: []string{"http://127.0.0.1:1"}, Learner: true},
				{ID: 3},
				{ID: 4, Name: "loop", ClientURLs: []string{own.Load().(string)}},
			}}, nil
		}
	})
	waitUntil(t, "the list is there", func() bool { return len(p.Status().Endpoints) == 4 })
	want := map[string]string{"good": "", "learner": "learner", "": "unstarted", "loop": "it is this proxy's own address"}
	for _, e := range p.Status().Endpoints {
		if e.Used != (want[e.MemberName] == "") || e.Why != want[e.MemberName] {
			t.Errorf("%s: used %v, why %q", e.MemberName, e.Used, e.Why)
		}
	}
	// It is said once for as long as it is so, and again when it comes back.
	refreshed := func() {
		at := p.Status().ListAt
		waitUntil(t, "some more lists have come", func() bool { return p.Status().ListAt.Sub(*at) > 100*time.Millisecond })
	}
	refreshed()
	warning := `level=WARN msg="member advertises this proxy, endpoint dropped" member=loop url=` + own.Load().(string)
	if n := log.count(warning); n != 1 {
		t.Errorf("%d warnings", n)
	}
	mistake := own.Swap("http://127.0.0.1:1")
	refreshed()
	own.Store(mistake)
	refreshed()
	if n := log.count(warning); n != 2 {
		t.Errorf("%d warnings when it came back", n)
	}
	status, body := get(t, "http://"+p.addr+"/v2/config/local/proxy")
	var local struct{ Endpoints []string }
	if err := json.Unmarshal([]byte(body), &local); err != nil || status != 200 || len(local.Endpoints) != 1 || local.Endpoints[0] != member {
		t.Fatalf("got %d %s", status, body)
	}
}

func TestRefusals(t *testing.T) {
	first := startServer(t, nil)
	start := func(change func(s *Server)) error {
		s := &Server{
			DataDir: filepath.Join(t.TempDir(), "data"), ListenURLs: []url.URL{{Scheme: "http", Host: "127.0.0.1:0"}},
			Logger: slog.New(slog.DiscardHandler),
		}
		change(s)
		err := s.Run(t.Context(), t.Context())
		if _, statErr := os.Stat(filepath.Join(s.DataDir, stateFolder, "control.sock")); statErr == nil && s.DataDir != first.DataDir {
			t.Error("a refused start left a control socket")
		}
		return err
	}
	t.Run("same data directory", func(t *testing.T) {
		var locked *LockedError
		if err := start(func(s *Server) { s.DataDir = first.DataDir }); !errors.As(err, &locked) || locked.PID != os.Getpid() {
			t.Fatalf("got %v", err)
		}
	})
	t.Run("same port", func(t *testing.T) {
		var listen *ListenError
		dir := filepath.Join(t.TempDir(), "data")
		err := start(func(s *Server) { s.DataDir = dir; s.ListenURLs[0].Host = first.addr })
		if !errors.As(err, &listen) || !listen.InUse() {
			t.Fatalf("got %v", err)
		}
		if _, err := os.Stat(dir); !errors.Is(err, os.ErrNotExist) {
			t.Fatalf("a refused start made the data directory: %v", err)
		}
	})
	t.Run("a member's directory", func(t *testing.T) {
		dir := t.TempDir()
		wal := filepath.Join(dir, "member", "wal")
		if err := os.MkdirAll(wal, 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(wal, "0.wal"), nil, 0o600); err != nil {
			t.Fatal(err)
		}
		var member *MemberDataError
		if err := start(func(s *Server) { s.DataDir = dir }); !errors.As(err, &member) {
			t.Fatalf("got %v", err)
		}
	})
	t.Run("a socket path with a file on it", func(t *testing.T) {
		path := filepath.Join(t.TempDir(), "file")
		if err := os.WriteFile(path, []byte("mine"), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := start(func(s *Server) { s.ListenURLs = []url.URL{{Scheme: "unix", Path: path}} }); err == nil {
			t.Fatal("started")
		}
		if body, err := os.ReadFile(path); err != nil || string(body) != "mine" {
			t.Fatalf("the file is %q, %v", body, err)
		}
	})
}

// A path too long for a socket is no obstacle on Linux, and the registration
// leads to it.
func TestControlAndRegistration(t *testing.T) {
	run := t.TempDir()
	dir := filepath.Join(t.TempDir(), strings.Repeat("d", 100), strings.Repeat("e", 100))
	p := startServer(t, func(s *Server) { s.DataDir, s.RunDir = dir, run })
	found := Registered(t.Context(), []string{filepath.Join(run, "none"), run})
	if len(found) != 1 || found[0].DataDir != dir || found[0].PID != os.Getpid() || found[0].Forbidden {
		t.Fatalf("registered: %+v", found)
	}
	var st Status
	if err := (&ControlClient{Path: found[0].Control}).Get(t.Context(), "/v1/status", nil, &st); err != nil || st.DataDir != dir || st.Mode != "on" {
		t.Fatalf("status %+v, %v", st, err)
	}
	if info, err := os.Stat(found[0].Control); err != nil || info.Mode().Perm() != 0o600 {
		t.Fatalf("control socket: %v %v", info, err)
	}
	// What a killed proxy leaves is passed over.
	stale := `{"pid":1,"data_dir":"/gone","control":"` + filepath.Join(run, "gone.sock") + `"}`
	if err := os.WriteFile(filepath.Join(run, "stale.json"), []byte(stale), 0o600); err != nil {
		t.Fatal(err)
	}
	if found := Registered(t.Context(), []string{run}); len(found) != 1 {
		t.Fatalf("registered: %+v", found)
	}
	if err := p.end(); err != nil {
		t.Fatal(err)
	}
	if found := Registered(t.Context(), []string{run}); len(found) != 0 {
		t.Fatalf("still registered: %+v", found)
	}
	if _, err := os.Stat(found[0].Control); !errors.Is(err, os.ErrNotExist) {
		t.Fatalf("control socket stays: %v", err)
	}
}

func TestSniff(t *testing.T) {
	for _, tc := range []struct {
		name, sent string
		two        bool
	}{
		{"http/1.1", "GET / HTTP/1.1\r\nHost: x\r\n\r\n", false},
		{"http/2", "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\nmore", true},
		{"like http/2 at first", "PRI * HTTP/1.1\r\nHost: x\r\n\r\n", false},
		{"put", "PUT /v2/keys/a HTTP/1.1\r\n", false},
	} {
		t.Run(tc.name, func(t *testing.T) {
			near, far := net.Pipe()
			defer near.Close()
			go func() {
				for i := range tc.sent { // byte by byte, the worst case
					if _, err := near.Write([]byte{tc.sent[i]}); err != nil {
						return
					}
				}
			}()
			first, two, err := sniff(far, DefaultHeaderTimeout)
			if err != nil || two != tc.two || !strings.HasPrefix(tc.sent, string(first)) {
				t.Fatalf("%q, %v, %v", first, two, err)
			}
			far.Close()
		})
	}
}
