package discover

import (
	"encoding/json"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"
)

func writeFile(t *testing.T, dataDir, content string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Join(dataDir, "proxy"), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dataDir, "proxy", "cluster"), []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
}

func readFile(t *testing.T, dataDir string) string {
	t.Helper()
	content, err := os.ReadFile(filepath.Join(dataDir, "proxy", "cluster"))
	if err != nil {
		t.Fatal(err)
	}
	return string(content)
}

func someMembership(peerURLs ...string) Membership {
	return Membership{ClusterID: clusterA, PeerURLs: peerURLs, At: time.Date(2026, 1, 2, 3, 4, 5, 6, time.UTC)}
}

func TestClusterFileRoundTrip(t *testing.T) {
	dataDir := filepath.Join(t.TempDir(), "new.etcd")
	w := &clusterFileWriter{dataDir: dataDir}
	if err := w.remember(someMembership("http://b:2380", "http://a:2380"), "default"); err != nil {
		t.Fatal(err)
	}
	want := `{"PeerURLs":["http://a:2380","http://b:2380"],` +
		`"cluster_id":"cdf818194e3a8c32","flags":"default","written":"2026-01-02T03:04:05Z"}`
	if got := readFile(t, dataDir); got != want {
		t.Errorf("file has %s, want %s", got, want)
	}
	m := readMemory(clusterFilePath(dataDir))
	if m.err != nil || m.clusterID != clusterA || !m.writtenFor("default") || len(m.peerURLs) != 2 {
		t.Errorf("read back %+v", m)
	}
	for path, mode := range map[string]os.FileMode{"proxy": 0o700 | os.ModeDir, "proxy/cluster": 0o600} {
		info, err := os.Stat(filepath.Join(dataDir, path))
		if err != nil || info.Mode() != mode {
			t.Errorf("%s: %v, %v, want %v", path, info.Mode(), err, mode)
		}
	}
	entries, err := os.ReadDir(filepath.Join(dataDir, "proxy"))
	if err != nil || len(entries) != 1 {
		t.Errorf("folder has %v, %v, want only the cluster file", entries, err)
	}
}

// The struct and its reading are what etcd 3.5 has (server/etcdmain/etcd.go).
func TestClusterFileIsReadableByEtcd(t *testing.T) {
	dataDir := t.TempDir()
	w := &clusterFileWriter{dataDir: dataDir}
	if err := w.remember(someMembership("http://127.0.0.1:31180"), "default"); err != nil {
		t.Fatal(err)
	}
	urls := struct{ PeerURLs []string }{}
	if err := json.Unmarshal([]byte(readFile(t, dataDir)), &urls); err != nil {
		t.Fatal(err)
	}
	if !slices.Equal(urls.PeerURLs, []string{"http://127.0.0.1:31180"}) {
		t.Errorf("etcd would read %q", urls.PeerURLs)
	}
}

func TestClusterFileOfEtcdIsRead(t *testing.T) {
	dataDir := t.TempDir()
	writeFile(t, dataDir, `{"PeerURLs":["http://127.0.0.1:31180","http://127.0.0.1:31280"]}`)
	m := readMemory(clusterFilePath(dataDir))
	if m.err != nil || m.flags != nil || m.clusterID != 0 || m.age(time.Now()) != "" ||
		!slices.Equal(m.peerURLs, []string{"http://127.0.0.1:31180", "http://127.0.0.1:31280"}) {
		t.Errorf("got %+v", m)
	}
}

func TestClusterFileIsWrittenOnlyAfterChanges(t *testing.T) {
	dataDir := t.TempDir()
	w := &clusterFileWriter{dataDir: dataDir}
	write := func(m Membership, flags string) string {
		t.Helper()
		if err := w.remember(m, flags); err != nil {
			t.Fatal(err)
		}
		return readFile(t, dataDir)
	}
	m := someMembership("http://a:2380")
	first := write(m, "default")
	m.At = m.At.Add(time.Hour)
	if again := write(m, "default"); again != first {
		t.Errorf("only the time differed, but %s became %s", first, again)
	}
	if other := write(m, "initial-cluster=http://a:2380"); other == first {
		t.Error("other flags were not written")
	}
	m.PeerURLs = []string{"http://b:2380"}
	if other := write(m, "default"); !strings.Contains(other, "http://b:2380") {
		t.Errorf("other peers were not written: %s", other)
	}
	w.stop(true)
	m.PeerURLs = []string{"http://c:2380"}
	if other := write(m, "default"); strings.Contains(other, "http://c:2380") {
		t.Errorf("written after stop: %s", other)
	}
}

func TestClusterFileReplacesTheRestOfACrash(t *testing.T) {
	dataDir := t.TempDir()
	writeFile(t, dataDir, `{"PeerURLs":["http://a:2380"]}`)
	temp := filepath.Join(dataDir, "proxy", clusterFileTemp)
	if err := os.WriteFile(temp, []byte(`{"PeerU`), 0o600); err != nil {
		t.Fatal(err)
	}
	w := &clusterFileWriter{dataDir: dataDir}
	if err := w.remember(someMembership("http://b:2380"), "default"); err != nil {
		t.Fatal(err)
	}
	if got := readFile(t, dataDir); !strings.Contains(got, "http://b:2380") {
		t.Errorf("file has %s", got)
	}
	if _, err := os.Lstat(temp); !os.IsNotExist(err) {
		t.Errorf("the temporary file is still there: %v", err)
	}
}

