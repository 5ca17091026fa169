package yaegi

import (
	"fmt"
	"go/ast"
	"go/constant"
	"go/token"
	"go/types"
	"strconv"
	"strings"
)

// builtin lowers the calls of functions of the language that the interpreter does not have, and has the engine look at the
// sizes that make is asked for: memory that cannot be had ends the process.
func (l *lowering) builtin(n *ast.CallExpr) {
	name, ok := ast.Unparen(n.Fun).(*ast.Ident)
	if !ok {
		return
	}
	b, ok := l.info.Uses[name].(*types.Builtin)
	if !ok {
		return
	}
	switch b.Name() {
	case "min":
		l.extreme(n, "<")
	case "max":
		l.extreme(n, ">")
	case "clear":
		l.clear(n)
	case "make":
		l.bound(n)
	case "append":
		l.boundAppend(n)
	}
}

// extreme writes min or max as a function of its own: one that keeps a NaN, as those do.
func (l *lowering) extreme(n *ast.CallExpr, less string) {
	tv := l.info.Types[n]
	if b, ok := tv.Type.(*types.Basic); ok && b.Info()&types.IsUntyped != 0 && tv.Value != nil {
		l.between(n.Pos(), n.End(), literal(tv.Value))
		return
	}
	name, ok := l.typeName(tv.Type)
	if !ok {
		l.refuse(n.Pos(), "min and max of the type %s, which has no name here: compare with if", tv.Type)
		return
	}
	if tv.Value != nil {
		l.between(n.Pos(), n.End(), name+"("+literal(tv.Value)+")")
		return
	}
	b, isBasic := tv.Type.Underlying().(*types.Basic)
	var params, body strings.Builder
	for i := range n.Args {
		if i > 0 {
			params.WriteString(", ")
			nan := ""
			if isBasic && b.Info()&types.IsFloat != 0 {
				nan = fmt.Sprintf(" || a%d != a%d", i, i)
			}
			fmt.Fprintf(&body, "if a%d %s a0%s { a0 = a%d }; ", i, less, nan, i)
		}
		fmt.Fprintf(&params, "a%d", i)
	}
	l.between(n.Fun.Pos(), n.Fun.End(), fmt.Sprintf("func(%s %s) %s { %sreturn a0 }", params.String(), name, name, body.String()))
}

func literal(v constant.Value) string {
	if v.Kind() == constant.Float {
		f, _ := constant.Float64Val(v)
		s := strconv.FormatFloat(f, 'g', -1, 64)
		if !strings.ContainsAny(s, ".e") {
			s += ".0"
		}
		return s
	}
	return v.ExactString()
}

func (l *lowering) clear(n *ast.CallExpr) {
	t := l.info.TypeOf(n.Args[0])
	name, ok := l.typeName(t)
	element := ""
	if s, isSlice := t.Underlying().(*types.Slice); isSlice && ok {
		element, ok = l.typeName(s.Elem())
	}
	if !ok {
		l.refuse(n.Pos(), "clear of the type %s, which has no name here: use a loop", t)
		return
	}
	body := "for k := range x { delete(x, k) }"
	if element != "" {
		body = "var zero " + element + "; for i := range x { x[i] = zero }"
	}
	l.between(n.Fun.Pos(), n.Fun.End(), "func(x "+name+") { "+body+" }")
}

// most is how large one value may be, in bytes.
const most = 64 << 20

// bound has the engine look at the sizes that are not known before, and refuses those that are too large.
func (l *lowering) bound(n *ast.CallExpr) {
	size := int64(1)
	switch t := l.info.TypeOf(n).Underlying().(type) {
	case *types.Slice:
		size = l.sizes.Sizeof(t.Elem())
	case *types.Chan:
		size = l.sizes.Sizeof(t.Elem())
	case *types.Map:
		size = l.sizes.Sizeof(t.Key()) + l.sizes.Sizeof(t.Elem())
	}
	size = max(1, size)
	for _, arg := range n.Args[1:] {
		if v := l.info.Types[arg].Value; v != nil {
			if count, exact := constant.Int64Val(constant.ToInt(v)); !exact || count > most/size {
				l.refuse(arg.Pos(), "a value of more than %d MB", most>>20)
			}
			continue
		}
		l.runtime = true
		l.insert(arg.Pos(), runName+".Size(int(")
		l.close(arg.End(), fmt.Sprintf("), %d)", size))
	}
}

// boundAppend has the engine look at how long a slice becomes to which all of another is added: what doubles in each round
// of a loop outgrows the machine before the watch sees it.
func (l *lowering) boundAppend(n *ast.CallExpr) {
	if !n.Ellipsis.IsValid() || !l.isVariable(n.Args[0]) || !l.isVariable(n.Args[1]) || !pure(n) {
		return
	}
	s, ok := l.info.TypeOf(n).Underlying().(*types.Slice)
	if !ok {
		return
	}
	l.runtime = true
	more := l.source(n.Args[1])
	l.close(n.Args[1].End(), fmt.Sprintf("[:%s.Grow(len(%s), len(%s), %d)]", runName, l.source(n.Args[0]), more, max(1, l.sizes.Sizeof(s.Elem()))))
}

// pure reports whether the parts of a call can be read twice.
func pure(n *ast.CallExpr) bool {
	pure := true
	for _, arg := range n.Args {
		ast.Inspect(arg, func(n ast.Node) bool {
			switch n.(type) {
			case *ast.CallExpr, *ast.UnaryExpr:
				pure = false
			}
			return pure
		})
	}
	return pure
}

// grow has the engine add text to a variable, for the same reason.
func (l *lowering) grow(n *ast.AssignStmt) {
	if n.Tok != token.ADD_ASSIGN {
		return
	}
	name, ok := ast.Unparen(n.Lhs[0]).(*ast.Ident)
	if !ok {
		return
	}
	t := l.info.TypeOf(name)
	if b, ok := t.Underlying().(*types.Basic); !ok || b.Kind() != types.String {
		return
	}
	kind, ok := l.typeName(t)
	if !ok {
		return
	}
	l.runtime = true
	l.between(n.TokPos, n.Rhs[0].Pos(), fmt.Sprintf("= %s(%s.Add(string(%s), string(", kind, runName, name.Name))
	l.close(n.Rhs[0].End(), ")))")
}

// array refuses arrays that no script can have.
func (l *lowering) array(n *ast.ArrayType) {
	if t := l.info.TypeOf(n); n.Len != nil && t != nil && l.sizes.Sizeof(t) > most {
		l.refuse(n.Pos(), "a value of more than %d MB", most>>20)
	}
}
