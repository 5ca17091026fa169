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
	"maps"
	"path"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/picloud/picloud/plugins/engine/yaegi/symbols"
	"github.com/picloud/picloud/sdk/engine"
	"github.com/picloud/picloud/sdk/script"
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

// source is a script, or a module, that was found to be well formed, with the modules that it needs.
type source struct {
	packages []*pkg   // each after those that it imports; the last is the script itself
	modules  []string // that it imports itself, sorted
	imports  []string // of all packages: what the platform has for scripts
	limits   engine.Limits
	watch    *watch.Watch // over the runs of its process
}

// pkg is a Go package: the files of the script, or of a module.
type pkg struct {
	name  string // of the module; empty: what is loaded itself
	path  string // by which the interpreter knows it
	files []*file
	types *types.Package
}

// file is one file of a package.
type file struct {
	name     string // for messages
	original string // as its author wrote it
	text     string // as the interpreter has to read it
	moved    shifts // from there to the original
	syntax   *ast.File
}

// check reads a script as the Go compiler would. The interpreter alone says little of what is wrong with a source, and
// takes much that is. The source has the modules that were found to be imported also where there are diagnostics.
func check(b engine.Bundle) (*source, []engine.Diagnostic) {
	s := &source{}
	c := &checker{fset: token.NewFileSet(), modules: map[string][]engine.File{}, packages: map[string]*pkg{}, source: s}
	for _, m := range b.Modules {
		c.modules[m.Name] = m.Files
	}
	own := &pkg{}
	if b.Module {
		c.under = []string{b.Script}
	}
	c.read(own, b.Files, b.Module)
	if len(c.found) > 0 {
		return s, c.found
	}
	if !b.Module {
		c.handle(own)
	}
	return s, c.found
}

type checker struct {
	fset     *token.FileSet
	modules  map[string][]engine.File
	packages map[string]*pkg // of the modules that were read
	under    []string        // names of the modules that are being read, each imported by the one before
	source   *source
	found    []engine.Diagnostic
}

// read parses a package, reads what it imports, checks its types, and rewrites it for the interpreter. What is wrong is found
// in this order.
func (c *checker) read(p *pkg, files []engine.File, module bool) {
	if c.parse(p, files, module); len(c.found) > 0 {
		return
	}
	for _, f := range p.files {
		c.imports(p, f)
	}
	if p.name == "" {
		slices.Sort(c.source.modules)
		c.source.modules = slices.Compact(c.source.modules)
	}
	if len(c.found) > 0 {
		return
	}
	info := c.types(p)
	if len(c.found) > 0 {
		return
	}
	// A module may be called from goroutines that others start.
	beside := module || p.name != "" || slices.ContainsFunc(p.files, func(f *file) bool { return starts(f.syntax) })
	for _, f := range p.files {
		l := &lowering{fset: c.fset, file: f.syntax, self: p.types, info: info, sizes: sizes, text: f.original, refuse: c.add}
		l.rewrite()
		if beside {
			l.selects()
		}
		for _, spec := range f.syntax.Imports {
			if name, ok := moduleName(spec); ok {
				l.replace(spec.Path.Pos(), spec.Path.End(), strconv.Quote(c.packages[name].path))
			}
		}
		// What stands before the package has build constraints, at most, which do not count.
		l.between(f.syntax.FileStart, f.syntax.Package, "")
		f.text, f.moved = l.apply()
	}
	p.path = fmt.Sprintf("%s%d", packagePrefix, len(c.source.packages))
	c.source.packages = append(c.source.packages, p)
}

// parse reads the files of a package.
func (c *checker) parse(p *pkg, files []engine.File, module bool) {
	if len(files) == 0 {
		c.found = append(c.found, engine.Diagnostic{Message: "there is no file"})
	}
	for _, source := range files {
		f := &file{name: path.Join(p.name, source.Name), original: string(source.Data)}
		p.files = append(p.files, f)
		if len(bytes.TrimSpace(source.Data)) == 0 {
			message := "the file is empty; a script is of package main and has a func Handle(ctx *picloud.Context) (any, error)"
			if module {
				message = "the file is empty; a file of a module begins with its package"
			}
			c.found = append(c.found, engine.Diagnostic{File: f.name, Line: 1, Column: 1, Message: message})
			continue
		}
		var err error
		if f.syntax, err = parser.ParseFile(c.fset, f.name, source.Data, parser.SkipObjectResolution); err != nil {
			c.syntax(f.name, err)
			continue
		}
		switch name := f.syntax.Name; {
		case !module && name.Name != "main":
			c.add(name.Pos(), "a script is of package main, not %s", name.Name)
		case module && name.Name == "main":
			c.add(name.Pos(), "a module is a package of a name of its own, not main")
		case name.Name != p.files[0].packageName():
			c.add(name.Pos(), "the package is %s here and %s in %s", name.Name, p.files[0].packageName(), p.files[0].name)
		}
	}
}

func (f *file) packageName() string {
	if f.syntax == nil {
		return ""
	}
	return f.syntax.Name.Name
}

func (c *checker) add(pos token.Pos, format string, args ...any) {
	if len(c.found) == findings {
		return
	}
	p := c.fset.PositionFor(pos, false) // line directives do not apply: the source is what its author sees
	c.found = append(c.found, engine.Diagnostic{
		File: p.Filename, Line: p.Line, Column: p.Column, Message: fmt.Sprintf(format, args...),
	})
}

