package yaegi

import (
	"fmt"
	"go/ast"
	"go/token"
	"go/types"
)

// The interpreter has one variable for all rounds of a loop, where Go has had one for each since 1.22. The difference shows
// only where a function or a pointer keeps a variable beyond its round: there each round gets a copy.

// rangeLoop lowers a loop over a number, and gives the rounds of others their own variables.
func (l *lowering) rangeLoop(n *ast.RangeStmt) {
	if t := l.info.TypeOf(n.X); t != nil {
		if b, ok := t.Underlying().(*types.Basic); ok && b.Info()&types.IsInteger != 0 {
			l.count(n)
			return
		}
	}
	if n.Tok != token.DEFINE {
		return
	}
	for _, e := range []ast.Expr{n.Key, n.Value} {
		if name, ok := e.(*ast.Ident); ok && name.Name != "_" && l.use(n.Body, l.info.Defs[name]).kept {
			l.copyIn(n.Body, name.Name)
		}
	}
}

// count makes three clauses of a loop over a number. The variable is a copy, as the body may change it.
func (l *lowering) count(n *ast.RangeStmt) {
	kind := types.Default(l.info.TypeOf(n.X))
	if n.Key != nil {
		if t := l.info.TypeOf(n.Key); t != nil {
			kind = types.Default(t)
		}
	}
	name, ok := l.typeName(kind)
	if !ok {
		l.refuse(n.X.Pos(), "a loop over a number of the type %s, which has no name here: convert it first", kind)
		return
	}
	end, at := l.fresh(n.For), l.fresh(n.X.Pos())
	if end == at {
		at += "a"
	}
	l.between(n.For, n.X.Pos(), fmt.Sprintf("for %s, %s := %s(", end, at, name))
	l.between(n.X.End(), n.Body.Lbrace, fmt.Sprintf("), %s(0); %s < %s; %s++ ", name, at, end, at))
	if n.Key == nil {
		return
	}
	if key, ok := n.Key.(*ast.Ident); ok && key.Name == "_" {
		return
	}
	l.insert(n.Body.Lbrace+1, fmt.Sprintf(" %s %s %s; ", l.source(n.Key), n.Tok, at))
}

// forLoop gives the rounds of a loop with three clauses variables of their own. What the body changes would have to go
// back into the loop's: such a loop is refused.
func (l *lowering) forLoop(n *ast.ForStmt) {
	init, ok := n.Init.(*ast.AssignStmt)
	if !ok || init.Tok != token.DEFINE {
		return
	}
	for _, e := range init.Lhs {
		name, ok := e.(*ast.Ident)
		if !ok || name.Name == "_" {
			continue
		}
		v := l.info.Defs[name]
		head := false
		for _, part := range []ast.Node{n.Cond, n.Post} {
			head = head || l.use(part, v).kept
		}
		switch u := l.use(n.Body, v); {
		case head || u.kept && u.changed:
			l.refuse(name.Pos(), "a function or a pointer keeps the loop variable %s, which the loop changes besides in its head: "+
				"give it a copy (%s := %s)", name.Name, name.Name, name.Name)
		case u.kept:
			l.copyIn(n.Body, name.Name)
		}
	}
}

func (l *lowering) copyIn(body *ast.BlockStmt, name string) {
	l.insert(body.Lbrace+1, fmt.Sprintf(" %s := %s; ", name, name))
}

// use is what a piece of a script does with a variable.
type use struct {
	kept    bool // a function or a pointer has it
	changed bool
}

func (l *lowering) use(n ast.Node, v types.Object) (u use) {
	if v == nil || n == nil || n == ast.Node((*ast.BlockStmt)(nil)) {
		return u
	}
	is := func(e ast.Expr) bool {
		name, ok := ast.Unparen(e).(*ast.Ident)
		return ok && l.info.Uses[name] == v
	}
	depth := 0
	var stack []ast.Node
	ast.Inspect(n, func(n ast.Node) bool {
		if n == nil {
			if _, ok := stack[len(stack)-1].(*ast.FuncLit); ok {
				depth--
			}
			stack = stack[:len(stack)-1]
			return true
		}
		stack = append(stack, n)
		switch n := n.(type) {
		case *ast.FuncLit:
			depth++
		case *ast.Ident:
			u.kept = u.kept || depth > 0 && l.info.Uses[n] == v
		case *ast.UnaryExpr:
			if n.Op == token.AND && is(root(n.X)) {
				u.kept, u.changed = true, true // whoever has the pointer may change it
			}
		case *ast.IncDecStmt:
			u.changed = u.changed || is(root(n.X))
		case *ast.AssignStmt:
			for _, e := range n.Lhs {
				u.changed = u.changed || is(root(e))
			}
		case *ast.RangeStmt:
			for _, e := range []ast.Expr{n.Key, n.Value} {
				u.changed = u.changed || e != nil && n.Tok == token.ASSIGN && is(root(e))
			}
		case *ast.SelectorExpr:
			if s := l.info.Selections[n]; s != nil && s.Kind() == types.MethodVal && is(root(n.X)) {
				byPointer, isPointer := l.receiver(n)
				u.changed = u.changed || byPointer && !isPointer
			}
		}
		return true
	})
	return u
}

// root is the variable that an expression is a part of: v of v.a[1].
func root(e ast.Expr) ast.Expr {
	for {
		switch x := ast.Unparen(e).(type) {
		case *ast.SelectorExpr:
			e = x.X
		case *ast.IndexExpr:
			e = x.X
		default:
			return x
		}
	}
}
