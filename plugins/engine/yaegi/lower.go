package yaegi

import (
	"cmp"
	"fmt"
	"go/ast"
	"go/token"
	"go/types"
	"slices"
	"strconv"
	"strings"
)

// lowering rewrites what the interpreter would get wrong, and leaves each line in its place.
type lowering struct {
	fset   *token.FileSet
	file   *ast.File
	self   *types.Package
	info   *types.Info
	sizes  types.Sizes
	text   string
	edits  []edit
	refuse func(at token.Pos, format string, args ...any) // says that something cannot be rewritten

	comm    ast.Stmt // what the select case waits for that was seen last
	runtime bool     // the text calls the engine
}

// edit replaces text[from:to], offsets in bytes. closes says that it belongs to what ends at from.
type edit struct {
	from, to int
	text     string
	closes   bool
}

// The package by which a script's text calls the engine. No script can import it, as it is in no table.
const (
	runPath = "picloud.internal/run"
	runName = "picrun"
)

// rewrite notes what has to change.
func (l *lowering) rewrite() {
	ast.Inspect(l.file, func(n ast.Node) bool {
		switch n := n.(type) {
		case *ast.GoStmt:
			l.spawn(n)
		case *ast.DeferStmt:
			l.now(n)
		case *ast.CommClause:
			l.comm = n.Comm
		case *ast.RangeStmt:
			l.rangeLoop(n)
		case *ast.ForStmt:
			l.forLoop(n)
		case *ast.CallExpr:
			l.builtin(n)
		case *ast.ArrayType:
			l.array(n)
		case *ast.ReturnStmt:
			l.enclose(n.Results)
		case *ast.AssignStmt:
			l.grow(n)
			if ast.Stmt(n) != l.comm {
				l.enclose(n.Rhs)
			}
		case *ast.FuncDecl:
			l.name(n.Type)
			if n.Body != nil {
				l.initialiser(n)
				l.deferred(n.Body)
			}
		case *ast.FuncLit:
			l.name(n.Type)
			l.deferred(n.Body)
		case *ast.StructType:
			l.hide(n)
		case *ast.CompositeLit:
			l.foreign(n)
		}
		return true
	})
	if l.runtime {
		l.close(l.file.Name.End(), "; import "+runName+" \""+runPath+"\"")
	}
}

// enclose puts comparisons, negations, shifts and receptions into parentheses, which never change a meaning. Without, the
// interpreter writes their result straight to where it goes, and panics if that is an interface.
func (l *lowering) enclose(list []ast.Expr) {
	for _, e := range list {
		direct := false
		switch e := e.(type) {
		case *ast.UnaryExpr:
			direct = e.Op == token.NOT || e.Op == token.ARROW
		case *ast.BinaryExpr:
			switch e.Op {
			case token.EQL, token.NEQ, token.LSS, token.LEQ, token.GTR, token.GEQ, token.SHL, token.SHR:
				direct = true
			}
		}
		if direct {
			l.insert(e.Pos(), "(")
			l.close(e.End(), ")")
		}
	}
}

// name gives parameters without names the blank one. The interpreter panics in each call of a function that has none.
func (l *lowering) name(f *ast.FuncType) {
	for _, p := range f.Params.List {
		if len(p.Names) == 0 {
			l.insert(p.Pos(), "_ ")
		}
	}
}

// initialiser has a func init ask first whether it may run. Of a load that was stopped the interpreter ends what runs, and goes
// on with the next initialiser.
func (l *lowering) initialiser(f *ast.FuncDecl) {
	if f.Recv == nil && f.Name.Name == "init" {
		l.insert(f.Body.Lbrace+1, " "+runName+".Alive();")
		l.runtime = true
	}
}

