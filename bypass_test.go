package main

import (
	"bufio"
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"
)

// bypassMain is the program "bypass" of the scenarios: it tries, raw, what may
// slip a write past a readonly proxy. The rows of bypassRows go over HTTP/1.1,
// those of bypassCalls over HTTP/2. READONLY, MEMBER, READWRITE and TWIN are as
// in callsMain; READONLYTLS is READONLY's listener with TLS.
//
//	bypass -etcd VERSION -cacert FILE READONLY READONLYTLS MEMBER READWRITE TWIN
func bypassMain(args []string) int {
	flags := flag.NewFlagSet("bypass", flag.ContinueOnError)
	version := flags.String("etcd", "", "the members' version, major and minor")
	ca := flags.String("cacert", "", "CA file of READONLYTLS")
	if err := flags.Parse(args); err != nil || flags.NArg() != 5 {
		fmt.Fprintln(os.Stderr, "usage: bypass -etcd VERSION -cacert FILE READONLY READONLYTLS MEMBER READWRITE TWIN")
		return 2
	}
	ctx, cancel := context.WithTimeout(context.Background(), 8*time.Minute)
	defer cancel()
	if err := tryBypasses(ctx, flags.Args(), *ca, *version); err != nil {
		fmt.Fprintln(os.Stderr, "bypass:", err)
		return 1
	}
	return 0
}

// bypass is one row, whatever it is sent by.
type bypass struct {
	name      string
	readonly  string // what a readonly proxy says
	readwrite string // what another says where the same bytes write; empty: they need not
	only      string // the versions of etcd that write by it; empty: all
	send      func(ctx context.Context, address, want string) (got string, err error)
}

func tryBypasses(ctx context.Context, args []string, ca, version string) error {
	readonlyTLS, readwrite := args[1], args[3]
	conf, err := readTLS(ca, "", "")
	if err != nil {
		return err
	}
	rows := map[string][]bypass{}
	for _, row := range bypassRows() {
		rows["HTTP/1.1"] = append(rows["HTTP/1.1"], bypass{row.name, row.readonly, row.readwrite, row.only, row.send})
	}
	for _, row := range bypassCalls() {
		clear := func(ctx context.Context, address, _ string) (string, error) { return row.send(ctx, address, nil) }
		secret := func(ctx context.Context, _, _ string) (string, error) { return row.send(ctx, readonlyTLS, conf) }
		rows["HTTP/2"] = append(rows["HTTP/2"], bypass{row.name, row.readonly, row.readwrite, row.only, clear})
		rows["HTTP/2 with TLS"] = append(rows["HTTP/2 with TLS"], bypass{row.name, row.readonly, "", "", secret})
	}
	member, err := newCallEnd(args[2])
	if err != nil {
		return err
	}
	defer member.close()
	twin, err := newCallEnd(args[4])
	if err != nil {
		return err
	}
	defer twin.close()
	before, err := member.state(ctx)
	if err != nil {
		return err
	}
	var faults []error
	for _, kind := range []string{"HTTP/1.1", "HTTP/2", "HTTP/2 with TLS"} {
		proved := 0
		for _, row := range rows[kind] {
			if row.readwrite != "" && (row.only == "" || strings.Contains(row.only, version)) {
				if err := row.prove(ctx, readwrite, twin); err != nil {
					faults = append(faults, fmt.Errorf("%s: %s: readwrite: %w", kind, row.name, err))
				}
				proved++
			}
			if err := row.says(ctx, args[0], row.readonly); err != nil {
				faults = append(faults, fmt.Errorf("%s: %s: %w", kind, row.name, err))
			}
			after, err := member.state(ctx)
			if err != nil {
				return err
			}
			if before != after {
				return errors.Join(append(faults, fmt.Errorf("%s: %s has written:\n%s\nwas\n%s", kind, row.name, after, before))...)
			}
		}
		fmt.Printf("%s: %d ways, %d of them proved to write\n", kind, len(rows[kind]), proved)
	}
	return errors.Join(faults...)
}

// says sends the bytes and wants this answer, or this or that one.
func (b *bypass) says(ctx context.Context, address, want string) error {
	got, err := b.send(ctx, address, want)
	switch {
	case err != nil:
		return fmt.Errorf("got %s, want %s: %w", got, want, err)
	case !slices.Contains(strings.Split(want, " or "), got):
		return fmt.Errorf("got %s, want %s", got, want)
	}
	return nil
}

// prove sends the bytes to a readwrite proxy and waits until they have written.
func (b *bypass) prove(ctx context.Context, readwrite string, twin *callEnd) error {
	before, err := twin.state(ctx)
	if err != nil {
		return err
	}
	if err := b.says(ctx, readwrite, b.readwrite); err != nil {
		return err
	}
	for limit := time.Now().Add(5 * time.Second); ; time.Sleep(tryPause) {
		after, err := twin.state(ctx)
		if err != nil {
			return err
		}
		if after != before {
			return nil
		}
		if time.Now().After(limit) {
			return errors.New("nothing was written where it may be")
		}
	}
}

// bypassRow is what is sent in one piece over HTTP/1.1, and the statuses of the
// answers; "end" is the connection's end. Where the connection neither ends nor
// is left open, a last request behind shows that nothing else was answered.
type bypassRow struct {
	name, sends         string
	readonly, readwrite string
	only                string
	open                bool
}

const lastRequest = "GET /version HTTP/1.1\r\nHost: e\r\nConnection: close\r\n\r\n"

func (row *bypassRow) send(ctx context.Context, address, want string) (string, error) {
	c, err := dialEnd(ctx, address)
	if err != nil {
		return "", err
	}
	defer c.Close()
	if err := c.SetDeadline(time.Now().Add(10 * time.Second)); err != nil {
		return "", err
	}
	sends, words := row.sends, strings.Fields(want)
	last := !row.open && !slices.Contains(words, "end")
	if last {
		sends, words = sends+lastRequest, append(words, "200", "end")
	}
	if _, err := io.WriteString(c, sends); err != nil {
		return "", err
	}
	method, _, _ := strings.Cut(row.sends, " ")
	var got []string
	r := bufio.NewReader(c)
	for _, word := range words {
		if word == "end" {
			if _, err := r.ReadByte(); !errors.Is(err, io.EOF) {
				return strings.Join(append(got, "more"), " "), err
			}
			got = append(got, word)
			continue
		}
		res, err := http.ReadResponse(r, &http.Request{Method: strings.ToUpper(method)})
		if err != nil {
			return strings.Join(append(got, "cut"), " "), err
		}
		var text string
		if res.StatusCode != http.StatusSwitchingProtocols {
			if text, err = readUntil(res.Body, ""); err != nil {
				return strings.Join(append(got, "cut"), " "), err
			}
		}
		if method != http.MethodHead {
			got = append(got, ownWord(strconv.Itoa(res.StatusCode), text))
		} else {
			got = append(got, strconv.Itoa(res.StatusCode))
		}
		method = http.MethodGet
	}
	return strings.TrimSuffix(strings.Join(got, " "), map[bool]string{true: " 200 end"}[last]), nil
}

// ownWord marks a refusal's status that has not the text of a readonly proxy:
// etcd knows both too.
func ownWord(status, text string) string {
	if (status == "501" || status == "12") && !strings.Contains(text, "this endpoint is readonly") {
		return status + "?"
	}
	return status
}

// dialEnd is a plain connection.
func dialEnd(ctx context.Context, address string) (net.Conn, error) {
	return new(net.Dialer).DialContext(ctx, "tcp", address)
}
