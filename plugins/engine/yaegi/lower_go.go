package yaegi

import (
	"fmt"
	"go/ast"
	"go/types"
	"strings"
)

// spawn has a goroutine started by the engine, which counts it, recovers its panic, and waits for its end. As in Go the
// function and its arguments are evaluated first:
//
//	go f(a, b)   becomes   func() { f1 := f; a1 := a; b1 := b; g1 := func() { f1(a1, b1) }; picrun.Go(g1) }()
//
// It has a function around it since a function value that returns writes to the frame which has made it.
func (l *lowering) spawn(n *ast.GoStmt) {
	call := n.Call
	l.runtime = true
	at := l.fresh(n.Go)
	if f, ok := ast.Unparen(call.Fun).(*ast.FuncLit); ok && len(call.Args) == 0 {
		l.between(n.Go, f.Pos(), "func() { "+at+" := ")
		l.between(f.End(), call.End(), fmt.Sprintf("; %s.Go(%s) }()", runName, at))
		return
	}
	if l.isBuiltin(call.Fun) {
		l.refuse(n.Go, "go with a function of the language itself: put the call into a func() { … }()")
		return
	}
	fun := at + "f"
	if l.isDeclared(call.Fun) { // what it is cannot change, and a generic one is no value
		fun = l.source(call.Fun)
		l.between(n.Go, call.Fun.End(), "func() { ")
	} else {
		l.between(n.Go, call.Fun.Pos(), "func() { "+fun+" := ")
		l.close(call.Fun.End(), "; ")
	}
	from := call.Fun.End()
	var args []string
	for i, arg := range call.Args {
		tv := l.info.Types[arg]
		switch t, isTuple := tv.Type.(*types.Tuple); {
		case tv.Value != nil || tv.IsNil():
			l.between(from, arg.End(), "")
			args = append(args, l.source(arg))
		case isTuple:
			var names []string
			for j := range t.Len() {
				names = append(names, fmt.Sprintf("%sa%d", at, j))
			}
			l.between(from, arg.Pos(), strings.Join(names, ", ")+" := ")
			l.close(arg.End(), "; ")
			args = append(args, names...)
		default:
			name := fmt.Sprintf("%sa%d", at, i)
			l.between(from, arg.Pos(), name+" := ")
			l.close(arg.End(), "; ")
			args = append(args, name)
		}
		from = arg.End()
	}
	more := ""
	if call.Ellipsis.IsValid() {
		more = "..."
	}
	l.between(from, call.End(), fmt.Sprintf("%s := func() { %s(%s%s) }; %s.Go(%s) }()",
		at, fun, strings.Join(args, ", "), more, runName, at))
}

func (l *lowering) isBuiltin(f ast.Expr) bool {
	return l.info.Types[f].IsBuiltin()
}

// isDeclared reports whether f names a function of a package.
func (l *lowering) isDeclared(f ast.Expr) bool {
	switch x := ast.Unparen(f).(type) {
	case *ast.Ident:
		_, ok := l.info.Uses[x].(*types.Func)
		return ok
	case *ast.SelectorExpr:
		_, ok := l.info.Uses[x.Sel].(*types.Func)
		return ok && l.info.Selections[x] == nil
	case *ast.IndexExpr:
		return l.isDeclared(x.X)
	case *ast.IndexListExpr:
		return l.isDeclared(x.X)
	}
	return false
}
