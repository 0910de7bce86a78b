//go:build bench

package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"time"
)

const (
	// profileRate is how often perf looks, in Hz: not a divisor of the timer's rate.
	profileRate = 997
	// profileTime is how long it looks, at least.
	profileTime = 5 * time.Second
)

// profiles takes one more sample of etcdops and of gateway, which counts for nothing,
// while perf looks at the proxy: DIR/LOAD-VARIANT.data for perf, and .txt to read.
func (b *bench) profiles(ctx context.Context, load string, ends []*benchEnd, take measure) error {
	if b.profile == "" {
		return nil
	}
	if err := os.MkdirAll(b.profile, 0o755); err != nil {
		return err
	}
	short := b.time // a turn is too short for a profile
	b.time = max(short, profileTime)
	defer func() { b.time = short }()
	for _, e := range ends {
		if e.name != ownVariant && e.name != "gateway" {
			continue
		}
		base := filepath.Join(b.profile, load+"-"+e.name)
		var record *exec.Cmd
		_, err := take(ctx, e, func() error {
			record = exec.CommandContext(ctx, "perf", "record", "-q", "-F", strconv.Itoa(profileRate), "-g", "-p", strconv.Itoa(e.proxy.pid()),
				"-o", base+".data", "--", "sleep", fmt.Sprint(b.time.Seconds()))
			return record.Start()
		})
		if record != nil && record.Process != nil {
			err = errors.Join(err, record.Wait())
		}
		if err != nil {
			return fmt.Errorf("profile of %s under %s: %w", e.name, load, err)
		}
		if err := writeProfile(ctx, base); err != nil {
			return err
		}
	}
	return nil
}

// writeProfile makes perf's records a list of functions, those that cost most first.
func writeProfile(ctx context.Context, base string) error {
	out, err := os.Create(base + ".txt")
	if err != nil {
		return err
	}
	defer out.Close()
	report := exec.CommandContext(ctx, "perf", "report", "-i", base+".data", "--stdio", "--no-children", "-g", "none", "--percent-limit", "0.3", "--sort", "symbol")
	report.Stdout = out
	if err := report.Run(); err != nil {
		return fmt.Errorf("perf report of %s: %w", base, err)
	}
	fmt.Println("profile:", base+".txt")
	return nil
}
