package proxy

import (
	"bytes"
	"context"
	"log/slog"
	"net/http/httptest"
	"os"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"etcdops/proxy/stats"
)

var (
	describedMetric = regexp.MustCompile(`^Desc{fqName: "([^"]+)", help: "[^"]+", constLabels: {}, variableLabels: {([^}]*)}}$`)
	quotedWord      = regexp.MustCompile("`([a-z0-9_]+)`")
	ownMetric       = regexp.MustCompile(`etcdops_proxy_[a-z0-9_]+`)
)

// described are the metrics as rows: the name, and in order the labels.
func described(t *testing.T) (rows, names []string) {
	t.Helper()
	for _, d := range metrics {
		found := describedMetric.FindStringSubmatch(d.String())
		if found == nil {
			t.Fatalf("%s is described in another form", d)
		}
		labels := strings.FieldsFunc(found[2], func(r rune) bool { return r == ',' })
		slices.Sort(labels)
		rows, names = append(rows, found[1]+" "+strings.Join(labels, " ")), append(names, found[1])
	}
	slices.Sort(rows)
	return rows, names
}

// TestMetricsAreDocumented holds docs/metrics.md against the metrics: each one is in
// the page with its labels, and so is each value of the reasons and causes; the page
// has no other.
func TestMetricsAreDocumented(t *testing.T) {
	page, err := os.ReadFile("../docs/metrics.md")
	if err != nil {
		t.Fatal(err)
	}
	rows, names := described(t)
	var documented []string
	values := map[string][]string{} // of a label
	for line := range strings.Lines(string(page)) {
		cells := strings.Split(line, "|")
		if len(cells) < 4 {
			continue
		}
		var first []string
		for _, found := range quotedWord.FindAllStringSubmatch(cells[1], -1) {
			first = append(first, found[1])
		}
		var words []string
		for _, found := range quotedWord.FindAllStringSubmatch(cells[min(3, len(cells)-2)], -1) {
			words = append(words, found[1])
		}
		switch {
		case len(first) == 0:
		case strings.HasPrefix(first[0], "etcdops_proxy_"):
			slices.Sort(words)
			documented = append(documented, first[0]+" "+strings.Join(words, " "))
		case len(cells) == 4: // of the table of labels
			label := strings.ReplaceAll(strings.TrimSpace(cells[1]), "`", "")
			for _, found := range quotedWord.FindAllStringSubmatch(cells[2], -1) {
				values[label] = append(values[label], found[1])
			}
		}
	}
	slices.Sort(documented)
	if !slices.Equal(rows, documented) {
		t.Errorf("there are\n%s\ndocumented are\n%s", strings.Join(rows, "\n"), strings.Join(documented, "\n"))
	}
	for _, named := range ownMetric.FindAllString(string(page), -1) {
		if !slices.Contains(names, named) {
			t.Errorf("the page names %s, which is no metric", named)
		}
	}
	var reasons, causes []string
	new(stats.Refusals).Each(func(r stats.Reason, _ int64) { reasons = append(reasons, r.String()) })
	new(stats.Retries).Each(func(c stats.Cause, _ int64) { causes = append(causes, c.String()) })
	for label, want := range map[string][]string{"reason of refusals": reasons, "cause": causes, "reason of endpoints": unusedReasons} {
		if !slices.Equal(values[label], want) {
			t.Errorf("values of %s are %q, documented are %q", label, want, values[label])
		}
		for _, value := range want {
			if label != "reason of endpoints" && !strings.Contains(string(page), "\n| `"+value+"` | ") {
				t.Errorf("%s %s has no row that says what it means", label, value)
			}
		}
	}
}

// TestAlertsNameMetrics holds the rules and their tests against the metrics.
func TestAlertsNameMetrics(t *testing.T) {
	_, names := described(t)
	for _, file := range []string{"../docs/alerts.yml", "../docs/alerts_test.yml"} {
		rules, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		found := ownMetric.FindAllString(string(rules), -1)
		if len(found) == 0 {
			t.Errorf("%s names no metric", file)
		}
		for _, named := range found {
			if !slices.Contains(names, named) {
				t.Errorf("%s names %s, which is no metric", file, named)
			}
		}
	}
}

