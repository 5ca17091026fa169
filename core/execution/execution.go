// Package execution is one run of a script, or one delivery to a sink: its deadline, what it logs, whom it answers, and the result that the
// dispatcher settles. It stands between core/dispatcher, which decides when, and core/engine and core/sink, which know where.
package execution

import (
	"context"
	"errors"
	"sync/atomic"
	"time"

	"github.com/google/uuid"

	"github.com/picloud/picloud/core/failpoint"
	"github.com/picloud/picloud/core/inbox"
	"github.com/picloud/picloud/core/outbox"
	"github.com/picloud/picloud/core/secret"
	"github.com/picloud/picloud/core/service"
	"github.com/picloud/picloud/core/tenant"
	"github.com/picloud/picloud/sdk/engine"
	"github.com/picloud/picloud/sdk/fault"
)

// Engines runs scripts in engine processes.
type Engines interface {
	// Invoke runs the active version of script once. lone asks for a process that runs nothing else meanwhile.
	Invoke(ctx context.Context, script *tenant.Script, lone bool, r *engine.Request, out engine.Reply) error
}

// Services answer what scripts ask of the platform while they run.
type Services interface {
	// Call answers one call of run with JSON. Its errors are faults, or those of ctx.
	Call(ctx context.Context, run service.Run, name, method string, args []byte) ([]byte, error)
}

// Scripts finds what an entry's target names now; nil when it is gone.
type Scripts interface {
	Script(id uuid.UUID) *tenant.Script
}

// Result is how one attempt went.
type Result struct {
	Version  int // of the script; zero when none ran
	Status   int // of the answer; zero when there was none
	Started  time.Time
	Duration time.Duration
	Fault    *fault.Fault   // nil: it succeeded
	Gone     bool           // the target does not exist
	Inactive bool           // nobody is there for whom it could act
	Absent   bool           // sync: nobody waited for the answer
	Logs     []byte         // JSON array; nil: none
	Response []byte         // of a failed attempt, as far as it came
	Answer   *outbox.Answer // of an entry that keeps it
	Settled  bool           // with all that it has done
}

// Commit does what a run that ended well wants to have done, and settles it with that, which it says in res. A fault says that nothing
// was done, or that this is not known.
type Commit func(ctx context.Context, e *outbox.Entry, res *Result, unit *service.Unit) *fault.Fault

// Runner runs entries.
type Runner struct {
	engines  Engines
	scripts  Scripts
	services Services
	inbox    *inbox.Inbox
	commit   Commit
	users    Users

	sinks Sinks
	find  FindFunc
}

// Users knows for whom runs may act.
type Users interface {
	// Active reports whether a user is there and active. An error means that it cannot be told.
	Active(ctx context.Context, user uuid.UUID) (bool, error)
}

// New makes a runner. commit is for transactional scripts.
func New(engines Engines, scripts Scripts, services Services, in *inbox.Inbox, users Users, commit Commit) *Runner {
	return &Runner{engines: engines, scripts: scripts, services: services, inbox: in, users: users, commit: commit}
}

// Run starts the entry's target once and returns when nothing of the run is left, at the latest a moment after the
// deadline. ctx ends early when the node must not go on; the cause says why. A sync entry is answered before Run returns.
// One whose caller has stopped waiting meanwhile is async from then on, and keeps its answer.
func (r *Runner) Run(ctx context.Context, e *outbox.Entry) Result {
	if e.TargetKind == outbox.TargetSink {
		return r.deliver(ctx, e)
	}
	res := Result{Started: time.Now()}
	deadline := res.Started.Add(e.Timeout)
	if e.Sync() {
		deadline = e.AcceptedAt.Add(e.Timeout) // the caller's wait began at acceptance
	}
	ctx, cancel := context.WithDeadline(ctx, deadline)
	defer cancel()

	kept := &keeper{limit: collected}
	if e.Sync() || e.KeepAnswer {
		kept.limit = MaxAnswer
	}
	var reply *inbox.Reply
	out := engine.Reply(kept)
	if e.Sync() {
		var err error
		// The answer may take a moment past the deadline to be handed over: its own limit is the caller's patience.
		if reply, err = r.inbox.Reply(context.WithoutCancel(ctx), e.ReplyTo); err != nil {
			res.Absent = true
			return res
		}
		reply.Keep(kept, e.KeepAnswer)
		if !e.KeepAnswer {
			reply.OnGone(cancel) // nobody else wants the answer
		}
		out = reply
	}
	script := r.target(e)
	if script == nil {
		res.Gone, res.Fault = true, gone()
		return finish(e, res, reply, kept, nil)
	}
	if res.Fault, res.Inactive = r.actor(ctx, e); res.Fault != nil {
		return finish(e, res, reply, kept, nil)
	}
	res.Version = script.Version
	limits := script.Bounds.Over(tenant.DefaultLimits())
	veil := &secret.Veil{}
	logs := &logBook{limits: limits, veil: veil}
	tx := newTransaction(script, out, limits.AnswerBytes)
	if tx != nil {
		out = tx.answer
	}
	head := &headWatch{Reply: out, left: limits.AnswerBytes, limit: limits.AnswerBytes}
	err := r.engines.Invoke(ctx, script, e.EngineLosses > 0, &engine.Request{
		ExecutionID: e.ID.String(),
		Attempt:     e.Attempt,
		Envelope:    e.Envelope,
		Body:        e.Payload,
		Log:         logs.add,
		Call:        r.calls(service.Run{Entry: e, Script: script, Veil: veil, Unit: tx.work()}, limits.Calls),
	}, head)
	failpoint.Hit(failpoint.RunReturned)
	res.Duration = time.Since(res.Started)
	res.Status, res.Logs = head.status, logs.encode()
	if err != nil {
		res.Fault = veil.Fault(explain(ctx, err, e, script))
	}
	if tx != nil {
		r.conclude(ctx, e, &res, tx)
	}
	return finish(e, res, reply, kept, veil)
}

