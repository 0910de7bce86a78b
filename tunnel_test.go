package main

import (
	"bufio"
	"flag"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"strings"
)

// tunnelMain is the program "tunnel" of the scenarios: an HTTP proxy that knows
// CONNECT, and names that nobody else knows. It prints what it is asked for.
//
//	tunnel [-authorization TEXT] [-answer STATUS] LISTEN NAME=HOST...
func tunnelMain(args []string) int {
	flags := flag.NewFlagSet("tunnel", flag.ContinueOnError)
	authorization := flags.String("authorization", "", "what Proxy-Authorization must say")
	status := flags.String("answer", "", "answer this to all")
	if err := flags.Parse(args); err != nil || flags.NArg() < 2 {
		fmt.Fprintln(os.Stderr, "usage: tunnel [-authorization TEXT] [-answer STATUS] LISTEN NAME=HOST...")
		return 2
	}
	names := map[string]string{}
	for _, arg := range flags.Args()[1:] {
		name, host, _ := strings.Cut(arg, "=")
		names[name] = host
	}
	l, err := net.Listen("tcp", flags.Arg(0))
	if err != nil {
		fmt.Fprintln(os.Stderr, "tunnel:", err)
		return 1
	}
	fmt.Println("tunnelling")
	for {
		c, err := l.Accept()
		if err != nil {
			fmt.Fprintln(os.Stderr, "tunnel:", err)
			return 1
		}
		go tunnelOne(c, names, *authorization, *status)
	}
}

func tunnelOne(c net.Conn, names map[string]string, authorization, status string) {
	defer c.Close()
	in := bufio.NewReader(c)
	req, err := http.ReadRequest(in)
	if err != nil {
		return
	}
	fmt.Println(req.Method, req.Host)
	host, port, err := net.SplitHostPort(req.Host)
	switch {
	case status != "":
	case req.Method != http.MethodConnect || err != nil || names[host] == "":
		status = "404 Not Found"
	case authorization != "" && req.Header.Get("Proxy-Authorization") != authorization:
		status = "407 Proxy Authentication Required"
	}
	if status != "" {
		fmt.Fprintf(c, "HTTP/1.1 %s\r\nContent-Length: 0\r\n\r\n", status)
		return
	}
	to, err := net.Dial("tcp", net.JoinHostPort(names[host], port))
	if err != nil {
		fmt.Fprint(c, "HTTP/1.1 502 Bad Gateway\r\nContent-Length: 0\r\n\r\n")
		return
	}
	defer to.Close()
	fmt.Fprint(c, "HTTP/1.1 200 Connection established\r\n\r\n")
	go func() {
		_, _ = io.Copy(to, in)
		_ = to.Close()
	}()
	_, _ = io.Copy(c, to)
}
