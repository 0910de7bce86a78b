package policy

import (
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"

	_ "go.etcd.io/etcd/api/v3/etcdserverpb"
	_ "go.etcd.io/etcd/server/v3/etcdserver/api/v3election/v3electionpb"
	_ "go.etcd.io/etcd/server/v3/etcdserver/api/v3lock/v3lockpb"
	"google.golang.org/genproto/googleapis/api/annotations"
	_ "google.golang.org/grpc/health/grpc_health_v1"
	_ "google.golang.org/grpc/reflection/grpc_reflection_v1"
	_ "google.golang.org/grpc/reflection/grpc_reflection_v1alpha"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/reflect/protoregistry"
)

// described are the methods and gateway paths of all services that are compiled
// in, from their descriptors.
func described() map[string][]string {
	methods := map[string][]string{}
	protoregistry.GlobalFiles.RangeFiles(func(file protoreflect.FileDescriptor) bool {
		for i := range file.Services().Len() {
			service := file.Services().Get(i)
			for j := range service.Methods().Len() {
				method := service.Methods().Get(j)
				var paths []string
				if rule, ok := proto.GetExtension(method.Options(), annotations.E_Http).(*annotations.HttpRule); ok && rule != nil {
					for _, r := range append([]*annotations.HttpRule{rule}, rule.AdditionalBindings...) {
						paths = append(paths, strings.TrimPrefix(r.GetPost(), "/v3"))
					}
				}
				methods[fmt.Sprintf("/%s/%s", service.FullName(), method.Name())] = paths
			}
		}
		return true
	})
	return methods
}

// TestEveryCallIsClassified fails when a new etcd brings a call, or a path, that
// nobody has classified.
func TestEveryCallIsClassified(t *testing.T) {
	methods := described()
	if len(methods) < 50 {
		t.Fatalf("only %d methods are described", len(methods))
	}
	for method, paths := range methods {
		i := slices.IndexFunc(calls, func(c call) bool { return c.method == method })
		switch {
		case i < 0:
			t.Errorf("%s is not classified", method)
		case !slices.Equal(calls[i].paths, paths):
			t.Errorf("%s has paths %q, the table %q", method, paths, calls[i].paths)
		}
	}
	for _, c := range calls {
		if _, found := methods[c.method]; !found {
			t.Errorf("%s is in the table and in no service", c.method)
		}
	}
}

// TestReadonlyPageIsTheTable holds docs/readonly.md to the table; with
// UPDATE_DOCS set it writes the page's table anew.
func TestReadonlyPageIsTheTable(t *testing.T) {
	const page, begin, end = "../../docs/readonly.md", "<!-- table: made by go test -->\n", "<!-- end of the table -->\n"
	text, err := os.ReadFile(page)
	if err != nil {
		t.Fatal(err)
	}
	before, rest, found := strings.Cut(string(text), begin)
	was, after, ended := strings.Cut(rest, end)
	if !found || !ended {
		t.Fatal("the page has no table")
	}
	var table strings.Builder
	table.WriteString("\n| gRPC method | JSON path | readonly |\n|---|---|---|\n")
	for _, c := range calls {
		paths := "–"
		if len(c.paths) > 0 {
			paths = "`/v3" + strings.Join(c.paths, "`, `/v3") + "`"
		}
		verdict := map[kind]string{read: "passes", judged: "by its content", repeatable: "refused", refused: "refused"}[c.kind]
		fmt.Fprintf(&table, "| `%s` | %s | %s |\n", strings.TrimPrefix(c.method, "/"), paths, verdict)
	}
	table.WriteString("\n")
	if was == table.String() {
		return
	}
	if os.Getenv("UPDATE_DOCS") == "" {
		t.Fatal("the page's table is not that of the code: run UPDATE_DOCS=1 go test ./proxy/policy")
	}
	if err := os.WriteFile(page, []byte(before+begin+table.String()+end+after), 0o644); err != nil {
		t.Fatal(err)
	}
}
