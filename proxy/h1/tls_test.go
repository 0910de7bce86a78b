package h1

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"math/big"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"etcdops/proxy/socket"
)

// selfSigned makes a server's and a client's TLS configuration.
func selfSigned(t *testing.T) (server, client *tls.Config) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	tmpl := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{Organization: []string{"test"}},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
	}
	der, err := x509.CreateCertificate(rand.Reader, tmpl, tmpl, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	roots := x509.NewCertPool()
	roots.AddCert(cert)
	server = &tls.Config{Certificates: []tls.Certificate{{Certificate: [][]byte{der}, PrivateKey: key}}, MinVersion: tls.VersionTLS12}
	return server, &tls.Config{RootCAs: roots, ServerName: "127.0.0.1", MinVersion: tls.VersionTLS12}
}

func TestTLSOnBothSides(t *testing.T) {
	server, client := selfSigned(t)
	p := newPeer(t, nil)
	_ = p.l.Close()
	l, err := tls.Listen("tcp", "127.0.0.1:0", server)
	if err != nil {
		t.Fatal(err)
	}
	ended := make(chan struct{}, 1)
	var members sync.WaitGroup
	members.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			members.Go(func() {
				defer c.Close()
				p.converse(c, func(c net.Conn, req *http.Request) bool {
					if req.URL.Path == "/silent" {
						return silent(ended)(c, req)
					}
					return answer(ok(strings.Repeat("x", 100000)))(c, req)
				})
			})
		}
	})
	t.Cleanup(func() {
		_ = l.Close()
		members.Wait()
	})
	g := newRig(t, func(r *Relay) { r.Director.TLS = func() *tls.Config { return client } }, "https://"+l.Addr().String())
	near, far := tcpPair(t)
	watcher, err := socket.NewWatcher()
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	sock, err := socket.New(far, watcher)
	if err != nil {
		t.Fatal(err)
	}
	var all sync.WaitGroup
	all.Go(func() { watcher.Run(ctx) })
	all.Go(func() { g.relay.Serve(ctx, tls.Server(sock, server), nil) })
	t.Cleanup(func() {
		cancel()
		all.Wait()
	})
	tc := tls.Client(near, client)
	c := talk(t, tc)
	for range 3 {
		c.expect("PUT / HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\nhi", 200, "xxx")
	}
	if n := func() (n int) {
		g.relay.members.mu.Lock()
		defer g.relay.members.mu.Unlock()
		for _, s := range g.relay.members.shelves {
			n += len(s.idle) + len(s.busy)
		}
		return n
	}(); n != 1 {
		t.Errorf("%d member connections for one client", n)
	}
	c.send("GET /silent HTTP/1.1\r\nHost: a\r\n\r\n" + get)
	eventually(t, "request arrives", func() bool { return p.hits.Load() == 4 })
	_ = near.Close()
	waitFor(t, "member connection ends", ended)
}

// tcpPair is a connection and its other end.
func tcpPair(t *testing.T) (near, far net.Conn) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	if near, err = net.Dial("tcp", l.Addr().String()); err != nil {
		t.Fatal(err)
	}
	if far, err = l.Accept(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = near.Close()
		_ = far.Close()
	})
	return near, far
}
