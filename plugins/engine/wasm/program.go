package wasm

import (
	"context"
	"fmt"
	"maps"
	"runtime"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/tetratelabs/wazero"
	"github.com/tetratelabs/wazero/api"
	"github.com/tetratelabs/wazero/experimental"
	"github.com/tetratelabs/wazero/imports/wasi_snapshot_preview1"

	"github.com/picloud/picloud/sdk/engine"
	"github.com/picloud/picloud/sdk/script"
)

// moduleLimit bounds a module, in bytes: it has to fit into one message with the rest of its bundle.
const moduleLimit = 12 << 20

// The functions that a module exports.
const (
	commandEntry = "_start"
	reactorStart = "_initialize"
	reactorEntry = "handle"
)

// program is a compiled module. What it holds is given back when it was closed and nobody uses it any more.
type program struct {
	scripts  *scripts
	name     string
	runtime  wazero.Runtime
	compiled wazero.CompiledModule
	command  bool
	started  bool                    // it has a start function
	memory   int                     // of an instance, in bytes
	limit    int                     // of an answer's body, in bytes
	cpu      time.Duration           // processor time of a run; zero: as much as there is
	pool     *script.Pool[*instance] // of runs, and of the instances of a reactor

	mu     sync.Mutex
	users  int
	closed bool
}

// compile reads a module. Either the program is nil or the diagnostics are, unless there is an error: then both.
func (s *scripts) compile(ctx context.Context, b engine.Bundle) (*program, []engine.Diagnostic, error) {
	if len(b.Files) != 1 {
		return nil, []engine.Diagnostic{{Message: fmt.Sprintf("a WebAssembly script is one file, not %d", len(b.Files))}}, nil
	}
	refuse := func(format string, args ...any) []engine.Diagnostic {
		return []engine.Diagnostic{{File: b.Files[0].Name, Message: fmt.Sprintf(format, args...)}}
	}
	if n := len(b.Files[0].Data); n > moduleLimit {
		return nil, refuse("the module has %d bytes, more than %d", n, moduleLimit), nil
	}
	module, started, err := instrument(b.Files[0].Data)
	if err != nil {
		return nil, refuse("the module cannot be read: %v", err), nil
	}
	p := &program{scripts: s, name: b.Script, started: started, memory: b.Limits.Memory, limit: b.Limits.BodyBytes, cpu: b.Limits.CPU}
	if p.memory <= 0 {
		p.memory = memoryLimit
	}
	p.memory = min(p.memory, memoryRoom) / pageSize * pageSize
	if p.limit <= 0 {
		p.limit = script.BodyLimit
	}
	p.runtime = wazero.NewRuntimeWithConfig(ctx, wazero.NewRuntimeConfig().WithDebugInfoEnabled(false))
	found, err := p.link(ctx, module)
	if err != nil || found != "" {
		_ = p.runtime.Close(context.Background()) // nothing of it is in use
	}
	switch {
	case err != nil:
		return nil, nil, err
	case found != "":
		return nil, refuse("%s", found), nil
	}
	return p, nil, nil
}

const pageSize = 64 << 10

// link compiles a module and gives it what it imports. What is found is what is wrong with it.
func (p *program) link(ctx context.Context, module []byte) (found string, err error) {
	known := map[string][]api.FunctionDefinition{}
	for name, builder := range map[string]wazero.HostModuleBuilder{
		hostModule:                        hostFunctions(p.runtime),
		wasi_snapshot_preview1.ModuleName: wasi(p.runtime),
	} {
		host, err := builder.Compile(ctx)
		if err == nil {
			_, err = p.runtime.InstantiateModule(ctx, host, wazero.NewModuleConfig().WithName(name))
		}
		if err != nil {
			return "", fmt.Errorf("make the host's functions: %w", err)
		}
		known[name] = slices.Collect(maps.Values(host.ExportedFunctions()))
	}
	p.compiled, err = p.runtime.CompileModule(experimental.WithCompilationWorkers(ctx, runtime.GOMAXPROCS(0)), module)
	if ctx.Err() != nil {
		return "", context.Cause(ctx)
	}
	if err != nil {
		return "the module is not valid: " + firstLine(err), nil
	}
	if found := missing(p.compiled, known); found != "" {
		return found, nil
	}
	exported := p.compiled.ExportedFunctions()
	p.command = exported[commandEntry] != nil
	for _, name := range []string{commandEntry, reactorStart, reactorEntry} {
		f := exported[name]
		if f != nil && (len(f.ParamTypes()) > 0 || len(f.ResultTypes()) > 0) {
			return fmt.Sprintf("the function %s must have no parameters and no results", name), nil
		}
	}
	if !p.command && exported[reactorEntry] == nil {
		return fmt.Sprintf("the module exports neither %s, as a command does, nor %s, as a reactor does", commandEntry, reactorEntry), nil
	}
	return "", nil
}

func wasi(r wazero.Runtime) wazero.HostModuleBuilder {
	b := r.NewHostModuleBuilder(wasi_snapshot_preview1.ModuleName)
	wasi_snapshot_preview1.NewFunctionExporter().ExportFunctions(b)
	return b
}

// missing names the functions that a module imports and nobody has.
func missing(m wazero.CompiledModule, known map[string][]api.FunctionDefinition) string {
	var names []string
	for _, f := range m.ImportedFunctions() {
		module, name, _ := f.Import()
		i := slices.IndexFunc(known[module], func(k api.FunctionDefinition) bool { return slices.Contains(k.ExportNames(), name) })
		switch {
		case i < 0:
			names = append(names, module+"."+name)
		case !slices.Equal(known[module][i].ParamTypes(), f.ParamTypes()), !slices.Equal(known[module][i].ResultTypes(), f.ResultTypes()):
			names = append(names, module+"."+name+" (with other parameters)")
		}
	}
	if len(names) == 0 {
		return ""
	}
	if more := len(names) - 10; more > 0 {
		names = append(names[:10], fmt.Sprintf("%d more", more))
	}
	return "the module imports what is not there: " + strings.Join(names, ", ")
}

func firstLine(err error) string {
	line, _, _ := strings.Cut(err.Error(), "\n")
	return line
}

// use keeps what the program holds, until leave. It reports whether that is still there.
func (p *program) use() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed {
		return false
	}
	p.users++
	return true
}

func (p *program) leave() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.users--
	p.free()
}

// close gives back what the program holds, as soon as nobody uses it.
func (p *program) close() {
	p.pool.Close()
	p.mu.Lock()
	defer p.mu.Unlock()
	p.closed = true
	p.free()
}

func (p *program) free() {
	if p.closed && p.users == 0 {
		_ = p.runtime.Close(context.Background()) // it holds memory, which cannot fail to be given back
	}
}
