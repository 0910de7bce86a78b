package promote

import (
	"errors"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// stranger is a user who may write nowhere here: for root it is nobody, and
// else ourselves, in folders that forbid it to their owner too.
func stranger() uint32 {
	if os.Geteuid() == 0 {
		return 65534
	}
	return uint32(os.Geteuid())
}

func TestCheckFolders(t *testing.T) {
	makeFile := func(t *testing.T, path string) {
		t.Helper()
		if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, nil, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	for _, test := range []struct {
		name           string
		change         func(t *testing.T, c *Candidate)
		check, problem string
		hint           string
	}{
		{"empty", func(*testing.T, *Candidate) {}, "", "", ""},
		{"gone", func(_ *testing.T, c *Candidate) { c.DataDir += "/gone" }, "data-dir", "/gone", "--data-dir"},
		{"a file", func(t *testing.T, c *Candidate) {
			c.DataDir += "/file"
			makeFile(t, c.DataDir)
		}, "data-dir", "/file", "--data-dir"},
		{"a proxy folder", func(t *testing.T, c *Candidate) { makeFile(t, c.DataDir+"/proxy/cluster") }, "", "", ""},
		{"a proxy folder elsewhere", func(t *testing.T, c *Candidate) {
			if err := os.Symlink(t.TempDir(), c.DataDir+"/proxy"); err != nil {
				t.Fatal(err)
			}
		}, "symlink", "/proxy", "--data-dir"},
		{"a link to nothing", func(t *testing.T, c *Candidate) {
			if err := os.Symlink("nowhere", c.DataDir+"/member"); err != nil {
				t.Fatal(err)
			}
		}, "symlink", "/member", "--data-dir"},
		{"proxy is a file", func(t *testing.T, c *Candidate) { makeFile(t, c.DataDir+"/proxy") }, "folder", "/proxy is not a folder", ""},
		{"a member", func(t *testing.T, c *Candidate) {
			makeFile(t, c.DataDir+"/member/wal/0000000000000000-0000000000000000.wal")
		}, "wal", "/member/wal", "start that member"},
		{"a member that never joined", func(t *testing.T, c *Candidate) {
			makeFile(t, c.DataDir+"/member/snap/db")
			makeFile(t, c.DataDir+"/member/wal/0.tmp")
		}, "", "", ""},
		{"a log in its own folder", func(t *testing.T, c *Candidate) {
			c.WALDir = t.TempDir()
			makeFile(t, c.WALDir+"/0000000000000000-0000000000000000.wal")
		}, "wal", "0000000000000000-0000000000000000.wal", ""},
		{"an empty folder for the log", func(t *testing.T, c *Candidate) { c.WALDir = t.TempDir() }, "", "", ""},
		{"a log folder that is a link", func(t *testing.T, c *Candidate) {
			c.WALDir = filepath.Join(t.TempDir(), "wal") + "/"
			if err := os.Symlink(t.TempDir(), filepath.Clean(c.WALDir)); err != nil {
				t.Fatal(err)
			}
		}, "wal-dir", "symbolic link", "another --wal-dir"},
		{"a log folder that is a link to nothing", func(t *testing.T, c *Candidate) {
			c.WALDir = filepath.Join(t.TempDir(), "wal")
			if err := os.Symlink("nowhere", c.WALDir); err != nil {
				t.Fatal(err)
			}
		}, "wal-dir", "symbolic link", "another --wal-dir"},
		{"a log folder that is a file", func(t *testing.T, c *Candidate) {
			c.WALDir = filepath.Join(t.TempDir(), "wal")
			makeFile(t, c.WALDir)
		}, "wal-dir", "is not a folder", "another --wal-dir"},
		{"a log folder that is mounted", func(_ *testing.T, c *Candidate) { c.WALDir = "/dev" }, "wal-dir", "mount point", "--wal-dir /dev/wal"},
		{"a log folder with something in it", func(t *testing.T, c *Candidate) {
			c.WALDir = t.TempDir()
			makeFile(t, c.WALDir+"/precious/file")
		}, "wal-dir", "would remove what is in it: precious", "move that away"},
		{"a log folder with much in it", func(t *testing.T, c *Candidate) {
			c.WALDir = t.TempDir()
			for _, name := range []string{"a", "b", "c", "d", "e", "f", "g"} {
				makeFile(t, filepath.Join(c.WALDir, name))
			}
		}, "wal-dir", "a, b, c, d, e and 2 more", "move that away"},
		{"log folder in one that is not writable", func(t *testing.T, c *Candidate) {
			around := t.TempDir()
			c.WALDir = filepath.Join(around, "wal")
			if err := os.Mkdir(c.WALDir, 0o700); err != nil {
				t.Fatal(err)
			}
			c.UID = stranger()
			giveAll(t, c.DataDir, c.UID)
			giveAll(t, c.WALDir, c.UID)
			if err := os.Chmod(around, 0o511); err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { _ = os.Chmod(around, 0o700) })
		}, "not-writable", "the folder around --wal-dir", "a --wal-dir in a folder that user"},
		{"a folder for the log that is not there yet", func(t *testing.T, c *Candidate) {
			c.WALDir = filepath.Join(t.TempDir(), "a", "b")
		}, "", "", ""},
		{"not writable", func(t *testing.T, c *Candidate) {
			c.UID = stranger()
			if err := os.Chmod(c.DataDir, 0o500); err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { _ = os.Chmod(c.DataDir, 0o700) })
			c.ListenPeerURLs, c.ListenClientURLs = nil, nil
		}, "not-writable", "--data-dir", "chown -R"},
		{"log folder not writable", func(t *testing.T, c *Candidate) {
			c.WALDir = t.TempDir()
			if err := os.Chmod(c.WALDir, 0o500); err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { _ = os.Chmod(c.WALDir, 0o700) })
			c.UID = stranger()
			giveAll(t, c.DataDir, c.UID)
		}, "not-writable", "--wal-dir", "chown -R"},
	} {
		t.Run(test.name, func(t *testing.T) {
			c := goodCandidate(t)
			test.change(t, c)
			expectOne(t, c.CheckHost(t.Context(), 1<<20), test.check, test.problem, test.hint)
		})
	}
}

