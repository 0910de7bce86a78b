package main

import (
	"bufio"
	"fmt"
	"os"
	"regexp"
	"slices"
	"strings"
)

// The verdicts of a table, see testdata/readonly/v3.table.
const (
	prepare = "prepare"
	passes  = "passes"
	writes  = "writes"
	refused = "refused"
)

// tableCall is one line of a table. A call of v3 has a full method and the paths
// that it has in the JSON gateway; a plain HTTP request has its method and one
// target.
type tableCall struct {
	place   string // file and line
	verdict string
	method  string
	paths   []string
	message string
	has     string // what the answer must have in it
}

func (c *tableCall) isHTTP() bool { return !strings.Contains(c.method, "/") }

// callWay is one way to make a call.
type callWay struct {
	method, target string // HTTP; for gRPC the method is empty
	mark           string // $p: what it is to change is its own
	lease          string // $lease
	original       bool   // etcd knows this way, so that a write does write by it
}

func (w *callWay) String() string {
	if w.method == "" {
		return "gRPC " + w.target
	}
	return w.method + " " + w.target
}

// marks stand for $p and $lease. They are good base64 and good names.
var marks = []callWay{{mark: "grpc", lease: "101"}, {mark: "json", lease: "102"}, {mark: "else", lease: "103"}}

// ways are all ways to make a call.
func (c *tableCall) ways() []callWay {
	way := func(method, target string, mark int, original bool) callWay {
		return callWay{method, target, marks[mark].mark, marks[mark].lease, original}
	}
	if c.isHTTP() {
		return []callWay{way(c.method, c.paths[0], 0, true)}
	}
	list := []callWay{way("", "/"+c.method, 0, true)}
	for i, path := range c.paths {
		list = append(list, way("POST", path, i+1, true))
	}
	for i, path := range c.paths {
		for _, prefix := range []string{"/v3beta", "/v3alpha"} {
			list = append(list, way("POST", prefix+strings.TrimPrefix(path, "/v3"), i+1, false))
		}
		if c.verdict != passes {
			list = append(list, way("GET", path, i+1, false), way("PUT", path, i+1, false))
		}
	}
	return list
}

// readCalls reads a table: verdict | method | paths | message | answer.
func readCalls(name string) ([]tableCall, error) {
	file, err := os.Open(name)
	if err != nil {
		return nil, err
	}
	defer file.Close()
	var calls []tableCall
	lines := bufio.NewScanner(file)
	for number := 1; lines.Scan(); number++ {
		line := strings.TrimSpace(lines.Text())
		if line == "" || line[0] == '#' {
			continue
		}
		place := fmt.Sprintf("%s:%d", name, number)
		cells := strings.Split(line, "|")
		if len(cells) != 5 {
			return nil, fmt.Errorf("%s: %d cells, not 5", place, len(cells))
		}
		for i := range cells {
			cells[i] = strings.TrimSpace(cells[i])
		}
		if !slices.Contains([]string{prepare, passes, writes, refused}, cells[0]) {
			return nil, fmt.Errorf("%s: unknown verdict %q", place, cells[0])
		}
		call := tableCall{place: place, verdict: cells[0], method: cells[1], message: cells[3], has: cells[4]}
		if cells[2] != "" && cells[2] != "–" {
			call.paths = strings.Split(cells[2], ", ")
		}
		calls = append(calls, call)
	}
	return calls, lines.Err()
}

// pageLine is a line of the table of docs/readonly.md.
var pageLine = regexp.MustCompile("(?m)^\\| `([^`]+)` \\| (.*) \\| (passes|refused|by its content) \\|$")

// sameAsPage holds the calls against the page: each of them is there, with its
// paths, and goes as the page says, and no other.
func sameAsPage(calls []tableCall, name string) error {
	page, err := os.ReadFile(name)
	if err != nil {
		return err
	}
	seen := map[string]bool{}
	for _, found := range pageLine.FindAllStringSubmatch(string(page), -1) {
		method, paths := found[1], strings.ReplaceAll(strings.ReplaceAll(found[2], "`", ""), "–", "")
		seen[method] = true
		words := map[string]bool{}
		for _, c := range calls {
			if c.method != method || c.verdict == prepare {
				continue
			}
			words[strings.ReplaceAll(c.verdict, writes, refused)] = true
			if strings.Join(c.paths, ", ") != paths {
				return fmt.Errorf("%s: %s has the paths %s on the page", c.place, method, paths)
			}
		}
		want := map[string]bool{found[3]: true}
		if found[3] == "by its content" {
			want = map[string]bool{passes: true, refused: true}
		}
		if fmt.Sprint(words) != fmt.Sprint(want) {
			return fmt.Errorf("%s %s on the page, in the table %v", method, found[3], words)
		}
	}
	for _, c := range calls {
		if !c.isHTTP() && !seen[c.method] {
			return fmt.Errorf("%s: %s is not on the page", c.place, c.method)
		}
	}
	return nil
}