// safeBuffer is a log that is read while it is written.
type safeBuffer struct {
	mu  sync.Mutex
	all bytes.Buffer
}

func (b *safeBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.all.Write(p)
}

func (b *safeBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.all.String()
}

func scrape(t *testing.T, s *Server) string {
	t.Helper()
	answer := httptest.NewRecorder()
	s.observation().ServeHTTP(answer, httptest.NewRequestWithContext(t.Context(), "GET", "/metrics", nil))
	if answer.Code != 200 {
		t.Fatalf("got %d %s", answer.Code, answer.Body)
	}
	return answer.Body.String()
}

// Odd members neither end the proxy nor hide the other figures: twins of one name,
// one without a name, a name that is no text.
func TestMetricsOfOddMembers(t *testing.T) {
	urls := []string{httpMember(t, "a"), httpMember(t, "b"), httpMember(t, "c"), httpMember(t, "d"), httpMember(t, "e")}
	var log safeBuffer
	p := startServer(t, func(s *Server) {
		s.Logger = slog.New(slog.NewTextHandler(&log, nil))
		s.Members = func(context.Context) (View, error) {
			return View{At: time.Now(), Members: []Member{
				{ID: 1, Name: "twin", ClientURLs: []string{urls[0]}},
				{ID: 2, Name: "twin", ClientURLs: []string{urls[1], urls[1]}},
				{ID: 3, ClientURLs: []string{urls[2]}},
				{ID: 4, Name: "bad\xff", ClientURLs: []string{urls[3]}},
				{ID: 5, Name: "learner", ClientURLs: []string{urls[4]}, Learner: true},
				{ID: 6},
			}}, nil
		}
	})
	waitUntil(t, "the list is there", func() bool { return p.director.Size() == 4 })
	get(t, "http://"+p.addr+"/version")
	text := scrape(t, p.Server)
	for _, line := range []string{
		`etcdops_proxy_members 6`, `etcdops_proxy_endpoints 4`,
		`etcdops_proxy_unused_endpoints{reason="learner"} 1`, `etcdops_proxy_unused_endpoints{reason="loop"} 0`,
		`etcdops_proxy_endpoint_up{member="twin",url="` + urls[0] + `"} 1`,
		`etcdops_proxy_endpoint_up{member="twin",url="` + urls[1] + `"} 1`,
		`etcdops_proxy_endpoint_up{member="0000000000000003",url="` + urls[2] + `"} 1`,
		`etcdops_proxy_member_connections{member="twin",protocol="http2"} 0`,
	} {
		if !strings.Contains(text, "\n"+line+"\n") {
			t.Errorf("no %s in\n%s", line, text)
		}
	}
	if strings.Contains(text, `"learner",`) || strings.Contains(text, "bad") {
		t.Errorf("there is more than there should be:\n%s", text)
	}
	if !strings.Contains(log.String(), "UTF-8") {
		t.Errorf("the log does not say what was left out:\n%s", log.String())
	}
}

// A member that changes its client URLs goes on counting.
func TestMetricsOfAMemberThatMoves(t *testing.T) {
	urls := []string{httpMember(t, "a"), httpMember(t, "a")}
	lists := make(chan []string, 1)
	now := []string{urls[0]}
	p := startServer(t, func(s *Server) {
		s.Members = func(context.Context) (View, error) {
			select {
			case now = <-lists:
			default:
			}
			return View{At: time.Now(), Members: []Member{{ID: 1, Name: "m", ClientURLs: now}}}, nil
		}
	})
	count := func() int64 {
		n := int64(0)
		for _, r := range p.figures().Requests {
			if r.Member == "m" {
				n += r.Count
			}
		}
		return n
	}
	for i, list := range [][]string{{urls[0]}, {urls[0], urls[1]}, {urls[1]}} {
		lists <- list
		waitUntil(t, "the list is there", func() bool {
			return len(lists) == 0 && slices.Equal(slices.Sorted(slices.Values(p.director.Available())), slices.Sorted(slices.Values(list)))
		})
		get(t, "http://"+p.addr+"/version")
		waitUntil(t, "the request is counted", func() bool { return count() == int64(i+1) })
		if bytes := p.figures().MemberBytes; len(bytes) != 1 || bytes[0].Received == 0 {
			t.Errorf("bytes are %+v", bytes)
		}
	}
}
