package yaegi

import (
	"bytes"
	"encoding"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"reflect"
	"regexp"
	"strings"
	"sync"

	"github.com/traefik/yaegi/interp"

	"github.com/picloud/picloud/plugins/engine/yaegi/symbols"
	"github.com/picloud/picloud/sdk/stdlib"
)

// exports are the packages that a script imports, for the interpreter. What it prints goes to o.
func (o *output) exports(imports []string) interp.Exports {
	exports := interp.Exports{}
	methods := methodTypes{}
	for _, path := range imports {
		table := symbols.For(path)
		switch path {
		case "fmt":
			table = o.fmtTable()
			methods.add(table, printing, "Append", "Appendf", "Appendln", "Errorf", "Fprint", "Fprintf", "Fprintln",
				"Print", "Printf", "Println", "Sprint", "Sprintf", "Sprintln")
		case "encoding/json":
			table = jsonTable()
			methods.add(table, marshaling, "Marshal", "MarshalIndent")
			exports[exportKey("encoding")] = symbols.For("encoding") // the interpreter finds TextMarshaler there
		case "strings", "bytes":
			table = maps.Clone(table)
			table["Repeat"] = repeats[path]
		case "regexp":
			table = regexpTable()
		case "image", "image/png", "image/jpeg":
			table = imageTable(path)
		}
		exports[exportKey(path)] = table
	}
	if len(methods) > 0 {
		exports["."] = symbols.Table{"MapTypes": reflect.ValueOf(map[reflect.Value][]reflect.Type(methods))}
	}
	return exports
}

// exportKey names a package for yaegi's Use. For fmt the path is spelt in a way that Use cleans but does not recognise
// as its trigger for compiling generic library sources, which costs every interpreter 2 ms and 0.8 MB.
func exportKey(path string) string {
	if path == "fmt" {
		return "fmt//fmt"
	}
	return path + "/" + symbols.Name(path)
}

// repeats are functions that make much of little: memory that cannot be had would end the process.
var repeats = map[string]reflect.Value{
	"strings": reflect.ValueOf(func(s string, count int) string { return strings.Repeat(s, size(count, max(1, len(s)))) }),
	"bytes":   reflect.ValueOf(func(b []byte, count int) []byte { return bytes.Repeat(b, size(count, max(1, len(b)))) }),
}

// regexpTable is regexp with functions that refuse patterns which take much memory.
var regexpTable = sync.OnceValue(func() symbols.Table {
	table := maps.Clone(symbols.For("regexp"))
	must := func(f func(string) *regexp.Regexp) reflect.Value {
		return reflect.ValueOf(func(pattern string) *regexp.Regexp {
			if err := stdlib.CheckPattern(pattern); err != nil {
				panic("regexp: " + err.Error())
			}
			return f(pattern)
		})
	}
	compile := func(f func(string) (*regexp.Regexp, error)) func(string) (*regexp.Regexp, error) {
		return func(pattern string) (*regexp.Regexp, error) {
			if err := stdlib.CheckPattern(pattern); err != nil {
				return nil, fmt.Errorf("regexp: %w", err)
			}
			return f(pattern)
		}
	}
	checked := compile(regexp.Compile)
	table["MustCompile"], table["MustCompilePOSIX"] = must(regexp.MustCompile), must(regexp.MustCompilePOSIX)
	table["Compile"], table["CompilePOSIX"] = reflect.ValueOf(checked), reflect.ValueOf(compile(regexp.CompilePOSIX))
	table["Match"] = reflect.ValueOf(func(pattern string, b []byte) (bool, error) {
		re, err := checked(pattern)
		return err == nil && re.Match(b), err
	})
	table["MatchString"] = reflect.ValueOf(func(pattern, s string) (bool, error) {
		re, err := checked(pattern)
		return err == nil && re.MatchString(s), err
	})
	table["MatchReader"] = reflect.ValueOf(func(pattern string, r io.RuneReader) (bool, error) {
		re, err := checked(pattern)
		return err == nil && re.MatchReader(r), err
	})
	return table
})

// methodTypes says for functions which interfaces their arguments may implement: the interpreter hands a script's value
// to a function with the methods of one of them, and without any otherwise.
type methodTypes map[reflect.Value][]reflect.Type

func (m methodTypes) add(table symbols.Table, interfaces []reflect.Type, names ...string) {
	for _, name := range names {
		m[table[name]] = interfaces
	}
}

var (
	printing = []reflect.Type{
		reflect.TypeFor[fmt.Formatter](), reflect.TypeFor[error](), reflect.TypeFor[fmt.Stringer](),
	}
	marshaling = []reflect.Type{reflect.TypeFor[json.Marshaler](), reflect.TypeFor[encoding.TextMarshaler]()}
)

// jsonTable is encoding/json with functions that encode what scripts make of their types.
var jsonTable = sync.OnceValue(func() symbols.Table {
	table := maps.Clone(symbols.For("encoding/json"))
	table["Marshal"] = reflect.ValueOf(func(v any) ([]byte, error) { return json.Marshal(plain(v)) })
	table["MarshalIndent"] = reflect.ValueOf(func(v any, prefix, indent string) ([]byte, error) {
		return json.MarshalIndent(plain(v), prefix, indent)
	})
	return table
})

// fmtTable is fmt with functions that print what scripts make of their types. Print and its kin write to o.
func (o *output) fmtTable() symbols.Table {
	table := maps.Clone(printers())
	table["Print"] = reflect.ValueOf(func(a ...any) (int, error) { return fmt.Fprint(o, plainAll(a)...) })
	table["Printf"] = reflect.ValueOf(func(f string, a ...any) (int, error) { return fmt.Fprintf(o, f, plainAll(a)...) })
	table["Println"] = reflect.ValueOf(func(a ...any) (int, error) { return fmt.Fprintln(o, plainAll(a)...) })
	return table
}

var printers = sync.OnceValue(func() symbols.Table {
	table := maps.Clone(symbols.For("fmt"))
	for name, f := range map[string]any{
		"Append":   func(b []byte, a ...any) []byte { return fmt.Append(b, plainAll(a)...) },
		"Appendf":  func(b []byte, f string, a ...any) []byte { return fmt.Appendf(b, f, plainAll(a)...) },
		"Appendln": func(b []byte, a ...any) []byte { return fmt.Appendln(b, plainAll(a)...) },
		"Errorf":   func(f string, a ...any) error { return fmt.Errorf(f, plainAll(a)...) },
		"Fprint":   func(w io.Writer, a ...any) (int, error) { return fmt.Fprint(w, plainAll(a)...) },
		"Fprintf":  func(w io.Writer, f string, a ...any) (int, error) { return fmt.Fprintf(w, f, plainAll(a)...) },
		"Fprintln": func(w io.Writer, a ...any) (int, error) { return fmt.Fprintln(w, plainAll(a)...) },
		"Sprint":   func(a ...any) string { return fmt.Sprint(plainAll(a)...) },
		"Sprintf":  func(f string, a ...any) string { return fmt.Sprintf(f, plainAll(a)...) },
		"Sprintln": func(a ...any) string { return fmt.Sprintln(plainAll(a)...) },
	} {
		table[name] = reflect.ValueOf(f)
	}
	return table
})
