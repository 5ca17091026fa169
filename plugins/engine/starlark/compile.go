package starlark

import (
	"bytes"
	"errors"
	"fmt"

	"go.starlark.net/resolve"
	"go.starlark.net/starlark"
	"go.starlark.net/syntax"

	"github.com/picloud/picloud/sdk/engine"
	"github.com/picloud/picloud/sdk/fault"
)

// dialect is what scripts may use. Recursion stays refused, as it could take any stack.
var dialect = &syntax.FileOptions{Set: true, While: true, TopLevelControl: true, GlobalReassign: true}

// findings bounds the diagnostics of a script.
const findings = 20

// compile reads a script. Either the program is nil or the diagnostics are.
func compile(files []engine.File) (*starlark.Program, []engine.Diagnostic) {
	if len(files) != 1 {
		name := ""
		if len(files) > 0 {
			name = files[0].Name
		}
		return nil, []engine.Diagnostic{{File: name, Message: fmt.Sprintf("a Starlark script is one file, not %d", len(files))}}
	}
	name := files[0].Name
	if len(bytes.TrimSpace(files[0].Data)) == 0 {
		return nil, []engine.Diagnostic{{File: name, Line: 1, Column: 1, Message: "the file is empty; a script has a def handle(ctx)"}}
	}
	_, compiled, err := starlark.SourceProgramOptions(dialect, name, files[0].Data, predeclared.Has)
	if err == nil {
		return compiled, nil
	}
	var list resolve.ErrorList
	if !errors.As(err, &list) {
		return nil, []engine.Diagnostic{diagnose(name, err)}
	}
	var found []engine.Diagnostic
	for _, e := range list[:min(len(list), findings)] {
		found = append(found, at(name, e.Pos, e.Msg))
	}
	return nil, found
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
