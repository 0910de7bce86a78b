package main

import (
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"path"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// module is the path of our module; "" below is its root, package main.
const module = "etcdops"

// mayImport says which packages of ours each one may import: imports go one
// way. A package that is not here fails the test: give it its place first.
var mayImport = map[string][]string{
	"":               {"commands"},
	"commands":       {"discover", "promote", "proxy"},
	"discover":       {},
	"promote":        {"discover"},
	"proxy":          {"proxy/director", "proxy/h1", "proxy/h2", "proxy/policy", "proxy/socket", "proxy/stats"},
	"proxy/director": {"proxy/socket", "proxy/stats"},
	"proxy/h1":       {"proxy/director", "proxy/policy", "proxy/socket", "proxy/stats"},
	"proxy/h2":       {"proxy/director", "proxy/policy", "proxy/socket", "proxy/stats"},
	"proxy/policy":   {},
	"proxy/socket":   {},
	"proxy/stats":    {"proxy/policy"},
}

// testsMayImport is what tests may import besides: the scenarios' tools read the
// journal of a promotion.
var testsMayImport = map[string][]string{"": {"promote"}}

// commandsOnly are libraries of the command line, which nobody below it sees.
var commandsOnly = []string{
	"github.com/urfave/cli",
	"github.com/olekukonko/tablewriter",
	"github.com/fatih/color",
}

// relays work on raw connections: of net/http they take the parsers alone.
var (
	relays     = []string{"proxy/h1", "proxy/h2"}
	notInRelay = []string{
		"net/http.Server", "net/http.Transport", "net/http.Client",
		"net/http.Serve", "net/http.ListenAndServe",
		"net/http.DefaultTransport", "net/http.DefaultClient",
		"net/http/httputil.ReverseProxy", "net/http/httputil.NewSingleHostReverseProxy",
	}
)

func TestImportsGoOneWay(t *testing.T) {
	seen := map[string]bool{}
	for _, f := range sourceFiles(t) {
		seen[f.dir] = true
		allowed, placed := mayImport[f.dir]
		if !placed {
			t.Errorf("%s: package %q has no place in mayImport", f.name, f.dir)
			continue
		}
		if f.isTest {
			allowed = slices.Concat(allowed, testsMayImport[f.dir])
		}
		for _, imported := range f.imports() {
			own, isOurs := strings.CutPrefix(imported, module+"/")
			switch {
			case isOurs && own != f.dir && !slices.Contains(allowed, own):
				t.Errorf("%s imports %s; %q may import %q of ours", f.name, imported, f.dir, allowed)
			case f.dir != "commands" && !f.isTest && slices.ContainsFunc(commandsOnly, within(imported)):
				t.Errorf("%s imports %s, which belongs to commands", f.name, imported)
			}
		}
	}
	for dir := range mayImport {
		if !seen[dir] {
			t.Errorf("package %q is in mayImport and not in the tree", dir)
		}
	}
}

func TestRelaysUseNoServerOfNetHTTP(t *testing.T) {
	for _, f := range sourceFiles(t) {
		if f.isTest || !slices.Contains(relays, f.dir) {
			continue
		}
		for _, used := range f.selectors() {
			if slices.Contains(notInRelay, used) {
				t.Errorf("%s uses %s on the data path", f.name, used)
			}
		}
	}
}

// sourceFile is one Go file of ours, whatever platform it is for.
type sourceFile struct {
	name   string // with its folder
	dir    string // the package's path in the module
	isTest bool
	ast    *ast.File
}

// sourceFiles parses the whole module, without testdata and hidden folders.
func sourceFiles(t *testing.T) []sourceFile {
	t.Helper()
	var files []sourceFile
	fset := token.NewFileSet()
	err := filepath.WalkDir(".", func(name string, entry fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case entry.IsDir() && name != "." && (entry.Name() == "testdata" || strings.HasPrefix(entry.Name(), ".")):
			return filepath.SkipDir
		case entry.IsDir() || filepath.Ext(name) != ".go":
			return nil
		}
		parsed, err := parser.ParseFile(fset, name, nil, parser.SkipObjectResolution)
		if err != nil {
			return err
		}
		dir := filepath.ToSlash(filepath.Dir(name))
		if dir == "." {
			dir = ""
		}
		files = append(files, sourceFile{name, dir, strings.HasSuffix(name, "_test.go"), parsed})
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return files
}

func (f *sourceFile) imports() []string {
	var paths []string
	for _, spec := range f.ast.Imports {
		paths = append(paths, importPath(spec))
	}
	return paths
}

// selectors lists what the file uses of the packages that it imports, as
// "import/path.Name".
func (f *sourceFile) selectors() []string {
	paths := map[string]string{}
	for _, spec := range f.ast.Imports {
		imported := importPath(spec)
		name := path.Base(imported)
		if spec.Name != nil {
			name = spec.Name.Name
		}
		paths[name] = imported
	}
	var used []string
	ast.Inspect(f.ast, func(n ast.Node) bool {
		if selector, ok := n.(*ast.SelectorExpr); ok {
			if pkg, ok := selector.X.(*ast.Ident); ok && paths[pkg.Name] != "" {
				used = append(used, paths[pkg.Name]+"."+selector.Sel.Name)
			}
		}
		return true
	})
	return used
}

func importPath(spec *ast.ImportSpec) string {
	unquoted, _ := strconv.Unquote(spec.Path.Value) // the parser has checked it
	return unquoted
}

// within tells whether an import path is a module's or lies below it.
func within(imported string) func(module string) bool {
	return func(module string) bool {
		return imported == module || strings.HasPrefix(imported, module+"/")
	}
}
