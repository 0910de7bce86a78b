package promote

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/user"
	"path/filepath"
	"strconv"
	"strings"
)

const (
	// unitFolder is the admin's folder of units: what stands here survives a
	// reboot and a package's update.
	unitFolder = "/etc/systemd/system"
	// DropInName is the file below UNIT.d that makes a unit run etcd. It sorts
	// behind the "override.conf" of systemctl edit, which could otherwise
	// bring a proxy's variables back.
	DropInName = "zz-etcdops-member.conf"
	// unitFiles is how many files etcd may have open: each client connection
	// is one.
	unitFiles = 65536
	// unitRestartSeconds is the pause before systemd starts a failed etcd
	// again.
	unitRestartSeconds = 5
)

// unitStage is where in a promotion a unit is written.
type unitStage int

const (
	unitStarting unitStage = iota // an etcd that exits is undone, not restarted
	unitSettled
	unitPasted // by the operator
)

// unitPath is the file that we write.
func (s *Service) unitPath() string {
	path := filepath.Join(unitFolder, s.Unit)
	if s.DropIn {
		return filepath.Join(path+".d", DropInName)
	}
	return path
}

// mark is the line by which we know a file of ours.
func (s *Service) mark() string {
	return fmt.Sprintf("# etcdops: member %q in %q", s.Name, s.DataDir)
}

const beforeMark = "# before: "

// readUnit reads our file. text is empty where there is none; before is the
// unit's state that Start has noted in it. A file that is not ours is an error.
func (s *Service) readUnit() (text, before string, err error) {
	path := s.unitPath()
	content, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return "", "", nil
	}
	if err != nil {
		return "", "", err
	}
	ours := false
	for line := range strings.Lines(string(content)) {
		line = strings.TrimSuffix(line, "\n")
		ours = ours || line == s.mark()
		if noted, ok := strings.CutPrefix(line, beforeMark); ok {
			before = noted
		}
	}
	if !ours {
		return "", "", fmt.Errorf("%s was not written for this member: move it away, or choose --supervisor detach", path)
	}
	return string(content), before, nil
}

// unitText is the unit, or the drop-in. before, if not empty, is noted in it.
func (s *Service) unitText(stage unitStage, before string) (string, error) {
	if strings.ContainsAny(s.Binary.Path, `\"'`) {
		return "", fmt.Errorf("systemd runs no binary whose path has quotes or backslashes: %s", s.Binary.Path)
	}
	var text strings.Builder
	s.writeUnitHead(&text, stage, before)
	section := s.writeUnitService
	if s.DropIn {
		section = s.writeDropIn
	} else {
		fmt.Fprintf(&text, "\n[Unit]\nDescription=etcd member %s\n", escapeSpecifiers(s.Name))
		text.WriteString("Wants=network-online.target\nAfter=network-online.target\n")
	}
	text.WriteString("\n[Service]\n")
	if err := section(&text); err != nil {
		return "", err
	}
	// Receiving a big snapshot takes long, and etcd is ready only after it.
	fmt.Fprintf(&text, "TimeoutStartSec=infinity\nLimitNOFILE=%d\n", unitFiles)
	if stage == unitStarting {
		text.WriteString("Restart=no\n")
	} else {
		fmt.Fprintf(&text, "Restart=on-failure\nRestartSec=%d\n", unitRestartSeconds)
	}
	if !s.DropIn {
		text.WriteString("\n[Install]\nWantedBy=multi-user.target\n")
	}
	return text.String(), nil
}

func (s *Service) writeUnitHead(text *strings.Builder, stage unitStage, before string) {
	switch stage {
	case unitPasted:
		fmt.Fprintf(text, "# %s\n# Save it there, then: systemctl daemon-reload && systemctl enable %s\n", s.unitPath(), s.Unit)
		text.WriteString("# Stop the etcd that runs before you start the unit.\n")
		return
	case unitStarting:
		text.WriteString("# Written by etcdops proxy promote, which is under way: it rewrites this file when\n")
		text.WriteString("# it ends, and removes it when it is undone. Edit it after that.\n")
	case unitSettled:
		text.WriteString("# Written by etcdops proxy promote, which has ended. This file is yours to edit.\n")
	}
	text.WriteString(s.mark() + "\n")
	if before != "" {
		text.WriteString(beforeMark + before + "\n")
	}
}

func (s *Service) writeUnitService(text *strings.Builder) error {
	fmt.Fprintf(text, "Type=notify\nUser=%s\nGroup=%s\n", userName(s.UID), groupName(s.GID))
	fmt.Fprintf(text, "WorkingDirectory=%s\nExecStart=%s\n", unitPathValue(s.workingDir()), s.execStart())
	return s.variables().Format(text, FormatSystemd, s.unset())
}

// writeDropIn takes out of the unit what started and configured a proxy, and
// what etcd would not stand: it has no reload, and feeds no watchdog.
func (s *Service) writeDropIn(text *strings.Builder) error {
	fmt.Fprintf(text, "Type=notify\nNotifyAccess=main\nWorkingDirectory=%s\n", unitPathValue(s.workingDir()))
	text.WriteString("ExecStart=\nExecReload=\nWatchdogSec=0\n")
	text.WriteString("EnvironmentFile=\nPassEnvironment=\nUnsetEnvironment=\nEnvironment=\n")
	fmt.Fprintf(text, "ExecStart=%s\n", s.execStart())
	return s.variables().Format(text, FormatSystemd, s.unset())
}

// execStart quotes the command (systemd.service, Command lines). "$" stands for
// a variable in the arguments and for itself in the path.
func (s *Service) execStart() string {
	words := []string{quoteUnit(s.Binary.Path)}
	for _, arg := range s.arguments() {
		words = append(words, strings.ReplaceAll(quoteUnit(arg), "$", "$$"))
	}
	return strings.Join(words, " ")
}

// unitPathValue is a path where systemd knows no quotes: it drops blanks at the
// end, and takes a backslash there for a continued line.
func unitPathValue(path string) string {
	if strings.TrimRight(path, " \\") != path {
		path += "/"
	}
	return escapeSpecifiers(path)
}

func escapeSpecifiers(text string) string { return strings.ReplaceAll(text, "%", "%%") }

// userName is the user's name, and the number where we don't know it; systemd
// may know more users than we do.
func userName(uid uint32) string {
	id := strconv.FormatUint(uint64(uid), 10)
	if known, err := user.LookupId(id); err == nil {
		return known.Username
	}
	return id
}

func groupName(gid uint32) string {
	id := strconv.FormatUint(uint64(gid), 10)
	if known, err := user.LookupGroupId(id); err == nil {
		return known.Name
	}
	return id
}
