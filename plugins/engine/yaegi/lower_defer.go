package yaegi

import (
	"fmt"
	"go/ast"
	"go/types"
)

// deferred looks at the defer statements of a function, which the interpreter gets wrong in two ways: in a loop they see the
// variables of its last round; and while deferred functions run, the function values that their own function has made cannot
// be called, since both take the same lock.
func (l *lowering) deferred(body *ast.BlockStmt) {
	made := l.functionValues(body)
	l.within(body, func(n ast.Node, loop ast.Node) {
		d, ok := n.(*ast.DeferStmt)
		if !ok {
			return
		}
		ast.Inspect(d.Call, func(n ast.Node) bool {
			name, ok := n.(*ast.Ident)
			if !ok {
				return true
			}
			switch v := l.info.Uses[name]; {
			case made[v]:
				l.refuse(name.Pos(), "a deferred call of %s, which the function itself has made: write it as a func of the file, or what it does "+
					"into the defer", name.Name)
			case loop != nil && v != nil && loop.Pos() <= v.Pos() && v.Pos() < d.Pos():
				l.refuse(name.Pos(), "what is deferred in a loop would see the %s of the last round: put the loop's body into a function",
					name.Name)
			}
			return true
		})
	})
}

// now has the variables of a deferred call read when it is deferred: the interpreter reads them when it is made.
//
//	defer f(a)   becomes   a1 := a; defer f(a1)
func (l *lowering) now(d *ast.DeferStmt) {
	at := l.fresh(d.Defer)
	keep := func(e ast.Expr, name, from string) {
		l.insert(d.Defer, name+" := "+from+l.source(e)+"; ")
		l.between(e.Pos(), e.End(), name)
	}
	if m, ok := ast.Unparen(d.Call.Fun).(*ast.SelectorExpr); ok && l.info.Selections[m] != nil && l.isVariable(m.X) {
		from := ""
		if byPointer, isPointer := l.receiver(m); byPointer && !isPointer {
			from = "&"
		}
		keep(m.X, at+"r", from)
	}
	for i, arg := range d.Call.Args {
		if l.isVariable(arg) {
			keep(arg, fmt.Sprintf("%sa%d", at, i), "")
		}
	}
}

// isVariable reports whether an expression is a variable or a part of one.
func (l *lowering) isVariable(e ast.Expr) bool {
	switch x := ast.Unparen(e).(type) {
	case *ast.Ident:
		_, ok := l.info.Uses[x].(*types.Var)
		return ok
	case *ast.SelectorExpr:
		_, ok := l.info.Uses[x.Sel].(*types.Var)
		return ok && (l.info.Selections[x] == nil || l.isVariable(x.X))
	case *ast.IndexExpr:
		return l.isVariable(x.X)
	case *ast.StarExpr:
		return l.isVariable(x.X)
	}
	return false
}

// receiver says of a call of a method whether it needs a pointer, and whether what it is called on is one.
func (l *lowering) receiver(m *ast.SelectorExpr) (byPointer, isPointer bool) {
	s := l.info.Selections[m]
	if f, ok := s.Obj().(*types.Func); ok && f.Signature().Recv() != nil {
		_, byPointer = f.Signature().Recv().Type().(*types.Pointer)
	}
	_, isPointer = s.Recv().Underlying().(*types.Pointer)
	return byPointer, isPointer
}

// functionValues are the variables of a function that hold functions which are written in it.
func (l *lowering) functionValues(body *ast.BlockStmt) map[types.Object]bool {
	made := map[types.Object]bool{}
	note := func(to ast.Expr, from ast.Expr) {
		name, ok := to.(*ast.Ident)
		if _, written := ast.Unparen(from).(*ast.FuncLit); !ok || !written {
			return
		}
		for _, v := range []types.Object{l.info.Defs[name], l.info.Uses[name]} {
			if v != nil {
				made[v] = true
			}
		}
	}
	l.within(body, func(n ast.Node, _ ast.Node) {
		switch n := n.(type) {
		case *ast.AssignStmt:
			for i := range n.Lhs {
				if len(n.Rhs) == len(n.Lhs) {
					note(n.Lhs[i], n.Rhs[i])
				}
			}
		case *ast.ValueSpec:
			for i := range n.Values {
				if len(n.Values) == len(n.Names) {
					note(n.Names[i], n.Values[i])
				}
			}
		}
	})
	return made
}

// within calls f for the nodes of a function's body but not of those functions that are written in it, each with the
// innermost loop around it.
func (l *lowering) within(body *ast.BlockStmt, f func(n, loop ast.Node)) {
	var walk func(n, loop ast.Node)
	walk = func(root, loop ast.Node) {
		ast.Inspect(root, func(n ast.Node) bool {
			switch n := n.(type) {
			case nil:
				return true
			case *ast.FuncLit:
				return false
			case *ast.ForStmt, *ast.RangeStmt:
				if n != root {
					f(n, loop)
					walk(n, n)
					return false
				}
				return true
			default:
				f(n, loop)
			}
			return true
		})
	}
	walk(body, nil)
}
