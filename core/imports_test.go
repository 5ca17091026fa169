package core_test

import (
	"encoding/json"
	"errors"
	"io"
	"os"
	"os/exec"
	"slices"
	"strings"
	"testing"
)

const module = "github.com/picloud/picloud/"

// mayImport says which top-level folders the code of a top-level folder may import: cmd → core, plugins → sdk.
var mayImport = map[string][]string{
	"cmd":        {"cmd", "core", "plugins", "sdk", "openapi", "migrations", "clients"},
	"core":       {"core", "sdk", "openapi", "migrations", "clients"},
	"plugins":    {"sdk"},
	"sdk":        {"sdk"},
	"openapi":    {},
	"migrations": {},
	"clients":    {},
}

// wiredOnly are packages that implement or call the line's interfaces; importers are those who put the two together.
var (
	wiredOnly = []string{"core/postgres", "core/postgres/embedded", "core/pluginhost", "core/api"}
	importers = []string{"core/node", "core/coretest", "cmd"}
)

func TestImports(t *testing.T) {
	t.Parallel()
	imports := listImports(t)
	if len(imports) == 0 {
		t.Fatal("no packages found")
	}
	for from, targets := range imports {
		for _, to := range targets {
			if fault := importFault(from, to); fault != "" {
				t.Errorf("%s imports %s: %s", from, to, fault)
			}
		}
	}
}

// importFault says what is wrong with an import of one package of ours by another, or "".
func importFault(from, to string) string {
	allowed, known := mayImport[topLevel(from)]
	switch {
	case !known:
		return "unknown top-level folder"
	case from == "plugins" && topLevel(to) == "plugins":
		return "" // the list of built-in plugins
	case topLevel(from) == "plugins" && isIn(to, pluginFolder(from)):
		return "" // a part of itself
	case !slices.Contains(allowed, topLevel(to)):
		return topLevel(from) + " may import only " + strings.Join(allowed, ", ")
	case isIn(to, "core/coretest") && !isIn(from, "core/coretest"):
		return "the test kit is for tests"
	case slices.Contains(wiredOnly, to):
		for _, importer := range importers {
			if isIn(from, importer) {
				return ""
			}
		}
		return "only " + strings.Join(importers, ", ") + " and tests may"
	}
	return ""
}

func TestImportFaults(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		from, to string
		ok       bool
	}{
		{"cmd/picloud", "core/node", true},
		{"cmd/picloud", "plugins", true},
		{"plugins", "plugins/engine/yaegi", true},
		{"plugins/engine/yaegi", "sdk/engine", true},
		{"core/node", "core/postgres", true},
		{"plugins/engine/yaegi", "plugins/engine/yaegi/symbols", true},
		{"plugins/engine/yaegi", "plugins/engine/js", false},
		{"plugins/engine/yaegi", "core/tenant", false},
		{"core/node", "plugins", false},
		{"sdk/engine", "migrations", false},
		{"core/ingress", "core/postgres", false},
		{"core/ingress", "core/coretest", false},
		{"tools", "sdk/event", false},
	} {
		if fault := importFault(c.from, c.to); (fault == "") != c.ok {
			t.Errorf("%s imports %s: %q, want ok %v", c.from, c.to, fault, c.ok)
		}
	}
}

func TestTopLevel(t *testing.T) {
	t.Parallel()
	fixed := []string{
		"core", "plugins", "sdk", "cmd", "openapi", "migrations", "clients",
		"go.mod", "go.sum", "Makefile", "README.md", "CHANGELOG.md", "LICENSE",
		"bin", // what make build makes
	}
	entries, err := os.ReadDir("..")
	if err != nil {
		t.Fatal(err)
	}
	for _, entry := range entries {
		if name := entry.Name(); !strings.HasPrefix(name, ".") && !slices.Contains(fixed, name) {
			t.Errorf("%s has no place at the top level", name)
		}
	}
}

func topLevel(path string) string {
	top, _, _ := strings.Cut(path, "/")
	return top
}

// pluginFolder is plugins/<kind>/<name>, all that belongs to one plugin.
func pluginFolder(path string) string {
	parts := strings.Split(path, "/")
	return strings.Join(parts[:min(3, len(parts))], "/")
}

func isIn(path, folder string) bool { return path == folder || strings.HasPrefix(path, folder+"/") }

// listImports returns what each package of ours imports of ours, tests not counted. Names lack the module's.
func listImports(t *testing.T) map[string][]string {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), "go", "list", "-e", "-deps", "-json=ImportPath,Imports", "./...")
	cmd.Dir = ".."
	var stderr strings.Builder
	cmd.Stderr = &stderr
	output, err := cmd.Output()
	if err != nil {
		t.Fatalf("go list: %v\n%s", err, &stderr)
	}
	imports := map[string][]string{}
	for decoder := json.NewDecoder(strings.NewReader(string(output))); ; {
		var p struct {
			ImportPath string
			Imports    []string
		}
		if err := decoder.Decode(&p); errors.Is(err, io.EOF) {
			return imports
		} else if err != nil {
			t.Fatalf("read go list: %v", err)
		}
		from, ours := strings.CutPrefix(p.ImportPath, module)
		if !ours {
			continue
		}
		imports[from] = nil
		for _, path := range p.Imports {
			if to, ours := strings.CutPrefix(path, module); ours {
				imports[from] = append(imports[from], to)
			}
		}
	}
}
