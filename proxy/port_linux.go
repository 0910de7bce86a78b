package proxy

import (
	"bufio"
	"context"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"net"
	"net/netip"
	"os"
	"slices"
	"strconv"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"
)

// backlog asks for the longest queue of new connections that the system gives
// (net.core.somaxconn), as Go's own listeners do.
const backlog = 1 << 16

// errMade stops Go's listen where the socket is made and not bound yet.
var errMade = errors.New("socket made")

// listenTCP listens where net.Listen would, for etcd does so by net.Listen and
// has to come to the same address. The socket is bound without SO_REUSEPORT,
// so that a port that is another's is refused as ever, and gets the option
// before it listens, so that etcd can join the port later (Linux,
// net/ipv4/inet_connection_sock.c, inet_csk_get_port).
//
// An address that is in bound gives errBound. With beside, a port whose holder
// shares it is joined. The third result says whether that was done.
func listenTCP(ctx context.Context, address string, bound []netip.AddrPort, beside bool) (net.Listener, bool, error) {
	fd, at, err := makeSocket(ctx, address)
	if err != nil {
		return nil, false, err
	}
	file := os.NewFile(uintptr(fd), address)
	defer file.Close() // the listener has a descriptor of its own
	if slices.Contains(bound, at.addr) {
		return nil, false, errBound
	}
	share := func() error {
		return os.NewSyscallError("setsockopt", unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_REUSEPORT, 1))
	}
	name, err := at.sockaddr()
	if err != nil {
		return nil, false, err
	}
	joined := false
	err = unix.Bind(fd, name)
	if beside && errors.Is(err, unix.EADDRINUSE) {
		if err := share(); err != nil {
			return nil, false, err
		}
		joined = true
		err = unix.Bind(fd, name)
	}
	if err != nil {
		return nil, false, os.NewSyscallError("bind", err)
	}
	if err := share(); err != nil {
		return nil, false, err
	}
	if err := unix.Listen(fd, backlog); err != nil {
		return nil, false, os.NewSyscallError("listen", err)
	}
	l, err := net.FileListener(file)
	return l, joined, err
}

// makeSocket lets net.Listen resolve the address, choose the family and make
// the socket, and takes the socket from it before the bind.
func makeSocket(ctx context.Context, address string) (fd int, at bindAddr, err error) {
	fd = -1
	lc := net.ListenConfig{Control: func(network, resolved string, c syscall.RawConn) error {
		if at, err = parseBindAddr(network, resolved); err != nil {
			return err
		}
		var dupErr error
		if err := c.Control(func(raw uintptr) {
			fd, dupErr = unix.FcntlInt(raw, unix.F_DUPFD_CLOEXEC, 0)
		}); err != nil {
			return err
		}
		if dupErr != nil {
			return os.NewSyscallError("fcntl", dupErr)
		}
		return errMade
	}}
	lc.SetMultipathTCP(false) // a group of multipath sockets takes no program
	_, err = lc.Listen(ctx, "tcp", address)
	if errors.Is(err, errMade) {
		return fd, at, nil
	}
	if err == nil {
		err = errors.New("listening passed the socket by")
	}
	return -1, at, err
}

// attach makes all new connections of the listener's port reach the index-th
// socket of those that share it: SO_ATTACH_REUSEPORT_CBPF with a program of one
// instruction. An index that does not exist leaves it to a hash (Linux,
// net/core/sock_reuseport.c, reuseport_select_sock).
func attach(l net.Listener, index int) error {
	tcp, ok := l.(*net.TCPListener)
	if !ok {
		return errors.New("not a TCP port")
	}
	raw, err := tcp.SyscallConn()
	if err != nil {
		return err
	}
	program := []unix.SockFilter{{Code: unix.BPF_RET | unix.BPF_K, K: uint32(index)}}
	var set error
	if err := raw.Control(func(fd uintptr) {
		set = unix.SetsockoptSockFprog(int(fd), unix.SOL_SOCKET, unix.SO_ATTACH_REUSEPORT_CBPF,
			&unix.SockFprog{Len: uint16(len(program)), Filter: &program[0]})
	}); err != nil {
		return err
	}
	return os.NewSyscallError("setsockopt", set)
}

// queued is how many new connections wait for the listener's accept. Of a
// listening socket tcpi_unacked says that (Linux, net/ipv4/tcp.c, tcp_get_info).
func queued(l net.Listener) int {
	tcp, ok := l.(*net.TCPListener)
	if !ok {
		return 0
	}
	raw, err := tcp.SyscallConn()
	if err != nil {
		return 0
	}
	n := 0
	_ = raw.Control(func(fd uintptr) { // a closed listener has no queue
		if info, err := unix.GetsockoptTCPInfo(int(fd), unix.IPPROTO_TCP, unix.TCP_INFO); err == nil {
			n = int(info.Unacked)
		}
	})
	return n
}

// tcpListens is TCP_LISTEN as /proc/net/tcp writes it (Linux,
// include/net/tcp_states.h).
const tcpListens = "0A"

// alone says whether no other socket of this host listens on the listener's
// address; it says no where that can't be learnt.
func alone(l net.Listener) bool {
	tcp, ok := l.Addr().(*net.TCPAddr)
	if !ok {
		return false
	}
	at := plain(tcp.AddrPort())
	return listening("/proc/net/tcp", at)+listening("/proc/net/tcp6", at) == 1
}

// listening counts the sockets that listen on an address. They are the first in
// the table, however many connections follow (Linux, net/ipv4/tcp_ipv4.c,
// tcp_get_idx).
func listening(table string, at netip.AddrPort) int {
	file, err := os.Open(table)
	if err != nil {
		return 0
	}
	defer file.Close()
	n := 0
	lines := bufio.NewScanner(file)
	lines.Scan() // the heading
	for lines.Scan() {
		fields := strings.Fields(lines.Text())
		if len(fields) < 4 || fields[3] != tcpListens {
			break
		}
		if found, err := parseTableAddr(fields[1]); err == nil && plain(found) == at {
			n++
		}
	}
	return n
}

// parseTableAddr reads an address as in 0100007F:0947: words of four bytes in
// the machine's order, and the port.
func parseTableAddr(text string) (netip.AddrPort, error) {
	host, number, _ := strings.Cut(text, ":")
	port, err := strconv.ParseUint(number, 16, 16)
	if err != nil {
		return netip.AddrPort{}, err
	}
	raw, err := hex.DecodeString(host)
	if err != nil {
		return netip.AddrPort{}, err
	}
	for i := 0; i+4 <= len(raw); i += 4 {
		binary.NativeEndian.PutUint32(raw[i:], binary.BigEndian.Uint32(raw[i:]))
	}
	addr, ok := netip.AddrFromSlice(raw)
	if !ok {
		return netip.AddrPort{}, errors.New("not an address: " + text)
	}
	return netip.AddrPortFrom(addr, uint16(port)), nil
}
