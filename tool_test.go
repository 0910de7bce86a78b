package main

import (
	"bytes"
	"flag"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"etcdops/commands"
)

// forwardMain is the program "forward" of the scenarios: a TCP forwarder, so
// that a port can go while the process behind it lives. With -times it listens
// for so many connections only, and ends with the last; -rate is how many bytes a second
// go towards TARGET.
//
//	forward [-times N] [-rate N] LISTEN TARGET
func forwardMain(args []string) int {
	flags := flag.NewFlagSet("forward", flag.ContinueOnError)
	times := flags.Int("times", 0, "listen for so many connections only; 0: for ever")
	rate := flags.Int("rate", 0, "bytes a second towards TARGET; 0: all that go")
	if err := flags.Parse(args); err != nil || flags.NArg() != 2 {
		fmt.Fprintln(os.Stderr, "usage: forward [-times N] [-rate N] LISTEN TARGET")
		return 2
	}
	l, err := net.Listen("tcp", flags.Arg(0))
	if err != nil {
		fmt.Fprintln(os.Stderr, "forward:", err)
		return 1
	}
	fmt.Println("forwarding")
	for n := 1; ; n++ {
		in, err := l.Accept()
		if err != nil {
			fmt.Fprintln(os.Stderr, "forward:", err)
			return 1
		}
		if n == *times {
			_ = l.Close()
			forwardOne(in, flags.Arg(1), *rate)
			return 0
		}
		go forwardOne(in, flags.Arg(1), *rate)
	}
}

func forwardOne(in net.Conn, target string, rate int) {
	defer in.Close()
	out, err := net.Dial("tcp", target)
	if err != nil {
		return
	}
	defer out.Close()
	go func() {
		var to io.Writer = out
		if rate > 0 {
			to = &slowWriter{out, rate}
		}
		_, _ = io.Copy(to, in)
		_ = out.Close()
	}()
	_, _ = io.Copy(in, out)
}

// slowWriter is a slow link.
type slowWriter struct {
	io.Writer
	rate int // bytes a second
}

func (s *slowWriter) Write(p []byte) (int, error) {
	n, err := s.Writer.Write(p)
	time.Sleep(time.Duration(n) * time.Second / time.Duration(s.rate))
	return n, err
}

// notifiedMain is the program "notified" of the scenarios: the service
// manager's side of sd_notify(3). It prints each message on a line.
//
//	notified SOCKET
func notifiedMain(args []string) int {
	if len(args) != 1 {
		fmt.Fprintln(os.Stderr, "usage: notified SOCKET")
		return 2
	}
	c, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: args[0], Net: "unixgram"})
	if err != nil {
		fmt.Fprintln(os.Stderr, "notified:", err)
		return 1
	}
	fmt.Println("listening")
	message := make([]byte, 4096)
	for {
		n, err := c.Read(message)
		if err != nil {
			fmt.Fprintln(os.Stderr, "notified:", err)
			return 1
		}
		fmt.Println(strings.ReplaceAll(string(message[:n]), "\n", "; "))
	}
}

// nobodyID is the user and group "nobody" of most systems.
const nobodyID = 65534

// nobodyMain is the program "nobody" of the scenarios: etcdops, or the program
// "http", as a user without rights. Only root can become one; others are without
// rights already.
//
//	nobody [http] ARG...
func nobodyMain(args []string) int {
	if os.Getuid() == 0 {
		if err := syscall.Setgroups(nil); err != nil {
			fmt.Fprintln(os.Stderr, "nobody: drop groups:", err)
			return 1
		}
		if err := syscall.Setgid(nobodyID); err != nil {
			fmt.Fprintln(os.Stderr, "nobody: change group:", err)
			return 1
		}
		if err := syscall.Setuid(nobodyID); err != nil {
			fmt.Fprintln(os.Stderr, "nobody: change user:", err)
			return 1
		}
	}
	if len(args) > 0 && args[0] == "http" {
		return httpMain(args[1:])
	}
	return commands.Main(append([]string{"etcdops"}, args...), os.Stdin, os.Stdout, os.Stderr)
}

// processesMain is the program "processes" of the scenarios: it prints the
// other processes whose command line holds TEXT, and fails where there is none.
//
//	processes TEXT
func processesMain(args []string) int {
	if len(args) != 1 {
		fmt.Fprintln(os.Stderr, "usage: processes TEXT")
		return 2
	}
	folders, _ := filepath.Glob("/proc/[0-9]*")
	found := false
	for _, dir := range folders {
		line, err := os.ReadFile(filepath.Join(dir, "cmdline"))
		if err != nil || filepath.Base(dir) == strconv.Itoa(os.Getpid()) {
			continue // it has ended
		}
		if text := string(bytes.ReplaceAll(line, []byte{0}, []byte(" "))); strings.Contains(text, args[0]) {
			fmt.Println(filepath.Base(dir), text)
			found = true
		}
	}
	if !found {
		return 1
	}
	return 0
}
