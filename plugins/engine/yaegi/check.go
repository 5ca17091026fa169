package yaegi

import (
	"bytes"
	"errors"
	"fmt"
	"go/ast"
	"go/parser"
	"go/scanner"
	"go/token"
	"go/types"
	"regexp"
	"strconv"
	"strings"

	"github.com/picloud/picloud/plugins/engine/yaegi/symbols"
	"github.com/picloud/picloud/sdk/engine"
	"github.com/picloud/picloud/sdk/watch"
)

const (
	// language is the Go that scripts are written in. What the interpreter lacks of it is rewritten or refused.
	language = "go1.22"
	// findings bounds the diagnostics of a script: the first are what its author needs.
	findings = 20
	// sdkPath is what a script imports of ours.
	sdkPath = "github.com/picloud/picloud/sdk/picloud"
)

// source is a script that was found to be well formed.
type source struct {
	name     string
	original string // as its author wrote it
	text     string // as the interpreter has to read it
	moved    shifts // from there to the original
	imports  []string
	limits   engine.Limits
	watch    *watch.Watch // over the runs of its process
}

// check reads a script as the Go compiler would. The interpreter alone says little of what is wrong with a source, and
// takes much that is.
func check(files []engine.File) (*source, []engine.Diagnostic) {
	if len(files) != 1 {
		name := ""
		if len(files) > 0 {
			name = files[0].Name
		}
		return nil, []engine.Diagnostic{{File: name, Message: fmt.Sprintf("a Go script is one file, not %d", len(files))}}
	}
	c := &checker{fset: token.NewFileSet(), name: files[0].Name}
	if len(bytes.TrimSpace(files[0].Data)) == 0 {
		return nil, []engine.Diagnostic{{
			File: c.name, Line: 1, Column: 1,
			Message: "the file is empty; a script is of package main and has a func Handle(ctx *picloud.Context) (any, error)",
		}}
	}
	file, err := parser.ParseFile(c.fset, c.name, files[0].Data, parser.SkipObjectResolution)
	if err != nil {
		return nil, c.syntax(err)
	}
	if file.Name.Name != "main" {
		c.add(file.Name.Pos(), "a script is of package main, not %s", file.Name.Name)
	}
	s := &source{name: c.name, original: string(files[0].Data), imports: c.imports(file)}
	var info *types.Info
	if len(c.found) == 0 {
		info = c.types(file)
	}
	if len(c.found) == 0 {
		l := &lowering{fset: c.fset, file: file, info: info, sizes: sizes, text: s.original, refuse: c.add}
		l.rewrite()
		s.text, s.moved = l.apply()
	}
	if len(c.found) > 0 {
		return nil, c.found
	}
	return s, nil
}

type checker struct {
	fset  *token.FileSet
	name  string
	found []engine.Diagnostic
}

func (c *checker) add(pos token.Pos, format string, args ...any) {
	if len(c.found) == findings {
		return
	}
	p := c.fset.PositionFor(pos, false) // line directives do not apply: the source is what its author sees
	c.found = append(c.found, engine.Diagnostic{
		File: c.name, Line: p.Line, Column: p.Column, Message: fmt.Sprintf(format, args...),
	})
}

func (c *checker) syntax(err error) []engine.Diagnostic {
	var list scanner.ErrorList
	if !errors.As(err, &list) {
		return []engine.Diagnostic{{File: c.name, Message: err.Error()}}
	}
	for _, e := range list[:min(len(list), findings)] {
		c.found = append(c.found, engine.Diagnostic{File: c.name, Line: e.Pos.Line, Column: e.Pos.Column, Message: e.Msg})
	}
	return c.found
}

// imports returns what the script imports, and refuses what is not there for it.
func (c *checker) imports(file *ast.File) []string {
	var paths []string
	for _, spec := range file.Imports {
		path, _ := strconv.Unquote(spec.Path.Value) // the parser has checked it
		switch {
		case symbols.For(path) == nil:
			c.add(spec.Path.Pos(), "the package %q is not available to scripts", path)
		case spec.Name != nil && spec.Name.Name == ".":
			c.add(spec.Name.Pos(), "a dot import is not available to scripts")
		}
		paths = append(paths, path)
	}
	return paths
}

var sizes = types.SizesFor("gc", "amd64")

// types checks the script's types, and that it has a Handle that can be called.
func (c *checker) types(file *ast.File) *types.Info {
	file.GoVersion = "" // a build constraint must not raise the language
	config := types.Config{
		GoVersion: language, Importer: symbols.Importer(), Sizes: sizes,
		Error: func(err error) {
			var e types.Error
			if errors.As(err, &e) && !strings.HasPrefix(e.Msg, "\t") { // a tab begins a remark on the error before
				c.add(e.Pos, "%s", plainer(e.Msg))
			}
		},
	}
	info := &types.Info{
		Types: map[ast.Expr]types.TypeAndValue{}, Defs: map[*ast.Ident]types.Object{}, Uses: map[*ast.Ident]types.Object{},
		Selections: map[*ast.SelectorExpr]*types.Selection{},
	}
	pkg, _ := config.Check("main", c.fset, []*ast.File{file}, info) // Error has its errors
	handle, ok := pkg.Scope().Lookup("Handle").(*types.Func)
	if !ok {
		c.add(file.Name.Pos(), "the script has no func Handle(ctx *picloud.Context) (any, error)")
		return info
	}
	if !types.Identical(handle.Signature(), handleType) {
		c.add(handle.Pos(), "Handle must be func Handle(ctx *picloud.Context) (any, error)")
	}
	return info
}

// handleType is the type of Handle.
var handleType = func() *types.Signature {
	pkg, err := symbols.Importer().Import(sdkPath)
	if err != nil {
		panic(err) // the table is generated with the program
	}
	param := func(t types.Type) *types.Var { return types.NewParam(token.NoPos, nil, "", t) }
	return types.NewSignatureType(nil, nil, nil,
		types.NewTuple(param(types.NewPointer(pkg.Scope().Lookup("Context").Type()))),
		types.NewTuple(param(types.Universe.Lookup("any").Type()), param(types.Universe.Lookup("error").Type())), false)
}()

var (
	missing = regexp.MustCompile(`^undefined: (\w+\.\w+)$`)
	tooNew  = regexp.MustCompile(`^(.*?):? requires (go1\.\d+) or later.*$`)
)

// plainer says in a script's terms what the compiler says in its own.
func plainer(message string) string {
	if m := missing.FindStringSubmatch(message); m != nil {
		if m[1] == "time.Sleep" {
			return "time.Sleep is not available to scripts: use ctx.Sleep, which ends with the run"
		}
		return m[1] + " is not available to scripts"
	}
	if m := tooNew.FindStringSubmatch(message); m != nil {
		return fmt.Sprintf("%s: this came with %s, scripts are written in %s", m[1], m[2], language)
	}
	return message
}
