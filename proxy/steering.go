package proxy

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"slices"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

const (
	// busyLimit is how long a try may wait behind others for our own accept.
	busyLimit = 2 * time.Second
	// answerTimeout is how long etcd may take for one answer at the hand-over.
	answerTimeout = 2 * time.Second
	// sureTries is how many tries in a row decide whose a port is: an index
	// that does not exist spreads connections by a hash.
	sureTries = 8
	// groupLimit is how many sockets may share a port. There are two, but a
	// socket that is about to be closed may still count.
	groupLimit = 8
)

// searchWaits are how long a try may take while our index is searched: short
// first, because new connections reach whoever is tried.
var searchWaits = []time.Duration{25 * time.Millisecond, 250 * time.Millisecond}

// probes are connections of ours to ourselves, by which we see whose a port is.
type probes struct {
	out atomic.Int32 // how many are on their way

	mu   sync.Mutex
	seen map[netip.AddrPort]chan struct{} // by the address that they come from
}

func (p *probes) expect(from netip.AddrPort) <-chan struct{} {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.seen == nil {
		p.seen = map[netip.AddrPort]chan struct{}{}
	}
	c := make(chan struct{})
	p.seen[from] = c
	p.out.Add(1)
	return c
}

func (p *probes) forget(from netip.AddrPort) {
	p.mu.Lock()
	defer p.mu.Unlock()
	delete(p.seen, from)
	p.out.Add(-1)
}

