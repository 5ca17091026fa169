// Package js is the engine for scripts in JavaScript and TypeScript.
package js

import (
	"context"
	"sync"
	"sync/atomic"

	"github.com/picloud/picloud/sdk/engine"
	"github.com/picloud/picloud/sdk/fault"
	"github.com/picloud/picloud/sdk/picloud"
	"github.com/picloud/picloud/sdk/script"
	"github.com/picloud/picloud/sdk/watch"
)

// version of the interpreter.
const version = "0.27.0"

// New makes the engine.
func New() engine.Engine { return &scripts{bundles: map[string]*pool{}} }

// scripts holds the loaded bundles of one process.
type scripts struct {
	watch   watch.Watch
	held    atomic.Int64 // by idle interpreters, in bytes
	mu      sync.RWMutex
	bundles map[string]*pool
}

// Info describes the engine.
func (s *scripts) Info() engine.Info {
	return engine.Info{
		Name: "js", Version: version, SDKVersion: picloud.Version, Extensions: []string{".js", ".mjs", ".jsx", ".ts", ".tsx"},
	}
}

// Load bundles and compiles a script, and builds its first interpreter, which runs what stands outside of functions.
func (s *scripts) Load(ctx context.Context, b engine.Bundle) (engine.Loaded, error) {
	s.mu.RLock()
	p := s.bundles[b.Hash]
	s.mu.RUnlock()
	if p != nil {
		return engine.Loaded{Imports: p.program.imports}, nil
	}
	program, found, err := compile(&b, &s.watch)
	if err != nil {
		return engine.Loaded{}, err
	}
	if program == nil {
		return engine.Loaded{Diagnostics: found}, script.CompileFault(wrong(found))
	}
	loaded := engine.Loaded{Diagnostics: found, Imports: program.imports}
	first, err := program.build(ctx)
	switch {
	case context.Cause(ctx) == context.Canceled:
		return engine.Loaded{}, script.EndOf(ctx)
	case err != nil && fault.From(err).Origin != fault.Script:
		return engine.Loaded{}, err
	case err != nil:
		d := program.failedToLoad(fault.From(err))
		loaded.Diagnostics = append([]engine.Diagnostic{d}, found...)
		return loaded, script.CompileFault(d)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.bundles[b.Hash] != nil {
		first.close()
		return loaded, nil
	}
	s.bundles[b.Hash] = newPool(program, &s.held, b.Limits.Pool, first)
	return loaded, nil
}

// wrong is the first finding that is no warning.
func wrong(found []engine.Diagnostic) engine.Diagnostic {
	for _, d := range found {
		if !d.Warning {
			return d
		}
	}
	return found[0]
}

// Unload forgets a bundle.
func (s *scripts) Unload(hash string) {
	s.mu.Lock()
	p := s.bundles[hash]
	delete(s.bundles, hash)
	s.mu.Unlock()
	if p != nil {
		p.close()
	}
}

// Invoke calls the script's handle once.
func (s *scripts) Invoke(ctx context.Context, inv *engine.Invocation, out engine.Reply) error {
	s.mu.RLock()
	p := s.bundles[inv.Bundle]
	s.mu.RUnlock()
	if p == nil {
		return fault.New(fault.Internal, fault.Platform, "bundle %s is not loaded", inv.Bundle)
	}
	m, err := p.get(ctx)
	if err != nil {
		return err
	}
	r := newRun(ctx, p.program, inv)
	err = r.guard(func() error {
		text, err := meta(r.picloud)
		if err != nil {
			return err
		}
		return r.serve(m, "begin", text)
	})
	if r.broken {
		p.discard(m)
	} else {
		p.put(m)
	}
	if err != nil {
		return err
	}
	a, err := script.NewAnswer(r.result, p.program.body, r.JSON)
	if err != nil {
		return err
	}
	return a.Send(out)
}
