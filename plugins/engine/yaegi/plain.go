package yaegi

import (
	"encoding"
	"encoding/json"
	"fmt"
	"maps"
	"reflect"
	"slices"
	"sync"
	"unsafe"
)

// The interpreter wraps a value whose type has methods when a script puts it into an interface, and knows no other form
// of interfaces that scripts declare. Such a wrapper has no exported fields: JSON would be {} and print would show
// addresses. So values are unwrapped on their way out of a script.

// plain returns a value without the interpreter's wrappers. What has none is returned as it is; of what has, copies are
// made, whose types are others but whose JSON is that of the value as the script sees it.
func plain(value any) any {
	w := unwrapper{}
	p, changed := w.value(value)
	if !changed || w.cyclic {
		return value // JSON says what is wrong with a value that holds itself
	}
	return p
}

// plainAll is plain for the arguments of a call. What prints itself is left to do so.
func plainAll(values []any) []any {
	copied := false
	for i, v := range values {
		switch v.(type) {
		case error, fmt.Formatter, fmt.Stringer:
			continue
		}
		w := unwrapper{}
		if p, changed := w.value(v); changed && !w.cyclic {
			if !copied {
				values, copied = slices.Clone(values), true
			}
			values[i] = p
		}
	}
	return values
}

// unwrapper walks a value.
type unwrapper struct {
	depth  int
	above  map[unsafe.Pointer]bool // what the walk is in, beyond watchedDepth
	cyclic bool
}

// watchedDepth is from where on the walk looks for values that hold themselves.
const watchedDepth = 100

// enter begins to walk what p points to, and says whether the walk is in it already. leave ends it.
func (w *unwrapper) enter(p unsafe.Pointer) bool {
	if w.depth++; w.depth > watchedDepth {
		if w.above == nil {
			w.above = map[unsafe.Pointer]bool{}
		}
		w.cyclic = w.cyclic || w.above[p]
		w.above[p] = true
	}
	return !w.cyclic
}

func (w *unwrapper) leave(p unsafe.Pointer) {
	w.depth--
	delete(w.above, p)
}

// value returns x without wrappers, and whether it had any. The usual forms take no reflection.
func (w *unwrapper) value(x any) (any, bool) {
	switch x := x.(type) {
	case nil, bool, string, int, int64, float64, []byte, []string, map[string]string:
		return x, false
	case map[string]any:
		var out map[string]any
		p := reflect.ValueOf(x).UnsafePointer()
		defer w.leave(p)
		if !w.enter(p) {
			return x, false
		}
		for k, e := range x {
			if p, changed := w.value(e); changed {
				if out == nil {
					out = maps.Clone(x)
				}
				out[k] = p
			}
		}
		return or(out, x, out != nil)
	case []any:
		var out []any
		p := unsafe.Pointer(unsafe.SliceData(x))
		defer w.leave(p)
		if !w.enter(p) {
			return x, false
		}
		for i, e := range x {
			if p, changed := w.value(e); changed {
				if out == nil {
					out = slices.Clone(x)
				}
				out[i] = p
			}
		}
		return or(out, x, out != nil)
	}
	return w.reflected(reflect.ValueOf(x))
}

// or returns the copy if one was made, else the original.
func or(made, original any, changed bool) (any, bool) {
	if changed {
		return made, true
	}
	return original, false
}

func (w *unwrapper) reflected(v reflect.Value) (any, bool) {
	if !holdsWrappers(v.Type()) {
		return v.Interface(), false
	}
	if isWrapper(v.Type()) {
		inner := unwrap(v)
		if !inner.IsValid() {
			return nil, true
		}
		p, _ := w.value(inner.Interface())
		return p, true
	}
	switch v.Kind() {
	case reflect.Interface:
		if v.IsNil() {
			return nil, false
		}
		return w.value(v.Elem().Interface())
	case reflect.Pointer, reflect.Map, reflect.Slice:
		p := v.UnsafePointer()
		defer w.leave(p)
		if v.IsNil() || !w.enter(p) {
			return v.Interface(), false
		}
	}
	switch v.Kind() {
	case reflect.Pointer:
		p, changed := w.reflected(v.Elem())
		return or(p, v.Interface(), changed)
	case reflect.Map:
		return w.mapping(v)
	case reflect.Slice, reflect.Array:
		return w.list(v)
	default:
		return w.structure(v)
	}
}

