package api

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/danielgtaylor/huma/v2"
	"github.com/google/uuid"

	"github.com/picloud/picloud/core/tenant"
	"github.com/picloud/picloud/sdk/engine"
	"github.com/picloud/picloud/sdk/fault"
)

const (
	// maxModules bounds the modules of an app and engine together. An engine is given all of them when it checks a source, in
	// one message: what the source imports is not known before.
	maxModules = 8 << 20
	// checkedTogether is how many importers of a module are in memory, and in one process, while they are checked.
	checkedTogether = 20
	// saveTries is how often a save is checked again because the app's modules changed meanwhile.
	saveTries = 3
)

// saving is a version that a script is to have, on its way through the checks.
type saving struct {
	script   string
	kind     string // empty: that of the script, or endpoint
	engine   string
	version  tenant.Version // with files and hash; Imports is found by the check, unless it is stored already
	stored   bool           // a version that was checked before, with the modules of that time
	activate bool

	compiled []string // hashes of the bundles with modules that were compiled
}

// save checks a version with the modules of the app and stores it with store, which says tenant.ErrStale if they are others by
// then: the engine takes its time, and the app is not locked for so long.
func (a *api) save(ctx context.Context, s *saving, store func() error) error {
	for range saveTries {
		if err := a.check(ctx, s); err != nil {
			return err
		}
		if err := store(); !errors.Is(err, tenant.ErrStale) {
			return unlinkedProblem(err)
		}
	}
	return &tenant.Conflict{Message: "other changes of the app's modules came between, again and again: try again"}
}

// check compiles a version and, if it is a module's that is to be active, all that import it.
func (a *api) check(ctx context.Context, s *saving) error {
	scripts, err := a.Versions.Scripts(ctx, app(ctx))
	if err != nil {
		return err
	}
	next, err := s.among(&scripts)
	if err != nil {
		return err
	}
	if s.stored && len(s.version.Imports) == 0 && len(tenant.Affected(scripts, s.script)) == 1 {
		return nil // it was compiled as it is when it was stored
	}
	modules, err := a.modules(ctx, scripts, s)
	if err != nil {
		return err
	}
	loaded, err := a.Checker.Check(ctx, s.engine, []engine.Bundle{{
		Script: s.script, Files: s.version.Files, Modules: modules, Module: s.kind == tenant.KindModule,
	}})
	if len(loaded) == 1 {
		next.Imports = loaded[0].Imports
	}
	wrongSource := (*fault.Fault)(nil)
	if err != nil && !(errors.As(err, &wrongSource) && wrongSource.Kind == fault.Compile) {
		return err
	}
	unlinked := tenant.Link(scripts)
	if wrongSource != nil {
		p := compileProblem(wrongSource.Message, loaded[0].Diagnostics)
		if unlinked != nil { // why it is not there is more than that it is not
			p.Detail = unlinked.Error()
		}
		return p
	}
	if unlinked != nil {
		return unlinkedProblem(unlinked)
	}
	s.version.Imports, s.compiled = next.Imports, nil
	affected := tenant.Affected(scripts, s.script)
	for _, x := range affected {
		s.compiled = append(s.compiled, x.Hash)
	}
	if !s.activate {
		return nil
	}
	for some := range slices.Chunk(affected[1:], checkedTogether) {
		if err := a.checkImporters(ctx, s, some, modules); err != nil {
			return err
		}
	}
	return nil
}

// among puts the script as it is to be among those that there are, and returns it.
func (s *saving) among(scripts *[]tenant.Script) (*tenant.Script, error) {
	i := slices.IndexFunc(*scripts, func(x tenant.Script) bool { return x.Name == s.script })
	if i < 0 {
		if s.kind == "" {
			s.kind = tenant.KindEndpoint
		}
		*scripts = append(*scripts, tenant.Script{Name: s.script, Kind: s.kind, Engine: s.engine})
		i = len(*scripts) - 1
	}
	x := &(*scripts)[i]
	switch {
	case x.Engine != s.engine:
		return nil, &tenant.Conflict{
			Message: fmt.Sprintf("the script %q runs on the engine %q; a script keeps its engine: deploy this one under another name", x.Name, x.Engine), With: x.ID,
		}
	case s.kind == "":
		s.kind = x.Kind
	case s.kind != x.Kind:
		return nil, &tenant.Conflict{
			Message: fmt.Sprintf("the script %q is of kind %s; a script keeps its kind", x.Name, x.Kind), With: x.ID,
		}
	}
	x.Version = max(x.Version, 1)
	x.VersionHash, x.Imports = s.version.Hash, s.version.Imports
	return x, nil
}

