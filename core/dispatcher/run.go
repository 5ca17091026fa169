package dispatcher

import (
	"context"
	"math/rand/v2"
	"time"

	"github.com/google/uuid"

	"github.com/picloud/picloud/core/execution"
	"github.com/picloud/picloud/core/failpoint"
	"github.com/picloud/picloud/core/outbox"
	"github.com/picloud/picloud/core/schedule"
	"github.com/picloud/picloud/core/tenant"
	"github.com/picloud/picloud/sdk/fault"
)

// work runs an entry that this node owns and that has a place, and settles it.
func (d *Dispatcher) work(e *outbox.Entry, lane *tenant.Lane, seat *schedule.Ticket) {
	sync := e.Sync() // a caller that stops waiting makes the entry async while it runs
	defer d.release(lane, seat)
	ctx, cancel := context.WithCancelCause(context.Background())
	defer cancel(nil)
	d.cancelBy(e, cancel)
	var res execution.Result
	started := false
	if res.Fault = d.admitRun(ctx, e, seat, &res.Started); res.Fault == nil {
		started = true
		res = d.cfg.Runner.Run(ctx, e)
	}
	if !started && sync && d.refuse(e, res.Fault) {
		e.Detach()
	}
	d.finish(e, res)
}

// workBatch runs entries of one lane together, in one slot.
func (d *Dispatcher) workBatch(entries []*outbox.Entry, lane *tenant.Lane) {
	seat := seatOf(entries[0], lane)
	defer d.release(lane, seat)
	ctx, cancel := context.WithCancelCause(context.Background())
	defer cancel(nil)
	for _, e := range entries {
		d.cancelBy(e, cancel)
	}
	var started time.Time
	if f := d.admitRun(ctx, entries[0], seat, &started); f != nil {
		for _, e := range entries {
			d.finishInBatch(e, execution.Result{Started: started, Fault: f})
		}
		return
	}
	results := d.cfg.Runner.RunBatch(ctx, entries)
	for i, e := range entries {
		d.finishInBatch(e, results[i])
	}
}

// finishInBatch settles an attempt that was one of several in a run. Where one of them was cancelled, the run was stopped
// for all; the others are to run again.
func (d *Dispatcher) finishInBatch(e *outbox.Entry, res execution.Result) {
	if res.Fault == errCancelled {
		d.mu.Lock()
		if r := d.running[e.ID]; r == nil || r.entry != e || !r.wanted {
			res.Fault = errCompany
		}
		d.mu.Unlock()
	}
	d.finish(e, res)
}

// cancelBy names what ends an attempt before its time.
func (d *Dispatcher) cancelBy(e *outbox.Entry, cancel context.CancelCauseFunc) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if r := d.running[e.ID]; r != nil && r.entry == e {
		r.cancel = cancel
	}
}

// finish settles an attempt.
func (d *Dispatcher) finish(e *outbox.Entry, res execution.Result) {
	if res.Settled {
		d.ended(e, &res)
		return
	}
	x := decide(e, res, rand.Int64N)
	d.counters.outcomes[x.Outcome].Add(1)
	d.counters.engineTime.Add(int64(x.Duration))
	d.cfg.Judge(x)
	if x.Fault != "" {
		d.cfg.Failed(x)
	}
	speed := durable
	if e.Sync() && !e.KeepAnswer {
		speed = fast
	}
	d.settle[speed].Settle(x, func() {
		d.forget(e)
		switch x.Outcome {
		case outbox.Retried:
			d.again(e, x)
		case outbox.DeadLettered:
			d.cfg.DeadLettered()
		}
		if e.Gate != "" {
			d.Wake() // it may have let another through
		}
	})
}

// again has the claim loop look for an entry that will run once more.
func (d *Dispatcher) again(e *outbox.Entry, x *outbox.Settlement) {
	if x.RetryIn > 0 {
		d.dueIn(x.RetryIn)
		return
	}
	d.queue(e)
	d.Wake()
}

// admitRun waits for a slot. A fault says why there is none, or that nothing may start.
func (d *Dispatcher) admitRun(ctx context.Context, e *outbox.Entry, seat *schedule.Ticket, started *time.Time) *fault.Fault {
	*started = time.Now()
	if !d.slots.enter(seat) {
		wait := ctx
		if seat.Class == schedule.Sync {
			// The caller's time runs from acceptance, and most of it is for the script.
			var cancel context.CancelFunc
			wait, cancel = context.WithTimeoutCause(ctx, min(syncPatience, e.Timeout), errNoSlot)
			defer cancel()
		}
		if err := d.slots.wait(wait, seat); err != nil {
			return fault.From(err)
		}
	}
	if !d.lease.Valid() { // fenced: start nothing
		seat.Void = true
		return fault.New(fault.Unavailable, fault.Platform, "%v", outbox.ErrFenced)
	}
	if lane := d.cfg.Lane(e.Lane); lane != nil && lane.Paused { // since it was taken in
		seat.Void = true
		return errPaused
	}
	failpoint.Hit(failpoint.RunStarted)
	return nil
}

func (d *Dispatcher) cancelAll(cause error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	for _, r := range d.running {
		if r.cancel != nil {
			r.cancel(cause)
		}
	}
}

// stopRuns ends the runs of entries that somebody wants stopped.
func (d *Dispatcher) stopRuns(ids []uuid.UUID) {
	d.mu.Lock()
	defer d.mu.Unlock()
	for _, id := range ids {
		if r := d.running[id]; r != nil && r.cancel != nil {
			r.wanted = true
			r.cancel(errCancelled)
		}
	}
}

// Detach makes a running sync entry one that nobody waits for and whose answer is kept, durably. False: it has ended
// already, and its answer is in the inbox or was lost with its epoch.
func (d *Dispatcher) Detach(ctx context.Context, e *outbox.Entry) (bool, error) {
	done, err := d.cfg.Claims.Detach(ctx, e.Owner, e)
	if err == nil && done {
		failpoint.Hit(failpoint.DetachCommitted)
	}
	return done, err
}