func (w *unwrapper) mapping(v reflect.Value) (any, bool) {
	out := reflect.MakeMapWithSize(reflect.MapOf(v.Type().Key(), reflect.TypeFor[any]()), v.Len())
	any := false
	for k, e := range v.Seq2() {
		p, changed := w.reflected(e)
		any = any || changed
		out.SetMapIndex(k, settable(p))
	}
	return or(out.Interface(), v.Interface(), any)
}

func (w *unwrapper) list(v reflect.Value) (any, bool) {
	out := make([]any, v.Len())
	any := false
	for i := range out {
		p, changed := w.reflected(v.Index(i))
		any = any || changed
		out[i] = p
	}
	return or(out, v.Interface(), any)
}

// structure makes a struct with the same names and tags of what JSON sees of v.
func (w *unwrapper) structure(v reflect.Value) (any, bool) {
	var fields []reflect.StructField
	var values []reflect.Value
	any := false
	for i := range v.NumField() {
		f := v.Type().Field(i)
		if !f.IsExported() {
			continue
		}
		value := v.Field(i)
		if p, changed := w.reflected(value); changed {
			any = true
			value = settable(p)
			if f.Anonymous && p != nil {
				value = value.Elem() // embedded as what it is, so that its fields stay in their place
			}
		}
		fields = append(fields, reflect.StructField{Name: f.Name, Type: value.Type(), Tag: f.Tag, Anonymous: f.Anonymous})
		values = append(values, value)
	}
	if !any {
		return v.Interface(), false
	}
	out := reflect.New(reflect.StructOf(fields)).Elem()
	for i, value := range values {
		out.Field(i).Set(value)
	}
	return out.Interface(), true
}

// settable is a value of the type any, which may be nil.
func settable(x any) reflect.Value { return reflect.ValueOf(&x).Elem() }

// isWrapper tells the interpreter's type, which has no exported name.
func isWrapper(t reflect.Type) bool {
	return t.Kind() == reflect.Struct && t.Name() == "valueInterface" && t.PkgPath() == "github.com/traefik/yaegi/interp"
}

// unwrap returns what a wrapper holds. There is no other way to its field than through its address.
func unwrap(v reflect.Value) reflect.Value {
	addressable := reflect.New(v.Type()).Elem()
	addressable.Set(v)
	return *(*reflect.Value)(addressable.FieldByName("value").Addr().UnsafePointer())
}

// holders caches holdsWrappers.
var holders sync.Map

// holdsWrappers says whether a value of a type can have wrappers in it that matter: not where it encodes itself.
func holdsWrappers(t reflect.Type) bool {
	if known, ok := holders.Load(t); ok {
		return known.(bool)
	}
	holds := mayHold(t, map[reflect.Type]bool{})
	holders.Store(t, holds)
	return holds
}

func mayHold(t reflect.Type, above map[reflect.Type]bool) bool {
	if above[t] {
		return false // what it holds is found where it was entered
	}
	above[t] = true
	switch {
	case isWrapper(t), t.Kind() == reflect.Interface:
		return true
	case t.Implements(reflect.TypeFor[json.Marshaler]()), t.Implements(reflect.TypeFor[encoding.TextMarshaler]()):
		return false
	}
	switch t.Kind() {
	case reflect.Pointer, reflect.Map, reflect.Slice, reflect.Array:
		return mayHold(t.Elem(), above)
	case reflect.Struct:
		for f := range t.Fields() {
			if f.IsExported() && mayHold(f.Type, above) {
				return true
			}
		}
	}
	return false
}
