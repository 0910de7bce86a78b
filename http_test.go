package main

import (
	"context"
	"crypto/tls"
	"flag"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"slices"
	"strings"
	"time"
)

// httpMain is the program "http" of the scenarios: one request on a connection
// of its own. The body is printed as it comes. It fails where there is no
// answer, or one that is cut short.
//
//	http [-unix PATH] [-cacert FILE] [-cert FILE -key FILE] [-tls 1.2] [-h2] [-authorization TOKEN] METHOD URL [BODY]
func httpMain(args []string) int {
	flags := flag.NewFlagSet("http", flag.ContinueOnError)
	unix := flags.String("unix", "", "connect to this socket")
	ca := flags.String("cacert", "", "CA file")
	cert := flags.String("cert", "", "certificate file")
	key := flags.String("key", "", "key file")
	version := flags.String("tls", "", "highest version of TLS")
	h2 := flags.Bool("h2", false, "offer HTTP/2")
	authorization := flags.String("authorization", "", "what the field Authorization says")
	limit := flags.Duration("limit", 30*time.Second, "bound of the whole exchange")
	if err := flags.Parse(args); err != nil || flags.NArg() < 2 || flags.NArg() > 3 {
		fmt.Fprintln(os.Stderr, "usage: http [FLAG...] METHOD URL [BODY]")
		return 2
	}
	ctx, cancel := context.WithTimeout(context.Background(), *limit)
	defer cancel()
	transport := &http.Transport{DisableKeepAlives: true, ForceAttemptHTTP2: *h2}
	if *unix != "" {
		transport.DialContext = func(ctx context.Context, _, _ string) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, "unix", *unix)
		}
	}
	var err error
	if *ca != "" {
		if transport.TLSClientConfig, err = readTLS(*ca, *cert, *key); err != nil {
			fmt.Fprintln(os.Stderr, "http:", err)
			return 2
		}
		if *version == "1.2" {
			transport.TLSClientConfig.MaxVersion = tls.VersionTLS12
		}
	}
	if !*h2 {
		transport.TLSNextProto = map[string]func(string, *tls.Conn) http.RoundTripper{}
	}
	if err := exchange(ctx, transport, *authorization, flags.Args()); err != nil {
		fmt.Fprintln(os.Stderr, "http:", err)
		return 1
	}
	return 0
}

func exchange(ctx context.Context, transport http.RoundTripper, authorization string, args []string) error {
	var body io.Reader
	if len(args) == 3 {
		body = strings.NewReader(args[2])
	}
	req, err := http.NewRequestWithContext(ctx, args[0], args[1], body)
	if err != nil {
		return err
	}
	if authorization != "" {
		req.Header.Set("Authorization", authorization)
	}
	res, err := transport.RoundTrip(req)
	if err != nil {
		return err
	}
	defer res.Body.Close()
	fmt.Printf("%s %s\n", res.Proto, res.Status)
	var names []string
	for name := range res.Header {
		names = append(names, name)
	}
	slices.Sort(names)
	for _, name := range names {
		fmt.Printf("%s: %s\n", name, strings.Join(res.Header[name], ", "))
	}
	fmt.Println()
	_, err = io.Copy(os.Stdout, res.Body)
	fmt.Println()
	return err
}
