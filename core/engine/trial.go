package engine

import (
	"context"
	"time"

	"github.com/picloud/picloud/sdk/engine"
)

// Try loads a bundle that nobody has deployed into a process of its own, runs it once for at most timeout, and ends the process. Errors are those of
// Check and of Invoke; the first say where in the sources with what was loaded. took is the time of the run, without what was before.
func (m *Manager) Try(
	ctx context.Context, engineName string, b engine.Bundle, timeout time.Duration, r *engine.Request, out engine.Reply,
) (loaded engine.Loaded, took time.Duration, err error) {
	done, err := m.turn(ctx)
	if err != nil {
		return loaded, 0, err
	}
	defer done()
	p, err := m.start(ctx, engineName)
	if err != nil {
		return loaded, 0, err
	}
	defer p.Kill()
	b.Hash, r.Bundle = "trial", "trial"
	loading, cancel := context.WithTimeout(ctx, p.loadLimit())
	defer cancel()
	loaded, err = p.Engine().Load(loading, b)
	switch {
	case err != nil && loading.Err() != nil && ctx.Err() == nil:
		return loaded, 0, p.tooLong(b.Script)
	case err != nil:
		return loaded, 0, p.fatal(b.Script, err)
	}
	ctx, stop := context.WithTimeout(ctx, timeout)
	defer stop()
	begun := time.Now()
	err = p.Engine().Invoke(ctx, r, out)
	return loaded, time.Since(begun), err
}
