package proxy

import (
	"context"
	"crypto/tls"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// listenShared listens as etcd does with --socket-reuse-port (etcd 3.5,
// client/pkg/transport, sockopt_unix.go).
func listenShared(t *testing.T, address string) net.Listener {
	t.Helper()
	lc := net.ListenConfig{Control: func(_, _ string, c syscall.RawConn) error {
		return c.Control(func(fd uintptr) { _ = unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_REUSEPORT, 1) })
	}}
	l, err := lc.Listen(t.Context(), "tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	return l
}

// startShared serves "etcd" beside the proxy.
func startShared(t *testing.T, address string, secure *tls.Config) (stop func()) {
	t.Helper()
	l := listenShared(t, address)
	if secure != nil {
		l = tls.NewListener(l, secure)
	}
	return serveEtcd(t, l)
}

func serveEtcd(t *testing.T, l net.Listener) (stop func()) {
	srv := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "etcd") })}
	srv.ErrorLog = slog.NewLogLogger(slog.DiscardHandler, slog.LevelError)
	done := make(chan struct{})
	go func() { defer close(done); _ = srv.Serve(l) }()
	var once sync.Once
	stop = func() { once.Do(func() { srv.Close(); <-done }) }
	t.Cleanup(stop)
	return stop
}

// silentShared accepts beside the proxy and says nothing.
func silentShared(t *testing.T, address string) { t.Helper(); _ = listenShared(t, address) }

// startFor runs a proxy of a cluster whose one member answers "proxied".
func startFor(t *testing.T, change func(s *Server)) *running {
	t.Helper()
	member := httpMember(t, "proxied")
	p := startServer(t, func(s *Server) {
		s.Members = func(context.Context) (View, error) {
			return View{At: time.Now(), Members: []Member{{ID: 1, Name: "m", ClientURLs: []string{member}}}}, nil
		}
		if change != nil {
			change(s)
		}
	})
	p.addr = p.ListenURLs[0].Host
	waitUntil(t, "the list is there", func() bool { return p.Status().ListAt != nil })
	return p
}

func ask(t *testing.T, p *running, path string, asked, v any) error {
	t.Helper()
	return (&ControlClient{Path: ControlPath(p.DataDir)}).Post(t.Context(), path, asked, v)
}

func mustAsk(t *testing.T, p *running, path string, asked, v any) {
	t.Helper()
	if err := ask(t, p, path, asked, v); err != nil {
		t.Fatalf("%s: %v", path, err)
	}
}

// reach checks who answers many new connections.
func reach(t *testing.T, addr, want string) {
	t.Helper()
	for range 30 {
		if _, body := get(t, "http://"+addr+"/version"); body != want {
			t.Fatalf("%s answered, want %s", body, want)
		}
	}
}

