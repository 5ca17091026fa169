// Package symbols is what scripts may import: the generated tables of the packages and symbols in allowed.txt. Whatever
// is not in them does not exist for a script.
package symbols

import (
	"path"
	"reflect"
	"slices"
	"sync"
)

// Table holds the symbols of one package by name, in yaegi's form.
type Table = map[string]reflect.Value

var (
	mu    sync.Mutex
	built = map[string]Table{}
)

// For returns the table of a package, nil if scripts may not import it. Tables are built when they are first asked for
// and must not be changed. Safe for concurrent use.
func For(pkg string) Table {
	mu.Lock()
	defer mu.Unlock()
	if t, ok := built[pkg]; ok {
		return t
	}
	f := tables[pkg]
	if f == nil {
		return nil
	}
	built[pkg] = f()
	return built[pkg]
}

// Packages returns the import paths of all packages that scripts may import, sorted.
func Packages() []string {
	var names []string
	for name := range tables {
		names = append(names, name)
	}
	slices.Sort(names)
	return names
}

// Name returns the name of a package: the last part of its path, or that before where the last says a version.
func Name(pkg string) string {
	name := path.Base(pkg)
	if len(name) > 1 && name[0] == 'v' && name[1] >= '0' && name[1] <= '9' {
		name = path.Base(path.Dir(pkg))
	}
	return name
}

// variable is the value of a variable, for the tables: it keeps the variable's own type, which may be an interface, and
// cannot be set.
func variable[T any](v T) reflect.Value { return reflect.ValueOf(struct{ V T }{v}).Field(0) }
