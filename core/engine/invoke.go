package engine

import (
	"context"
	"errors"

	"github.com/picloud/picloud/core/failpoint"
	"github.com/picloud/picloud/core/tenant"
	"github.com/picloud/picloud/sdk/engine"
	"github.com/picloud/picloud/sdk/fault"
)

// Invoke runs the active version of script once in its app's process; lone takes a process that runs nothing else, so
// that if it dies it is clear whose doing that was. The error is a *fault.Fault.
func (m *Manager) Invoke(
	ctx context.Context, script *tenant.Script, lone bool, r *engine.Request, out engine.Reply,
) error {
	r.Bundle = script.Hash
	for retried := false; ; {
		where, err := m.guard.admit(script)
		if err != nil {
			return err
		}
		if lone || where == onTrial {
			return m.alone(ctx, script, where == onTrial, r, out)
		}
		k := key{app: script.App, engine: script.Engine}
		if where == apart {
			k.hash = script.Hash
		}
		unstarted, err := m.together(ctx, k, script, r, out)
		switch {
		case errors.Is(err, errBuried): // the script may be suspect now
		case unstarted && !retried: // most likely by another's doing
			retried = true
		default:
			return err
		}
	}
}

// together runs in a process that may have other runs. unstarted reports that the process died before the run began.
func (m *Manager) together(
	ctx context.Context, k key, script *tenant.Script, r *engine.Request, out engine.Reply,
) (unstarted bool, err error) {
	s, err := m.seat(k)
	if err != nil {
		return false, err
	}
	p, err := s.take(ctx)
	if err != nil {
		return false, err
	}
	defer s.put(p)
	release, err := p.hold(ctx, m.cfg.Bundles, script)
	if err != nil {
		return fault.From(err).Kind == fault.EngineLost, err
	}
	defer release()
	failpoint.Hit(failpoint.EnginePicked)
	if err = p.Engine().Invoke(ctx, r, out); err == nil {
		return false, nil
	}
	select {
	case <-p.Engine().Lost():
		return fault.From(err).Kind == fault.Unavailable, err
	default:
		return false, err
	}
}

// alone runs in a process that has no other runs and ends with this one.
func (m *Manager) alone(
	ctx context.Context, script *tenant.Script, trial bool, r *engine.Request, out engine.Reply,
) error {
	verdict := undecided
	if trial {
		defer func() { m.guard.settle(script, verdict) }()
	}
	p, err := m.start(ctx, script.Engine)
	if err != nil {
		return err
	}
	defer p.Kill()
	if _, err = p.hold(ctx, m.cfg.Bundles, script); err == nil { // until the kill
		failpoint.Hit(failpoint.EnginePicked)
		if err = p.Engine().Invoke(ctx, r, out); ctx.Err() == nil {
			verdict = survived // and was not given up before its time
		}
	}
	if err != nil && fault.From(err).Kind == fault.EngineLost {
		<-p.Done()
		if how, crashed := m.died(p); crashed {
			m.guard.lost(script, r.ExecutionID, how)
		}
		verdict = undecided // or settled by lost
	}
	return err
}
