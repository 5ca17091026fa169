package execution

import (
	"context"
	"time"

	"github.com/picloud/picloud/core/outbox"
	"github.com/picloud/picloud/core/service"
	"github.com/picloud/picloud/core/tenant"
	"github.com/picloud/picloud/sdk/engine"
	"github.com/picloud/picloud/sdk/fault"
)

// transaction is what a run of a transactional script has to say and to do, held back until it has ended.
type transaction struct {
	script *tenant.Script
	unit   *service.Unit
	answer *keeper
	out    engine.Reply // where the answer goes
}

// newTransaction makes that of a run; nil: the script is not transactional.
func newTransaction(script *tenant.Script, out engine.Reply, limit int64) *transaction {
	if !script.Transactional {
		return nil
	}
	return &transaction{script: script, unit: service.NewUnit(), answer: &keeper{limit: int(limit)}, out: out}
}

func (t *transaction) work() *service.Unit {
	if t == nil {
		return nil
	}
	return t.unit
}

// tornTimeout bounds how long it is looked for why a run has failed.
const tornTimeout = 2 * time.Second

// torn reports whether a run may have failed for what it has read, part of it before and part of it after a change of another. It is tried
// again then, as one that has ended well would be.
func torn(ctx context.Context, f *fault.Fault, unit *service.Unit) bool {
	if f == nil || f.Origin != fault.Script || f.Kind == fault.Deadline || f.Kind == fault.Limit {
		return false
	}
	ctx, cancel := context.WithTimeout(ctx, tornTimeout)
	defer cancel()
	return unit.Overtaken(ctx)
}

// conclude commits what a run wants to have done if it has ended well, and hands its answer on after that.
func (r *Runner) conclude(ctx context.Context, e *outbox.Entry, res *Result, t *transaction) {
	if res.Fault == nil && t.answer.head != nil {
		if err := CheckHead(t.answer.head); err != nil {
			res.Fault = fault.New(fault.InvalidResponse, fault.Script, "%v", err)
		}
	}
	switch {
	case t.unit.Conflict() || torn(ctx, res.Fault, t.unit):
		res.Fault = fault.New(fault.Conflict, fault.Platform, "what the run has read has changed while it ran; nothing was done")
	case res.Fault != nil || !t.unit.Used():
	case ctx.Err() != nil:
		res.Fault = explain(ctx, ctx.Err(), e, t.script)
	default:
		res.Answer = t.answer.answer(nil)
		res.Fault = r.commit(ctx, e, res, t.unit)
	}
	if res.Fault != nil && e.Sync() || t.answer.head == nil {
		return
	}
	_ = t.out.Head(*t.answer.head) // it is kept, or its caller is gone, which the end says
	_, _ = t.out.Write(t.answer.data)
}
