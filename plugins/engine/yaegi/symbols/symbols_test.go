package symbols_test

import (
	"fmt"
	"go/importer"
	"go/token"
	"go/types"
	"io"
	"os"
	"os/exec"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/picloud/picloud/plugins/engine/yaegi/symbols"
)

// What scripts can reach is what was reviewed, symbol by symbol.
func TestTablesHoldWhatIsAllowed(t *testing.T) {
	t.Parallel()
	text, err := os.ReadFile("../allowed.txt")
	if err != nil {
		t.Fatal(err)
	}
	var held []string
	for _, pkg := range symbols.Packages() {
		for name := range symbols.For(pkg) {
			if !strings.HasPrefix(name, "_") {
				held = append(held, pkg+" "+name)
			}
		}
	}
	var allowed []string
	for line := range strings.Lines(string(text)) {
		if fields := strings.Fields(line); len(fields) == 2 {
			allowed = append(allowed, strings.Join(fields, " "))
		}
	}
	slices.Sort(held)
	slices.Sort(allowed)
	for _, s := range held {
		if !slices.Contains(allowed, s) {
			t.Errorf("not allowed, but there: %s", s)
		}
	}
	for _, s := range allowed {
		if !slices.Contains(held, s) {
			t.Errorf("allowed, but not there: %s", s)
		}
	}
}

// A script is checked against types that are made from the tables. They must be those that its author's tools see.
func TestTypesAreTheRealOnes(t *testing.T) {
	t.Parallel()
	compiled := compiledTypes(t)
	for _, path := range symbols.Packages() {
		real, err := compiled.Import(path)
		if err != nil {
			t.Fatal(err)
		}
		made, err := symbols.Importer().Import(path)
		if err != nil {
			t.Fatal(err)
		}
		if made.Name() != real.Name() {
			t.Errorf("%s has the name %s, not %s", path, made.Name(), real.Name())
		}
		for _, name := range made.Scope().Names() {
			want, got := describe(real.Scope().Lookup(name)), describe(made.Scope().Lookup(name))
			if got != want {
				t.Errorf("%s.%s is\n%s\nnot\n%s", path, name, got, want)
			}
		}
	}
}

// compiledTypes imports what the compiler wrote of the packages that scripts may import.
func compiledTypes(t *testing.T) types.Importer {
	list := exec.Command("go", append([]string{"list", "-export", "-deps", "-f", "{{.ImportPath}} {{.Export}}"}, symbols.Packages()...)...)
	list.Env = append(os.Environ(), "CGO_ENABLED=0") // as the program is built, so that it is in the cache
	list.Stderr = os.Stderr
	out, err := list.Output()
	if err != nil {
		t.Fatal(err)
	}
	files := map[string]string{}
	for line := range strings.Lines(string(out)) {
		path, file, _ := strings.Cut(strings.TrimSpace(line), " ")
		files[path] = file
	}
	return importer.ForCompiler(token.NewFileSet(), "gc", func(path string) (io.ReadCloser, error) {
		return os.Open(files[path])
	})
}

// describe writes what a script can see of an object.
func describe(o types.Object) string {
	if o == nil {
		return "nothing"
	}
	kind := fmt.Sprintf("%T", o)
	if v, ok := o.(*types.Var); ok && isBasic(v.Type()) {
		kind = "*types.Const" // see converter.object
	}
	text := kind + " " + bare(o.Type())
	if o, ok := o.(*types.TypeName); !ok || o.IsAlias() {
		return text
	}
	text += " comparable " + fmt.Sprint(types.Comparable(o.Type()))
	switch u := o.Type().Underlying().(type) {
	case *types.Struct:
		for f := range u.Fields() {
			if f.Exported() {
				text += fmt.Sprintf("\n%s %s %v", f.Name(), bare(f.Type()), f.Embedded())
			}
		}
	default:
		text += "\n" + bare(u)
	}
	for _, t := range []types.Type{o.Type(), types.NewPointer(o.Type())} {
		methods := types.NewMethodSet(t)
		for m := range methods.Methods() {
			if m.Obj().Exported() {
				text += fmt.Sprintf("\n%s %s", m.Obj().Name(), bare(m.Type()))
			}
		}
	}
	return text
}

func isBasic(t types.Type) bool {
	b, ok := t.Underlying().(*types.Basic)
	return ok && b.Info()&types.IsConstType != 0
}

// bare writes a type without the names of parameters.
func bare(t types.Type) string {
	switch t := types.Unalias(t).(type) {
	case *types.Signature:
		return "func" + tuple(t.Params()) + tuple(t.Results()) + fmt.Sprint(t.Variadic())
	case *types.Pointer:
		return "*" + bare(t.Elem())
	case *types.Slice:
		return "[]" + bare(t.Elem())
	case *types.Map:
		return "map[" + bare(t.Key()) + "]" + bare(t.Elem())
	case *types.Interface:
		text := "interface{"
		for m := range t.Methods() {
			text += m.Name() + bare(m.Type()) + ";"
		}
		return text + "}"
	case *types.Basic:
		return types.Typ[t.Kind()].Name() // byte is uint8
	default:
		return strings.ReplaceAll(t.String(), "[]byte", "[]uint8")
	}
}

func tuple(t *types.Tuple) string {
	var list []string
	for v := range t.Variables() {
		list = append(list, bare(v.Type()))
	}
	return "(" + strings.Join(list, ",") + ")"
}

// Scripts are checked side by side.
func TestImporterIsSafe(t *testing.T) {
	t.Parallel()
	var all sync.WaitGroup
	for range 4 {
		all.Go(func() {
			for _, path := range symbols.Packages() {
				if _, err := symbols.Importer().Import(path); err != nil {
					t.Error(err)
				}
			}
		})
	}
	all.Wait()
}
