package h1

import (
	"fmt"
	"strings"
	"testing"

	"etcdops/proxy/policy"
)

// A Txn is judged whole before a member has a byte of it, however it comes.
func TestReadonlyJudgesATxn(t *testing.T) {
	const reads, writes = `{"success":[{"requestRange":{"key":"YQ=="}}]}`, `{"success":[{"requestPut":{"key":"YQ=="}}]}`
	head := "POST /v3/kv/txn HTTP/1.1\r\nHost: a\r\n"
	sized := func(body, more string) string {
		return fmt.Sprintf("%s%sContent-Length: %d\r\n\r\n%s", head, more, len(body), body)
	}
	chunked := func(body string) string {
		var text strings.Builder
		text.WriteString(head + "Transfer-Encoding: chunked\r\nTrailer: X\r\n\r\n")
		for _, b := range []byte(body) {
			fmt.Fprintf(&text, "1\r\n%c\r\n", b)
		}
		return text.String() + "0\r\nX: y\r\n\r\n"
	}
	for name, test := range map[string]struct {
		request string
		status  int
	}{
		"reads":                {sized(reads, ""), 200},
		"reads, chunked":       {chunked(reads), 200},
		"reads, escaped path":  {strings.Replace(sized(reads, ""), "/kv/txn", "/k%76%2Ftxn", 1), 200},
		"reads, large":         {sized(`{"success":[{"requestRange":{"key":"`+strings.Repeat("YQ==", 100_000)+`"}}]}`, ""), 200},
		"writes":               {sized(writes, ""), 501},
		"writes, chunked":      {chunked(writes), 501},
		"writes, escaped path": {strings.Replace(sized(writes, ""), "/kv/txn", "/kv%2Ftxn", 1), 501},
		"writes behind reads":  {sized(reads+writes, ""), 501},
		"encoded":              {sized(reads, "Content-Encoding: gzip\r\n"), 501},
		"wants to be asked":    {sized(reads, "Expect: 100-continue\r\n"), 417},
		"no body":              {head + "\r\n", 501},
		"too large":            {sized(strings.Repeat(" ", policy.JudgeLimit+1), ""), 413},
	} {
		t.Run(name, func(t *testing.T) {
			p := newPeer(t, answer(ok("up")))
			g := newRig(t, func(r *Relay) { r.Readonly = true }, p.url)
			before := policy.Kept.Load()
			c := g.dial(t)
			c.send(test.request)
			res, _ := c.whole("POST")
			if res.StatusCode != test.status {
				t.Errorf("status %d", res.StatusCode)
			}
			if reached := p.hits.Load() > 0; reached != (test.status == 200) {
				t.Errorf("reached a member: %v", reached)
			}
			eventually(t, "what was kept is given up", func() bool { return policy.Kept.Load() == before })
		})
	}
}

// A write behind a read on one connection is judged for itself.
func TestReadonlyJudgesWhatIsPipelined(t *testing.T) {
	p := newPeer(t, answer(ok("up")))
	g := newRig(t, func(r *Relay) { r.Readonly = true }, p.url)
	c := g.dial(t)
	body := `{"success":[]}`
	c.send("GET /v2/keys/a HTTP/1.1\r\nHost: a\r\n\r\n" +
		fmt.Sprintf("POST /v3/kv/txn HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\n\r\n%s", len(body), body) +
		"PUT /v2/keys/a HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n" +
		"POST /v3/kv/put HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\n{}" +
		"GET /v2/keys/b HTTP/1.1\r\nHost: a\r\n\r\n")
	for i, want := range []int{200, 200, 501, 501, 200} {
		method := []string{"GET", "POST", "PUT", "POST", "GET"}[i]
		if res, _ := c.whole(method); res.StatusCode != want {
			t.Errorf("answer %d has status %d, want %d", i, res.StatusCode, want)
		}
	}
	if p.hits.Load() != 3 {
		t.Errorf("%d requests have reached the member", p.hits.Load())
	}
}

// What has come of a body takes room, what has not come takes none from others; all
// is given back when the client leaves.
func TestReadonlyCountsBodies(t *testing.T) {
	p := newPeer(t, answer(ok("up")))
	g := newRig(t, func(r *Relay) { r.Readonly = true }, p.url)
	before := policy.Kept.Load()
	slow := g.dial(t)
	slow.send("POST /v3/kv/txn HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n1\r\n{\r\n")
	eventually(t, "its room is taken", func() bool { return policy.Kept.Load() == before+1 })

	policy.Kept.Add(policy.KeptLimit)
	c := g.dial(t)
	c.send("POST /v3/kv/txn HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\n{}")
	if res, _ := c.whole("POST"); res.StatusCode != 503 {
		t.Errorf("over the cap: status %d", res.StatusCode)
	}
	policy.Kept.Add(-policy.KeptLimit)

	slow.Close()
	eventually(t, "it is given back", func() bool { return policy.Kept.Load() == before })
	if p.hits.Load() > 0 {
		t.Error("a request has reached the member")
	}
}
