package promote

import (
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
)

// runbook lists all checks, with the way out of each.
const runbook = "../docs/promote.md"

// TestEveryCheckIsDocumented holds the tables of refusals in the runbook and the
// names of the checks in the code together, both ways.
func TestEveryCheckIsDocumented(t *testing.T) {
	inCode, documented := checksInCode(t), checksDocumented(t)
	if len(inCode) < 50 || len(documented) < 50 {
		t.Fatalf("%d checks found in the code and %d in %s: the search is wrong", len(inCode), len(documented), runbook)
	}
	for check, at := range inCode {
		if !documented[check] {
			t.Errorf("%s: check %q has no row in %s", at, check, runbook)
		}
	}
	for check := range documented {
		if inCode[check] == "" {
			t.Errorf("%s has a row for %q, which no code checks", runbook, check)
		}
	}
}

// checksInCode are the names of the checks, each with a place where it is found:
// the first argument of found.add, and the field Check of a Refusal.
func checksInCode(t *testing.T) map[string]string {
	t.Helper()
	paths, err := filepath.Glob("*.go")
	if err != nil {
		t.Fatal(err)
	}
	files := token.NewFileSet()
	checks := map[string]string{}
	take := func(value ast.Expr) {
		at := files.Position(value.Pos()).String()
		if name, ok := value.(*ast.Ident); ok && name.Name == "AlreadyAdded" {
			checks[AlreadyAdded] = at
			return
		}
		literal, ok := value.(*ast.BasicLit)
		if !ok {
			t.Errorf("%s: the name of a check is no plain string: it can't be looked up", at)
			return
		}
		check, err := strconv.Unquote(literal.Value)
		if err != nil {
			t.Errorf("%s: %v", at, err)
		}
		checks[check] = at
	}
	for _, path := range paths {
		if strings.HasSuffix(path, "_test.go") || path == "refusal.go" {
			continue
		}
		file, err := parser.ParseFile(files, path, nil, 0)
		if err != nil {
			t.Fatal(err)
		}
		ast.Inspect(file, func(node ast.Node) bool {
			switch node := node.(type) {
			case *ast.CallExpr:
				// add of refusals has a check, a hint and a problem at least.
				if call, ok := node.Fun.(*ast.SelectorExpr); ok && call.Sel.Name == "add" && len(node.Args) >= 3 {
					take(node.Args[0])
				}
			case *ast.KeyValueExpr:
				if key, ok := node.Key.(*ast.Ident); ok && key.Name == "Check" {
					take(node.Value)
				}
			}
			return true
		})
	}
	return checks
}

// checksDocumented are the names in the first column of the tables whose head is
// Check.
func checksDocumented(t *testing.T) map[string]bool {
	t.Helper()
	text, err := os.ReadFile(runbook)
	if err != nil {
		t.Fatal(err)
	}
	name := regexp.MustCompile("`([^`]+)`")
	checks := map[string]bool{}
	inTable := false
	for line := range strings.Lines(string(text)) {
		column, _, isRow := strings.Cut(strings.TrimPrefix(line, "| "), " |")
		inTable = strings.HasPrefix(line, "| ") && isRow && (inTable || column == "Check") || inTable && strings.HasPrefix(line, "|---")
		if !inTable {
			continue
		}
		for _, found := range name.FindAllStringSubmatch(column, -1) {
			checks[found[1]] = true
		}
	}
	return checks
}
