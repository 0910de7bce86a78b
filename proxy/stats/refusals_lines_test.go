package stats

import (
	"bytes"
	"log/slog"
	"regexp"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// A flood of refusals makes a line each ten seconds, which tells how many they were,
// and the last ones get theirs too.
func TestRefusalLines(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var log bytes.Buffer
		r := &Refusals{Logger: slog.New(slog.NewTextHandler(&log, nil))}
		for range 200 { // 26 s, and never at the moment of a line
			r.Refuse(Silent, "http://127.0.0.1:2379", "10.0.0.1:1")
			time.Sleep(130 * time.Millisecond) // of the bubble's clock
		}
		r.Refuse(Loop, "GET /version", "10.0.0.1:2")
		time.Sleep(time.Minute)
		r.Refuse(Silent, "", "10.0.0.1:3")
		synctest.Wait()
		got := regexp.MustCompile(`reason=[a-z]+ count=\d+`).FindAllString(log.String(), -1)
		want := "reason=silent count=1|reason=silent count=76|reason=silent count=77|reason=loop count=1|reason=silent count=46|reason=silent count=1"
		if strings.Join(got, "|") != want {
			t.Errorf("got  %s\nwant %s", strings.Join(got, "|"), want)
		}
		if r.Total() != 202 {
			t.Errorf("%d were counted", r.Total())
		}
	})
}

// Each kind of failed handshake has its own line: one that comes often hides no other.
func TestRefusalLinesOfHandshakes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var log bytes.Buffer
		r := &Refusals{Logger: slog.New(slog.NewTextHandler(&log, nil))}
		for range 3 {
			r.Refuse(TLSHandshake, "no certificate", "10.0.0.1:1")
			r.Refuse(TLSHandshake, "no TLS", "10.0.0.1:2")
		}
		time.Sleep(time.Minute)
		synctest.Wait()
		got := regexp.MustCompile(`count=\d+ last="[^"]*"`).FindAllString(log.String(), -1)
		slices.Sort(got) // timers of one moment have no order
		want := `count=1 last="no TLS"|count=1 last="no certificate"|count=2 last="no TLS"|count=2 last="no certificate"`
		if strings.Join(got, "|") != want || r.Total() != 6 {
			t.Errorf("got  %s\nwant %s", strings.Join(got, "|"), want)
		}
	})
}

// A line names a request without what may be a secret in it.
func TestRefusalTellsNoQuery(t *testing.T) {
	for _, what := range []string{
		"PUT /v2/keys/a?value=secret", "PUT /v2/keys/a%3Fvalue=secret", "PUT /v2/keys/a#secret", "PUT /v2/keys/a;secret", "PUT /v2/keys/a&secret",
	} {
		var log bytes.Buffer
		r := &Refusals{Logger: slog.New(slog.NewTextHandler(&log, nil))}
		r.Refuse(Readonly, what, "10.0.0.1:1")
		if !strings.Contains(log.String(), `last="PUT /v2/keys/a"`) {
			t.Errorf("%s: %s", what, log.String())
		}
	}
}