// giveAll gives a folder to a user and lets him pass through those of the test
// above it.
func giveAll(t *testing.T, folder string, uid uint32) {
	t.Helper()
	if os.Geteuid() != 0 {
		return
	}
	if err := os.Chown(folder, int(uid), -1); err != nil {
		t.Fatal(err)
	}
	for above := filepath.Dir(folder); above != os.TempDir() && above != "/"; above = filepath.Dir(above) {
		if err := os.Chmod(above, 0o711); err != nil {
			t.Fatal(err)
		}
	}
}

func TestWritableForTheUserOfEtcd(t *testing.T) {
	c := goodCandidate(t)
	c.UID = stranger()
	giveAll(t, c.DataDir, c.UID)
	expectOne(t, c.CheckHost(t.Context(), 1<<20), "", "", "")
	if os.Geteuid() != os.Getuid() {
		t.Errorf("we have become user %d", os.Geteuid())
	}
}

func TestCheckLock(t *testing.T) {
	c := goodCandidate(t)
	path := filepath.Join(c.DataDir, "member", "snap", "db")
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		t.Fatal(err)
	}
	// A lock on one open file stands against another one of this process too.
	file, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	if err := unix.Flock(int(file.Fd()), unix.LOCK_EX); err != nil {
		t.Fatal(err)
	}
	expectOne(t, c.CheckHost(t.Context(), 0), "lock", path, "fuser -v "+path)
	if err := unix.Flock(int(file.Fd()), unix.LOCK_UN); err != nil {
		t.Fatal(err)
	}
	expectOne(t, c.CheckHost(t.Context(), 0), "", "", "")
	if err := unix.Flock(int(file.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		t.Errorf("the check has kept a lock: %v", err)
	}
}

func TestCheckHostOfARunningMember(t *testing.T) {
	t.Setenv(roleVariable, "etcd")
	dir := t.TempDir()
	e := newEtcd(loopback(239), dir)
	if err := e.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = e.Kill() })
	if err := e.WaitHealthy(t.Context(), clientURL(loopback(239)), nil); err != nil {
		t.Fatal(err)
	}
	c := goodCandidate(t)
	c.DataDir = filepath.Join(dir, "m1")
	found := c.CheckHost(t.Context(), 0)
	if got := checksOf(found); !slices.Equal(got, []string{"wal", "lock"}) {
		t.Errorf("got %q", found)
	}
	if err := e.Err(); err != nil {
		t.Errorf("the member has not stood it: %v", err)
	}
}

func TestCheckDisk(t *testing.T) {
	c := goodCandidate(t)
	free, err := freeSpace(c.DataDir)
	if err != nil {
		t.Fatal(err)
	}
	expectOne(t, c.CheckHost(t.Context(), int64(free)), "disk", "2 times the database", "make room")
	expectOne(t, c.CheckHost(t.Context(), -1), "", "", "")
}

func TestOtherDevice(t *testing.T) {
	dir := t.TempDir()
	if otherDevice(dir, filepath.Join(dir, "gone")) || otherDevice(dir, dir) {
		t.Error("one file system is taken for two")
	}
	if !otherDevice(dir, "/dev") {
		t.Error("two file systems are taken for one")
	}
}

