package discover

import (
	"flag"
	"os"
	"testing"
)

// TestMain runs many tests at once: those that are parallel wait for deadlines. In
// fuzzing the same flag is how many processes there are.
func TestMain(m *testing.M) {
	flag.Parse()
	if flag.Lookup("test.fuzz").Value.String() == "" {
		if err := flag.Set("test.parallel", "96"); err != nil {
			panic(err)
		}
	}
	os.Exit(m.Run())
}
