package main

import (
	"context"
	"crypto/tls"
	"errors"
	"flag"
	"fmt"
	"net"
	"net/http"
	"os"
	"slices"
	"strings"
	"time"
)

// differentialMain is the program "differential" of the scenarios: it sends the
// requests of tables, byte for byte the same, to a member and to a proxy, and
// compares what comes back: status, fields, body, trailers, and of HTTP/2 in
// which frames.
//
// DIRECT is a cluster of one member and MEMBER its double, with the same IDs; both
// are fresh. THROUGH is a proxy before MEMBER. Every shape goes to DIRECT and then
// THROUGH, in the order of the tables, so that both clusters live through the
// same. What no two members have in common, as the size of their file, is asked
// of MEMBER itself in the place of DIRECT. A shape that is known to differ must
// still do so.
//
//	differential [-cacert FILE] [-atleast N] [-without METHOD,...] [-show NAME] DIRECT THROUGH MEMBER TABLE...
func differentialMain(args []string) int {
	flags := flag.NewFlagSet("differential", flag.ContinueOnError)
	ca := flags.String("cacert", "", "CA file: all three have TLS")
	least := flags.Int("atleast", 0, "how many shapes there must be")
	slow := flags.String("without", "", "calls of the tables that this etcd takes seconds for")
	show := flags.String("show", "", "print the answers to the shapes whose name has this text")
	if err := flags.Parse(args); err != nil || flags.NArg() < 4 {
		fmt.Fprintln(os.Stderr, "usage: differential [-cacert FILE] [-atleast N] [-without METHOD,...] [-show NAME] DIRECT THROUGH MEMBER TABLE...")
		return 2
	}
	ctx, cancel := context.WithTimeout(context.Background(), 8*time.Minute)
	defer cancel()
	if err := holdSides(ctx, flags.Args(), *ca, strings.Split(*slow, ","), *show, *least); err != nil {
		fmt.Fprintln(os.Stderr, "differential:", err)
		return 1
	}
	return 0
}

// shape is one request of a table, or some on one connection.
type shape struct {
	place, name string // place: file and line
	own         bool   // it speaks of the member alone, so the same one is asked twice
	drawn       []string
	differs     string // the label of the part that is known to differ
	http        []httpRequest
	calls       []h2Request
	// build, if not nil, makes the requests anew for each side: its member is home.
	build func(ctx context.Context, home *callEnd) error
}

// isHTTP1 says what the shape is sent by.
func (s *shape) isHTTP1() bool { return len(s.http) > 0 }

func holdSides(ctx context.Context, args []string, ca string, slow []string, show string, least int) error {
	var conf *tls.Config
	if ca != "" {
		var err error
		if conf, err = readTLS(ca, "", ""); err != nil {
			return err
		}
	}
	var sides [3]*side
	for i, address := range args[:3] {
		home := address
		if i == 1 {
			home = args[2]
		}
		end, err := newCallEnd(home)
		if err != nil {
			return err
		}
		defer end.close()
		sides[i] = &side{address: address, tls: conf, home: end}
	}
	shapes, err := readShapes(args[3:], slow)
	if err != nil {
		return err
	}
	count := map[bool]int{}
	var faults []error
	for _, s := range shapes {
		if err := s.compare(ctx, sides, show != "" && strings.Contains(s.name, show)); err != nil {
			faults = append(faults, fmt.Errorf("%s: %s: %w", s.place, s.name, err))
		}
		count[s.isHTTP1()]++
		if ctx.Err() != nil || len(faults) == shownFaults {
			return errors.Join(append(faults, errors.New("the rest was not sent"))...)
		}
	}
	fmt.Printf("%d shapes, %d of them by HTTP/1.1 and %d by HTTP/2; %d differ\n",
		len(shapes), count[true], count[false], len(faults))
	if len(shapes) < least {
		faults = append(faults, fmt.Errorf("%d shapes are less than %d", len(shapes), least))
	}
	return errors.Join(faults...)
}

// shownFaults is after how many faults the rest is not worth its time.
const shownFaults = 20

// shapeLimit is how long one exchange may take.
const shapeLimit = time.Minute

