package proxy

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"
)

// Registration is what a running proxy leaves in the run folder, so that the
// other commands find it without flags.
type Registration struct {
	PID              int       `json:"pid"`
	DataDir          string    `json:"data_dir"`
	Control          string    `json:"control"`
	ListenClientURLs []string  `json:"listen_client_urls"`
	Started          time.Time `json:"started"`
	// Forbidden says that the proxy is another user's: its control socket can't
	// be asked.
	Forbidden bool `json:"-"`
}

// runFolder is the name of our folder below the run directories.
const runFolder = "etcdops"

// RunDirs lists where proxies register, the best place first: the user's
// runtime directory (XDG Base Directory), then the system's.
func RunDirs(getenv func(string) string) []string {
	var dirs []string
	if d := getenv("XDG_RUNTIME_DIR"); filepath.IsAbs(d) {
		dirs = append(dirs, filepath.Join(d, runFolder))
	}
	return append(dirs, filepath.Join("/run", runFolder))
}

// register writes the registration; the returned function removes it.
func (s *Server) register(controlPath string) (unregister func(), err error) {
	if err := os.MkdirAll(s.RunDir, 0o755); err != nil {
		return nil, fmt.Errorf("make run folder: %w", err)
	}
	dataDir, err := filepath.Abs(s.DataDir)
	if err != nil {
		return nil, fmt.Errorf("name data directory: %w", err)
	}
	if controlPath, err = filepath.Abs(controlPath); err != nil {
		return nil, fmt.Errorf("name control socket: %w", err)
	}
	r := Registration{PID: os.Getpid(), DataDir: dataDir, Control: controlPath, Started: s.started}
	for _, l := range s.listeners {
		r.ListenClientURLs = append(r.ListenClientURLs, l.url.String())
	}
	body, err := json.Marshal(r)
	if err != nil {
		return nil, fmt.Errorf("write registration: %w", err)
	}
	sum := sha256.Sum256([]byte(dataDir))
	path := filepath.Join(s.RunDir, hex.EncodeToString(sum[:8])+".json")
	temp := path + ".new"
	if err := os.WriteFile(temp, append(body, '\n'), 0o644); err != nil {
		return nil, fmt.Errorf("write registration: %w", err)
	}
	if err := os.Rename(temp, path); err != nil {
		return nil, fmt.Errorf("write registration: %w", err)
	}
	return func() { _ = os.Remove(path) }, nil
}

// registeredLimit is how long a registered proxy may take to show that it
// lives. One that takes longer is stopped, and not gone.
const registeredLimit = 2 * time.Second

// Registered lists the proxies that run, from the first of dirs that has any.
// What a dead proxy left is passed over. All are asked at once.
func Registered(ctx context.Context, dirs []string) []Registration {
	for _, dir := range dirs {
		names, err := filepath.Glob(filepath.Join(dir, "*.json"))
		if err != nil {
			continue
		}
		slices.Sort(names)
		found := make([]*Registration, len(names))
		var asking sync.WaitGroup
		for i, name := range names {
			asking.Go(func() { found[i] = registered(ctx, name) })
		}
		asking.Wait()
		var live []Registration
		for _, r := range found {
			if r != nil {
				live = append(live, *r)
			}
		}
		if len(live) > 0 {
			return live
		}
	}
	return nil
}

// registered reads one registration; nil where its proxy is gone.
func registered(ctx context.Context, name string) *Registration {
	body, err := os.ReadFile(name)
	if err != nil {
		return nil
	}
	var r Registration
	if json.Unmarshal(body, &r) != nil || strings.TrimSpace(r.Control) == "" {
		return nil
	}
	ctx, cancel := context.WithTimeoutCause(ctx, registeredLimit, ErrNoAnswer)
	defer cancel()
	var st Status
	err = (&ControlClient{Path: r.Control}).Get(ctx, "/v1/status", nil, &st)
	switch {
	case errors.Is(err, os.ErrPermission):
		r.Forbidden = true
	case errors.Is(err, os.ErrNotExist), errors.Is(err, syscall.ECONNREFUSED):
		return nil
	}
	return &r
}
