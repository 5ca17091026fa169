// Package yaegi is the engine for scripts in Go: they are interpreted, each call in an interpreter that serves nobody
// else meanwhile. The interpreter is no sandbox; what a script can reach is bounded by the symbols it may import, and
// what it can do to others by its process, which belongs to one app.
//
// A script is a package main of one file or several. It imports modules of its app as "app/<name>": packages of their own, which
// are checked, rewritten and contained as it is. All of them are initialised in each interpreter, so that what they hold in
// variables is not shared by two calls that run at one time.
package yaegi

import (
	"context"
	"errors"
	"sync"
	_ "time/tzdata" // the process cannot open the machine's

	"github.com/picloud/picloud/sdk/engine"
	"github.com/picloud/picloud/sdk/fault"
	"github.com/picloud/picloud/sdk/picloud"
	"github.com/picloud/picloud/sdk/script"
	"github.com/picloud/picloud/sdk/watch"
)

//go:generate go run ./internal/gensymbols

// New makes the engine.
func New() engine.Engine { return &scripts{bundles: map[string]*pool{}} }

// scripts holds the loaded bundles of one process.
type scripts struct {
	watch   watch.Watch
	mu      sync.RWMutex
	bundles map[string]*pool
}

// Info describes the engine.
func (s *scripts) Info() engine.Info {
	return engine.Info{Name: "yaegi", Version: "0.16.1", SDKVersion: picloud.Version, Extensions: []string{".go"}}
}

// Load checks a script and builds its first interpreter, which runs its initialisers.
func (s *scripts) Load(ctx context.Context, b engine.Bundle) (engine.Loaded, error) {
	s.mu.RLock()
	there := s.bundles[b.Hash]
	s.mu.RUnlock()
	if there != nil {
		return engine.Loaded{Imports: there.src.modules}, nil
	}
	src, found := check(b)
	loaded := engine.Loaded{Imports: src.modules, Diagnostics: found}
	if len(found) > 0 {
		return loaded, script.CompileFault(found[0])
	}
	src.watch = &s.watch
	if src.limits = b.Limits; src.limits.BodyBytes <= 0 {
		src.limits.BodyBytes = script.BodyLimit
	}
	if src.limits.Goroutines <= 0 {
		src.limits.Goroutines = maxChildren
	}
	first, err := src.build(ctx)
	if errors.Is(err, context.Canceled) {
		return loaded, fault.New(fault.Cancelled, fault.Platform, "the load was cancelled")
	}
	if err != nil {
		d := src.diagnose(err)
		loaded.Diagnostics = []engine.Diagnostic{d}
		return loaded, script.CompileFault(d)
	}
	p := newPool(src, b.Limits.Pool, first)
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.bundles[b.Hash] != nil {
		p.Close()
		return loaded, nil
	}
	s.bundles[b.Hash] = p
	return loaded, nil
}

// Unload forgets a bundle.
func (s *scripts) Unload(hash string) {
	s.mu.Lock()
	p := s.bundles[hash]
	delete(s.bundles, hash)
	s.mu.Unlock()
	if p != nil {
		p.Close()
	}
}

// Invoke calls the script's Handle once.
func (s *scripts) Invoke(ctx context.Context, inv *engine.Invocation, out engine.Reply) error {
	s.mu.RLock()
	p := s.bundles[inv.Bundle]
	s.mu.RUnlock()
	if p == nil {
		return fault.New(fault.Internal, fault.Platform, "bundle %s is not loaded", inv.Bundle)
	}
	in, err := p.get(ctx)
	if err != nil {
		return err
	}
	inv.Lend = p.Lend
	answer, stopped, over, err := in.call(ctx, inv)
	if stopped {
		p.discard(in)
	} else {
		p.put(in)
	}
	if over {
		return script.EndOf(ctx)
	}
	if err != nil {
		return err
	}
	return answer.Send(out)
}