// compare sends the shape to both sides. The error says what is different.
func (s *shape) compare(ctx context.Context, sides [3]*side, show bool) error {
	direct, through, member := sides[0], sides[1], sides[2]
	if s.own {
		direct = member
	}
	start := time.Now()
	want, err := s.send(ctx, direct)
	half := time.Since(start)
	if err != nil {
		err = fmt.Errorf("direct: %w", err)
	}
	got, throughErr := s.send(ctx, through) // whatever came of it, for both to live through the same
	if throughErr != nil {
		err = errors.Join(err, fmt.Errorf("through the proxy: %w", throughErr))
	}
	if err != nil {
		return err
	}
	if show {
		fmt.Printf("%s: %s, direct %v, both %v\n", s.place, s.name, half.Round(time.Millisecond), time.Since(start).Round(time.Millisecond))
		for _, p := range want {
			fmt.Printf("  direct  %s\n", p)
		}
		for _, p := range got {
			fmt.Printf("  through %s\n", p)
		}
	}
	label, difference := want.unlike(got)
	switch {
	case s.differs == "" && label == "":
		return nil
	case s.differs == "":
		return errors.New(difference)
	case s.differs != label:
		return fmt.Errorf("is known to differ in %s, but: %s", s.differs, difference)
	}
	return nil
}

func (s *shape) send(ctx context.Context, to *side) (answer, error) {
	ctx, cancel := context.WithTimeout(ctx, shapeLimit)
	defer cancel()
	var a answer
	var err error
	if s.build != nil {
		if err := s.build(ctx, to.home); err != nil {
			return nil, err
		}
	}
	if s.isHTTP1() {
		a, err = to.sendHTTP(ctx, s.http)
	} else {
		a, err = to.sendH2(ctx, s.calls)
	}
	a.putInPlace(s.drawn)
	return a, err
}

// side is where shapes are sent.
type side struct {
	address string      // host:port
	tls     *tls.Config // nil: in the clear
	home    *callEnd    // the member, in the clear
}

// dial makes a connection that speaks the protocol, as ALPN has it.
func (s *side) dial(ctx context.Context, protocol string) (net.Conn, error) {
	c, err := dialEnd(ctx, s.address)
	if err != nil {
		return nil, err
	}
	if limit, ok := ctx.Deadline(); ok {
		err = c.SetDeadline(limit)
	}
	if s.tls != nil && err == nil {
		conf := s.tls.Clone()
		conf.NextProtos = []string{protocol}
		conf.ServerName, _, _ = net.SplitHostPort(s.address)
		secret := tls.Client(c, conf)
		err = secret.HandshakeContext(ctx)
		return secret, err
	}
	return c, err
}

// pause is the time that the side takes to answer somebody else: what was sent
// before it has arrived there and waits.
func (s *side) pause(ctx context.Context) error {
	_, err := s.sendHTTP(ctx, []httpRequest{{line: "GET /version", chunk: wholeBody}})
	return err
}

// answer is what came back, in its order.
type answer []answerPart

type answerPart struct{ label, text string }

// shownText is how much of a text is printed.
const shownText = 300

// String implements fmt.Stringer.
func (p answerPart) String() string {
	if len(p.text) > shownText {
		return fmt.Sprintf("%s %q… (%d bytes)", p.label, p.text[:shownText], len(p.text))
	}
	return fmt.Sprintf("%s %q", p.label, p.text)
}

// unlike names the first part that is not the same in b; both are empty where
// all are.
func (a answer) unlike(b answer) (label, difference string) {
	for i, p := range a {
		switch {
		case i >= len(b):
			return p.label, fmt.Sprintf("direct has %s, and through the proxy nothing more comes", p)
		case p.label != b[i].label || p.text != b[i].text:
			return p.label, fmt.Sprintf("direct has %s, through the proxy %s", p, b[i].beside(p))
		}
	}
	if len(b) > len(a) {
		return b[len(a)].label, fmt.Sprintf("through the proxy %s comes, direct nothing more", b[len(a)])
	}
	return "", ""
}

// beside shows the part from where a long text begins to differ from another.
func (p answerPart) beside(other answerPart) string {
	same := 0
	for same < min(len(p.text), len(other.text)) && p.text[same] == other.text[same] {
		same++
	}
	if p.label != other.label || same < shownText {
		return p.String()
	}
	end := func(text string) string { return text[same:min(len(text), same+shownText)] }
	return fmt.Sprintf("(%d bytes), which at byte %d has %q and not %q", len(p.text), same, end(p.text), end(other.text))
}

// add appends the fields of one section, in any order, less those that speak of
// one connection.
func (a *answer) add(label string, h http.Header) {
	var lines []string
	for name, values := range h {
		for _, value := range values {
			if line, ok := fieldLine(name, value); ok {
				lines = append(lines, line)
			}
		}
	}
	slices.Sort(lines)
	for _, line := range lines {
		*a = append(*a, answerPart{label, line})
	}
}
