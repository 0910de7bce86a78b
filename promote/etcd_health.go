package promote

import (
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"time"
)

const (
	healthInterval = 50 * time.Millisecond
	// healthTimeout bounds one answer. Without a leader etcd answers after
	// about seven seconds, and that answer is no: it is not waited for.
	healthTimeout = 2 * time.Second
	// healthAnswerLimit is far above the 40 bytes that etcd answers.
	healthAnswerLimit = 4096
)

// WaitHealthy waits until the etcd at clientURL says on /health that it is
// healthy: it serves and the cluster has a leader. That is the only proof that
// a member serves clients; the member list says "started" up to seven seconds
// earlier. It returns early, with the cause, when the process ends.
//
// If tlsConfig is nil, https is verified against the system's roots.
func (e *Etcd) WaitHealthy(ctx context.Context, clientURL string, tlsConfig *tls.Config) error {
	transport := &http.Transport{TLSClientConfig: tlsConfig, DisableKeepAlives: true}
	client := &http.Client{Transport: transport, Timeout: healthTimeout}
	url := strings.TrimSuffix(clientURL, "/") + "/health"
	// Where the port belongs to another process, that one may never answer:
	// the end of ours ends the question.
	asking, stopAsking := context.WithCancel(ctx)
	defer stopAsking()
	go func() {
		select {
		case <-e.done:
			stopAsking()
		case <-asking.Done():
		}
	}()
	ticker := time.NewTicker(healthInterval)
	defer ticker.Stop()
	var last error
	for {
		err := askHealth(asking, client, url)
		if err == nil {
			return nil
		}
		if asking.Err() == nil {
			last = err
			select {
			case <-asking.Done():
			case <-ticker.C:
				continue
			}
		}
		select {
		case <-e.done:
			return e.endedWaiting(clientURL)
		default:
			return e.notHealthy(ctx, clientURL, last)
		}
	}
}

// endedWaiting words a wait that the end of the process ended.
func (e *Etcd) endedWaiting(clientURL string) error {
	if e.err == nil {
		return fmt.Errorf("wait for etcd at %s: it was stopped", clientURL)
	}
	return fmt.Errorf("wait for etcd at %s: %w", clientURL, e.err)
}

// notHealthy words the end of a wait that ctx ended, with what is known about
// the cause.
func (e *Etcd) notHealthy(ctx context.Context, clientURL string, last error) error {
	if cause := e.lastLog.cause(); cause != "" {
		return fmt.Errorf("wait for etcd at %s: %w: %s", clientURL, context.Cause(ctx), cause)
	}
	if last != nil {
		return fmt.Errorf("wait for etcd at %s: %w: last answer: %w", clientURL, context.Cause(ctx), last)
	}
	return fmt.Errorf("wait for etcd at %s: %w", clientURL, context.Cause(ctx))
}

// askHealth asks once. etcd's answer is {"health":"true"}, with a reason where
// it is not (server/etcdserver/api/etcdhttp/health.go).
func askHealth(ctx context.Context, client *http.Client, url string) error {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return err
	}
	response, err := client.Do(request)
	if err != nil {
		return err
	}
	defer response.Body.Close()
	var answer struct {
		Health, Reason string
	}
	if err := json.NewDecoder(io.LimitReader(response.Body, healthAnswerLimit)).Decode(&answer); err != nil {
		return fmt.Errorf("answer with status %d: %w", response.StatusCode, err)
	}
	if answer.Health != "true" {
		return errors.New("not healthy: " + answer.Reason)
	}
	return nil
}
