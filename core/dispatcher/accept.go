package dispatcher

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/google/uuid"

	"github.com/picloud/picloud/core/inbox"
	"github.com/picloud/picloud/core/outbox"
	"github.com/picloud/picloud/core/schedule"
	"github.com/picloud/picloud/core/tenant"
	"github.com/picloud/picloud/sdk/fault"
)

// ErrPaused says that the script or its app is paused. Nothing was accepted.
var ErrPaused = errors.New("the script is paused")

// The writers and settlers. Keyed entries are settled durably.
const (
	fast    = 0
	durable = 1
	keyed   = 2

	fastKeyed = 3 // is written only
)

// Call takes a sync entry in. nil means that the answer, or why there is none, comes to the inbox. An error means that
// nothing was accepted: ErrBusy, ErrPaused, an *outbox.Overloaded, those of Ready, and for an entry with an idempotency
// key *outbox.Duplicate and outbox.ErrKeyReused.
func (d *Dispatcher) Call(ctx context.Context, e *outbox.Entry) error { return d.call(ctx, e, nil) }

// CallFrom is Call for the run of from, which waits for the answer. It lends its slot meanwhile, so that scripts that call one
// another never wait for a slot that one of them has. Calls of one run that are made at one time have free slots besides, or take
// turns. A node that takes nothing in any more takes them in, since the run is not at its end without them.
func (d *Dispatcher) CallFrom(ctx context.Context, e, from *outbox.Entry) error {
	return d.call(ctx, e, from)
}

func (d *Dispatcher) call(ctx context.Context, e, from *outbox.Entry) (err error) {
	defer func() { d.counters.accept(err) }()
	lane := d.cfg.Lane(e.Lane)
	if lane != nil {
		if lane.Paused {
			return ErrPaused
		}
		if d.limits.reserve(lane, 1) == 0 {
			return overLimit(lane, d.limits)
		}
	}
	seat := &schedule.Ticket{App: e.App, Weight: weight(lane), Class: schedule.Sync}
	if from != nil {
		err = d.borrow(ctx, seat, from)
	} else {
		err = d.slots.place(ctx, seat)
	}
	if err != nil {
		d.end(lane)
		return err
	}
	e.State, e.Attempt, e.MaxAttempts = outbox.Running, 1, 1
	if err := d.enlist(e, d.lease.Epoch(), from != nil); err != nil {
		d.release(lane, seat)
		return err
	}
	if e.Keyed() {
		speed := keyed
		if from != nil {
			speed = fastKeyed
		}
		return d.write(ctx, speed, e, func(err error) {
			if err != nil {
				d.drop(e, lane, seat)
				return
			}
			go d.work(e, lane, seat)
		})
	}
	d.writers[fast].Append(e, func(err error) {
		if err != nil {
			d.drop(e, lane, seat)
			go d.refuse(e, err) // the reply may be held, and this goroutine is the writer's
			return
		}
		go d.work(e, lane, seat)
	})
	return nil
}

