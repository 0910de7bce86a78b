package promote

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"syscall"
	"time"
)

// binaryTimeout bounds one question to an etcd binary. Printing its help takes
// some ten milliseconds, from a cold and slow disk a few seconds.
const binaryTimeout = 20 * time.Second

// Binary is an etcd that can be started.
type Binary struct {
	Path     string   `json:"path"`           // absolute, as it is run: what it is called can matter
	File     string   `json:"file,omitempty"` // that Path was a link to when it was found, or itself
	Args     []string `json:"args,omitempty"` // stand before etcd's flags
	Version  string   `json:"version"`        // as in 3.7.3
	Embedded bool     `json:"embedded"`       // it is the one in our own binary

	flags map[string]bool // those that its help names
}

// Asker is the user as which an etcd is asked what it is: root must not run what
// another user may have put there. Nobody but root is somebody else.
type Asker struct{ UID, GID uint32 }

// FindBinary looks an etcd up and asks it what it is: its version, and which
// flags it knows. path is absolute, relative, or a name on PATH; args stand
// before each question, as "etcd" does for our own binary. The questions are
// asked in a clean environment, because ETCD_ variables are flags too.
func FindBinary(ctx context.Context, as Asker, path string, args ...string) (Binary, error) {
	found, err := exec.LookPath(path)
	if err == nil {
		found, err = filepath.Abs(found)
	}
	if err != nil {
		return Binary{}, fmt.Errorf("find etcd: %w", err)
	}
	b := Binary{Path: found, Args: args, Embedded: isSelf(found)}
	if b.File, err = filepath.EvalSymlinks(found); err != nil {
		return Binary{}, fmt.Errorf("find etcd: %w", err)
	}
	answer, err := b.ask(ctx, as, "--version")
	if err != nil {
		return Binary{}, err
	}
	if b.Version = versionIn(answer); b.Version == "" {
		return Binary{}, fmt.Errorf("%s is not etcd: its --version says %.80q", found, answer)
	}
	answer, err = b.ask(ctx, as, "--help")
	if err != nil {
		return Binary{}, err
	}
	if b.flags = flagsIn(answer); !b.Knows("data-dir") {
		return Binary{}, fmt.Errorf("%s is not etcd: its --help names no --data-dir", found)
	}
	return b, nil
}

// isSelf tells whether the path is the binary that runs.
func isSelf(path string) bool {
	self, err := os.Executable()
	if err != nil {
		return false
	}
	ours, err := os.Stat(self)
	if err != nil {
		return false
	}
	theirs, err := os.Stat(path)
	return err == nil && os.SameFile(ours, theirs)
}

// ask runs the binary with one flag. Some versions print their help to stdout,
// others to stderr, and some end with 2 after it.
func (b Binary) ask(ctx context.Context, as Asker, question string, before ...string) (string, error) {
	ctx, cancel := context.WithTimeoutCause(ctx, binaryTimeout, errors.New("no answer"))
	defer cancel()
	cmd := exec.CommandContext(ctx, b.Path, slices.Concat(b.Args, before, []string{question})...)
	cmd.Env = Environment(os.Environ())
	cmd.Dir = "/"
	if os.Geteuid() == 0 && as.UID != 0 {
		credential, err := credentialOf(as.UID, as.GID)
		if err != nil {
			return "", err
		}
		cmd.Env = keepNeeded(cmd.Env) // the rest is root's
		cmd.SysProcAttr = &syscall.SysProcAttr{Credential: credential, Setsid: true}
	}
	cmd.WaitDelay = time.Second // a grandchild may hold the pipe
	answer, err := cmd.CombinedOutput()
	var ended *exec.ExitError
	switch {
	case ctx.Err() != nil:
		return "", fmt.Errorf("ask %s for its %s: %w", b.Path, question, context.Cause(ctx))
	case errors.Is(err, os.ErrPermission) && cmd.SysProcAttr != nil:
		return "", fmt.Errorf("ask %s for its %s as user %d, as which etcd is to run: %w", b.Path, question, as.UID, err)
	case err != nil && !errors.As(err, &ended):
		return "", fmt.Errorf("ask %s for its %s: %w", b.Path, question, err)
	}
	return string(answer), nil
}

var (
	// versionLine is etcd's own since 2.x (server/etcdmain/config.go).
	versionLine = regexp.MustCompile(`(?m)^etcd Version: (\d+\.\d+\.\d+\S*)`)
	// helpLine begins the entry of a flag (server/etcdmain/help.go).
	helpLine = regexp.MustCompile(`(?m)^\s*--?([a-z][a-z0-9-]*)`)
)

func versionIn(answer string) string {
	if found := versionLine.FindStringSubmatch(answer); found != nil {
		return found[1]
	}
	return ""
}

func flagsIn(help string) map[string]bool {
	flags := map[string]bool{}
	for _, found := range helpLine.FindAllStringSubmatch(help, -1) {
		flags[found[1]] = true
	}
	return flags
}

// Knows tells whether this etcd has a flag, whose name is given without dashes.
func (b Binary) Knows(flag string) bool {
	return b.flags[flag]
}

// Takes tells whether this etcd takes a flag with an empty value. It tries it,
// because help is not to be trusted for it: that of 3.7 names --discovery, which
// is none of its flags.
func (b Binary) Takes(ctx context.Context, as Asker, flag string) (bool, error) {
	answer, err := b.ask(ctx, as, "--version", "--"+flag+"=")
	return versionIn(answer) != "", err
}

// takesSocketPaths tells whether a unix URL has a path. Before 3.5 it has
// host:port instead, which is the socket's name in etcd's working directory
// (pkg/types/urls.go of 3.4).
func (b Binary) takesSocketPaths() bool {
	var major, minor int
	if _, err := fmt.Sscanf(b.Version, "%d.%d", &major, &minor); err != nil {
		return true
	}
	return major > 3 || major == 3 && minor >= 5
}

// Minor is the first two parts of the version, as in 3.7. Members of one
// cluster have it in common.
func (b Binary) Minor() string { return minor(b.Version) }

func minor(version string) string {
	parts := strings.SplitN(version, ".", 3)
	if len(parts) < 2 {
		return version
	}
	return parts[0] + "." + parts[1]
}
