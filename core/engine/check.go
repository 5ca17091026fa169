package engine

import (
	"context"
	"time"

	"github.com/picloud/picloud/sdk/engine"
	"github.com/picloud/picloud/sdk/fault"
)

// Check compiles bundles, one after the other, in a process of their own, which ends with the check: sources that nobody has
// run yet must not disturb those that run. It ends at the first that is wrong, which the last Loaded is of. A *fault.Fault of
// kind fault.Compile says that it is; the diagnostics say where.
func (m *Manager) Check(ctx context.Context, engineName string, bundles []engine.Bundle) ([]engine.Loaded, error) {
	done, err := m.turn(ctx)
	if err != nil {
		return nil, err
	}
	defer done()
	p, err := m.start(ctx, engineName)
	if err != nil {
		return nil, err
	}
	defer p.Kill()
	var all []engine.Loaded
	for _, b := range bundles {
		loaded, err := p.check(ctx, b)
		all = append(all, loaded)
		if err != nil {
			return all, err
		}
	}
	return all, nil
}

func (p *process) check(ctx context.Context, b engine.Bundle) (engine.Loaded, error) {
	ctx, cancel := context.WithTimeout(ctx, p.loadLimit())
	defer cancel()
	b.Hash = "check"
	loaded, err := p.Engine().Load(ctx, b)
	if err == nil {
		err = p.Engine().Unload(ctx, b.Hash)
	}
	if ctx.Err() != nil && err != nil {
		err = p.tooLong(b.Script)
	}
	return loaded, p.fatal(b.Script, err)
}

// turn waits until there is room for one more process that checks or tries sources. Whoever has it calls done.
func (m *Manager) turn(ctx context.Context) (done func(), err error) {
	select {
	case m.checks <- struct{}{}:
		return func() { <-m.checks }, nil
	case <-ctx.Done():
		f := fault.New(fault.Unavailable, fault.Platform, "other sources are being compiled or tried, and there was no room in time: try again")
		f.RetryAfter = time.Second
		return nil, f
	}
}

// fatal says of the end of a process, which err may be, that the source that it was given has ended it.
func (p *process) fatal(script string, err error) error {
	if err == nil || fault.From(err).Kind != fault.EngineLost {
		return err
	}
	<-p.Done()
	if p.Err() == nil { // the node is shutting down
		return err
	}
	f := fault.New(fault.Compile, fault.Script,
		"the script %q ended the process that compiled it (%s): it may be nested too deeply, or be too large", script, p.Fate())
	f.Fatal = true
	return f
}

func (p *process) tooLong(script string) *fault.Fault {
	f := fault.New(fault.Compile, fault.Script, "the script %q was not ready within %s: its initialisers take too long",
		script, p.loadLimit())
	f.Fatal = true
	return f
}
