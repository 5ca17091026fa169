package dispatcher

import (
	"context"
	"sync"
	"time"

	"github.com/google/uuid"

	"github.com/picloud/picloud/core/outbox"
	"github.com/picloud/picloud/core/schedule"
)

// Hand runs an entry that is not written: once at most, now, and nothing is left of it. False: no slot of this node is free for it, or
// its lane may start nothing. outbox.ErrBudget: its first cause has led to too many that followed each other without a pause.
func (d *Dispatcher) Hand(e *outbox.Entry) (bool, error) {
	seat := &schedule.Ticket{App: e.App, Class: schedule.Fresh}
	if !d.chains.enter(e.RootID) {
		return false, outbox.ErrBudget
	}
	if !d.takeHand(e, seat) {
		d.chains.leave(e.RootID, 0)
		d.counters.dropped.Add(1)
		return false, nil
	}
	return true, nil
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
		defer d.chains.leave(e.RootID, 1)
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

// chains counts what is handed over of each first cause while any of it runs: no row of the cause does. Safe for concurrent use.
type chains struct {
	mu    sync.Mutex
	roots map[uuid.UUID]*chain
}

type chain struct{ ended, running int }

// enter counts one more that runs, unless there were too many. leave must follow.
func (c *chains) enter(root uuid.UUID) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	x := c.roots[root]
	if x == nil {
		x = &chain{}
		c.roots[root] = x
	}
	if x.ended+x.running >= outbox.MaxRootEvents {
		return false
	}
	x.running++
	return true
}

// leave counts it as over; ran is 0 where it was not begun.
func (c *chains) leave(root uuid.UUID, ran int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	x := c.roots[root]
	x.ended += ran
	if x.running--; x.running == 0 {
		delete(c.roots, root)
	}
}
