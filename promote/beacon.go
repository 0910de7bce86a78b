package promote

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"time"
)

// beaconTimeout bounds one dial of our own advertised peer URL, answer and all.
const beaconTimeout = 2 * time.Second

// beacon listens in etcd's place for a moment and gives everybody who connects
// a secret of its own, by which our own dial knows that it has come back. What
// is dialled gets no byte from us: it may be a stranger.
type beacon struct {
	secret    []byte
	listeners []net.Listener
	serving   sync.WaitGroup
}

// listen serves a listener until close.
func (b *beacon) listen(l net.Listener) {
	if b.secret == nil {
		b.secret = []byte(rand.Text())
	}
	b.listeners = append(b.listeners, l)
	b.serving.Go(func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return // it was closed
			}
			_ = conn.SetDeadline(time.Now().Add(beaconTimeout))
			_, _ = conn.Write(b.secret)
			_ = conn.Close()
		}
	})
}

func (b *beacon) close() {
	for _, l := range b.listeners {
		_ = l.Close()
	}
	b.serving.Wait()
}

// dial says why an address does not lead to one of our listeners; "" if it
// does. refused tells that there was no connection.
func (b *beacon) dial(ctx context.Context, address string) (why string, refused bool) {
	ctx, cancel := context.WithTimeout(ctx, beaconTimeout)
	defer cancel()
	var dialer net.Dialer
	conn, err := dialer.DialContext(ctx, "tcp", address)
	if err != nil {
		return address + ": " + dialCause(err), true
	}
	defer conn.Close()
	deadline, _ := ctx.Deadline()
	_ = conn.SetReadDeadline(deadline)
	heard := make([]byte, len(b.secret))
	if _, err := io.ReadFull(conn, heard); err != nil || !bytes.Equal(heard, b.secret) {
		return "somebody else answers at " + address, false
	}
	return "", false
}

func dialCause(err error) string {
	var timeout net.Error
	if errors.As(err, &timeout) && timeout.Timeout() {
		return fmt.Sprintf("no answer within %s", beaconTimeout)
	}
	return causeOf(err)
}

// checkLeadsHere dials each advertised peer URL while we listen in etcd's
// place: what others are told must lead back to this host.
func (c *Candidate) checkLeadsHere(ctx context.Context, found *refusals, here *beacon) {
	for _, raw := range c.InitialAdvertisePeerURLs {
		e, err := parseEndpoint(raw)
		if err != nil || e.unix() || e.host == "" {
			continue
		}
		addrs, err := resolveHost(ctx, e.host)
		if err != nil || len(addrs) == 0 {
			found.add("peer-url-unknown", "give an IP address, or a name that all members resolve",
				"--initial-advertise-peer-urls %s: the name does not resolve", raw)
			continue
		}
		if why := c.astray(ctx, e, addrs, here); why != "" {
			found.add("peer-url-elsewhere",
				"give the address of this host that --listen-peer-urls listens on; behind a NAT that leads no way back, add --stage env and start etcd yourself",
				"--initial-advertise-peer-urls %s does not lead to this host: %s", raw, why)
		}
	}
}

// astray says why none of the addresses leads to a listener of ours; "" where
// one does.
func (c *Candidate) astray(ctx context.Context, e endpoint, addrs []netip.Addr, here *beacon) string {
	var causes []string
	for _, ip := range addrs {
		why, refused := here.dial(ctx, net.JoinHostPort(ip.String(), e.port))
		if why == "" {
			return ""
		}
		// On many machines their own name resolves to loopback, for
		// themselves alone, where nothing may listen.
		if refused && ip.IsLoopback() && !isIP(e.host) && c.listensPublicly() {
			return ""
		}
		causes = append(causes, why)
	}
	return strings.Join(causes, "; ")
}

func isIP(host string) bool {
	_, err := netip.ParseAddr(host)
	return err == nil
}

func (c *Candidate) listensPublicly() bool {
	return slices.ContainsFunc(c.ListenPeerURLs, func(raw string) bool {
		kind := addressKind(raw)
		return kind == addressPublic || kind == addressUnspecified
	})
}
