package dispatcher

import (
	"cmp"
	"context"
	"math/rand/v2"
	"slices"
	"time"

	"github.com/google/uuid"

	"github.com/picloud/picloud/core/failpoint"
	"github.com/picloud/picloud/core/outbox"
	"github.com/picloud/picloud/core/tenant"
)

// lanePage is how many lanes one look at the outbox lists.
const lanePage = 256

// claimLoop promotes entries that are due and claims what waits, whenever there is something and room for it.
func (d *Dispatcher) claimLoop(ctx context.Context) {
	timer := time.NewTimer(time.Hour)
	defer timer.Stop()
	at := time.Now().Add(time.Hour) // when the timer fires
	set := func(in time.Duration) {
		if next := time.Now().Add(in); next.Before(at) {
			at = next
			timer.Reset(in)
		}
	}
	var turn turn
	for {
		select {
		case <-d.wake:
			if !d.fresh.Swap(false) && !turn.under() && !d.claimable() {
				continue
			}
		case in := <-d.due:
			set(in)
			continue
		case <-timer.C:
			at = time.Now().Add(time.Hour)
			timer.Reset(time.Hour)
			if next := d.promote(ctx); next > 0 {
				set(next)
			}
		case <-ctx.Done():
			return
		}
		wait, looked := d.claim(ctx, &turn)
		if wait > 0 {
			set(wait)
		}
		if !looked {
			d.fresh.Store(true) // there may still be lanes that this node does not know of
		}
	}
}

// promoteAtLeast is how long an entry that is due and not free waits for the next look: another node has it in hand.
const promoteAtLeast = 10 * time.Millisecond

// promote makes due entries ready and returns how long until the next is due; zero: none is.
func (d *Dispatcher) promote(ctx context.Context) time.Duration {
	for {
		n, next, err := d.cfg.Claims.Promote(ctx)
		if err != nil {
			d.log.Warn("cannot promote due entries", "error", err)
			return 0
		}
		switch {
		case n > 0:
			d.backlog.Store(true)
		case next == nil:
			return 0
		default:
			return max(*next, promoteAtLeast)
		}
	}
}

// turn is where the walk over the lanes stands.
type turn struct {
	last outbox.LaneKey          // the lane that was looked at last
	seen map[uuid.UUID]uuid.UUID // lanes with ready entries, and their apps, since the walk began at the first
}

// under reports whether a walk is under way: there may be lanes that nobody has looked at.
func (t *turn) under() bool { return t.last != outbox.LaneKey{} }

// part is one lane's part of a claim.
type part struct {
	key    outbox.LaneKey
	lane   *tenant.Lane // nil: gone from the configuration; what is left in it runs into its end
	runs   int
	perRun int // entries
}

