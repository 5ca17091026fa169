package yaegi

import (
	"errors"
	"fmt"
	"go/ast"
	"go/parser"
	"go/scanner"
	"go/token"
	"slices"
	"strconv"

	"github.com/picloud/picloud/plugins/engine/yaegi/symbols"
	"github.com/picloud/picloud/sdk/engine"
)

// source is a script that was found to be well formed.
type source struct {
	name    string
	text    string
	imports []string
}

// check reads a script. It finds what the interpreter would not say, or not say well: wrong syntax with all its places,
// imports that do not exist here, a missing or odd Handle, and forms of Go that the interpreter gets wrong.
func check(files []engine.File) (*source, []engine.Diagnostic) {
	if len(files) != 1 {
		name := ""
		if len(files) > 0 {
			name = files[0].Name
		}
		return nil, []engine.Diagnostic{{File: name, Message: fmt.Sprintf("a Go script is one file, not %d", len(files))}}
	}
	c := &checker{fset: token.NewFileSet(), name: files[0].Name}
	file, err := parser.ParseFile(c.fset, c.name, files[0].Data, parser.AllErrors|parser.SkipObjectResolution)
	if err != nil {
		return nil, c.syntax(err)
	}
	if file.Name.Name != "main" {
		c.add(file.Name.Pos(), "a script is of package main, not %s", file.Name.Name)
	}
	s := &source{name: c.name, text: string(files[0].Data)}
	for _, spec := range file.Imports {
		path, _ := strconv.Unquote(spec.Path.Value) // the parser has checked it
		switch {
		case symbols.For(path) == nil:
			c.add(spec.Path.Pos(), "the package %q is not available to scripts", path)
		case spec.Name != nil && spec.Name.Name == ".":
			c.add(spec.Name.Pos(), "a dot import is not available to scripts")
		}
		s.imports = append(s.imports, path)
	}
	c.entry(file)
	c.forms(file)
	return s, c.found
}

type checker struct {
	fset  *token.FileSet
	name  string
	found []engine.Diagnostic
}

func (c *checker) add(pos token.Pos, format string, args ...any) {
	p := c.fset.Position(pos)
	c.found = append(c.found, engine.Diagnostic{
		File: c.name, Line: p.Line, Column: p.Column, Message: fmt.Sprintf(format, args...),
	})
}

func (c *checker) syntax(err error) []engine.Diagnostic {
	var list scanner.ErrorList
	if !errors.As(err, &list) {
		return []engine.Diagnostic{{File: c.name, Message: err.Error()}}
	}
	for _, e := range list {
		c.found = append(c.found, engine.Diagnostic{File: c.name, Line: e.Pos.Line, Column: e.Pos.Column, Message: e.Msg})
	}
	return c.found
}

// entry looks for Handle.
func (c *checker) entry(file *ast.File) {
	for _, d := range file.Decls {
		f, ok := d.(*ast.FuncDecl)
		if !ok || f.Recv != nil || f.Name.Name != "Handle" {
			continue
		}
		if !isHandle(f.Type) {
			c.add(f.Name.Pos(), "Handle must be func Handle(ctx *picloud.Context) (any, error)")
		}
		return
	}
	c.add(file.Name.Pos(), "the script has no func Handle(ctx *picloud.Context) (any, error)")
}

func isHandle(t *ast.FuncType) bool {
	// The parameter needs a name, if only _: the interpreter panics in each call where it has none.
	if t.TypeParams != nil || len(t.Params.List) != 1 || len(t.Params.List[0].Names) != 1 ||
		t.Results == nil || t.Results.NumFields() != 2 {
		return false
	}
	star, ok := t.Params.List[0].Type.(*ast.StarExpr)
	if !ok {
		return false
	}
	if sel, ok := star.X.(*ast.SelectorExpr); !ok || sel.Sel.Name != "Context" {
		return false
	}
	first, second := t.Results.List[0].Type, t.Results.List[len(t.Results.List)-1].Type
	if len(t.Results.List) == 1 {
		return false // one type for both results
	}
	return isAny(first) && isIdent(second, "error")
}

func isAny(e ast.Expr) bool {
	i, ok := e.(*ast.InterfaceType)
	return isIdent(e, "any") || ok && len(i.Methods.List) == 0
}

func isIdent(e ast.Expr, name string) bool {
	id, ok := e.(*ast.Ident)
	return ok && id.Name == name
}

// newBuiltins came with Go 1.21, which the interpreter does not know.
var newBuiltins = []string{"min", "max", "clear"}

// forms refuses what the interpreter does not know or gets silently wrong, where that can be told from the tree.
func (c *checker) forms(file *ast.File) {
	declared := map[string]bool{}
	ast.Inspect(file, func(n ast.Node) bool {
		switch n := n.(type) {
		case *ast.FuncDecl:
			declared[n.Name.Name] = true
		case *ast.AssignStmt:
			if n.Tok == token.DEFINE {
				for _, e := range n.Lhs {
					if id, ok := e.(*ast.Ident); ok {
						declared[id.Name] = true
					}
				}
			}
		case *ast.ValueSpec:
			for _, id := range n.Names {
				declared[id.Name] = true
			}
		case *ast.Field:
			for _, id := range n.Names {
				declared[id.Name] = true
			}
		}
		return true
	})
	ast.Inspect(file, func(n ast.Node) bool {
		switch n := n.(type) {
		case *ast.RangeStmt:
			if lit, ok := n.X.(*ast.BasicLit); ok && lit.Kind == token.INT {
				c.add(n.X.Pos(), "range over a number is not available to scripts: write for i := 0; i < %s; i++", lit.Value)
			}
			if _, ok := n.X.(*ast.FuncLit); ok {
				c.add(n.X.Pos(), "range over a function is not available to scripts")
			}
		case *ast.CallExpr:
			id, ok := n.Fun.(*ast.Ident)
			if ok && slices.Contains(newBuiltins, id.Name) && !declared[id.Name] {
				c.add(id.Pos(), "the builtin %s is not available to scripts", id.Name)
			}
		}
		return true
	})
}
