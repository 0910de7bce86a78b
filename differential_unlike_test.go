package main

import (
	"crypto/sha256"
	"encoding/base64"
	"fmt"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// hopByHopFields speak of one connection, so that a proxy has its own (RFC 9110
// section 7.6.1, RFC 9112 section 6.1). Everything else must arrive.
var hopByHopFields = []string{
	"connection", "keep-alive", "proxy-connection", "proxy-authenticate", "proxy-authorization",
	"te", "trailer", "transfer-encoding", "upgrade",
}

// momentFields are there on both sides, but have what is true at that moment:
// Date is the second of the answer; X-Raft-Index counts also what a member of 3.5
// writes into its log by itself, twice a second.
var momentFields = []string{"date", "x-raft-index"}

// momentText is what /version says of the file's format: a member of 3.6 or later
// brings it up some seconds after its start.
var momentText = regexp.MustCompile(`"storage":"[0-9.]+"`)

// fieldLine is a field as it is compared; not ok: it is not.
func fieldLine(name, value string) (line string, ok bool) {
	name = strings.ToLower(name)
	if slices.Contains(hopByHopFields, name) {
		return "", false
	}
	if slices.Contains(momentFields, name) {
		value = "…"
	}
	return name + ": " + value, true
}

// drawnTexts are what a member draws or counts anew for each request, by the word
// that a table names them with.
var drawnTexts = map[string]*regexp.Regexp{
	// The end of a key of v2, and how far it is.
	"times": regexp.MustCompile(`"expiration":"[^"]*","ttl":\d+|"[a-zA-Z]*[tT]ime":"[^"]*"`),
	// A token of authentication.
	"token": regexp.MustCompile(`[A-Za-z]{16}\.\d+`),
	// The ID of a lease or a member, which comes of the clock.
	"id": regexp.MustCompile(`"(ID|id)":"?\d+"?|"ID":"[0-9a-f]+"|"id":"[0-9a-f]+"`),
	// What a member has counted, measured, or used by now.
	"numbers": regexp.MustCompile(`-?\d+(\.\d+)?(e[+-]?\d+)?([nµm]?s|[kMG]?B/s)?`),
	// All lines but those that name what is measured.
	"samples": regexp.MustCompile(`(?m)^([^#]|# HELP).*\n`),
}

// putInPlace puts an ellipsis where the answer has what the words stand for. A
// length that follows from it is one too.
func (a *answer) putInPlace(words []string) {
	if slices.Contains(words, deadlineWord) {
		*a = slices.DeleteFunc(*a, func(p answerPart) bool { return p.label == "trailer" })
	}
	(*a).putWords(words)
}

func (a answer) putWords(words []string) {
	changed := false
	for i, p := range a {
		if p.label == "frames" && slices.Contains(words, deadlineWord) {
			a[i].text = deadlineEnd.ReplaceAllString(p.text, "…")
		}
		if p.label == "body" {
			a[i].text = momentText.ReplaceAllString(p.text, `"storage":"…"`)
			p = a[i]
		}
		for _, word := range words {
			if word == snapshotWord && p.label == "body" {
				a[i].text, changed = snapshotText(p.text), true
				continue
			}
			if drawnTexts[word] == nil {
				continue
			}
			if text := drawnTexts[word].ReplaceAllString(p.text, "…"); p.label == "body" && text != p.text {
				text = membersInOrder(text)
				a[i].text, p.text, changed = text, text, true
			}
		}
	}
	for i, p := range a {
		if changed && p.label == "field" && strings.HasPrefix(p.text, "content-length: ") {
			a[i].text = "content-length: …"
		}
	}
}

var (
	memberLists = regexp.MustCompile(`"members":\[[^{}\]]*(\{[^{}]*\}[^{}\]]*)+\]`)
	listedOne   = regexp.MustCompile(`\{[^{}]*\}`)
)

// membersInOrder sorts the members of a list: a member has them by their IDs, which
// it has drawn.
func membersInOrder(text string) string {
	return memberLists.ReplaceAllStringFunc(text, func(list string) string {
		members := listedOne.FindAllString(list, -1)
		slices.Sort(members)
		return `"members":[` + strings.Join(members, ",") + `]`
	})
}

// A learner that was added in another second at one of two members may come first
// there: that is the only difference.
func TestMembersInOrder(t *testing.T) {
	const first = `{"ID":"7", "name":"m", "peerURLs":["http://m:1","http://m:2"], "clientURLs":["http://m:3"]}`
	answer := func(learner string, learnerFirst bool) string {
		a := answer{{label: "body", text: `{"member":` + learner + `, "members":[` + first + `, ` + learner + `]}`}}
		if learnerFirst {
			a[0].text = `{"member":` + learner + `, "members":[` + learner + `, ` + first + `]}`
		}
		a.putInPlace([]string{"id"})
		return a[0].text
	}
	one := answer(`{"ID":"9", "peerURLs":["http://127.0.0.1:1"], "isLearner":true}`, false)
	if two := answer(`{"ID":"3", "peerURLs":["http://127.0.0.1:1"], "isLearner":true}`, true); two != one {
		t.Errorf("got  %s\nwant %s", two, one)
	}
	for _, other := range []string{
		`{"ID":"3", "peerURLs":["http://127.0.0.1:2"], "isLearner":true}`,
		`{"ID":"3", "peerURLs":["http://127.0.0.1:1"]}`,
	} {
		if answer(other, true) == one {
			t.Errorf("%s makes no difference", other)
		}
	}
	if !strings.Contains(one, `"members":[{…, "name":"m"`) || strings.Count(one, "isLearner") != 2 {
		t.Errorf("got %s", one)
	}
}

// deadlineWord is of a stream whose time is over: in grpc-go, the status of the
// handler and a timer that resets the stream race then, in every etcd (internal
// transport, http2_server.go).
const deadlineWord = "deadline"

var deadlineEnd = regexp.MustCompile(`(HEADERS END_STREAM|RST_STREAM CANCEL)$`)

// snapshotWord is of a snapshot: each begins with the number of its transaction.
const snapshotWord = "snapshot"

// snapshotText says how long a snapshot is, if it is one: its last bytes are the
// SHA-256 of those before (etcd server/v3, api/v3rpc, maintenance.go).
func snapshotText(text string) string {
	var file []byte
	for _, rest := range strings.Split(text, `"blob":`)[1:] {
		_, rest, _ = strings.Cut(rest, `"`)
		rest, _, _ = strings.Cut(rest, `"`)
		piece, err := base64.StdEncoding.DecodeString(rest)
		if err != nil {
			return text
		}
		file = append(file, piece...)
	}
	end := len(file) - sha256.Size
	if end < 0 || sha256.Sum256(file[:end]) != [sha256.Size]byte(file[end:]) {
		return text
	}
	return fmt.Sprintf("a snapshot of %d bytes", end)
}
