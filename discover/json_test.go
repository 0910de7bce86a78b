package discover

import (
	"encoding/json"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"
)

// fullResolution has a value in every field.
func fullResolution() *Resolution {
	now, age, flags := time.Now(), int64(3), "default"
	return &Resolution{
		Sources: []Source{{
			Name: SourceDiscovery, State: SourceUsed, PeerURLs: []string{"http://a:2380"}, Reason: "r", Took: time.Second,
			Registry: newRegistry(1, []Registered{newRegistered("a", "m=http://a:2380", 1)}),
			DNS:      []DNSName{{Name: "n", Records: []SRVRecord{{Target: "a", Addresses: []string{"127.0.0.1"}}}}},
			File:     &FileReport{Path: "p", Written: &now, AgeSeconds: &age, Flags: &flags, ClusterID: "1"},
		}},
		Peers:     []PeerAnswer{{URL: "http://a:2380", Certificate: &Certificate{Names: []string{"a"}}}},
		ClusterID: "1",
		Members:   []Member{voter(1, "http://a:2380")},
		PeerURLs:  []string{"http://a:2380"},
		Clients:   []ClientURL{{URL: "http://a:2379"}},
	}
}

// keyPaths lists the keys of decoded JSON as the page writes them: those of a
// heading's object, with "[]." before what is in a list of it.
func keyPaths(prefix string, value any, add func(path string)) {
	switch value := value.(type) {
	case map[string]any:
		for key, below := range value {
			path := prefix + key
			add(path)
			keyPaths(path+".", below, add)
		}
	case []any:
		for _, element := range value {
			keyPaths(strings.TrimSuffix(prefix, ".")+"[].", element, add)
		}
	}
}

// TestJSONIsDocumented holds docs/discover-json.md and the structs together:
// every key is in the page, and the page names no other.
func TestJSONIsDocumented(t *testing.T) {
	page, err := os.ReadFile("../docs/discover-json.md")
	if err != nil {
		t.Fatal(err)
	}
	var documented []string
	prefix := ""
	cell := regexp.MustCompile("`([a-z_.\\[\\]]+)`")
	for line := range strings.Lines(string(page)) {
		if heading, found := strings.CutPrefix(strings.TrimLeft(line, "#"), " `"); found && strings.HasPrefix(line, "##") {
			prefix = strings.Trim(heading, "`\n ") + "."
			continue
		}
		cells := strings.Split(line, "|")
		if len(cells) < 3 {
			continue
		}
		for _, found := range cell.FindAllStringSubmatch(cells[1], -1) {
			documented = append(documented, prefix+found[1])
		}
	}
	encoded, err := json.Marshal(fullResolution())
	if err != nil {
		t.Fatal(err)
	}
	var decoded any
	if err := json.Unmarshal(encoded, &decoded); err != nil {
		t.Fatal(err)
	}
	var written []string
	keyPaths("", decoded, func(path string) { written = append(written, path) })
	slices.Sort(written)
	slices.Sort(documented)
	for _, path := range written {
		if !slices.Contains(documented, path) {
			t.Errorf("%s is not documented", path)
		}
	}
	for _, path := range documented {
		if !slices.Contains(written, path) {
			t.Errorf("%s is documented and not written", path)
		}
	}
}