// modules reads what a script of the engine may import: all active modules, and s as it is to be.
func (a *api) modules(ctx context.Context, scripts []tenant.Script, s *saving) ([]engine.Module, error) {
	var there []tenant.Module
	for i := range scripts {
		x := &scripts[i]
		if x.Kind == tenant.KindModule && x.Engine == s.engine && x.Version > 0 {
			there = append(there, tenant.Module{Script: x.ID, Name: x.Name, Version: x.Version})
		}
	}
	stored := slices.DeleteFunc(slices.Clone(there), func(m tenant.Module) bool { return m.Name == s.script })
	sources, err := a.sources(ctx, stored)
	if err != nil {
		return nil, err
	}
	var modules []engine.Module
	size := 0
	for _, m := range there {
		files := sources[m.Script]
		if m.Name == s.script {
			files = s.version.Files
		}
		for _, f := range files {
			size += len(f.Data)
		}
		modules = append(modules, engine.Module{Name: m.Name, Files: files})
	}
	if size > maxModules {
		return nil, kindNamed("too_large").problem(fmt.Sprintf("the modules of the engine %s are over %d bytes together", s.engine, maxModules))
	}
	return modules, nil
}

// sources reads versions that the app had a moment ago.
func (a *api) sources(ctx context.Context, of []tenant.Module) (map[uuid.UUID][]engine.File, error) {
	sources, err := a.Versions.Sources(ctx, app(ctx), of)
	if errors.Is(err, tenant.ErrNotFound) {
		return nil, &tenant.Conflict{Message: "a script of the app was deleted meanwhile: try again"}
	}
	return sources, err
}

// checkImporters compiles scripts that import a module with its version to be.
func (a *api) checkImporters(ctx context.Context, s *saving, importers []*tenant.Script, modules []engine.Module) error {
	versions := make([]tenant.Module, len(importers))
	for i, x := range importers {
		versions[i] = tenant.Module{Script: x.ID, Version: x.Version}
	}
	sources, err := a.sources(ctx, versions)
	if err != nil {
		return err
	}
	bundles := make([]engine.Bundle, len(importers))
	for i, x := range importers {
		bundles[i] = engine.Bundle{Script: x.Name, Files: sources[x.ID], Modules: modules, Module: x.Kind == tenant.KindModule}
	}
	loaded, err := a.Checker.Check(ctx, s.engine, bundles)
	if failed := (*fault.Fault)(nil); errors.As(err, &failed) && failed.Kind == fault.Compile {
		broken := bundles[len(loaded)-1]
		found := loaded[len(loaded)-1].Diagnostics
		for i := range found {
			if slices.ContainsFunc(broken.Files, func(f engine.File) bool { return f.Name == found[i].File }) {
				found[i].File = broken.Script + "/" + found[i].File
			}
		}
		return compileProblem(fmt.Sprintf("this version of %q would break %q, which imports it: %s", s.script, broken.Script,
			failed.Message), found)
	}
	return err
}

// compileProblem says where sources are wrong.
func compileProblem(detail string, found []engine.Diagnostic) *Problem {
	p := kindNamed("compile_error").problem(detail)
	for _, d := range found {
		p.Errors = append(p.Errors, &huma.ErrorDetail{Location: place(d), Message: d.Message})
	}
	return p
}

// unlinkedProblem makes a problem of the source of what cannot have its imports. Other errors stay.
func unlinkedProblem(err error) error {
	if unlinked := (*tenant.Unlinked)(nil); errors.As(err, &unlinked) {
		return kindNamed("compile_error").problem(unlinked.Error())
	}
	return err
}
