package postgres_test

import (
	"errors"
	"go/ast"
	"go/constant"
	"go/parser"
	"go/token"
	"go/types"
	"os"
	"strings"
	"testing"

	"github.com/picloud/picloud/core/coretest"
)

// Every constant of the package whose name begins with sql is a statement that a migrated database accepts. So a typing
// error, or a column that a migration has renamed, shows here and not in some rare branch.
func TestStatements(t *testing.T) {
	t.Parallel()
	statements := sqlConstants(t)
	if len(statements) == 0 {
		t.Fatal("no statements found")
	}
	conn, err := coretest.DB(t).Acquire(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Release()
	for name, statement := range statements {
		if _, err := conn.Conn().Prepare(t.Context(), name, statement); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// sqlConstants reads the package's source, since a constant that nobody exports cannot be reached otherwise, and
// evaluates them as the compiler does: some are put together from parts.
func sqlConstants(t *testing.T) map[string]string {
	t.Helper()
	entries, err := os.ReadDir(".")
	if err != nil {
		t.Fatal(err)
	}
	fset := token.NewFileSet()
	var files []*ast.File
	for _, entry := range entries {
		if name := entry.Name(); strings.HasSuffix(name, ".go") && !strings.HasSuffix(name, "_test.go") {
			file, err := parser.ParseFile(fset, name, nil, 0)
			if err != nil {
				t.Fatal(err)
			}
			files = append(files, file)
		}
	}
	// Strings need no imports, so all errors about those may be ignored.
	config := types.Config{Importer: noImports{}, Error: func(error) {}}
	pkg, _ := config.Check("postgres", fset, files, nil)
	found := map[string]string{}
	for _, name := range pkg.Scope().Names() {
		c, is := pkg.Scope().Lookup(name).(*types.Const)
		if is && strings.HasPrefix(name, "sql") && c.Val().Kind() == constant.String {
			found[name] = constant.StringVal(c.Val())
		}
	}
	return found
}

type noImports struct{}

func (noImports) Import(string) (*types.Package, error) { return nil, errors.New("not needed") }
