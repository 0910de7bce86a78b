package main

import (
	"bufio"
	"bytes"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io/fs"
	"net/netip"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/rogpeppe/go-internal/testscript"
)

// cmdSnapshotState writes what an undone promotion has to bring back: one line
// for each member, file, process and listening socket, sorted.
func cmdSnapshotState(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 2 {
		ts.Fatalf("usage: snapshotstate FILE [user=NAME:PASSWORD] [but=GLOB]... DIR...")
	}
	var user string
	var but, lines []string
	for _, arg := range args[1:] {
		switch name, value, _ := strings.Cut(arg, "="); name {
		case "user":
			user = value
		case "but":
			but = append(but, value)
		default:
			lines = append(lines, folderLines(ts, arg, but)...)
		}
	}
	lines = append(lines, memberLines(ts, user)...)
	lines = append(lines, processLines(ts)...)
	slices.Sort(lines)
	ts.Check(os.WriteFile(ts.MkAbs(args[0]), []byte(strings.Join(lines, "\n")+"\n"), 0o600))
}

// memberLines asks the members that "cluster" has started.
func memberLines(ts *testscript.TestScript, user string) []string {
	line := etcdctl(ts.Getenv("MEMBERS"), scriptProcesses(ts).get(ts, "m1").tls)
	if user != "" {
		line = append(line, "--user", user)
	}
	stdout, stderr, err := run(ts, append(line, "member", "list", "-w", "json"))
	if err != nil {
		ts.Fatalf("member list: %v %s", err, stderr)
	}
	var list struct {
		Members []struct {
			ID                   uint64
			Name                 string
			PeerURLs, ClientURLs []string
			IsLearner            bool
		}
	}
	ts.Check(json.Unmarshal([]byte(stdout), &list))
	var lines []string
	for _, m := range list.Members {
		lines = append(lines, fmt.Sprintf("member %016x %q peers %q clients %q learner %v", m.ID, m.Name, m.PeerURLs, m.ClientURLs, m.IsLearner))
	}
	return lines
}

// folderLines has names, kinds, rights and owners; what is in the files may
// have changed. What matches one of the globs is left out.
func folderLines(ts *testscript.TestScript, dir string, but []string) []string {
	var lines []string
	root := ts.MkAbs(dir)
	err := filepath.WalkDir(root, func(path string, entry fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		info, err := entry.Info()
		if err != nil {
			return err
		}
		owner := info.Sys().(*syscall.Stat_t)
		name, err := filepath.Rel(filepath.Dir(root), path)
		if err != nil {
			return err
		}
		if entry.Name() == ".touch" {
			return nil // an etcd that was killed while it looked whether it may write (fileutil.IsDirWriteable)
		}
		if slices.ContainsFunc(but, func(glob string) bool { match, _ := filepath.Match(glob, name); return match }) {
			return nil
		}
		lines = append(lines, fmt.Sprintf("file %s %v %d:%d", name, info.Mode(), owner.Uid, owner.Gid))
		return nil
	})
	ts.Check(err)
	return lines
}

// wordsOfOwner are how many words of its command line tell who has a socket.
const wordsOfOwner = 3

// processLines has the processes that work in the script's folder, and their
// listening sockets.
func processLines(ts *testscript.TestScript) []string {
	listening := listeningSockets(ts)
	work, err := filepath.EvalSymlinks(ts.Getenv("WORK"))
	ts.Check(err)
	var lines []string
	for _, dir := range processesIn(work) {
		args, err := os.ReadFile(filepath.Join(dir, "cmdline"))
		stat, statErr := os.ReadFile(filepath.Join(dir, "stat"))
		if err != nil || statErr != nil || len(args) == 0 {
			continue // it has ended
		}
		words := strings.Split(strings.TrimRight(string(args), "\x00"), "\x00")
		words[0] = filepath.Base(words[0])
		which := fmt.Sprintf(" pid=%s started=%s", filepath.Base(dir), startTime(string(stat)))
		lines = append(lines, "process "+strings.Join(words, " ")+which)
		descriptors, _ := filepath.Glob(filepath.Join(dir, "fd", "*"))
		for _, fd := range descriptors {
			target, _ := os.Readlink(fd)
			if socket := listening[strings.TrimSuffix(strings.TrimPrefix(target, "socket:["), "]")]; socket != "" {
				lines = append(lines, "listens "+socket+" "+strings.Join(words[:min(len(words), wordsOfOwner)], " ")+which)
			}
		}
	}
	return lines
}

