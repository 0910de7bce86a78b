package main

import (
	"bytes"
	"context"
	"errors"
	"flag"
	"fmt"
	"net/netip"
	"os"
	"os/signal"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

const (
	// floodTick is the time between two looks at all connections.
	floodTick = 50 * time.Millisecond
	// floodPiece is the time between two pieces that a slow connection sends.
	floodPiece = time.Second
)

// floodKind is one way to keep a server waiting: what is sent at once, and then
// piece by piece, for ever.
type floodKind struct {
	name  string
	first string
	more  string // one byte of it, or all of it with whole, each second
	whole bool
	tls   bool // for the address that wants TLS
}

const (
	floodPreface  = "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
	floodSettings = "\x00\x00\x00\x04\x00\x00\x00\x00\x00"
	// floodHeaders is a HEADERS frame of 32 bytes without END_HEADERS.
	floodHeaders = "\x00\x00\x20\x01\x00\x00\x00\x00\x01" + "\x83\x86\x84" + "\x40\x01a\x17"
)

// floodKinds are mixed in equal parts. The frames are those of RFC 9113, the hello
// is that of RFC 8446 section 4.1.2.
var floodKinds = []floodKind{
	{name: "silent"},
	{name: "slow head", more: "GET /version HTTP/1.1\r\nHost: a\r\nX: " + strings.Repeat("a", 4096)},
	{name: "long slow head", first: "GET /version HTTP/1.1\r\nHost: a\r\nX: " + strings.Repeat("a", 5000), more: strings.Repeat("a", 4096)},
	{name: "half preface", first: floodPreface[:12]},
	{name: "half HEADERS", first: floodPreface + floodSettings + floodHeaders},
	{name: "half DATA on no stream", first: floodPreface + floodSettings + "\x00\x40\x00\x00\x00\x00\x00\x00\x01half"},
	{
		name: "endless CONTINUATION", whole: true, more: "\x00\x00\x00\x09\x00\x00\x00\x00\x01",
		first: floodPreface + floodSettings + floodHeaders + strings.Repeat("b", 0x20-7),
	},
	{name: "half ClientHello", first: "\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + strings.Repeat("r", 100), tls: true},
	{name: "no ClientHello", tls: true},
}

// floodConn is one connection of the flood.
type floodConn struct {
	kind *floodKind
	fd   int
	sent int       // bytes of first and more
	due  time.Time // of the next piece
}

// flood keeps connections half open. It works on bare descriptors, because ten
// thousand goroutines are more than the race detector knows.
type flood struct {
	clear, secure       unix.SockaddrInet4
	hasTLS              bool
	conns               []floodConn
	opened, ended, most int
}

// floodMain is the program "flood" of the scenarios: it holds N connections to
// ADDRESS, host:port, that begin something and never finish it, and opens anew what
// the other side ends, RATE times a second at most. It prints "flooding" when it has
// opened N, and at SIGINT ends all at once and says how it went.
//
//	flood [-count N] [-rate N] [-tls ADDRESS] ADDRESS
func floodMain(args []string) int {
	flags := flag.NewFlagSet("flood", flag.ContinueOnError)
	count := flags.Int("count", 1000, "connections")
	rate := flags.Int("rate", 2000, "new connections a second")
	secure := flags.String("tls", "", "address that wants TLS")
	if err := flags.Parse(args); err != nil || flags.NArg() != 1 {
		fmt.Fprintln(os.Stderr, "usage: flood [-count N] [-rate N] [-tls ADDRESS] ADDRESS")
		return 2
	}
	f := &flood{conns: make([]floodConn, *count), hasTLS: *secure != ""}
	var err error
	if f.clear, err = floodTarget(flags.Arg(0)); err == nil && f.hasTLS {
		f.secure, err = floodTarget(*secure)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "flood:", err)
		return 2
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := f.run(ctx, *rate); err != nil {
		fmt.Fprintln(os.Stderr, "flood:", err)
		return 1
	}
	fmt.Printf("opened %d, at once %d at most, %d ended by the other side\n", f.opened, f.most, f.ended)
	return 0
}

func floodTarget(address string) (unix.SockaddrInet4, error) {
	at, err := netip.ParseAddrPort(address)
	if err != nil {
		return unix.SockaddrInet4{}, err
	}
	return unix.SockaddrInet4{Addr: at.Addr().As4(), Port: int(at.Port())}, nil
}

func (f *flood) run(ctx context.Context, rate int) error {
	var kinds []*floodKind
	for i := range floodKinds {
		if f.hasTLS || !floodKinds[i].tls {
			kinds = append(kinds, &floodKinds[i])
		}
	}
	for i := range f.conns {
		f.conns[i] = floodConn{kind: kinds[i%len(kinds)], fd: -1}
	}
	defer func() {
		for i := range f.conns {
			f.conns[i].close()
		}
	}()
	tick := time.NewTicker(floodTick)
	defer tick.Stop()
	said := false
	for ctx.Err() == nil {
		if err := f.open(max(1, rate*int(floodTick)/int(time.Second))); err != nil {
			return err
		}
		if err := f.look(); err != nil {
			return err
		}
		if !said && f.opened >= len(f.conns) {
			said = true
			fmt.Println("flooding")
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
		}
	}
	return nil
}

// open begins up to n connections and does not wait for any.
func (f *flood) open(n int) error {
	for i := range f.conns {
		c := &f.conns[i]
		if c.fd >= 0 {
			continue
		}
		if n--; n < 0 {
			return nil
		}
		fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM, 0)
		if err != nil {
			return fmt.Errorf("open socket: %w", err)
		}
		unix.CloseOnExec(fd)
		if err := unix.SetNonblock(fd, true); err != nil {
			_ = unix.Close(fd)
			return fmt.Errorf("open socket: %w", err)
		}
		to := &f.clear
		if c.kind.tls {
			to = &f.secure
		}
		if err := unix.Connect(fd, to); err != nil && !errors.Is(err, unix.EINPROGRESS) {
			_ = unix.Close(fd)
			return fmt.Errorf("connect: %w", err)
		}
		c.fd, c.sent, c.due = fd, 0, time.Now()
		f.opened++
	}
	return nil
}

// look notes which connections were ended, and sends what is due on the others.
func (f *flood) look() error {
	now := time.Now()
	var polled []unix.PollFd
	var which []*floodConn
	for i := range f.conns {
		c := &f.conns[i]
		if c.fd < 0 {
			continue
		}
		events := int16(unix.POLLIN)
		if !c.due.After(now) {
			events |= unix.POLLOUT
		}
		polled, which = append(polled, unix.PollFd{Fd: int32(c.fd), Events: events}), append(which, c)
	}
	f.most = max(f.most, len(polled))
	if _, err := unix.Poll(polled, 0); err != nil && !errors.Is(err, unix.EINTR) {
		return fmt.Errorf("poll: %w", err)
	}
	for i, p := range polled {
		c, over := which[i], p.Revents&(unix.POLLERR|unix.POLLHUP) != 0
		if !over && p.Revents&unix.POLLIN != 0 {
			over = c.read()
		}
		if !over && p.Revents&unix.POLLOUT != 0 {
			over = c.send(now)
		}
		if over {
			f.ended++
			c.close()
		}
	}
	return nil
}

// read drops what the other side says, and tells whether it has ended.
func (c *floodConn) read() (over bool) {
	var p [4096]byte
	for {
		switch n, err := unix.Read(c.fd, p[:]); {
		case errors.Is(err, unix.EAGAIN):
			return false
		case err != nil || n == 0:
			return true
		}
	}
}

// send sends the next piece.
func (c *floodConn) send(now time.Time) (over bool) {
	c.due = now.Add(floodPiece)
	piece := []byte(c.kind.first)
	switch {
	case c.sent > 0 || len(piece) == 0:
		piece = []byte(c.kind.more)
		if at := c.sent - len(c.kind.first); !c.kind.whole && at < len(piece) {
			piece = piece[at : at+1]
		}
	default:
		piece = bytes.Clone(piece)
	}
	if len(piece) == 0 {
		c.due = now.Add(time.Hour) // it waits
		return false
	}
	n, err := unix.Write(c.fd, piece)
	c.sent += max(n, 0)
	return err != nil
}

func (c *floodConn) close() {
	if c.fd >= 0 {
		_ = unix.Close(c.fd)
		c.fd = -1
	}
}