func (c *checker) syntax(name string, err error) {
	var list scanner.ErrorList
	if !errors.As(err, &list) {
		c.found = append(c.found, engine.Diagnostic{File: name, Message: err.Error()})
	}
	for _, e := range list[:min(len(list), max(0, findings-len(c.found)))] {
		c.found = append(c.found, engine.Diagnostic{File: name, Line: e.Pos.Line, Column: e.Pos.Column, Message: e.Msg})
	}
}

// imports reads what a file imports, and refuses what is not there for it.
func (c *checker) imports(p *pkg, f *file) {
	for _, spec := range f.syntax.Imports {
		if spec.Name != nil && spec.Name.Name == "." {
			c.add(spec.Name.Pos(), "a dot import is not available to scripts")
		}
		if name, ok := moduleName(spec); ok {
			if p.name == "" {
				c.source.modules = append(c.source.modules, name)
			}
			c.module(spec, name)
			continue
		}
		path, _ := strconv.Unquote(spec.Path.Value) // the parser has checked it
		if symbols.For(path) == nil {
			c.add(spec.Path.Pos(), "the package %q is not available to scripts", path)
		}
		if !slices.Contains(c.source.imports, path) {
			c.source.imports = append(c.source.imports, path)
		}
	}
}

// moduleName returns the name of the module that is imported, if it is one.
func moduleName(spec *ast.ImportSpec) (string, bool) {
	path, _ := strconv.Unquote(spec.Path.Value)
	return strings.CutPrefix(path, script.ModulePrefix)
}

// module reads a module that is imported, unless it was read before.
func (c *checker) module(spec *ast.ImportSpec, name string) {
	if at := slices.Index(c.under, name); at >= 0 {
		c.add(spec.Path.Pos(), "import cycle: %s imports %s", strings.Join(c.under[at:], " imports "), name)
		return
	}
	files, there := c.modules[name]
	if !there {
		c.add(spec.Path.Pos(), "%s", script.NoModule(name, slices.Sorted(maps.Keys(c.modules))))
		return
	}
	if c.packages[name] != nil || len(c.found) > 0 {
		return
	}
	p := &pkg{name: name}
	c.under = append(c.under, name)
	c.read(p, files, true)
	c.under = c.under[:len(c.under)-1]
	c.packages[name] = p
}

// Import is part of types.Importer: it finds modules and what the platform has for scripts.
func (c *checker) Import(path string) (*types.Package, error) {
	if name, ok := strings.CutPrefix(path, script.ModulePrefix); ok {
		return c.packages[name].types, nil
	}
	return symbols.Importer().Import(path)
}

var sizes = types.SizesFor("gc", "amd64")

// types checks the types of a package.
func (c *checker) types(p *pkg) *types.Info {
	files := make([]*ast.File, len(p.files))
	for i, f := range p.files {
		files[i] = f.syntax
		files[i].GoVersion = "" // a build constraint must not raise the language
	}
	ours := c.namesOfModules(p)
	config := types.Config{
		GoVersion: language, Importer: c, Sizes: sizes,
		Error: func(err error) {
			var e types.Error
			if errors.As(err, &e) && !strings.HasPrefix(e.Msg, "\t") { // a tab begins a remark on the error before
				c.add(e.Pos, "%s", plainer(e.Msg, ours))
			}
		},
	}
	info := &types.Info{
		Types: map[ast.Expr]types.TypeAndValue{}, Defs: map[*ast.Ident]types.Object{}, Uses: map[*ast.Ident]types.Object{},
		Selections: map[*ast.SelectorExpr]*types.Selection{},
	}
	id := "main"
	if p.name != "" {
		id = script.ModulePrefix + p.name
	}
	p.types, _ = config.Check(id, c.fset, files, info) // Error has its errors
	return info
}

// namesOfModules are those by which the files of a package know the modules that they import.
func (c *checker) namesOfModules(p *pkg) (names []string) {
	for _, f := range p.files {
		for _, spec := range f.syntax.Imports {
			module, ok := moduleName(spec)
			switch {
			case ok && spec.Name != nil:
				names = append(names, spec.Name.Name)
			case ok:
				names = append(names, c.packages[module].types.Name())
			}
		}
	}
	return names
}

// handle checks that the script has a Handle that can be called.
func (c *checker) handle(p *pkg) {
	handle, ok := p.types.Scope().Lookup("Handle").(*types.Func)
	if !ok {
		c.add(p.files[0].syntax.Name.Pos(), "the script has no func Handle(ctx *picloud.Context) (any, error)")
	} else if !types.Identical(handle.Signature(), handleType) {
		c.add(handle.Pos(), "Handle must be func Handle(ctx *picloud.Context) (any, error)")
	}
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
	missing = regexp.MustCompile(`^undefined: ((\w+)\.\w+)$`)
	tooNew  = regexp.MustCompile(`^(.*?):? requires (go1\.\d+) or later.*$`)
)

// plainer says in a script's terms what the compiler says in its own. Packages of the names ours are not the platform's.
func plainer(message string, ours []string) string {
	if m := missing.FindStringSubmatch(message); m != nil && !slices.Contains(ours, m[2]) {
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