// Nobody who joins the port gets a client, whoever comes, goes and comes again.
func TestPortStaysOurs(t *testing.T) {
	p := startFor(t, nil)
	stop := startShared(t, p.addr, nil)
	reach(t, p.addr, "proxied") // without a hold too
	mustAsk(t, p, HoldPath, nil, nil)
	mustAsk(t, p, HoldPath, nil, nil)
	reach(t, p.addr, "proxied")
	stop()
	reach(t, p.addr, "proxied")
	stop = startShared(t, p.addr, nil)
	reach(t, p.addr, "proxied")

	// A new proxy is the second in the group, and etcd's program stays.
	killed := p.ListenURLs
	if err := attach(p.listeners[0].Listener, 1); err != nil {
		t.Fatal(err)
	}
	if err := p.end(); err != nil {
		t.Fatal(err)
	}
	reach(t, p.addr, "etcd")
	dir := t.TempDir()
	wal := filepath.Join(dir, "member", "wal")
	if err := os.MkdirAll(wal, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(wal, "0.wal"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	p = startFor(t, func(s *Server) { s.ListenURLs, s.BesideMember, s.DataDir = killed, true, dir })
	if st := p.Status(); st.Promotion != stageHeld {
		t.Fatalf("the stage is %q", st.Promotion)
	}
	reach(t, p.addr, "proxied")

	// When etcd has gone, the proxy is the first again, and stays the one that
	// is reached when etcd comes back: at once after a hold, and soon without.
	stop()
	mustAsk(t, p, HoldPath, nil, nil)
	stop = startShared(t, p.addr, nil)
	reach(t, p.addr, "proxied")
	stop()
	p.promotion.mu.Lock() // the guard may not look meanwhile
	if err := attach(p.listeners[0].Listener, 1); err != nil {
		t.Fatal(err)
	}
	p.listeners[0].own = 1
	p.promotion.mu.Unlock()
	waitUntil(t, "the guard has seen that nobody else is there", func() bool {
		p.promotion.mu.Lock()
		defer p.promotion.mu.Unlock()
		return p.listeners[0].own == 0
	})
	stop = startShared(t, p.addr, nil)
	reach(t, p.addr, "proxied")

	// Where the program sends all to etcd, the guard takes it back.
	best := time.Minute
	for try := 0; try < 3 && best > time.Second; try++ { // a busy machine may stand still once
		p.promotion.mu.Lock()
		if err := attach(p.listeners[0].Listener, 1); err != nil {
			t.Fatal(err)
		}
		p.promotion.mu.Unlock()
		start := time.Now()
		waitUntil(t, "the guard has the port again", func() bool {
			_, body := get(t, "http://"+p.addr+"/version")
			return body == "proxied"
		})
		best = min(best, time.Since(start))
	}
	if best > time.Second {
		t.Errorf("took %v", best)
	}
	reach(t, p.addr, "proxied")
	stop()
	reach(t, p.addr, "proxied")
}

func TestHandOver(t *testing.T) {
	ts := httptest.NewTLSServer(nil)
	defer ts.Close()
	for name, secure := range map[string]*tls.Config{"http": nil, "https": {Certificates: ts.TLS.Certificates, ClientAuth: tls.RequireAnyClientCert}} {
		t.Run(name, func(t *testing.T) {
			var held, released int
			p := startFor(t, func(s *Server) {
				s.Hold, s.Release = func() { held++ }, func() { released++ }
				if secure != nil {
					s.ListenURLs[0].Scheme, s.ListenTLS = "https", &tls.Config{Certificates: ts.TLS.Certificates}
				}
			})
			var refused *RefusedError
			if err := ask(t, p, HandOverPath, nil, nil); !errors.As(err, &refused) || !strings.Contains(err.Error(), "nothing is held") {
				t.Fatalf("without a hold: %v", err)
			}
			var a HoldAnswer
			mustAsk(t, p, HoldPath, nil, &a)
			if len(a.Listeners) != 1 || !a.Listeners[0].HandOver || a.Listeners[0].Network != "tcp" || a.Listeners[0].Address != p.addr {
				t.Fatalf("got %+v", a)
			}
			if err := ask(t, p, HandOverPath, nil, nil); !errors.As(err, &refused) || !strings.Contains(err.Error(), "nobody else listens") {
				t.Fatalf("with nobody there: %v", err)
			}
			startShared(t, p.addr, secure)
			for range 2 {
				mustAsk(t, p, HandOverPath, nil, nil)
				if p.Status().Promotion != stageHandedOver || p.conns.count() != 0 {
					t.Fatalf("got %+v", p.Status())
				}
			}
			if secure == nil {
				reach(t, p.addr, "etcd")
			} else if c, err := tls.Dial("tcp", p.addr, &tls.Config{InsecureSkipVerify: true}); err == nil {
				_ = c.SetDeadline(time.Now().Add(5 * time.Second))
				if _, err := c.Read(make([]byte, 1)); err == nil || !strings.Contains(err.Error(), "certificate required") {
					t.Errorf("etcd asks for a certificate, but: %v", err)
				}
				c.Close()
			}
			mustAsk(t, p, ReleasePath, nil, nil)
			mustAsk(t, p, ReleasePath, nil, nil)
			if st := p.Status(); st.Promotion != "" || held != 1 || released != 2 {
				t.Fatalf("stage %q, held %d, released %d", st.Promotion, held, released)
			}
			if secure == nil {
				reach(t, p.addr, "proxied")
			}
		})
	}
}

// Clients that connect all the time notice nothing.
func TestHandOverLosesNobody(t *testing.T) {
	p := startFor(t, nil)
	startShared(t, p.addr, nil)
	mustAsk(t, p, HoldPath, nil, nil)
	var mu sync.Mutex
	counts := map[string]int{}
	var slowest time.Duration
	ctx, cancel := context.WithCancel(t.Context())
	var clients sync.WaitGroup
	for range 20 {
		clients.Go(func() {
			c := http.Client{Transport: &http.Transport{DisableKeepAlives: true}, Timeout: 10 * time.Second}
			for ctx.Err() == nil {
				start := time.Now()
				body := "failed"
				res, err := c.Get("http://" + p.addr + "/version")
				if err == nil {
					var all []byte
					all, err = io.ReadAll(res.Body)
					res.Body.Close()
					body = string(all)
				}
				if err != nil {
					t.Error(err)
				}
				mu.Lock()
				counts[body]++
				slowest = max(slowest, time.Since(start))
				mu.Unlock()
			}
		})
	}
	seen := func(who string, n int) func() bool {
		return func() bool {
			mu.Lock()
			defer mu.Unlock()
			return counts[who] > n
		}
	}
	waitUntil(t, "clients are served by the proxy", seen("proxied", 200))
	mustAsk(t, p, HandOverPath, nil, nil)
	waitUntil(t, "clients are served by etcd", seen("etcd", 200))
	var a DrainAnswer
	mustAsk(t, p, DrainPath, nil, &a)
	mu.Lock()
	n := counts["etcd"]
	mu.Unlock()
	waitUntil(t, "they still are", seen("etcd", n+200))
	cancel()
	clients.Wait()
	if len(counts) != 2 || a.Cut+a.Refused != 0 {
		t.Errorf("answers %v, drain %+v", counts, a)
	}
	t.Logf("answers %v, slowest %v", counts, slowest)
}

// A member that accepts and does not serve gets no client for longer than the
// look takes.
func TestHandOverToASilentPeer(t *testing.T) {
	p := startFor(t, nil)
	silentShared(t, p.addr)
	mustAsk(t, p, HoldPath, nil, nil)
	var refused *RefusedError
	err := ask(t, p, HandOverPath, nil, nil)
	if !errors.As(err, &refused) || !strings.Contains(err.Error(), p.ListenURLs[0].String()) || !strings.Contains(err.Error(), "does not serve") {
		t.Fatalf("got %v", err)
	}
	if st := p.Status(); st.Promotion != stageHeld {
		t.Fatalf("the stage is %q", st.Promotion)
	}
	reach(t, p.addr, "proxied")
	// The guard goes on.
	if err := attach(p.listeners[0].Listener, 1); err != nil {
		t.Fatal(err)
	}
	c := http.Client{Transport: &http.Transport{DisableKeepAlives: true}, Timeout: 50 * time.Millisecond}
	waitUntil(t, "the guard has the port again", func() bool {
		res, err := c.Get("http://" + p.addr + "/version")
		if err == nil {
			res.Body.Close()
		}
		return err == nil
	})
}

// Where one of several listeners can't be handed over, none is.
func TestHandOverIsOfAllOrNone(t *testing.T) {
	var second string
	p := startFor(t, func(s *Server) {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		second = l.Addr().String()
		l.Close()
		s.ListenURLs = append(s.ListenURLs, url.URL{Scheme: "http", Host: second})
	})
	mustAsk(t, p, HoldPath, nil, nil)
	startShared(t, p.addr, nil)
	var refused *RefusedError
	if err := ask(t, p, HandOverPath, nil, nil); !errors.As(err, &refused) || !strings.Contains(err.Error(), second) {
		t.Fatalf("got %v", err)
	}
	reach(t, p.addr, "proxied")
	reach(t, second, "proxied")
}

// A signal after the hand-over: who has begun to connect is still served.
func TestSignalAfterTheHandOver(t *testing.T) {
	p := startFor(t, nil)
	startShared(t, p.addr, nil)
	mustAsk(t, p, HoldPath, nil, nil)
	mustAsk(t, p, HandOverPath, nil, nil)
	late := make(chan error, 1)
	ended := make(chan error, 1)
	go func() { ended <- p.end() }()
	waitUntil(t, "it drains", isDraining(p))
	go func() { // as one whose handshake was under way
		if err := attach(p.listeners[0].Listener, p.listeners[0].own); err != nil {
			late <- err
			return
		}
		c, err := net.Dial("tcp", p.addr)
		if err == nil {
			err = attach(p.listeners[0].Listener, p.listeners[0].given)
		}
		if err == nil {
			_, err = io.WriteString(c, "GET /version HTTP/1.1\r\nHost: x\r\n\r\n")
		}
		if err == nil {
			var all []byte
			all, err = io.ReadAll(c)
			if err == nil && !strings.HasSuffix(string(all), "proxied") {
				err = errors.New(string(all))
			}
		}
		late <- err
	}()
	if err := <-late; err != nil {
		t.Error(err)
	}
	if err := <-ended; err != nil {
		t.Error(err)
	}
	reach(t, p.addr, "etcd")
}