// foreign refuses literals of generic types of modules, which the interpreter cannot make.
func (l *lowering) foreign(n *ast.CompositeLit) {
	if t, ok := types.Unalias(l.info.TypeOf(n)).(*types.Named); ok && t.TypeArgs().Len() > 0 && t.Obj().Pkg() != l.self {
		l.refuse(n.Pos(), "a literal of the generic type %s of a module: have a func of the module make it", t.Obj().Name())
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
			l.close(f.Type.End(), hidden)
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
	l.edits = append(l.edits, edit{from: l.offset(from), to: l.offset(to), text: text})
}

// insert puts text before what begins at a place, close behind what ends there.
func (l *lowering) insert(at token.Pos, text string) { l.replace(at, at, text) }

func (l *lowering) close(at token.Pos, text string) {
	l.edits = append(l.edits, edit{from: l.offset(at), to: l.offset(at), text: text, closes: true})
}

// between replaces what stands between two places, but for the ends of its lines.
func (l *lowering) between(from, to token.Pos, text string) {
	l.replace(from, to, text+strings.Repeat("\n", strings.Count(l.text[l.offset(from):l.offset(to)], "\n")))
}

// source is the text of a piece of the script.
func (l *lowering) source(n ast.Node) string { return l.text[l.offset(n.Pos()):l.offset(n.End())] }

// fresh is a name that nothing in the script has, unless it was made to.
func (l *lowering) fresh(at token.Pos) string { return fmt.Sprintf("pic%d", l.offset(at)) }

// typeName is how the script can name a type. It cannot name one of a package that it does not import.
func (l *lowering) typeName(t types.Type) (name string, ok bool) {
	ok = true
	name = types.TypeString(t, func(pkg *types.Package) string {
		if pkg == l.self {
			return ""
		}
		for _, spec := range l.file.Imports {
			if path, _ := strconv.Unquote(spec.Path.Value); path == pkg.Path() {
				if spec.Name != nil {
					return spec.Name.Name
				}
				return pkg.Name()
			}
		}
		ok = false
		return ""
	})
	return strings.TrimPrefix(name, "untyped "), ok
}

// apply returns the text with all edits made, and where it is shifted. One inside of another, as in a struct in a split
// field list, is left out.
func (l *lowering) apply() (string, shifts) {
	// They were found from the outside inwards. In one place, what ends there comes first, from the inside outwards.
	var edits []edit
	for _, e := range slices.Backward(l.edits) {
		if e.closes {
			edits = append(edits, e)
		}
	}
	for _, e := range l.edits {
		if !e.closes {
			edits = append(edits, e)
		}
	}
	slices.SortStableFunc(edits, func(a, b edit) int { return cmp.Compare(a.from, b.from) })
	var out strings.Builder
	var moved shifts
	at := 0
	for _, e := range edits {
		if e.from < at {
			continue
		}
		out.WriteString(l.text[at:e.from])
		out.WriteString(e.text)
		at = e.to
		moved = append(moved, shift{here: out.Len(), there: at})
	}
	out.WriteString(l.text[at:])
	return out.String(), moved
}

// shifts lead from places in the text that the interpreter reads to those in the author's.
type shifts []shift

// shift says that what begins at here in the one begins at there in the other.
type shift struct{ here, there int }

// place returns where in the author's text a place of the interpreter's is; lines and columns count from 1, in bytes.
// What stands for something else is where that ends.
func (f *file) place(line, column int) (int, int) {
	here := lineStart(f.text, line) + column - 1
	there := here
	for i, m := range f.moved {
		if m.here > here {
			break
		}
		there = m.there + here - m.here
		if i+1 < len(f.moved) {
			there = min(there, f.moved[i+1].there)
		}
	}
	if there > len(f.original) {
		return line, column
	}
	before := f.original[:there]
	return strings.Count(before, "\n") + 1, there - strings.LastIndexByte(before, '\n')
}

func lineStart(text string, line int) (at int) {
	for ; line > 1; line-- {
		next := strings.IndexByte(text[at:], '\n')
		if next < 0 {
			return len(text)
		}
		at += next + 1
	}
	return at
}
