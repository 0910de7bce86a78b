package commands

import (
	"os"
	"strings"
	"testing"

	"etcdops/promote"
)

// TestEveryPromoteFlagIsDocumented holds the runbook's table of flags and the
// command together.
func TestEveryPromoteFlagIsDocumented(t *testing.T) {
	text, err := os.ReadFile("../docs/promote.md")
	if err != nil {
		t.Fatal(err)
	}
	_, table, _ := strings.Cut(string(text), "| Flag | Meaning |\n")
	table, _, found := strings.Cut(table, "\n\n")
	if !found {
		t.Fatal("the runbook has no table of flags")
	}
	for _, flag := range promoteFlags() {
		documented := false
		for _, name := range flag.Names() {
			dashes := "--"
			if len(name) == 1 {
				dashes = "-"
			}
			documented = documented || strings.Contains(table, "`"+dashes+name+" ") || strings.Contains(table, "`"+dashes+name+"`")
		}
		if !documented {
			t.Errorf("--%s is not in the table of flags", flag.Names()[0])
		}
	}
	if !strings.Contains(string(text), "/"+promote.DropInName+"`") {
		t.Errorf("the runbook does not name the drop-in %s", promote.DropInName)
	}
}