// arrived says whether a new connection is one of ours. While none is on its
// way, it costs one look.
func (p *probes) arrived(from net.Addr) bool {
	if p.out.Load() == 0 {
		return false
	}
	tcp, ok := from.(*net.TCPAddr)
	if !ok {
		return false
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	c := p.seen[plain(tcp.AddrPort())]
	if c == nil {
		return false
	}
	select {
	case <-c:
	default:
		close(c)
	}
	return true
}

// plain is an address without the ways to write it differently.
func plain(a netip.AddrPort) netip.AddrPort {
	return netip.AddrPortFrom(a.Addr().Unmap().WithZone(""), a.Port())
}

// probe is one connection of ours to a port of ours.
type probe struct {
	net.Conn
	from netip.AddrPort
	seen <-chan struct{} // closed when our own accept has got it
	of   *probes
}

// end breaks the connection, so that nothing of it lingers on either side.
func (p *probe) end() {
	p.of.forget(p.from)
	_ = p.Conn.(*net.TCPConn).SetLinger(0)
	_ = p.Close()
}

// dialSelf connects to a listener's port from an address that is known before
// the connection is made.
func (p *probes) dialSelf(ctx context.Context, l *listener) (*probe, error) {
	var failed error
	for _, target := range selfAddrs(l.Addr().(*net.TCPAddr).AddrPort()) {
		made := &probe{of: p}
		d := net.Dialer{KeepAlive: -1, Control: func(network, address string, c syscall.RawConn) error {
			from, err := bindBeside(network, address, c)
			if err == nil {
				made.from, made.seen = from, p.expect(from)
			}
			return err
		}}
		d.SetMultipathTCP(false)
		var err error
		if made.Conn, err = d.DialContext(ctx, "tcp", target.String()); err == nil {
			return made, nil
		}
		if made.seen != nil {
			p.forget(made.from)
		}
		failed = err
	}
	return nil, failed
}

// selfAddrs are the addresses by which this host reaches one of its listeners.
func selfAddrs(bound netip.AddrPort) []netip.AddrPort {
	if !bound.Addr().IsUnspecified() {
		return []netip.AddrPort{bound}
	}
	four := netip.AddrPortFrom(netip.AddrFrom4([4]byte{127, 0, 0, 1}), bound.Port())
	if bound.Addr().Is4() {
		return []netip.AddrPort{four}
	}
	return []netip.AddrPort{four, netip.AddrPortFrom(netip.IPv6Loopback(), bound.Port())}
}

// bindBeside gives a socket the address that it is about to connect to, with a
// port of its own.
func bindBeside(network, address string, c syscall.RawConn) (from netip.AddrPort, err error) {
	at, err := parseBindAddr(network, address)
	if err != nil {
		return from, err
	}
	at.addr = netip.AddrPortFrom(at.addr.Addr(), 0)
	name, err := at.sockaddr()
	if err != nil {
		return from, err
	}
	ctlErr := c.Control(func(fd uintptr) {
		if err = unix.Bind(int(fd), name); err != nil {
			return
		}
		if name, err = unix.Getsockname(int(fd)); err != nil {
			return
		}
		switch sa := name.(type) {
		case *unix.SockaddrInet4:
			from = netip.AddrPortFrom(netip.AddrFrom4(sa.Addr), uint16(sa.Port))
		case *unix.SockaddrInet6:
			from = netip.AddrPortFrom(netip.AddrFrom16(sa.Addr).Unmap(), uint16(sa.Port))
		}
	})
	return from, errors.Join(err, ctlErr)
}

// ours says whether a new connection reaches our own accept within wait. While
// connections wait for that accept, this one may be among them.
func (p *probes) ours(ctx context.Context, l *listener, wait time.Duration) bool {
	ctx, cancel := context.WithTimeout(ctx, busyLimit)
	defer cancel()
	c, err := p.dialSelf(ctx, l)
	if err != nil {
		return false
	}
	defer c.end()
	t := time.NewTicker(wait)
	defer t.Stop()
	for {
		select {
		case <-c.seen:
			return true
		case <-ctx.Done():
			return false
		case <-t.C:
		}
		if queued(l.Listener) > 0 {
			continue
		}
		select {
		case <-c.seen: // it was in the queue until now
			return true
		default:
			return false
		}
	}
}

func (p *probes) surelyOurs(ctx context.Context, l *listener, wait time.Duration) bool {
	for range sureTries {
		if !p.ours(ctx, l, wait) {
			return false
		}
	}
	return true
}

// claim makes the listener's new connections reach us, whoever shares the
// port. Indexes are never assumed: they change when a socket joins or leaves.
func (p *probes) claim(ctx context.Context, l *listener) error {
	if alone(l.Listener) {
		// Every index leads to us now, and only the first one still will when
		// another socket joins.
		l.own = 0
	}
	for _, wait := range searchWaits {
		for _, index := range indexes(l.own) {
			if err := attach(l.Listener, index); err != nil {
				return fmt.Errorf("steer %s: %w", l.url.String(), err)
			}
			if p.surelyOurs(ctx, l, wait) {
				l.own = index
				return nil
			}
		}
	}
	return fmt.Errorf("steer %s: new connections do not reach this proxy", l.url.String())
}

// give makes the listener's new connections reach the other socket of the port,
// if it serves. On an error they may go anywhere: claim them.
func (p *probes) give(ctx context.Context, l *listener) error {
	for _, index := range indexes(l.given) {
		if index == l.own {
			continue
		}
		if err := attach(l.Listener, index); err != nil {
			return fmt.Errorf("steer %s: %w", l.url.String(), err)
		}
		err := p.surelyTheirs(ctx, l)
		if err == nil {
			l.given = index
			return nil
		}
		if !errors.Is(err, errOurs) {
			return fmt.Errorf("hand %s over: %w", l.url.String(), err)
		}
	}
	return fmt.Errorf("hand %s over: nobody else listens on %s", l.url.String(), l.Addr())
}

// indexes lists the indexes of a group, a likely one first.
func indexes(likely int) []int {
	list := []int{likely}
	for i := range groupLimit {
		if !slices.Contains(list, i) {
			list = append(list, i)
		}
	}
	return list
}

// errOurs says that a connection reached ourselves.
var errOurs = errors.New("new connections reach this proxy")

func (p *probes) surelyTheirs(ctx context.Context, l *listener) error {
	for range sureTries {
		if err := p.theirs(ctx, l); err != nil {
			return err
		}
	}
	return nil
}

// theirs checks that somebody else answers a new connection: etcd's client port
// may accept connections before it serves.
func (p *probes) theirs(ctx context.Context, l *listener) error {
	ctx, cancel := context.WithTimeout(ctx, answerTimeout)
	defer cancel()
	c, err := p.dialSelf(ctx, l)
	if err != nil {
		return err
	}
	defer c.end()
	err = answers(ctx, c, l.secure)
	if err == nil {
		return nil
	}
	select {
	case <-c.seen: // told before we ended it
		return errOurs
	default:
		return fmt.Errorf("what listens there does not serve: %w", err)
	}
}

// answers waits for the first word of a server: a byte of HTTP, or a
// certificate. Whether it likes us, who show none, does not matter.
func answers(ctx context.Context, c net.Conn, secure bool) error {
	if limit, ok := ctx.Deadline(); ok {
		if err := c.SetDeadline(limit); err != nil {
			return err
		}
	}
	if secure {
		shown := false
		err := tls.Client(c, &tls.Config{
			InsecureSkipVerify: true, // it is the address that counts here
			VerifyConnection:   func(tls.ConnectionState) error { shown = true; return nil },
		}).HandshakeContext(ctx)
		if shown {
			return nil
		}
		return err
	}
	if _, err := io.WriteString(c, "GET /version HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"); err != nil {
		return err
	}
	_, err := io.ReadFull(c, make([]byte, 1))
	return err
}
