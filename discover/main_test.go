package discover

import (
	"flag"
	"os"
	"testing"
)

// TestMain runs many tests at once: those that are parallel wait for deadlines.
func TestMain(m *testing.M) {
	if err := flag.Set("test.parallel", "96"); err != nil {
		panic(err)
	}
	os.Exit(m.Run())
}