// actor says why a run may not act for whom it is to act; inactive: nobody is there any more.
func (r *Runner) actor(ctx context.Context, e *outbox.Entry) (f *fault.Fault, inactive bool) {
	if e.Principal == uuid.Nil {
		return nil, false
	}
	switch active, err := r.users.Active(ctx, e.Principal); {
	case err != nil:
		return fault.New(fault.Unavailable, fault.Platform, "it cannot be told for whom the script would run: %v", err), false
	case !active:
		return fault.New(fault.Forbidden, fault.Caller, "the user %s, for whom this would run, is gone or not active", e.Principal), true
	}
	return nil, false
}

// explain says what ended a run: the engine's fault, or the reason why the run was given up.
func explain(ctx context.Context, err error, e *outbox.Entry, script *tenant.Script) *fault.Fault {
	switch cause := context.Cause(ctx); {
	case errors.Is(cause, context.DeadlineExceeded):
		return fault.New(fault.Deadline, fault.Script, "the script %q did not finish within %s", script.Name, e.Timeout)
	case errors.Is(cause, context.Canceled) || errors.Is(err, inbox.ErrGone): // by the reply, without a cause
		return fault.New(fault.Cancelled, fault.Caller, "the caller left before the answer")
	case cause != nil:
		return fault.From(cause)
	}
	return fault.From(err)
}

// finish answers the caller, if there is one, and keeps the answer where somebody may ask for it later. What an answer
// holds is for its caller, so it stays as it is; what a record shows of it is veiled.
func finish(e *outbox.Entry, res Result, reply *inbox.Reply, kept *keeper, veil *secret.Veil) Result {
	if reply != nil {
		if err := reply.End(res.Fault); err != nil {
			res.Absent = true
		}
		failpoint.Hit(failpoint.ReplyDelivered)
		switch reply.Released() {
		case inbox.Detached:
			e.Detach()
		case inbox.InDoubt:
			e.KeepAnswer = true
		}
		if res.Fault != nil && res.Status == 0 {
			res.Status = Status(res.Fault)
		}
	}
	if e.KeepAnswer {
		res.Answer = kept.answer(res.Fault)
	}
	if res.Fault != nil && !e.Sync() {
		res.Response = veil.Bytes(kept.response(), kept.over || len(kept.data) > collected)
	}
	return res
}

// target is the script that an entry runs, nil if there is none that can run.
func (r *Runner) target(e *outbox.Entry) *tenant.Script {
	script := r.scripts.Script(e.Target)
	if script == nil || script.App != e.App || script.Version == 0 {
		return nil
	}
	return script
}

func gone() *fault.Fault {
	f := fault.New(fault.NotFound, fault.Caller, "the script does not exist or has no active version")
	f.Fatal = true
	return f
}

// calls passes the calls of a run on, up to most.
func (r *Runner) calls(run service.Run, most int) func(context.Context, string, string, []byte) ([]byte, error) {
	var made atomic.Int64
	return func(ctx context.Context, name, method string, args []byte) ([]byte, error) {
		if made.Add(1) > int64(most) {
			return nil, fault.New(fault.Limit, fault.Script, "the run makes more than %d calls of services", most)
		}
		return r.services.Call(ctx, run, name, method, args)
	}
}

// headWatch remembers the status of the answer that passes through, and ends one that is larger than the run's limit.
type headWatch struct {
	engine.Reply
	status      int
	left, limit int64 // bytes
}

func (h *headWatch) Write(p []byte) (int, error) {
	if h.left -= int64(len(p)); h.left < 0 {
		return 0, fault.New(fault.Limit, fault.Script, "the answer has more than %d bytes", h.limit)
	}
	return h.Reply.Write(p)
}

func (h *headWatch) Head(head engine.Head) error {
	h.status = head.Status
	return h.Reply.Head(head)
}
