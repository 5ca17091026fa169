package execution

import (
	"context"

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

// conclude commits what a run wants to have done if it has ended well, and hands its answer on after that.
func (r *Runner) conclude(ctx context.Context, e *outbox.Entry, res *Result, t *transaction) {
	if res.Fault == nil && t.answer.head != nil {
		if err := CheckHead(t.answer.head); err != nil {
			res.Fault = fault.New(fault.InvalidResponse, fault.Script, "%v", err)
		}
	}
	switch {
	case t.unit.Conflict():
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
