package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"slices"
	"strings"
	"time"
)

// callsMain is the program "calls" of the scenarios: it holds a readonly proxy
// against tables of calls.
//
// READONLY is a readonly proxy before MEMBER, READWRITE another proxy before
// TWIN; each member, host:port, is a cluster for itself and fresh. What the
// tables call a write is made by READWRITE first and must change what TWIN says
// of its state; by READONLY it must be refused, and after no call may MEMBER's
// state be another. What they say passes must get from READONLY the answer that
// MEMBER itself gives. METHODs of -blind change nothing that this etcd shows.
//
//	calls [-page FILE] [-blind METHOD,...] READONLY MEMBER READWRITE TWIN TABLE...
func callsMain(args []string) int {
	flags := flag.NewFlagSet("calls", flag.ContinueOnError)
	page := flags.String("page", "", "page that names each call of the tables")
	blind := flags.String("blind", "", "methods whose writes do not show")
	if err := flags.Parse(args); err != nil || flags.NArg() < 5 {
		fmt.Fprintln(os.Stderr, "usage: calls [-page FILE] [-blind METHOD,...] READONLY MEMBER READWRITE TWIN TABLE...")
		return 2
	}
	ctx, cancel := context.WithTimeout(context.Background(), 8*time.Minute)
	defer cancel()
	if err := holdCalls(ctx, flags.Args(), *page, strings.Split(*blind, ",")); err != nil {
		fmt.Fprintln(os.Stderr, "calls:", err)
		return 1
	}
	return 0
}

func holdCalls(ctx context.Context, args []string, page string, blind []string) error {
	var calls []tableCall
	for _, name := range args[4:] {
		more, err := readCalls(name)
		if err != nil {
			return err
		}
		calls = append(calls, more...)
	}
	if page != "" {
		if err := sameAsPage(calls, page); err != nil {
			return err
		}
	}
	var ends [4]*callEnd
	for i, address := range args[:4] {
		end, err := newCallEnd(address)
		if err != nil {
			return err
		}
		defer end.close()
		ends[i] = end
	}
	readonly, member, readwrite, twin := ends[0], ends[1], ends[2], ends[3]
	for _, end := range []*callEnd{member, twin} {
		if err := prepareCalls(ctx, calls, end); err != nil {
			return err
		}
	}
	proved, err := proveWrites(ctx, calls, readwrite, twin, blind)
	if err != nil {
		return err
	}
	count, err := refuseWrites(ctx, calls, readonly, member)
	if err != nil {
		return err
	}
	for _, kind := range []string{"gRPC", "JSON", "HTTP"} {
		if count[kind+passes] == 0 {
			continue
		}
		fmt.Printf("%s: %d calls pass, %d are refused, %d of them proved to write\n",
			kind, count[kind+passes], count[kind+refused], proved[kind])
	}
	return nil
}

// kind is what a call by this way counts as.
func (c *tableCall) kind(way *callWay) string {
	switch {
	case c.isHTTP():
		return "HTTP"
	case way.method == "":
		return "gRPC"
	}
	return "JSON"
}

// prepareCalls makes what the calls are to change; in each way's own words, or
// once where the words have no part of a way.
func prepareCalls(ctx context.Context, calls []tableCall, end *callEnd) error {
	for _, c := range calls {
		if c.verdict != prepare {
			continue
		}
		for _, mark := range marks {
			way := callWay{target: "/" + c.method, mark: mark.mark, lease: mark.lease}
			if c.isHTTP() {
				way.method, way.target = c.method, c.paths[0]
			}
			got, err := end.call(ctx, &c, &way, end)
			if err != nil {
				return err
			}
			if !slices.Contains([]string{"OK", "200", "201"}, got.status) {
				return fmt.Errorf("%s: prepare %s: %s %s", c.place, &way, got.status, got.text)
			}
			if !strings.Contains(c.message, "$p") && !strings.Contains(c.message, "$lease") {
				break
			}
		}
	}
	return nil
}

// proveWrites makes the writes by a readwrite proxy, and says how many of each
// kind have changed the cluster behind it. All are made in one way and then in
// the next, since some undo what others do.
func proveWrites(ctx context.Context, calls []tableCall, readwrite, twin *callEnd, blind []string) (map[string]int, error) {
	proved := map[string]int{}
	before, err := twin.state(ctx)
	if err != nil {
		return nil, err
	}
	for _, mark := range marks {
		for _, c := range calls {
			if c.verdict != writes || slices.Contains(blind, c.method) {
				continue
			}
			for _, way := range c.ways() {
				if way.mark != mark.mark || !way.original {
					continue
				}
				got, err := readwrite.call(ctx, &c, &way, twin)
				if err != nil {
					return nil, err
				}
				after, err := twin.state(ctx)
				if err != nil {
					return nil, err
				}
				if before == after {
					return nil, fmt.Errorf("%s: %s writes nothing where it may: %s %s", c.place, &way, got.status, got.text)
				}
				before = after
				proved[c.kind(&way)]++
			}
		}
	}
	return proved, nil
}

// refuseWrites makes all calls by a readonly proxy, and says how many of each
// kind have passed and were refused.
func refuseWrites(ctx context.Context, calls []tableCall, readonly, member *callEnd) (map[string]int, error) {
	count := map[string]int{}
	before, err := member.state(ctx)
	if err != nil {
		return nil, err
	}
	for _, c := range calls {
		if c.verdict == prepare {
			continue
		}
		for _, way := range c.ways() {
			got, err := readonly.call(ctx, &c, &way, member)
			if err != nil {
				return nil, err
			}
			if err := judgeAnswer(ctx, &c, &way, got, member); err != nil {
				return nil, fmt.Errorf("%s: %s: %w", c.place, &way, err)
			}
			word := refused
			if c.verdict == passes {
				word = passes
			}
			count[c.kind(&way)+word]++
		}
		after, err := member.state(ctx)
		if err != nil {
			return nil, err
		}
		if before != after {
			return nil, fmt.Errorf("%s: %s has written:\n%s\nwas\n%s", c.place, c.method, after, before)
		}
	}
	return count, nil
}

// judgeAnswer says what is wrong with a readonly proxy's answer.
func judgeAnswer(ctx context.Context, c *tableCall, way *callWay, got *callAnswer, member *callEnd) error {
	if c.verdict != passes {
		if !got.refused() {
			return fmt.Errorf("is not refused: %s %s", got.status, got.text)
		}
		return nil
	}
	if got.refused() {
		return errors.New("is refused: " + got.text)
	}
	own, err := member.call(ctx, c, way, member)
	if err != nil {
		return err
	}
	if got.status != own.status {
		return fmt.Errorf("has status %s, the member says %s", got.status, own.status)
	}
	if has := member.fill(ctx, c.has, way); way.original && own.good() && !strings.Contains(got.text, has) {
		return fmt.Errorf("the answer has no %s: %s %s", has, got.status, got.text)
	}
	return nil
}
