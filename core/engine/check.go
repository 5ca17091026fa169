package engine

import (
	"context"

	"github.com/picloud/picloud/sdk/engine"
	"github.com/picloud/picloud/sdk/fault"
)

// Check compiles bundles, one after the other, in a process of their own, which ends with the check: sources that nobody has
// run yet must not disturb those that run. It ends at the first that is wrong, which the last Loaded is of. A *fault.Fault of
// kind fault.Compile says that it is; the diagnostics say where.
func (m *Manager) Check(ctx context.Context, engineName string, bundles []engine.Bundle) ([]engine.Loaded, error) {
	select {
	case m.checks <- struct{}{}:
		defer func() { <-m.checks }()
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	}
	p, err := m.start(ctx, engineName)
	if err != nil {
		return nil, err
	}
	defer p.Kill()
	var done []engine.Loaded
	for _, b := range bundles {
		loaded, err := p.check(ctx, b)
		done = append(done, loaded)
		if err != nil {
			return done, err
		}
	}
	return done, nil
}

func (p *process) check(ctx context.Context, b engine.Bundle) (engine.Loaded, error) {
	ctx, cancel := context.WithTimeout(ctx, loadLimit)
	defer cancel()
	b.Hash = "check"
	loaded, err := p.Engine().Load(ctx, b)
	if err == nil {
		err = p.Engine().Unload(ctx, b.Hash)
	}
	if ctx.Err() != nil && err != nil {
		err = tooLong(b.Script)
	}
	return loaded, p.blame(b.Script, err)
}

// blame makes the end of a process that had loaded nothing else the fault of what it was loading.
func (p *process) blame(script string, err error) error {
	if err == nil || fault.From(err).Kind != fault.EngineLost {
		return err
	}
	<-p.Done()
	if p.Err() == nil { // somebody ended it
		return err
	}
	f := fault.New(fault.Compile, fault.Script, "the script %q ended the process that compiled it: %s", script, p.Fate())
	f.Fatal = true
	return f
}

func tooLong(script string) *fault.Fault {
	f := fault.New(fault.Compile, fault.Script, "the script %q was not ready within %s: its initialisers take too long",
		script, loadLimit)
	f.Fatal = true
	return f
}
