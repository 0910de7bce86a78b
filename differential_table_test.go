package main

import (
	"bufio"
	"context"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
)

// readShapes reads tables: those that end in .shapes, see
// testdata/differential/http.shapes, and those of readonly, less some calls.
func readShapes(names, slow []string) ([]*shape, error) {
	var shapes []*shape
	for _, name := range names {
		var more []*shape
		var err error
		if filepath.Ext(name) == ".shapes" {
			more, err = readOwnShapes(name)
		} else {
			more, err = readCallShapes(name, slow)
		}
		if err != nil {
			return nil, err
		}
		shapes = append(shapes, more...)
	}
	return shapes, nil
}

// ownCalls are of the member itself: its file, its figures and its moment.
var ownCalls = []string{
	"etcdserverpb.Maintenance/Snapshot", "etcdserverpb.Maintenance/Hash", "etcdserverpb.Maintenance/Status",
	"/metrics", "/v2/stats/self", "/v2/stats/leader", "/v2/stats/store",
}

// notTwice says why a call of the tables can't be made to two clusters and be
// the same afterwards; empty: it can. Each of them but the downgrade stands in a table
// of shapes, at the end.
func (c *tableCall) notTwice() string {
	switch {
	case strings.Contains(c.message, "$learner") || c.method == "etcdserverpb.Cluster/MemberAdd":
		return "the ID of a new member comes of the clock"
	case c.method == "etcdserverpb.Lease/LeaseGrant" && !strings.Contains(c.message, `"ID"`):
		return "the ID of such a lease comes of the clock"
	case c.method == "etcdserverpb.Maintenance/Downgrade" && !strings.Contains(c.message, "VALIDATE"):
		return "a member takes to the other version when its clock says so, seconds later"
	case c.isHTTP() && c.verdict == refused && strings.HasPrefix(c.paths[0], "/v2/"):
		return "it would stop a cluster of one member"
	}
	return ""
}

// streamCalls are answered for as long as the client likes.
var streamCalls = []string{
	"etcdserverpb.Watch/Watch", "etcdserverpb.Lease/LeaseKeepAlive", "v3electionpb.Election/Observe", "grpc.health.v1.Health/Watch",
	"grpc.reflection.v1.ServerReflection/ServerReflectionInfo", "grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo",
}

func (c *tableCall) isStream() bool { return slices.Contains(streamCalls, c.method) }

// twiceBy are the ways to make the call that etcd knows. What the calls are to
// change is made by gRPC for each of them.
func (c *tableCall) twiceBy() []callWay {
	list := slices.DeleteFunc(c.ways(), func(way callWay) bool { return !way.original })
	if c.verdict == prepare && strings.Contains(c.message, "$") {
		for _, mark := range marks[1:] {
			way := list[0]
			way.mark, way.lease = mark.mark, mark.lease
			list = append(list, way)
		}
	}
	return list
}

// readCallShapes makes shapes of the calls of readonly's tables, by each way
// that etcd knows.
func readCallShapes(name string, slow []string) ([]*shape, error) {
	calls, err := readCalls(name)
	if err != nil {
		return nil, err
	}
	var shapes []*shape
	for _, c := range calls {
		if c.isHTTP() {
			c.paths = []string{c.paths[0]}
		}
		if c.notTwice() != "" || slices.Contains(slow, c.method) {
			continue
		}
		for _, way := range c.twiceBy() {
			s := &shape{place: c.place, name: way.String()}
			s.own = slices.Contains(ownCalls, c.method) || slices.ContainsFunc(c.paths, func(p string) bool { return slices.Contains(ownCalls, p) })
			switch {
			case c.method == "etcdserverpb.Maintenance/Snapshot":
				s.drawn = []string{snapshotWord}
			case c.method == "etcdserverpb.Maintenance/Status":
				s.drawn = []string{"numbers"}
			case c.method == "etcdserverpb.Auth/Authenticate":
				s.drawn = []string{"token"}
			case c.isHTTP() && c.paths[0] == "/metrics":
				s.drawn = []string{"samples"}
			case c.isHTTP() && strings.HasPrefix(c.paths[0], "/v2/stats/"):
				s.drawn = []string{"times", "numbers"}
			case c.isHTTP() && strings.HasPrefix(c.paths[0], "/v2/keys"):
				s.drawn = []string{"times"}
			}
			s.build = func(ctx context.Context, home *callEnd) error { return s.fromCall(ctx, &c, &way, home) }
			shapes = append(shapes, s)
		}
	}
	return shapes, nil
}