func TestCheckPorts(t *testing.T) {
	ip := loopback(240)
	forRoot := "privileged-port"
	if unprivilegedPort() <= 1 {
		forRoot = "" // as containers often have it
	}
	busy := func(t *testing.T, address string) {
		t.Helper()
		l, err := net.Listen("tcp", address)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = l.Close() })
		go func() {
			for {
				conn, err := l.Accept()
				if err != nil {
					return
				}
				_ = conn.Close()
			}
		}()
	}
	for _, test := range []struct {
		name           string
		change         func(t *testing.T, c *Candidate)
		check, problem string
		hint           string
	}{
		{"peer port taken", func(t *testing.T, _ *Candidate) { busy(t, ip+":2380") }, "peer-port", "address already in use", "ss -ltnp 'sport = :2380'"},
		{"not an address of this host", func(_ *testing.T, c *Candidate) { c.ListenPeerURLs = []string{"http://192.0.2.7:2380"} }, "peer-port", "192.0.2.7", "ip addr"},
		{"listening on all addresses", func(_ *testing.T, c *Candidate) {
			c.ListenPeerURLs = []string{"http://0.0.0.0:23807"}
			c.InitialAdvertisePeerURLs = []string{"http://" + ip + ":23807"}
		}, "", "", ""},
		{"advertised where nothing listens", func(_ *testing.T, c *Candidate) {
			c.InitialAdvertisePeerURLs = []string{"http://" + loopback(239) + ":2380"}
		}, "peer-url-elsewhere", loopback(239) + ":2380: connection refused", "--stage env"},
		{"advertised where somebody else listens", func(t *testing.T, c *Candidate) {
			busy(t, loopback(239)+":2380")
			c.InitialAdvertisePeerURLs = []string{"http://" + loopback(239) + ":2380"}
		}, "peer-url-elsewhere", "somebody else answers", "--stage env"},
		{"started elsewhere", func(_ *testing.T, c *Candidate) {
			c.InitialAdvertisePeerURLs, c.StageEnv = []string{"http://" + loopback(239) + ":2380"}, true
		}, "", "", ""},
		{"name that does not resolve", func(_ *testing.T, c *Candidate) { c.InitialAdvertisePeerURLs = []string{"http://m4..example:2380"} }, "peer-url-unknown", "m4..example", "IP address"},
		{"client port of another program", func(t *testing.T, _ *Candidate) { busy(t, ip+":2379") }, "client-port", "which the proxy does not hold", "ss -ltnp"},
		{"client port of the proxy", func(t *testing.T, c *Candidate) {
			busy(t, ip+":2379")
			c.Reused = []string{"http://" + ip + ":2379"}
		}, "", "", ""},
		{"a part of what the proxy holds", func(t *testing.T, c *Candidate) {
			busy(t, ip+":2379")
			c.Reused = []string{"http://0.0.0.0:2379"}
		}, "", "", ""},
		{"peer port of the proxy's own", func(t *testing.T, c *Candidate) {
			busy(t, ip+":2380")
			c.Reused = []string{"http://" + ip + ":2380"}
		}, "peer-port", "in use", "--listen-peer-urls"},
		{"port for root alone", func(_ *testing.T, c *Candidate) {
			c.UID = 65534
			giveAll(t, c.DataDir, c.UID)
			c.ListenClientURLs, c.Reused = []string{"http://" + ip + ":1"}, []string{"http://" + ip + ":1"}
		}, forRoot, "user 65534", "--listen-client-urls"},
		{"socket in no folder", func(_ *testing.T, c *Candidate) {
			c.ListenClientURLs = []string{"unix://" + c.DataDir + "/gone/x.sock"}
		}, "client-port", "no such file", "make the folder"},
		{"socket that is relative", func(_ *testing.T, c *Candidate) { c.ListenClientURLs = []string{"unix://x.sock"} }, "client-port", "relative", "unix:///"},
		{"a file in the socket's place", func(t *testing.T, c *Candidate) {
			path := c.DataDir + "/x.sock"
			if err := os.WriteFile(path, nil, 0o600); err != nil {
				t.Fatal(err)
			}
			c.ListenClientURLs = []string{"unix://" + path}
		}, "client-port", "is not a socket", "another path"},
		{"socket of another program", func(t *testing.T, c *Candidate) { c.ListenClientURLs = []string{"unix://" + listenAt(t, c.DataDir)} }, "client-port", "another process listens", "another path"},
		{"socket of the proxy", func(t *testing.T, c *Candidate) {
			c.ListenClientURLs = []string{"unix://" + listenAt(t, c.DataDir)}
			c.Reused = c.ListenClientURLs
		}, "", "", ""},
	} {
		t.Run(test.name, func(t *testing.T) {
			c := goodCandidate(t)
			test.change(t, c)
			expectOne(t, c.CheckHost(t.Context(), 0), test.check, test.problem, test.hint)
			for _, raw := range c.ListenPeerURLs {
				if e, err := parseEndpoint(raw); err == nil && test.check != "peer-port" {
					expectFree(t, e.address())
				}
			}
		})
	}
}

// listenAt listens on a socket in the folder.
func listenAt(t *testing.T, folder string) string {
	t.Helper()
	path := filepath.Join(folder, "x.sock")
	l, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	return path
}

func expectFree(t *testing.T, address string) {
	t.Helper()
	l, err := net.Listen("tcp", address)
	if err != nil {
		t.Errorf("the check has left something behind: %v", err)
		return
	}
	_ = l.Close()
}

func TestRefusedReasonsNameNoCall(t *testing.T) {
	_, err := os.Open(filepath.Join(t.TempDir(), "gone"))
	if got := causeOf(err); !errors.Is(err, fs.ErrNotExist) || strings.Contains(got, "gone") {
		t.Errorf("got %q", got)
	}
}
