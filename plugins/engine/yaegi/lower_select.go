package yaegi

import (
	"go/ast"
	"go/token"
	"go/types"
)

// The interpreter keeps the channels and values of a select statement's cases with the statement: two goroutines that come to one
// at the same time may see each other's. That does no harm where those are the same for both, though the race detector would see it.

// starts reports whether a file starts a goroutine.
func starts(file *ast.File) (found bool) {
	ast.Inspect(file, func(n ast.Node) bool {
		_, is := n.(*ast.GoStmt)
		found = found || is
		return !found
	})
	return found
}

// selects refuses select statements that several goroutines may run with channels or values of their own.
func (l *lowering) selects() {
	var above []ast.Node
	ast.Inspect(l.file, func(n ast.Node) bool {
		if n == nil {
			above = above[:len(above)-1]
			return true
		}
		if s, ok := n.(*ast.SelectStmt); ok {
			if own := l.private(above); own != nil {
				l.checkSelect(s, own)
			}
		}
		above = append(above, n)
		return true
	})
}

// private is what around a statement has variables that each goroutine has for itself: a function, or a loop of Handle that makes
// functions. It is nil where only one goroutine runs the statement: that of Handle, or one that Handle starts outside of loops.
func (l *lowering) private(above []ast.Node) ast.Node {
	var loop, own ast.Node
	for i, n := range above {
		switch n := n.(type) {
		case *ast.ForStmt, *ast.RangeStmt:
			if loop == nil {
				loop = n
			}
		case *ast.FuncDecl:
			if n.Recv != nil || n.Name.Name != "Handle" || l.used(n.Name) {
				return n // anybody may call it
			}
		case *ast.FuncLit:
			if own == nil && !startedOnce(above[:i]) {
				if own = loop; loop == nil {
					own = n
				}
			}
		}
	}
	return own
}

// used reports whether the script itself names what it declares by name.
func (l *lowering) used(name *ast.Ident) bool {
	for _, object := range l.info.Uses {
		if object == l.info.Defs[name] {
			return true
		}
	}
	return false
}

// startedOnce reports whether a literal that stands below these is what one go statement calls, which runs once.
func startedOnce(above []ast.Node) bool {
	started := false
	for i := len(above) - 1; i >= 0; i-- {
		switch above[i].(type) {
		case *ast.GoStmt:
			started = i == len(above)-2 // go, its call, the literal
		case *ast.ForStmt, *ast.RangeStmt, *ast.LabeledStmt:
			return false
		case *ast.FuncLit, *ast.FuncDecl:
			return started
		}
	}
	return started
}

// checkSelect refuses s unless its channels and values are the same in every goroutine that runs own.
func (l *lowering) checkSelect(s *ast.SelectStmt, own ast.Node) {
	for _, clause := range s.Body.List {
		ast.Inspect(commOf(clause), func(n ast.Node) bool {
			name, ok := n.(*ast.Ident)
			if !ok {
				return true
			}
			v, ok := l.info.Uses[name].(*types.Var)
			if !ok || v.IsField() || v.Pos() < own.Pos() || v.Pos() > own.End() {
				return true
			}
			l.refuse(name.Pos(), "a select that several goroutines may run with their own %s, which the interpreter mixes up: "+
				"have them use channels and values that they share, or operations outside of a select", name.Name)
			return false
		})
	}
}

// commOf is what a case waits for, without what a reception is assigned to.
func commOf(clause ast.Stmt) ast.Node {
	switch comm := clause.(*ast.CommClause).Comm.(type) {
	case nil:
		return &ast.BadStmt{From: token.NoPos, To: token.NoPos} // default
	case *ast.AssignStmt:
		return comm.Rhs[0]
	default:
		return comm
	}
}