// fromCall makes the request of a call, whose words that begin with $ are of the
// member home.
func (s *shape) fromCall(ctx context.Context, c *tableCall, way *callWay, home *callEnd) error {
	message, has := home.fill(ctx, c.message, way), home.fill(ctx, c.has, way)
	token := home.token(ctx)
	if way.method == "" {
		r := h2Request{fields: append(asGRPC(way.target), token...), pieces: wholeBody, window: defaultWindow}
		err := r.takeMessages(way.target, []string{message})
		if c.isStream() {
			r.answers, r.open = 1, r.method.IsStreamingClient()
		}
		r.decode = len(s.drawn) > 0
		s.calls = []h2Request{r}
		return err
	}
	r := httpRequest{line: way.method + " " + way.target, body: message, chunk: wholeBody}
	switch {
	case c.isHTTP() && strings.Contains(way.target, "stream=true"):
		r.until = has
	case !c.isHTTP() && c.isStream():
		r.until = "\n"
	}
	switch {
	case strings.HasPrefix(message, "{"):
		r.fields = append(r.fields, "Content-Type: application/json")
	case message != "":
		r.fields = append(r.fields, bypassForm)
	}
	if len(token) > 0 {
		r.fields = append(r.fields, "Authorization: "+token[1])
	}
	s.http = []httpRequest{r}
	return nil
}

// readOwnShapes reads a table of shapes: name | line | fields | body | how.
func readOwnShapes(name string) ([]*shape, error) {
	file, err := os.Open(name)
	if err != nil {
		return nil, err
	}
	defer file.Close()
	var shapes []*shape
	lines := bufio.NewScanner(file)
	for number := 1; lines.Scan(); number++ {
		line := strings.TrimSpace(lines.Text())
		if line == "" || line[0] == '#' {
			continue
		}
		cells := strings.Split(line, "|")
		place := fmt.Sprintf("%s:%d", filepath.Base(name), number)
		if len(cells) != 5 {
			return nil, fmt.Errorf("%s: %d cells, not 5", place, len(cells))
		}
		for i := range cells {
			cells[i] = strings.TrimSpace(cells[i])
		}
		if cells[0] == `"` && len(shapes) > 0 {
			err = shapes[len(shapes)-1].more(cells)
		} else {
			s := &shape{place: place, name: cells[0]}
			err = s.more(cells)
			shapes = append(shapes, s)
		}
		if err != nil {
			return nil, fmt.Errorf("%s: %w", place, err)
		}
	}
	return shapes, lines.Err()
}

// bigWord is a value of so many bytes, which is good base64 too.
var bigWord = regexp.MustCompile(`\$big:(\d+)`)

// more adds the request of one line to those on the same connection.
func (s *shape) more(cells []string) error {
	for i, cell := range cells {
		cells[i] = bigWord.ReplaceAllStringFunc(cell, func(word string) string {
			n, _ := strconv.Atoi(strings.TrimPrefix(word, "$big:"))
			return strings.Repeat("YWJj", n/4)
		})
	}
	line, how := cells[1], parts(cells[4])
	how = slices.DeleteFunc(how, func(word string) bool {
		name, value, _ := strings.Cut(word, "=")
		switch name {
		case "own":
			s.own = true
		case "drawn":
			s.drawn = append(s.drawn, value)
		case "differs":
			s.differs = value
		default:
			return false
		}
		return true
	})
	target, isH2 := strings.CutPrefix(line, "h2 ")
	switch {
	case isH2 || strings.HasPrefix(line, "/"):
		r, err := newH2Request(target, parts(cells[2]), cells[3], how)
		r.decode = len(s.drawn) > 0
		s.calls = append(s.calls, r)
		return err
	default:
		r, err := newHTTPRequest(line, parts(cells[2]), cells[3], how)
		s.http = append(s.http, r)
		return err
	}
}

// parts splits a cell at each semicolon with a blank behind.
func parts(cell string) []string {
	if cell == "" {
		return nil
	}
	list := strings.Split(cell, "; ")
	for i := range list {
		list[i] = strings.TrimSpace(list[i])
	}
	return list
}