// processesIn are the folders in /proc of the processes that work in a folder.
func processesIn(folder string) []string {
	all, _ := filepath.Glob("/proc/[0-9]*")
	return slices.DeleteFunc(all, func(dir string) bool {
		cwd, err := os.Readlink(filepath.Join(dir, "cwd"))
		cwd = strings.TrimSuffix(cwd, " (deleted)")
		return err != nil || cwd != folder && !strings.HasPrefix(cwd, folder+"/")
	})
}

// killStrays ends what the scripts' programs have started and left running.
func killStrays(folder string) {
	for limit := time.Now().Add(patience); time.Now().Before(limit); time.Sleep(tryPause) {
		strays := processesIn(folder)
		if len(strays) == 0 {
			return
		}
		for _, dir := range strays {
			if pid, err := strconv.Atoi(filepath.Base(dir)); err == nil && pid != os.Getpid() {
				_ = syscall.Kill(pid, syscall.SIGKILL)
			}
		}
	}
}

// startTime is field 22 of /proc/PID/stat, see proc(5). The second field may
// hold blanks, and ends with the last parenthesis.
func startTime(stat string) string {
	fields := strings.Fields(stat[strings.LastIndexByte(stat, ')')+1:])
	if len(fields) < 20 {
		return ""
	}
	return fields[19]
}

const (
	tcpListen   = "0A"       // TCP_LISTEN of the kernel's include/net/tcp_states.h
	unixListens = "00010000" // __SO_ACCEPTCON of include/uapi/linux/net.h
)

// listeningSockets are all sockets of this machine that listen: inode → address.
func listeningSockets(ts *testscript.TestScript) map[string]string {
	found := map[string]string{}
	for _, fields := range procTable(ts, "/proc/net/tcp") {
		if fields[3] == tcpListen {
			found[fields[9]] = "tcp " + tcpAddress(ts, fields[1])
		}
	}
	for _, fields := range procTable(ts, "/proc/net/tcp6") {
		if fields[3] == tcpListen {
			found[fields[9]] = "tcp " + tcpAddress(ts, fields[1])
		}
	}
	for _, fields := range procTable(ts, "/proc/net/unix") {
		if fields[3] == unixListens && len(fields) > 7 {
			// A long path is bound through a descriptor, whose number says nothing.
			found[fields[6]] = "unix " + filepath.Base(fields[7])
		}
	}
	return found
}

func procTable(ts *testscript.TestScript, path string) [][]string {
	text, err := os.ReadFile(path)
	ts.Check(err)
	var rows [][]string
	lines := bufio.NewScanner(bytes.NewReader(text))
	lines.Scan() // the heading
	for lines.Scan() {
		rows = append(rows, strings.Fields(lines.Text()))
	}
	return rows
}

// tcpAddress reads 0100007F:0947: words of four bytes, each in the order of the
// machine, which is a little-endian one.
func tcpAddress(ts *testscript.TestScript, text string) string {
	ip, port, _ := strings.Cut(text, ":")
	raw, err := hex.DecodeString(ip)
	ts.Check(err)
	for word := range slices.Chunk(raw, 4) {
		slices.Reverse(word)
	}
	address, _ := netip.AddrFromSlice(raw)
	var number uint16
	_, err = fmt.Sscanf(port, "%x", &number)
	ts.Check(err)
	return netip.AddrPortFrom(address, number).String()
}

// identity of a process in a line of snapshotstate.
var identity = regexp.MustCompile(`(?m) pid=[0-9]+ started=[0-9]*$`)

func cmdSame(ts *testscript.TestScript, neg bool, args []string) {
	restarted := len(args) == 3 && args[0] == "restarted"
	if restarted {
		args = args[1:]
	}
	if len(args) != 2 {
		ts.Fatalf("usage: [!] same [restarted] FILE1 FILE2")
	}
	before, after := ts.ReadFile(args[0]), ts.ReadFile(args[1])
	if restarted {
		before, after = identity.ReplaceAllString(before, ""), identity.ReplaceAllString(after, "")
	}
	if (before == after) == neg {
		ts.Fatalf("%s", stateDifference(before, after))
	}
}

// stateDifference lists the lines that only one of them has.
func stateDifference(before, after string) string {
	if before == after {
		return "they are the same"
	}
	gone, fresh := strings.Split(before, "\n"), strings.Split(after, "\n")
	var text strings.Builder
	text.WriteString("they differ:\n")
	for _, line := range gone {
		if i := slices.Index(fresh, line); i >= 0 {
			fresh = slices.Delete(fresh, i, i+1)
			continue
		}
		fmt.Fprintln(&text, "-", line)
	}
	for _, line := range fresh {
		fmt.Fprintln(&text, "+", line)
	}
	return text.String()
}
