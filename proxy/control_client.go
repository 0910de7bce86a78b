package proxy

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"syscall"
	"time"
)

// How long an answer may take. A drain takes as long as the proxy was told to,
// which who asks for it knows.
const (
	getLimit      = 10 * time.Second // longer than asking all members takes
	steerLimit    = 15 * time.Second
	handOverLimit = 30 * time.Second
)

// ErrNoAnswer says that a proxy took too long: its process may be stopped, or
// the machine be overloaded.
var ErrNoAnswer = errors.New("the proxy does not answer (is it stopped?)")

// ControlClient asks a running proxy by its control socket. Transport errors
// wrap os.ErrPermission where the socket is another user's, os.ErrNotExist or
// ECONNREFUSED where no proxy runs, ErrNoAnswer where it takes too long.
type ControlClient struct {
	// Path is the control socket.
	Path string
}

// ControlPath is the control socket of the proxy in a data directory.
func ControlPath(dataDir string) string { return filepath.Join(dataDir, stateFolder, controlName) }

// controlLimit bounds an answer of the control socket, in bytes.
const controlLimit = 16 << 20

// Get asks for a path and decodes the JSON answer into v. set, if not nil, may
// add to the request. The answer may take 10 s.
func (c *ControlClient) Get(ctx context.Context, path string, set func(*http.Request), v any) error {
	ctx, cancel := context.WithTimeoutCause(ctx, getLimit, ErrNoAnswer)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://proxy"+path, nil)
	if err != nil {
		return err
	}
	if set != nil {
		set(req)
	}
	return c.do(req, v)
}

// Post asks for a deed: asked is sent as JSON, the answer decoded into v; both
// may be nil. A deed that was refused is a *RefusedError. The answer may take
// 15 s, that to a hand-over 30 s, and that to a drain until ctx ends.
func (c *ControlClient) Post(ctx context.Context, path string, asked, v any) error {
	var body bytes.Buffer
	if asked != nil {
		if err := json.NewEncoder(&body).Encode(asked); err != nil {
			return err
		}
	}
	if limit := postLimit(path); limit > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeoutCause(ctx, limit, ErrNoAnswer)
		defer cancel()
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, "http://proxy"+path, &body)
	if err != nil {
		return err
	}
	return c.do(req, v)
}

// postLimit is how long a deed may take, 0 for one whose limit its caller knows.
func postLimit(path string) time.Duration {
	switch path {
	case DrainPath:
		return 0
	case HandOverPath:
		return handOverLimit
	}
	return steerLimit
}

// RefusedError is the running proxy's reason not to do what it was asked.
type RefusedError struct{ Reason string }

// Error implements error.
func (e *RefusedError) Error() string { return e.Reason }

func (c *ControlClient) do(req *http.Request, v any) error {
	hc := http.Client{Transport: &http.Transport{
		DisableKeepAlives: true,
		DialContext:       func(ctx context.Context, _, _ string) (net.Conn, error) { return c.dial(ctx) },
	}}
	res, err := hc.Do(req)
	if err != nil {
		return fmt.Errorf("ask control socket %s: %w", c.Path, noAnswer(req.Context(), err))
	}
	defer res.Body.Close()
	body, err := io.ReadAll(io.LimitReader(res.Body, controlLimit))
	if err != nil {
		return fmt.Errorf("read control socket %s: %w", c.Path, noAnswer(req.Context(), err))
	}
	var refusal struct{ Error string }
	switch {
	case res.StatusCode == http.StatusConflict && json.Unmarshal(body, &refusal) == nil && refusal.Error != "":
		return &RefusedError{refusal.Error}
	case res.StatusCode != http.StatusOK:
		return fmt.Errorf("control socket %s answered %s: %s", c.Path, res.Status, body)
	case v == nil:
		return nil
	}
	if err := json.Unmarshal(body, v); err != nil {
		return fmt.Errorf("read control socket %s: %w", c.Path, err)
	}
	return nil
}

// dial connects where the proxy will listen to us: it is the same user's, or we are
// root.
func (c *ControlClient) dial(ctx context.Context) (net.Conn, error) {
	conn, err := dialUnix(ctx, c.Path)
	if err != nil || os.Geteuid() == 0 {
		return conn, err
	}
	uid, err := connectedUID(conn)
	if err == nil && uid != uint32(os.Geteuid()) {
		err = fmt.Errorf("it is user %d's: %w", uid, os.ErrPermission)
	}
	if err != nil {
		_ = conn.Close()
		return nil, err
	}
	return conn, nil
}

// noAnswer says ErrNoAnswer where that is what an error means.
func noAnswer(ctx context.Context, err error) error {
	// A socket whose queue is full answers EAGAIN: connect(2).
	if cause := context.Cause(ctx); errors.Is(cause, ErrNoAnswer) || errors.Is(err, syscall.EAGAIN) {
		return ErrNoAnswer
	}
	return err
}
