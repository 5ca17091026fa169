package dispatcher

import (
	"bytes"
	"context"
	"time"

	"github.com/google/uuid"

	"github.com/picloud/picloud/core/outbox"
)

// beat keeps the epoch alive and does what the pulse asks for. It is the only goroutine that talks to the NodeStore.
func (d *Dispatcher) beat(ctx context.Context) {
	tick := time.NewTicker(beatEvery)
	defer tick.Stop()
	unknown := map[uuid.UUID]bool{} // own entries that were not in memory at the last look
	for {
		if p, ok := d.pulse(ctx); ok { // the first at once: a restarted node has its former life's work to take back
			d.heed(ctx, p)
			if d.suspect.Load() {
				unknown = d.recover(ctx, unknown)
			}
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return
		}
	}
}

// heed does what a pulse asks for.
func (d *Dispatcher) heed(ctx context.Context, p Pulse) {
	d.cfg.Configured(p.ConfigVersion)
	if p.Late {
		d.evict(ctx)
	}
	if p.Strangers {
		d.sweep(ctx)
	}
	if p.Scheduled {
		select { // the claim loop keeps the latest word
		case <-d.due:
		default:
		}
		d.due <- max(p.NextDue, 0)
	}
	if p.Ready {
		d.Wake()
	}
}

// pulse sends one heartbeat. A lost epoch ends every run and begins a new epoch.
func (d *Dispatcher) pulse(ctx context.Context) (Pulse, bool) {
	ctx, cancel := context.WithTimeout(ctx, beatLimit)
	defer cancel()
	epoch := d.lease.Epoch()
	sent := bootTime()
	if epoch != 0 {
		p, err := d.cfg.Nodes.Pulse(ctx, epoch)
		if err != nil {
			if ctx.Err() == nil || d.lease.Valid() {
				d.log.Warn("heartbeat missed", "epoch", epoch, "error", err)
			}
			return p, false
		}
		if p.Alive {
			d.lease.renew(epoch, sent)
			return p, true
		}
		d.log.Error("the epoch is lost: other nodes have taken its work over", "epoch", epoch)
		d.lease.lose()
		d.cancelAll(errLost)
	}
	next, err := d.cfg.Nodes.Join(ctx, d.cfg.Node)
	if err != nil {
		d.log.Warn("cannot join", "error", err)
		return Pulse{}, false
	}
	d.lease.renew(next, sent)
	d.log.Info("joined with a new epoch", "epoch", next)
	return Pulse{}, false
}

func (d *Dispatcher) evict(ctx context.Context) {
	n, err := d.cfg.Nodes.Evict(ctx, d.lease.Epoch())
	if err != nil {
		d.log.Warn("cannot evict late nodes", "error", err)
		return
	}
	if n > 0 {
		d.log.Warn("evicted nodes whose heartbeat stopped", "count", n)
		d.sweep(ctx)
	}
}

// sweep frees entries of dead owners, in batches until none is left.
func (d *Dispatcher) sweep(ctx context.Context) {
	for {
		freed, ended, err := d.cfg.Claims.Sweep(ctx)
		if err != nil {
			d.log.Warn("cannot sweep entries of dead nodes", "error", err)
			return
		}
		if freed+ended == 0 {
			return
		}
		d.log.Info("took over entries of dead nodes", "ready", freed, "ended", ended)
		d.Wake()
	}
}

// recover gives back entries that belong to this epoch but are not in memory: those of a claim or an INSERT whose answer
// was lost. Only what was unknown twice in a row counts, since a commit may still be on its way.
func (d *Dispatcher) recover(ctx context.Context, before map[uuid.UUID]bool) map[uuid.UUID]bool {
	owned, err := d.cfg.Claims.Owned(ctx, d.lease.Epoch())
	if err != nil {
		d.log.Warn("cannot look for lost entries", "error", err)
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
			d.giveBack(e)
			continue
		}
		d.settle[durable].Settle(
			&outbox.Settlement{Entry: e, Outcome: outbox.Abandoned, Reason: "not_accepted", Started: time.Now()}, func() {})
	}
	if len(now) == 0 && len(before) == 0 {
		d.suspect.Store(false)
	}
	return now
}

// claimLoop promotes entries that are due and claims what waits, whenever there is something and room for it.
func (d *Dispatcher) claimLoop(ctx context.Context) {
	timer := time.NewTimer(time.Hour)
	defer timer.Stop()
	var turn turn
	for {
		select {
		case <-d.wake:
		case in := <-d.due:
			timer.Reset(in)
			continue
		case <-timer.C:
			d.promote(ctx)
		case <-ctx.Done():
			return
		}
		d.claim(ctx, &turn)
	}
}

func (d *Dispatcher) promote(ctx context.Context) {
	for {
		n, err := d.cfg.Claims.Promote(ctx)
		if err != nil {
			d.log.Warn("cannot promote due entries", "error", err)
			return
		}
		if n == 0 {
			return
		}
		d.backlog.Store(true)
	}
}

// turn is where the walk over the apps stands.
type turn struct {
	last uuid.UUID // the app that was served last
	apps int       // how many the last claim served
}

// claim takes entries while there is room.
func (d *Dispatcher) claim(ctx context.Context, t *turn) {
	for d.Ready() == nil {
		room := d.slots.room()
		if room == 0 {
			return // a run that ends will nudge
		}
		// The apps of the last claim share the room. One that comes later is behind them in the walk, so it is next.
		perApp := max(1, room/max(1, t.apps))
		entries, err := d.cfg.Claims.Claim(ctx, d.lease.Epoch(), room, perApp, t.last)
		if err != nil {
			d.slots.asyncPlaces.Release(int64(room))
			d.suspect.Store(true)
			d.log.Warn("cannot claim", "error", err)
			return
		}
		d.slots.asyncPlaces.Release(int64(room - len(entries)))
		if len(entries) == 0 {
			if t.last == uuid.Nil {
				d.backlog.Store(false)
				return
			}
			*t = turn{} // the walk begins again at the first app
			continue
		}
		apps := map[uuid.UUID]bool{}
		for _, e := range entries {
			apps[e.App] = true
			if bytes.Compare(t.last[:], e.App[:]) < 0 {
				t.last = e.App
			}
			if d.admit(e) == nil {
				go d.work(e)
				continue
			}
			d.slots.asyncPlaces.Release(1)
			d.giveBack(e)
		}
		t.apps = len(apps)
	}
}

// giveBack returns an entry that was claimed but not started. Its attempt is not charged.
func (d *Dispatcher) giveBack(e *outbox.Entry) {
	d.settle[durable].Settle(
		&outbox.Settlement{Entry: e, Outcome: outbox.Retried, Uncharged: true, Started: time.Now()}, func() {})
}