// borrow gives a ticket the slot of the run of from, or one of its own where another call has that and one is free.
func (d *Dispatcher) borrow(ctx context.Context, seat *schedule.Ticket, from *outbox.Entry) error {
	d.mu.Lock()
	r := d.running[from.ID]
	if r == nil || r.entry != from {
		d.mu.Unlock()
		return errLost
	}
	if r.lent == nil {
		r.lent = make(chan struct{}, 1)
	}
	slot := r.lent
	d.mu.Unlock()
	select {
	case slot <- struct{}{}:
		seat.Lent = slot
		return nil
	default:
	}
	if d.slots.atOnce(seat) {
		return nil
	}
	select {
	case slot <- struct{}{}:
		seat.Lent = slot
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

func overLimit(lane *tenant.Lane, l *limits) error {
	_, wait := l.room(lane)
	return &outbox.Overloaded{
		Message: lane.Name + " runs as often, or starts as fast, as its limits allow", RetryAfter: max(wait, time.Second),
	}
}

// refuse tells a sync caller that its entry was not accepted. It reports whether the caller has stopped waiting, so that
// the entry is async now.
func (d *Dispatcher) refuse(e *outbox.Entry, err error) (detached bool) {
	reply, gone := d.cfg.Inbox.Reply(context.Background(), e.ReplyTo)
	if gone != nil {
		return false
	}
	f := fault.New(fault.Unavailable, fault.Platform, "the request was not accepted: %v", err)
	var rejected *outbox.Rejected
	if errors.As(err, &rejected) {
		f = fault.New(fault.Invalid, fault.Caller, "the request cannot be stored: %v", err)
	}
	_ = reply.End(f) // the first part of a reply waits for nothing but the end of a Hold
	return reply.Released() == inbox.Detached
}

// Append writes an async entry durably and returns after the commit: from then on it is never lost. It is born claimed
// when it is due, a place is free, nothing of its lane waits before it and its limits have room; otherwise it waits its
// turn. An error means that nothing was accepted, unless ctx ended first: an *outbox.Rejected says that the entry itself is
// at fault, others are outbox.ErrTooDeep, outbox.ErrBudget, outbox.ErrKeyReused, *outbox.Duplicate, *outbox.Overloaded and
// those of Ready.
func (d *Dispatcher) Append(ctx context.Context, e *outbox.Entry) (err error) {
	defer func() { d.counters.accept(err) }()
	then, err := d.offer(ctx, e)
	if err != nil {
		return err
	}
	speed := durable
	if e.Keyed() {
		speed = keyed
	}
	return d.write(ctx, speed, e, then)
}

// AppendWith is Append for an entry that commits together with what caused it. commit writes it under the owner's epoch,
// as Inserters do, in a transaction of the caller's, and returns once that is committed; its error is returned. Not for
// entries that are Keyed.
func (d *Dispatcher) AppendWith(ctx context.Context, e *outbox.Entry, commit func(owner int64) error) (err error) {
	defer func() { d.counters.accept(err) }()
	then, err := d.offer(ctx, e)
	if err != nil {
		return err
	}
	owner := d.lease.Epoch()
	if e.State == outbox.Running {
		owner = e.Owner
	}
	if err = commit(owner); err != nil {
		d.suspect.Store(true)
	}
	then(err)
	return err
}

// AppendCaused is for entries that are known only within the transaction of their cause, such as a change of data. commit writes
// them there under the owner's epoch, and returns them once that is committed: they wait their turn, as Ready or Scheduled. An error
// of commit is returned. An app that is at its limit is refused before anything is changed, by size, which is an estimate.
func (d *Dispatcher) AppendCaused(
	ctx context.Context, app uuid.UUID, size int, commit func(owner int64) ([]*outbox.Entry, error),
) (err error) {
	defer func() { d.counters.accept(err) }()
	if err := d.Ready(); err != nil {
		return err
	}
	if err := d.admission.admit(ctx, app, size); err != nil {
		return err
	}
	entries, err := commit(d.lease.Epoch())
	if err != nil {
		return err
	}
	d.written(app, entries, size)
	return nil
}

// written has the claim loop look for entries of an app that wait. The first of them was admitted, all with so many bytes.
func (d *Dispatcher) written(app uuid.UUID, entries []*outbox.Entry, admitted int) {
	size := -admitted
	for _, e := range entries {
		size += len(e.Payload) + len(e.Envelope)
		switch e.State {
		case outbox.Scheduled:
			d.dueIn(d.until(e))
		case outbox.Ready:
			d.queue(e)
		}
	}
	if len(entries) > 0 {
		d.admission.more(app, len(entries)-1, size)
		d.Wake()
	}
}

// offer takes an entry in as far as that is possible before it is written. then must be called with the outcome of that.
func (d *Dispatcher) offer(ctx context.Context, e *outbox.Entry) (then func(error), err error) {
	if e.Depth > outbox.MaxDepth {
		return nil, outbox.ErrTooDeep
	}
	if err := d.Ready(); err != nil {
		return nil, err
	}
	if err := d.admission.admit(ctx, e.App, len(e.Payload)+len(e.Envelope)); err != nil {
		return nil, err
	}
	lane := d.cfg.Lane(e.Lane)
	var seat *schedule.Ticket // of one that is born claimed
	switch {
	case e.Delay > 0 || !e.RunAt.IsZero():
		e.State = outbox.Scheduled
	case d.bornClaimed(e, lane):
		seat = seatOf(e, lane)
		e.State, e.Attempt = outbox.Running, 1
		if err := d.admit(e, d.lease.Epoch()); err != nil {
			d.end(lane)
			d.slots.forgo(e.App, 1)
			return nil, err
		}
	default:
		e.State = outbox.Ready
	}
	return func(err error) {
		switch {
		case err != nil && seat != nil:
			d.forget(e)
			d.end(lane)
			d.slots.forgo(e.App, 1)
		case err != nil:
		case seat != nil:
			go d.work(e, lane, seat)
		case e.State == outbox.Scheduled:
			d.dueIn(d.until(e))
		default:
			d.queue(e)
			d.Wake()
		}
	}, nil
}

// until is how long an entry that was just written is not due.
func (d *Dispatcher) until(e *outbox.Entry) time.Duration {
	if e.RunAt.IsZero() {
		return e.Delay
	}
	return max(0, time.Until(e.RunAt)) // by the node's clock: the pulse corrects it
}

// bornClaimed takes a place for an entry that may run at once.
func (d *Dispatcher) bornClaimed(e *outbox.Entry, lane *tenant.Lane) bool {
	if e.Gate != "" || e.RateKey != "" || e.BatchSize > 0 || lane != nil && lane.Paused || d.isQueued(e.Lane) {
		return false
	}
	if d.slots.expect(e.App, 1) == 0 {
		return false
	}
	if lane != nil && d.limits.reserve(lane, 1) == 0 {
		d.slots.forgo(e.App, 1)
		return false
	}
	return true
}

// write has an entry written and waits for the commit. then is called once with the outcome, before write returns it; where
// ctx ends first, it is called all the same, later.
func (d *Dispatcher) write(ctx context.Context, speed int, e *outbox.Entry, then func(error)) error {
	written := make(chan error, 1)
	d.writers[speed].Append(e, func(err error) {
		if err != nil {
			d.suspect.Store(true)
		}
		then(err)
		written <- err
	})
	select {
	case err := <-written:
		return err
	case <-ctx.Done():
		return fmt.Errorf("append: not known whether it was accepted: %w", context.Cause(ctx))
	}
}

// admit puts an entry into the node's table: before it is written, or after it was claimed by the epoch.
func (d *Dispatcher) admit(e *outbox.Entry, epoch int64) error { return d.enlist(e, epoch, false) }

// enlist is admit; also of a node that drains where that is said.
func (d *Dispatcher) enlist(e *outbox.Entry, epoch int64, drains bool) error {
	if !d.lease.Valid() || d.lease.Epoch() != epoch {
		return outbox.ErrFenced
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.draining && !drains {
		return errShutdown
	}
	e.Owner = epoch
	d.running[e.ID] = &running{entry: e}
	d.idle.Add(1)
	return nil
}

// forget takes an attempt out of the node's table, unless a later one of the same entry is there already: once an attempt
// is settled, or its epoch lost, the entry may be claimed before this is called.
func (d *Dispatcher) forget(e *outbox.Entry) {
	d.mu.Lock()
	if r := d.running[e.ID]; r != nil && r.entry == e {
		delete(d.running, e.ID)
	}
	d.mu.Unlock()
	d.idle.Done()
}

func weight(lane *tenant.Lane) int {
	if lane == nil {
		return 1
	}
	return lane.Weight
}

// seatOf is the ticket of an async entry.
func seatOf(e *outbox.Entry, lane *tenant.Lane) *schedule.Ticket {
	class := schedule.Fresh
	if e.Retry {
		class = schedule.Retry
	}
	return &schedule.Ticket{App: e.App, Weight: weight(lane), Class: class}
}

// release gives back what a run held.
func (d *Dispatcher) release(lane *tenant.Lane, seat *schedule.Ticket) {
	d.end(lane)
	d.slots.leave(seat)
	if d.backlog.Load() {
		d.nudge()
	}
}

// end tells the limits of a run's lane that it is over. lane is what it was when the run was let in.
func (d *Dispatcher) end(lane *tenant.Lane) {
	if lane != nil {
		target, _ := lane.Target()
		d.limits.end(lane.ID, target)
	}
}

// drop undoes the acceptance of a sync entry that was not written.
func (d *Dispatcher) drop(e *outbox.Entry, lane *tenant.Lane, seat *schedule.Ticket) {
	d.forget(e)
	d.release(lane, seat)
}

// queue notes that the lane of an entry has ready ones.
func (d *Dispatcher) queue(e *outbox.Entry) {
	d.mu.Lock()
	d.queued[e.Lane] = e.App
	d.mu.Unlock()
}

func (d *Dispatcher) isQueued(lane uuid.UUID) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	_, is := d.queued[lane]
	return is
}
