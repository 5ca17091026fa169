package yaegi

import (
	"cmp"
	"go/ast"
	"go/token"
	"slices"
	"strings"
)

// lowering rewrites what the interpreter would get wrong, and leaves each line in its place.
type lowering struct {
	fset  *token.FileSet
	text  string
	edits []edit
}

// edit replaces text[from:to], offsets in bytes.
type edit struct {
	from, to int
	text     string
}

// lower returns the text of a script as the interpreter has to read it.
func lower(fset *token.FileSet, file *ast.File, text string) string {
	l := &lowering{fset: fset, text: text}
	ast.Inspect(file, func(n ast.Node) bool {
		switch n := n.(type) {
		case *ast.ReturnStmt:
			l.enclose(n.Results)
		case *ast.AssignStmt:
			l.enclose(n.Rhs)
		case *ast.FuncDecl:
			l.name(n.Type)
		case *ast.FuncLit:
			l.name(n.Type)
		case *ast.StructType:
			l.hide(n)
		}
		return true
	})
	return l.apply()
}

// enclose puts comparisons, negations and shifts into parentheses, which never change a meaning. Without, the interpreter
// writes their result straight to where it goes, and panics if that is an interface.
func (l *lowering) enclose(list []ast.Expr) {
	for _, e := range list {
		direct := false
		switch e := e.(type) {
		case *ast.UnaryExpr:
			direct = e.Op == token.NOT
		case *ast.BinaryExpr:
			switch e.Op {
			case token.EQL, token.NEQ, token.LSS, token.LEQ, token.GTR, token.GEQ, token.SHL, token.SHR:
				direct = true
			}
		}
		if direct {
			l.replace(e.Pos(), e.Pos(), "(")
			l.replace(e.End(), e.End(), ")")
		}
	}
}

// name gives parameters without names the blank one. The interpreter panics in each call of a function that has none.
func (l *lowering) name(f *ast.FuncType) {
	for _, p := range f.Params.List {
		if len(p.Names) == 0 {
			l.replace(p.Pos(), p.Pos(), "_ ")
		}
	}
}

// hidden is the tag of fields that are nobody's business: the interpreter exports all fields, so that encoders would
// write and read those too that the script does not export.
const hidden = " `json:\"-\" xml:\"-\"`"

// hide tags the unexported fields of a struct. Embedded ones keep theirs: what they promote is to be seen.
func (l *lowering) hide(s *ast.StructType) {
	for _, f := range s.Fields.List {
		exported := slices.ContainsFunc(f.Names, (*ast.Ident).IsExported)
		switch {
		case len(f.Names) == 0:
		case !exported && f.Tag != nil:
			l.replace(f.Tag.Pos(), f.Tag.End(), strings.TrimSpace(hidden))
		case !exported:
			l.replace(f.Type.End(), f.Type.End(), hidden)
		case slices.ContainsFunc(f.Names, func(name *ast.Ident) bool { return !name.IsExported() }):
			l.split(f)
		}
	}
}

// split gives each name of a field list its own field, on the same line. The first keeps the type where it is.
func (l *lowering) split(f *ast.Field) {
	kind := l.text[l.offset(f.Type.Pos()):l.offset(f.Type.End())]
	tag := ""
	if f.Tag != nil {
		tag = " " + f.Tag.Value
	}
	var fields []string
	for _, name := range f.Names {
		if name.IsExported() {
			fields = append(fields, name.Name+" "+kind+tag)
		} else {
			fields = append(fields, name.Name+" "+kind+hidden)
		}
	}
	l.replace(f.Pos(), f.End(), strings.Join(fields, "; "))
}

func (l *lowering) offset(p token.Pos) int { return l.fset.PositionFor(p, false).Offset }

func (l *lowering) replace(from, to token.Pos, text string) {
	l.edits = append(l.edits, edit{l.offset(from), l.offset(to), text})
}

// apply returns the text with all edits made. One inside of another, as in a struct in a split field list, is left out.
func (l *lowering) apply() string {
	slices.SortStableFunc(l.edits, func(a, b edit) int { return cmp.Compare(a.from, b.from) })
	var out strings.Builder
	at := 0
	for _, e := range l.edits {
		if e.from < at {
			continue
		}
		out.WriteString(l.text[at:e.from])
		out.WriteString(e.text)
		at = e.to
	}
	out.WriteString(l.text[at:])
	return out.String()
}
