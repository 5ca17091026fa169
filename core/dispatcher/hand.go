package dispatcher

import (
	"context"
	"time"

	"github.com/picloud/picloud/core/outbox"
	"github.com/picloud/picloud/core/schedule"
)

// Hand runs an entry that is not written: once at most, now, and nothing is left of it. False: no slot of this node is free for it, or
// its lane may start nothing.
func (d *Dispatcher) Hand(e *outbox.Entry) bool {
	seat := &schedule.Ticket{App: e.App, Class: schedule.Fresh}
	if !d.takeHand(e, seat) {
		d.counters.dropped.Add(1)
		return false
	}
	return true
}

func (d *Dispatcher) takeHand(e *outbox.Entry, seat *schedule.Ticket) bool {
	lane := d.cfg.Lane(e.Lane)
	if lane == nil || lane.Paused || d.limits.reserve(lane, 1) == 0 {
		return false
	}
	seat.Weight = weight(lane)
	if !d.slots.atOnce(seat) {
		d.end(lane)
		return false
	}
	e.State, e.Attempt, e.MaxAttempts, e.Unwritten = outbox.Running, 1, 1, true
	if err := d.admit(e, d.lease.Epoch()); err != nil {
		d.release(lane, seat)
		return false
	}
	d.counters.handed.Add(1)
	go func() {
		defer d.forget(e)
		defer d.release(lane, seat)
		ctx, cancel := context.WithCancelCause(context.Background())
		defer cancel(nil)
		d.cancelBy(e, cancel)
		if res := d.cfg.Runner.Run(ctx, e); res.Fault != nil {
			d.log.Debug("what was published for the moment failed", "execution_id", e.ID, "script", e.Target, "error", res.Fault)
		} else {
			d.counters.engineTime.Add(int64(time.Since(res.Started)))
		}
	}()
	return true
}