func TestClusterFileIsNotWrittenThroughALink(t *testing.T) {
	for _, test := range []struct {
		name string
		link func(dataDir string) string
	}{
		{"to another folder", func(string) string { return t.TempDir() }},
		{"to a folder beside it", func(dataDir string) string {
			if err := os.Mkdir(filepath.Join(dataDir, "elsewhere"), 0o700); err != nil {
				t.Fatal(err)
			}
			return "elsewhere"
		}},
	} {
		t.Run(test.name, func(t *testing.T) {
			dataDir := t.TempDir()
			to := test.link(dataDir)
			if err := os.Symlink(to, filepath.Join(dataDir, "proxy")); err != nil {
				t.Fatal(err)
			}
			w := &clusterFileWriter{dataDir: dataDir}
			if err := w.remember(someMembership("http://a:2380"), "default"); err == nil {
				t.Error("written through a symbolic link")
			}
			if _, err := os.Stat(filepath.Join(dataDir, "proxy", "cluster")); !os.IsNotExist(err) {
				t.Errorf("a file was left behind the link: %v", err)
			}
		})
	}
}

func TestBadClusterFiles(t *testing.T) {
	for _, test := range []struct {
		name   string
		make   func(t *testing.T, dataDir string)
		reason string
	}{
		{"not JSON", content("peers: a"), "not a cluster file"},
		{"empty", content(""), "cut short"},
		{"cut short", content(`{"PeerURLs":["http://a:2380"`), "cut short"},
		{"an array", content(`["http://a:2380"]`), "not a cluster file"},
		{"wrong type", content(`{"PeerURLs":"http://a:2380"}`), "not a cluster file"},
		{"no peers", content(`{"PeerURLs":[]}`), "no PeerURLs"},
		{"bad peer", content(`{"PeerURLs":["a:2380"]}`), "no scheme"},
		{"bad cluster ID", content(`{"PeerURLs":["http://a:2380"],"cluster_id":"xyz"}`), "bad cluster_id"},
		{"bad time", content(`{"PeerURLs":["http://a:2380"],"written":"now"}`), "not a cluster file"},
		{"oversized", content(`{"PeerURLs":["http://a:2380"]}` + strings.Repeat(" ", clusterFileLimit)), "larger than 1048576 bytes"},
		{"a folder", func(t *testing.T, dataDir string) {
			if err := os.MkdirAll(filepath.Join(dataDir, "proxy", "cluster"), 0o700); err != nil {
				t.Fatal(err)
			}
		}, "not a regular file"},
		{"a pipe", func(t *testing.T, dataDir string) {
			writeFile(t, dataDir, "")
			path := filepath.Join(dataDir, "proxy", "cluster")
			if err := os.Remove(path); err != nil {
				t.Fatal(err)
			}
			if err := syscall.Mkfifo(path, 0o600); err != nil {
				t.Fatal(err)
			}
		}, "not a regular file"},
	} {
		t.Run(test.name, func(t *testing.T) {
			dataDir := t.TempDir()
			test.make(t, dataDir)
			peer := newPeer(t, clusterA)
			resolution, err := New(Config{InitialCluster: cluster(peer.URL), DataDir: dataDir}).Resolve(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			file := resolution.Sources[0]
			if file.Name != SourceClusterFile || file.State != SourceFailed ||
				!strings.Contains(file.Reason, test.reason) || !strings.Contains(file.Reason, "remove or repair") {
				t.Errorf("got %+v, want failed with %q and the way out", file, test.reason)
			}
			if got := fates(resolution.Sources); got != "cluster file=failed initial-cluster=used default=not used" {
				t.Errorf("got %s", got)
			}
		})
	}
}

func content(text string) func(*testing.T, string) {
	return func(t *testing.T, dataDir string) { writeFile(t, dataDir, text) }
}

func FuzzDecodeClusterFile(f *testing.F) {
	f.Add([]byte(`{"PeerURLs":["http://127.0.0.1:31180","http://127.0.0.1:31280"]}`))
	f.Add([]byte(`{"PeerURLs":["http://a:2380"],"cluster_id":"cdf818194e3a8c32","flags":"default","written":"2026-01-02T03:04:05Z"}`))
	f.Add([]byte(`{"PeerURLs":null,"flags":7}`))
	f.Fuzz(func(t *testing.T, content []byte) {
		file, err := decodeClusterFile(content)
		if err != nil {
			return
		}
		if len(file.PeerURLs) == 0 {
			t.Fatal("no error and no peer URL")
		}
		encoded, err := json.Marshal(file)
		if err != nil {
			t.Fatal(err)
		}
		again, err := decodeClusterFile(encoded)
		if err != nil || !slices.Equal(again.PeerURLs, file.PeerURLs) || again.ClusterID != file.ClusterID {
			t.Fatalf("%s does not survive a round trip: %+v, %v", encoded, again, err)
		}
	})
}
