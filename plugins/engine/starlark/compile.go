package starlark

import (
	"bytes"
	"errors"
	"fmt"
	"maps"
	"path"
	"slices"
	"strings"

	"go.starlark.net/resolve"
	"go.starlark.net/starlark"
	"go.starlark.net/syntax"

	"github.com/picloud/picloud/sdk/engine"
	"github.com/picloud/picloud/sdk/fault"
	"github.com/picloud/picloud/sdk/script"
)

// dialect is what scripts may use. Recursion stays refused, as it could take any stack.
var dialect = &syntax.FileOptions{Set: true, While: true, TopLevelControl: true, GlobalReassign: true}

// findings bounds the diagnostics of a script.
const findings = 20

// unit is one file that was compiled, with what it loads.
type unit struct {
	name    string // for messages
	program *starlark.Program
	loads   map[string]*unit // by the names that the file says
	globals starlark.StringDict
}

// compiler reads the files of a script and of its modules, as far as they are loaded.
type compiler struct {
	modules map[string][]engine.File
	units   map[string]*unit
	order   []*unit  // each after those that it loads
	imports []string // modules that the script itself loads
	under   []string // names of the modules that are being read, each loaded by the one before
	reading []string // likewise, names of files of the innermost of them
	found   []engine.Diagnostic
}

// compile reads a bundle. What there is in the compiler counts if it has found nothing.
func compile(b engine.Bundle) *compiler {
	c := &compiler{modules: map[string][]engine.File{}, units: map[string]*unit{}}
	for _, m := range b.Modules {
		c.modules[m.Name] = m.Files
	}
	if b.Module {
		c.under = []string{b.Script}
	}
	if len(b.Files) == 0 {
		c.found = []engine.Diagnostic{{Message: "there is no file"}}
		return c
	}
	if len(bytes.TrimSpace(b.Files[0].Data)) == 0 && !b.Module {
		c.found = []engine.Diagnostic{{
			File: b.Files[0].Name, Line: 1, Column: 1, Message: "the file is empty; a script has a def handle(ctx)",
		}}
		return c
	}
	c.read("", b.Files, b.Files[0].Name)
	slices.Sort(c.imports)
	c.imports = slices.Compact(c.imports)
	return c
}

// read compiles a file of a module, or of the script itself where module is empty, and what it loads. The file is there.
func (c *compiler) read(module string, files []engine.File, file string) *unit {
	name := path.Join(module, file)
	key := module + ":" + file
	if u := c.units[key]; u != nil {
		return u
	}
	i := slices.IndexFunc(files, func(f engine.File) bool { return f.Name == file })
	u := &unit{name: name, loads: map[string]*unit{}}
	var err error
	if _, u.program, err = starlark.SourceProgramOptions(dialect, name, files[i].Data, predeclared.Has); err != nil {
		c.refuse(name, err)
		return nil
	}
	c.reading = append(c.reading, file)
	for i := range u.program.NumLoads() {
		what, at := u.program.Load(i)
		if u.loads[what] = c.load(module, files, file, what, at); len(c.found) > 0 {
			return nil
		}
	}
	c.reading = c.reading[:len(c.reading)-1]
	c.units[key] = u
	c.order = append(c.order, u)
	return u
}

// load finds what a file loads: another file of its own, or a module.
func (c *compiler) load(module string, files []engine.File, file, what string, at syntax.Position) *unit {
	if name, ok := strings.CutPrefix(what, script.ModulePrefix); ok {
		return c.module(module, name, at)
	}
	if !strings.HasPrefix(what, "./") && !strings.HasPrefix(what, "../") {
		return c.add(at, "%q is neither a module, as in \"app/name\", nor a file, as in \"./name.star\"", what)
	}
	other := path.Join(path.Dir(file), what)
	switch {
	case !slices.ContainsFunc(files, func(f engine.File) bool { return f.Name == other }):
		return c.add(at, "there is no file %q", other)
	case slices.Contains(c.reading, other):
		cycle := c.reading[slices.Index(c.reading, other):]
		return c.add(at, "load cycle: %s loads %s", strings.Join(cycle, " loads "), other)
	}
	return c.read(module, files, other)
}

func (c *compiler) module(by, name string, at syntax.Position) *unit {
	if by == "" {
		c.imports = append(c.imports, name)
	}
	if i := slices.Index(c.under, name); i >= 0 {
		return c.add(at, "import cycle: %s imports %s", strings.Join(c.under[i:], " imports "), name)
	}
	files := c.modules[name]
	if len(files) == 0 {
		return c.add(at, "%s", script.NoModule(name, slices.Sorted(maps.Keys(c.modules))))
	}
	reading := c.reading
	c.under, c.reading = append(c.under, name), nil
	u := c.read(name, files, files[0].Name)
	c.under, c.reading = c.under[:len(c.under)-1], reading
	return u
}

func (c *compiler) add(p syntax.Position, format string, args ...any) *unit {
	c.found = append(c.found, at(p.Filename(), p, fmt.Sprintf(format, args...)))
	return nil
}

// refuse says what is wrong with a file.
func (c *compiler) refuse(name string, err error) {
	var list resolve.ErrorList
	if !errors.As(err, &list) {
		c.found = append(c.found, diagnose(name, err))
		return
	}
	for _, e := range list[:min(len(list), findings)] {
		c.found = append(c.found, at(name, e.Pos, e.Msg))
	}
}

// run computes what stands outside of functions, file by file, and freezes it. failed is the file that an error is of.
func (c *compiler) run(thread *starlark.Thread) (failed *unit, err error) {
	for _, u := range c.order {
		thread.Load = func(_ *starlark.Thread, name string) (starlark.StringDict, error) { return u.loads[name].globals, nil }
		if u.globals, err = u.program.Init(thread, predeclared); err != nil {
			return u, err
		}
		u.globals.Freeze()
	}
	return nil, nil
}

func at(name string, p syntax.Position, message string) engine.Diagnostic {
	return engine.Diagnostic{File: name, Line: int(p.Line), Column: int(p.Col), Message: message}
}

// diagnose finds the place of an error.
func diagnose(name string, err error) engine.Diagnostic {
	var syntaxError syntax.Error
	var failed *starlark.EvalError
	var f *fault.Fault
	switch {
	case errors.As(err, &syntaxError):
		return at(name, syntaxError.Pos, syntaxError.Msg)
	case errors.As(err, &failed):
		for i := range failed.CallStack {
			if p := failed.CallStack.At(i).Pos; p.Filename() == name {
				return at(name, p, failed.Msg)
			}
		}
	case errors.As(err, &f):
		return engine.Diagnostic{File: name, Line: 1, Column: 1, Message: f.Message}
	}
	return engine.Diagnostic{File: name, Line: 1, Column: 1, Message: err.Error()}
}

// entry returns the function that is called.
func entry(globals starlark.StringDict) (*starlark.Function, error) {
	handle, ok := globals["handle"].(*starlark.Function)
	if !ok {
		return nil, errors.New("the script has no def handle(ctx)")
	}
	if handle.NumParams() != 1 || handle.NumKwonlyParams() > 0 || handle.HasVarargs() || handle.HasKwargs() {
		return nil, errors.New("handle must have one parameter: def handle(ctx)")
	}
	return handle, nil
}
