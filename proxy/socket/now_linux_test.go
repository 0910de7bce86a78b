//go:build linux && !race

package socket

import (
	"errors"
	"io"
	"testing"
)

func TestNothingIsAllocated(t *testing.T) {
	c, far := pair(t, "tcp", nil)
	p := make([]byte, 100)
	for name, once := range map[string]func() error{
		"write": func() error {
			_, err := c.Write(p)
			return errors.Join(err, readAll(far, p))
		},
		"read": func() error {
			_, err := far.Write(p)
			return errors.Join(err, readAll(c, p))
		},
		"look": func() error {
			if c.Ended() {
				return io.EOF
			}
			return nil
		},
	} {
		n := testing.AllocsPerRun(100, func() {
			if err := once(); err != nil {
				t.Fatal(name, err)
			}
		})
		if n != 0 {
			t.Errorf("%s: %v allocations", name, n)
		}
	}
}

func readAll(r io.Reader, p []byte) error {
	_, err := io.ReadFull(r, p)
	return err
}
