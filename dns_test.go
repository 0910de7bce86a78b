package main

import (
	"context"
	"fmt"
	"net"
	"os"
	"strings"

	"github.com/miekg/dns"
)

// dnsVariable makes etcdops ask this name server, host:port, in place of the
// system's.
const dnsVariable = "NAME_SERVER"

// useNameServer does what dnsVariable says.
func useNameServer(address string) {
	net.DefaultResolver = &net.Resolver{PreferGo: true, Dial: func(ctx context.Context, network, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, network, address)
	}}
}

// dnsMain is the program "dns" of the scenarios: a name server with the records
// of FILE, which is read again for each question. A line is a record as in a
// zone file, or "fails NAME", which is answered with SERVFAIL. Only UDP.
//
//	dns ADDRESS FILE
func dnsMain(args []string) int {
	if len(args) != 2 {
		fmt.Fprintln(os.Stderr, "usage: dns ADDRESS FILE")
		return 2
	}
	packets, err := net.ListenPacket("udp", args[0])
	if err != nil {
		fmt.Fprintln(os.Stderr, "dns:", err)
		return 1
	}
	fmt.Println("serving")
	server := &dns.Server{PacketConn: packets, Handler: dns.HandlerFunc(func(w dns.ResponseWriter, query *dns.Msg) {
		if err := answerDNS(w, query, args[1]); err != nil {
			fmt.Fprintln(os.Stderr, "dns:", err)
		}
	})}
	if err := server.ActivateAndServe(); err != nil {
		fmt.Fprintln(os.Stderr, "dns:", err)
	}
	return 1
}

func answerDNS(w dns.ResponseWriter, query *dns.Msg, file string) error {
	text, err := os.ReadFile(file)
	if err != nil {
		return err
	}
	question := query.Question[0]
	answer := new(dns.Msg).SetReply(query)
	answer.Rcode = dns.RcodeNameError
	for line := range strings.Lines(string(text)) {
		if name, fails := strings.CutPrefix(strings.TrimSpace(line), "fails "); fails {
			if strings.EqualFold(dns.Fqdn(name), question.Name) {
				answer.Rcode = dns.RcodeServerFailure
				break
			}
			continue
		}
		record, err := dns.NewRR(line)
		if err != nil {
			return err
		}
		if record == nil || !strings.EqualFold(record.Header().Name, question.Name) {
			continue
		}
		answer.Rcode = dns.RcodeSuccess
		if record.Header().Rrtype == question.Qtype {
			answer.Answer = append(answer.Answer, record)
		}
	}
	return w.WriteMsg(answer)
}
