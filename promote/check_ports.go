package promote

import (
	"context"
	"errors"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"syscall"

	"golang.org/x/sys/unix"
)

// defaultUnprivilegedPort is the first port that everybody may bind, where the
// system does not say otherwise.
const defaultUnprivilegedPort = 1024

// checkPorts binds for a moment what etcd will bind, as the user who it will
// run as, and dials the advertised peer URLs meanwhile.
func (c *Candidate) checkPorts(ctx context.Context, found *refusals) {
	var here beacon
	defer here.close()
	bound, complete := map[string]bool{}, true
	for _, raw := range c.ListenPeerURLs {
		e, err := parseEndpoint(raw)
		if err != nil || e.unix() || bound[e.address()] {
			continue
		}
		l, err := c.bind(ctx, e)
		if err != nil {
			complete = false
			found.add("peer-port", portHint(err, "--listen-peer-urls", e), "etcd can't listen on %s: %s", raw, causeOf(err))
			continue
		}
		bound[e.address()] = true
		here.listen(l)
	}
	for _, raw := range c.ListenClientURLs {
		e, err := parseEndpoint(raw)
		switch {
		case err != nil:
		case e.unix():
			c.checkClientSocket(ctx, found, raw, e.path)
		default:
			c.checkClientPort(ctx, found, raw, e)
		}
	}
	// Behind an address translation etcd may be reached at an address that
	// nothing here can tell from a wrong one. Whoever starts etcd himself is
	// asked to know.
	if complete && len(bound) > 0 && !c.StageEnv {
		c.checkLeadsHere(ctx, found, &here)
	}
}

// bind listens as etcd does, with the rights of its user.
func (c *Candidate) bind(ctx context.Context, e endpoint) (net.Listener, error) {
	var l net.Listener
	err := asUser(c.UID, c.GID, func() error {
		var err error
		var config net.ListenConfig
		l, err = config.Listen(ctx, "tcp", e.address())
		return err
	})
	return l, err
}

func portHint(err error, flag string, e endpoint) string {
	switch {
	case errors.Is(err, syscall.EADDRINUSE):
		return "stop who has it (ss -ltnp 'sport = :" + e.port + "'), or give another port with " + flag
	case errors.Is(err, syscall.EADDRNOTAVAIL):
		return "give an address of this host with " + flag + "; they are listed by: ip addr"
	case errors.Is(err, syscall.EACCES):
		return "give a port from " + strconv.Itoa(unprivilegedPort()) + " on with " + flag
	}
	return "give another address with " + flag
}

// checkClientPort looks whether etcd will be able to take a client port, from
// the proxy or from nobody.
func (c *Candidate) checkClientPort(ctx context.Context, found *refusals, raw string, e endpoint) {
	if !c.reuses(e) {
		l, err := c.bind(ctx, e)
		if err != nil {
			found.add("client-port", portHint(err, "--listen-client-urls", e),
				"etcd can't listen on %s, which the proxy does not hold: %s", raw, causeOf(err))
			return
		}
		_ = l.Close()
		return
	}
	port, err := strconv.Atoi(e.port)
	if err == nil && port != 0 && port < unprivilegedPort() && c.UID != 0 {
		found.add("privileged-port", portHint(syscall.EACCES, "--listen-client-urls", e),
			"user %d, who etcd will run as, may not listen on %s, although the proxy can", c.UID, raw)
	}
}

// reuses tells whether it is the proxy that holds the address, be it as a part
// of a wider one.
func (c *Candidate) reuses(e endpoint) bool {
	return slices.ContainsFunc(c.Reused, func(raw string) bool {
		held, err := parseEndpoint(raw)
		switch {
		case err != nil || held.path != e.path || held.port != e.port:
			return false
		case held.host == e.host:
			return true
		}
		ours, theirs := addressKind("http://"+e.address()), addressKind("http://"+held.address())
		localhost := (held.host == "localhost" || e.host == "localhost") && ours == theirs
		return ours == addressUnspecified || theirs == addressUnspecified || localhost
	})
}

// checkClientSocket looks at the place of a unix socket. etcd removes whatever
// has the path before it binds (client/pkg/transport/unix_listener.go).
func (c *Candidate) checkClientSocket(ctx context.Context, found *refusals, raw, path string) {
	if !filepath.IsAbs(path) {
		// The proxy and etcd have working directories of their own.
		found.add("client-port", "write it as unix:///run/etcd/etcd.sock", "%s is a relative path", raw)
		return
	}
	folder := filepath.Dir(path)
	err := asUser(c.UID, c.GID, func() error {
		return unix.Faccessat(unix.AT_FDCWD, folder, unix.W_OK|unix.X_OK, unix.AT_EACCESS)
	})
	if err != nil {
		found.add("client-port", "make the folder, and give it to that user",
			"user %d, who etcd will run as, can't make the socket %s: %s", c.UID, raw, causeOf(err))
		return
	}
	if c.reuses(endpoint{path: path}) {
		return
	}
	info, err := os.Lstat(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return
	case err == nil && info.Mode().Type() != fs.ModeSocket:
		found.add("client-port", "choose another path, or move it away", "%s exists and is not a socket; etcd would delete it", path)
		return
	}
	var dialer net.Dialer
	if conn, err := dialer.DialContext(ctx, "unix", path); err == nil {
		_ = conn.Close()
		found.add("client-port", "stop who listens there, or choose another path", "another process listens on %s; etcd would take it away", path)
	}
}
