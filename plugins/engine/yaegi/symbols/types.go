package symbols

import (
	"fmt"
	"go/constant"
	"go/token"
	"go/types"
	"reflect"
	"slices"
	"strings"
	"sync"
)

// Importer lets go/types check a script against exactly what it may import. The packages are made from the tables, so
// there is one truth, and no sources or export data have to be at hand. Safe for concurrent use.
func Importer() types.Importer { return importer }

var importer = &converter{
	packages: map[string]*types.Package{},
	complete: map[string]bool{},
	named:    map[reflect.Type]*types.Named{},
}

// converter makes of reflect's types those of go/types. What reflect does not know, scripts do not need: the names of
// parameters, unexported fields, and generic functions, which no table can hold.
type converter struct {
	mu       sync.Mutex
	packages map[string]*types.Package
	complete map[string]bool // whether the scope of a package is filled, and must not change any more
	named    map[reflect.Type]*types.Named
}

// Import returns a package that scripts may import.
func (c *converter) Import(importPath string) (*types.Package, error) {
	table := For(importPath)
	if table == nil {
		return nil, fmt.Errorf("the package %q is not available to scripts", importPath)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	pkg := c.pkg(importPath)
	if c.complete[importPath] {
		return pkg, nil
	}
	for name, v := range table {
		if !strings.HasPrefix(name, "_") { // those wrap interfaces, for the interpreter
			pkg.Scope().Insert(c.object(pkg, name, v))
		}
	}
	pkg.MarkComplete()
	c.complete[importPath] = true
	return pkg, nil
}

func (c *converter) pkg(importPath string) *types.Package {
	if importPath == "" {
		return nil
	}
	if c.packages[importPath] == nil {
		c.packages[importPath] = types.NewPackage(importPath, Name(importPath))
	}
	return c.packages[importPath]
}

// runes are the untyped constants whose type is rune where none is said. The tables hold their values only.
var runes = []string{
	"math/big.MaxBase", "unicode.MaxASCII", "unicode.MaxLatin1", "unicode.MaxRune", "unicode.ReplacementChar",
	"unicode.UpperLower", "unicode/utf8.MaxRune", "unicode/utf8.RuneError",
}

// object makes of an entry of a table what it declares.
func (c *converter) object(pkg *types.Package, name string, v reflect.Value) types.Object {
	if v.Kind() == reflect.Pointer && v.IsNil() { // yaegi's form of a type
		t := c.typ(v.Type().Elem())
		if n, ok := t.(*types.Named); ok && n.Obj().Pkg() == pkg && n.Obj().Name() == name {
			return n.Obj()
		}
		return types.NewTypeName(token.NoPos, pkg, name, t)
	}
	if value, ok := v.Interface().(constant.Value); ok {
		kind := untyped[value.Kind()]
		if slices.Contains(runes, pkg.Path()+"."+name) {
			kind = types.UntypedRune
		}
		return types.NewConst(token.NoPos, pkg, name, types.Typ[kind], value)
	}
	t := c.typ(v.Type())
	if f, ok := t.(*types.Signature); ok {
		return types.NewFunc(token.NoPos, pkg, name, f)
	}
	// The tables do not tell a constant with a type from a variable. Variables of basic types are rare, and scripts
	// have copies of them, which there is no point in changing.
	if value := constantOf(v); value != nil {
		return types.NewConst(token.NoPos, pkg, name, t, value)
	}
	return types.NewVar(token.NoPos, pkg, name, t)
}

var untyped = map[constant.Kind]types.BasicKind{
	constant.Bool: types.UntypedBool, constant.String: types.UntypedString,
	constant.Int: types.UntypedInt, constant.Float: types.UntypedFloat, constant.Complex: types.UntypedComplex,
}

func constantOf(v reflect.Value) constant.Value {
	switch {
	case v.Kind() == reflect.Bool:
		return constant.MakeBool(v.Bool())
	case v.Kind() == reflect.String:
		return constant.MakeString(v.String())
	case v.CanInt():
		return constant.MakeInt64(v.Int())
	case v.CanUint():
		return constant.MakeUint64(v.Uint())
	case v.CanFloat():
		return constant.MakeFloat64(v.Float())
	}
	return nil
}

var basic = map[reflect.Kind]types.BasicKind{
	reflect.Bool: types.Bool, reflect.String: types.String, reflect.UnsafePointer: types.UnsafePointer,
	reflect.Int: types.Int, reflect.Int8: types.Int8, reflect.Int16: types.Int16,
	reflect.Int32: types.Int32, reflect.Int64: types.Int64,
	reflect.Uint: types.Uint, reflect.Uint8: types.Uint8, reflect.Uint16: types.Uint16,
	reflect.Uint32: types.Uint32, reflect.Uint64: types.Uint64, reflect.Uintptr: types.Uintptr,
	reflect.Float32: types.Float32, reflect.Float64: types.Float64,
	reflect.Complex64: types.Complex64, reflect.Complex128: types.Complex128,
}

var (
	anyType   = types.Universe.Lookup("any").Type()
	byteType  = types.Universe.Lookup("byte").Type()
	errorType = types.Universe.Lookup("error").Type()
)

func (c *converter) typ(t reflect.Type) types.Type {
	switch {
	case t == reflect.TypeFor[error]():
		return errorType
	case t == reflect.TypeFor[any]():
		return anyType
	case t == reflect.TypeFor[byte]():
		return byteType
	case t.Name() != "" && t.PkgPath() != "":
		return c.namedType(t)
	}
	return c.literal(t)
}

// namedType makes a type that has a name, with its methods. It is known before its parts are made, as they may name it.
func (c *converter) namedType(t reflect.Type) types.Type {
	if n := c.named[t]; n != nil {
		return n
	}
	pkg := c.pkg(t.PkgPath())
	n := types.NewNamed(types.NewTypeName(token.NoPos, pkg, t.Name(), nil), nil, nil)
	c.named[t] = n
	n.SetUnderlying(c.literal(t))
	if t.Kind() == reflect.Interface {
		return n
	}
	for m := range reflect.PointerTo(t).Methods() {
		receiver := types.Type(types.NewPointer(n))
		if _, ok := t.MethodByName(m.Name); ok {
			receiver = n
		}
		n.AddMethod(types.NewFunc(token.NoPos, pkg, m.Name,
			c.signature(m.Type, 1, types.NewParam(token.NoPos, pkg, "", receiver))))
	}
	return n
}

// literal makes a type of its structure.
func (c *converter) literal(t reflect.Type) types.Type {
	switch t.Kind() {
	case reflect.Pointer:
		return types.NewPointer(c.typ(t.Elem()))
	case reflect.Slice:
		return types.NewSlice(c.typ(t.Elem()))
	case reflect.Array:
		return types.NewArray(c.typ(t.Elem()), int64(t.Len()))
	case reflect.Map:
		return types.NewMap(c.typ(t.Key()), c.typ(t.Elem()))
	case reflect.Chan:
		return types.NewChan(directions[t.ChanDir()], c.typ(t.Elem()))
	case reflect.Func:
		return c.signature(t, 0, nil)
	case reflect.Interface:
		return c.interfaceType(t)
	case reflect.Struct:
		return c.structType(t)
	}
	return types.Typ[basic[t.Kind()]]
}

var directions = map[reflect.ChanDir]types.ChanDir{
	reflect.BothDir: types.SendRecv, reflect.SendDir: types.SendOnly, reflect.RecvDir: types.RecvOnly,
}

// signature makes a function's type without its first skip parameters.
func (c *converter) signature(t reflect.Type, skip int, receiver *types.Var) *types.Signature {
	var params, results []*types.Var
	for i := skip; i < t.NumIn(); i++ {
		params = append(params, types.NewParam(token.NoPos, nil, "", c.typ(t.In(i))))
	}
	for result := range t.Outs() {
		results = append(results, types.NewParam(token.NoPos, nil, "", c.typ(result)))
	}
	return types.NewSignatureType(receiver, nil, nil, types.NewTuple(params...), types.NewTuple(results...), t.IsVariadic())
}

func (c *converter) interfaceType(t reflect.Type) types.Type {
	var methods []*types.Func
	for m := range t.Methods() {
		methods = append(methods, types.NewFunc(token.NoPos, c.pkg(m.PkgPath), m.Name, c.signature(m.Type, 0, nil)))
	}
	return types.NewInterfaceType(methods, nil).Complete()
}

// structType makes a struct of its exported fields. One more stands for all others, so that literals without keys are
// refused and types that cannot be compared stay so.
func (c *converter) structType(t reflect.Type) types.Type {
	var fields []*types.Var
	var tags []string
	hidden := false
	for f := range t.Fields() {
		if !f.IsExported() {
			hidden = true
			continue
		}
		fields = append(fields, types.NewField(token.NoPos, c.pkg(t.PkgPath()), f.Name, c.typ(f.Type), f.Anonymous))
		tags = append(tags, string(f.Tag))
	}
	if hidden {
		var rest types.Type = types.NewStruct(nil, nil)
		if !t.Comparable() {
			rest = types.NewSlice(rest)
		}
		fields = append(fields, types.NewField(token.NoPos, c.pkg(t.PkgPath()), "_", rest, false))
		tags = append(tags, "")
	}
	return types.NewStruct(fields, tags)
}