// claimable reports whether an entry could start here of a lane that this node knows to have some.
func (d *Dispatcher) claimable() bool {
	if d.slots.room() == 0 {
		return false
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	for id, app := range d.queued {
		lane := d.cfg.Lane(id)
		if (lane == nil || !lane.Paused && d.limits.open(lane)) && d.slots.claimable(app) {
			return true
		}
	}
	return false
}

// claim takes entries while there is room. Where a rate holds entries back, wait is how long until the first may start.
// looked says whether it could look for lanes at all.
func (d *Dispatcher) claim(ctx context.Context, t *turn) (wait time.Duration, looked bool) {
	round := -1 // entries claimed since the walk began at the first lane; negative: it has not yet
	for d.Ready() == nil {
		room := d.slots.room()
		if room == 0 {
			return wait, looked // a run that ends will nudge
		}
		lanes, err := d.cfg.Claims.Ready(ctx, t.last, lanePage)
		if err != nil {
			d.log.Warn("cannot look for entries", "error", err)
			return wait, false
		}
		looked = true
		if (t.last == outbox.LaneKey{}) {
			round = 0
		}
		d.note(t, lanes, len(lanes) < lanePage)
		parts, held := d.share(lanes, room)
		if held > 0 && (wait == 0 || held < wait) {
			wait = held
		}
		if len(parts) > 0 {
			claimed, err := d.take(ctx, parts)
			if err != nil {
				d.suspect.Store(true)
				d.log.Warn("cannot claim", "error", err)
				return wait, looked
			}
			if round >= 0 {
				round += claimed
			}
		}
		if round == 0 && len(lanes) < lanePage {
			return wait, looked // a whole round, and nothing may start
		}
	}
	return wait, looked
}

// note remembers which lanes have ready entries: whoever is new there queues behind them. A round that is whole says it of
// every lane.
func (d *Dispatcher) note(t *turn, lanes []outbox.LaneKey, whole bool) {
	if (t.last == outbox.LaneKey{}) {
		t.seen = map[uuid.UUID]uuid.UUID{}
	}
	for _, k := range lanes {
		t.seen[k.Lane] = k.App
	}
	if !whole {
		t.last = lanes[len(lanes)-1]
		return
	}
	t.last = outbox.LaneKey{}
	d.backlog.Store(len(t.seen) > 0)
	d.mu.Lock()
	d.queued, t.seen = t.seen, nil
	d.mu.Unlock()
}

// share divides places among lanes: equally among their apps, of which those come first whose turn was longer ago, then
// among the lanes of each, then to whoever has more. Paused lanes have no part, others no more than their limits allow; what
// they get is counted as running. held is how long until the first of those may start that a rate holds back.
func (d *Dispatcher) share(lanes []outbox.LaneKey, places int) (shared []part, held time.Duration) {
	parts := make([]part, 0, len(lanes))
	for _, k := range lanes {
		p := part{key: k, lane: d.cfg.Lane(k.Lane), perRun: 1}
		if p.lane != nil {
			room, wait := d.limits.room(p.lane)
			if room == 0 && wait > 0 && !p.lane.Paused && (held == 0 || wait < held) {
				held = wait
			}
			if p.lane.Paused || room == 0 {
				continue
			}
			if b := p.lane.Policy.Batch; b != nil {
				p.perRun = b.Size
			}
		}
		parts = append(parts, p)
	}
	var apps [][]part // lanes are in the order of their apps
	for first := 0; first < len(parts); {
		end := first + 1
		for end < len(parts) && parts[end].key.App == parts[first].key.App {
			end++
		}
		apps = append(apps, parts[first:end])
		first = end
	}
	d.slots.sort(apps)
	open := make([]bool, len(apps)) // there is room for more of it
	for pass := range 2 {
		for i, lanes := range apps {
			app, n := lanes[0].key.App, 0
			switch {
			case places == 0:
			case pass == 0:
				n = d.slots.claim(app, max(1, places/(len(apps)-i)))
				open[i] = n > 0
			case open[i]:
				n = d.slots.expect(app, places)
			}
			if n > 0 {
				used := d.spread(lanes, n)
				d.slots.forgo(app, n-used)
				places -= used
			}
		}
	}
	return slices.DeleteFunc(parts, func(p part) bool { return p.runs == 0 }), held
}

// retryShare is the part of an app's claims that is left to retries while it has fresh entries too: one in so many.
const retryShare = 5

// spread divides places of one app among its lanes and returns how many they take. Where there are fewer places than lanes
// chance decides, so that each has its turn, and likewise for the share of retries.
func (d *Dispatcher) spread(parts []part, places int) (used int) {
	retries := slices.IndexFunc(parts, func(p part) bool { return p.key.Retry })
	fresh := slices.IndexFunc(parts, func(p part) bool { return !p.key.Retry })
	each := max(1, places/len(parts))
	forRetries := places
	if retries >= 0 && fresh >= 0 {
		forRetries = (places + rand.IntN(retryShare)) / retryShare
	}
	begin := rand.IntN(len(parts))
	for _, most := range []int{each, places} {
		for _, again := range []bool{true, false} {
			for i := range parts {
				p := &parts[(begin+i)%len(parts)]
				if p.key.Retry != again {
					continue
				}
				n := min(most, places-used)
				if again {
					n = min(n, forRetries)
				}
				if p.lane != nil && n > 0 {
					n = d.limits.reserve(p.lane, n)
				}
				if p.runs += n; again {
					forRetries -= n
				}
				used += n
			}
		}
	}
	return used
}

// take claims the parts and starts what it gets. It returns how many entries that were. On an error nothing is counted as
// running any more, though entries may be claimed.
func (d *Dispatcher) take(ctx context.Context, parts []part) (claimed int, err error) {
	quotas := make([]outbox.Quota, len(parts))
	for i, p := range parts {
		quotas[i] = outbox.Quota{LaneKey: p.key, Count: p.runs * p.perRun}
	}
	entries, err := d.cfg.Claims.Claim(ctx, d.lease.Epoch(), quotas)
	if err == nil && len(entries) > 0 {
		failpoint.Hit(failpoint.OutboxClaimed)
	}
	byLane := map[outbox.LaneKey][]*outbox.Entry{}
	for _, e := range entries {
		k := outbox.LaneKey{App: e.App, Lane: e.Lane, Retry: e.Retry}
		byLane[k] = append(byLane[k], e)
	}
	d.counters.claimed.Add(int64(len(entries)))
	for _, p := range parts {
		list := byLane[p.key]
		slices.SortFunc(list, func(a, b *outbox.Entry) int {
			return cmp.Or(cmp.Compare(a.Priority, b.Priority), slices.Compare(a.ID[:], b.ID[:]))
		})
		runs := 0
		for batch := range slices.Chunk(slices.DeleteFunc(list, func(e *outbox.Entry) bool { return d.turnAway(e, p.lane) }), p.perRun) {
			if d.launch(batch, p.lane) {
				runs++
			}
		}
		if p.lane != nil {
			d.limits.giveBack(p.lane, p.runs-runs)
		}
		d.slots.forgo(p.key.App, p.runs-runs)
	}
	return len(entries), err
}

// launch starts one run of entries that were just claimed. False: the node takes nothing in any more, and gives them back.
func (d *Dispatcher) launch(entries []*outbox.Entry, lane *tenant.Lane) bool {
	var admitted []*outbox.Entry
	for _, e := range entries {
		if d.admit(e, e.Owner) != nil {
			d.giveBack(e, 0)
			continue
		}
		admitted = append(admitted, e)
	}
	switch {
	case len(admitted) == 0:
		return false
	case lane != nil && lane.Policy.Batch != nil:
		go d.workBatch(admitted, lane)
	default:
		go d.work(admitted[0], lane, seatOf(admitted[0], lane))
	}
	return true
}

// turnAway settles an entry that was claimed but is not to start.
func (d *Dispatcher) turnAway(e *outbox.Entry, lane *tenant.Lane) bool {
	x := outbox.Settlement{Entry: e, Started: time.Now()}
	switch {
	case e.Cancelled:
		x.Outcome, x.Reason = outbox.Cancelled, outbox.ReasonUser
	case e.Expired:
		x.Outcome, x.Reason = outbox.Expired, outbox.ReasonExpired
	case e.RateKey != "" && lane != nil:
		wait := d.limits.takeKey(lane, e.RateKey, e.Claims > e.Attempt) // it came before, and was given back
		if wait <= 0 {
			return false
		}
		d.giveBack(e, wait)
		return true
	default:
		return false
	}
	d.settle[durable].Settle(&x, func() {
		if e.Gate != "" {
			d.Wake()
		}
	})
	return true
}

// giveBack returns an entry that was claimed but not started. Its attempt is not charged.
func (d *Dispatcher) giveBack(e *outbox.Entry, in time.Duration) {
	d.settle[durable].Settle(
		&outbox.Settlement{Entry: e, Outcome: outbox.Retried, Uncharged: true, RetryIn: in, Started: time.Now()}, func() {
			if in > 0 {
				d.dueIn(in)
			}
		})
}
