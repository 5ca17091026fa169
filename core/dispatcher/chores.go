package dispatcher

import (
	"context"
	"time"

	"github.com/google/uuid"

	"github.com/picloud/picloud/core/failpoint"
	"github.com/picloud/picloud/core/outbox"
)

// Every how many heartbeats the gates are looked after: while somebody waits at one, and otherwise. Lost entries are looked
// for as seldom where nothing says that there are some: a commit may come through long after its answer was given up.
const (
	mendOften  = 5
	mendSeldom = 60
)

// choreLimit bounds one chore.
const choreLimit = 10 * time.Second

// chores does what the pulses ask for.
func (d *Dispatcher) chores(ctx context.Context) {
	unknown := map[uuid.UUID]bool{} // own entries that were not in memory at the last look
	for beats := 0; ; beats++ {
		var p Pulse
		select {
		case p = <-d.pulses:
		case <-ctx.Done():
			return
		}
		d.limits.setNodes(p.Nodes)
		if p.Scheduled {
			d.dueIn(max(p.NextDue, 0))
		}
		if p.Ready {
			d.Wake()
		}
		if p.Letters {
			d.cfg.DeadLettered()
		}
		if p.Strangers {
			d.chore(ctx, d.sweep)
		}
		if p.Cancelled {
			d.chore(ctx, d.stopCancelled)
		}
		if p.Expired {
			d.chore(ctx, d.expire)
		}
		if beats%mendSeldom == mendSeldom-1 || p.Blocked && beats%mendOften == 0 {
			d.chore(ctx, d.mend)
		}
		if d.suspect.Swap(false) || beats%mendSeldom == mendSeldom-1 {
			d.chore(ctx, func(ctx context.Context) { unknown = d.recover(ctx, unknown) })
		}
	}
}

func (d *Dispatcher) chore(ctx context.Context, do func(ctx context.Context)) {
	ctx, cancel := context.WithTimeout(ctx, choreLimit)
	defer cancel()
	do(ctx)
}

// sweep frees entries of dead owners, in batches until none is left.
func (d *Dispatcher) sweep(ctx context.Context) {
	for {
		failpoint.Hit(failpoint.SweepSelected)
		freed, ended, dead, err := d.cfg.Claims.Sweep(ctx)
		if err != nil {
			d.log.Warn("cannot sweep entries of dead nodes", "error", err)
			return
		}
		if freed+ended == 0 {
			return
		}
		failpoint.Hit(failpoint.SweepUpdated)
		d.log.Info("took over entries of dead nodes", "ready", freed, "ended", ended)
		d.Wake()
		if dead > 0 {
			d.cfg.DeadLettered()
		}
	}
}

// stopCancelled ends own runs that somebody wants stopped.
func (d *Dispatcher) stopCancelled(ctx context.Context) {
	ids, err := d.cfg.Claims.Cancelled(ctx, d.lease.Epoch())
	if err != nil {
		d.log.Warn("cannot look for cancelled entries", "error", err)
		return
	}
	d.stopRuns(ids)
}

// expire ends entries that waited too long, in batches until none is left.
func (d *Dispatcher) expire(ctx context.Context) {
	for {
		n, err := d.cfg.Claims.Expire(ctx)
		if err != nil {
			d.log.Warn("cannot end expired entries", "error", err)
			return
		}
		if n == 0 {
			return
		}
		d.Wake() // they may have let others through a gate
	}
}

// mend looks after the gates.
func (d *Dispatcher) mend(ctx context.Context) {
	n, err := d.cfg.Claims.MendGates(ctx)
	if err != nil {
		d.log.Warn("cannot look after the gates", "error", err)
		return
	}
	if n > 0 {
		d.log.Error("entries waited at gates that had room", "count", n)
		d.Wake()
	}
}

// recover gives back entries that belong to this epoch but are not in memory: those of a claim or an INSERT whose answer
// was lost. Only what was unknown twice in a row counts, since a commit may still be on its way.
func (d *Dispatcher) recover(ctx context.Context, before map[uuid.UUID]bool) map[uuid.UUID]bool {
	owned, err := d.cfg.Claims.Owned(ctx, d.lease.Epoch())
	if err != nil {
		d.log.Warn("cannot look for lost entries", "error", err)
		d.suspect.Store(true)
		return before
	}
	now := map[uuid.UUID]bool{}
	for _, e := range owned {
		d.mu.Lock()
		_, known := d.running[e.ID]
		d.mu.Unlock()
		if known {
			continue
		}
		if !before[e.ID] {
			now[e.ID] = true
			continue
		}
		d.log.Warn("gives an entry back that was never started", "entry_id", e.ID, "attempt", e.Attempt)
		if !e.Sync() {
			d.giveBack(e, 0)
			continue
		}
		d.settle[durable].Settle(
			&outbox.Settlement{Entry: e, Outcome: outbox.Abandoned, Reason: "not_accepted", Started: time.Now()}, func() {})
	}
	if len(now) > 0 || len(before) > 0 {
		d.suspect.Store(true)
	}
	return now
}
