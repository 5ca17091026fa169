package dispatcher

import (
	"sync/atomic"
	"time"

	"github.com/google/uuid"

	"github.com/picloud/picloud/core/outbox"
	"github.com/picloud/picloud/core/schedule"
)

// counters count what a node has done.
type counters struct {
	accepted, refused, claimed atomic.Int64
	handed, dropped            atomic.Int64
	outcomes                   [outbox.Failed + 1]atomic.Int64
	engineTime                 atomic.Int64 // nanoseconds
}

// Stats is what a node has done since its start, and what it does now.
type Stats struct {
	Accepted   int64 // entries written, sync and async
	Refused    int64 // calls and events that were not accepted
	Claimed    int64 // entries claimed, not born so
	Handed     int64 // events that are not written: run
	Dropped    int64 // and those for which no slot was free
	Outcomes   map[outbox.Outcome]int64
	EngineTime time.Duration // of all runs
	Slots      int
	Sync       schedule.Load
	Async      schedule.Load
	Fenced     bool // the node may not write
}

// Stats returns the node's numbers. It is cheap.
func (d *Dispatcher) Stats() Stats {
	s := Stats{
		Accepted: d.counters.accepted.Load(), Refused: d.counters.refused.Load(), Claimed: d.counters.claimed.Load(),
		Handed: d.counters.handed.Load(), Dropped: d.counters.dropped.Load(),
		Outcomes: map[outbox.Outcome]int64{}, EngineTime: time.Duration(d.counters.engineTime.Load()),
		Slots: d.cfg.Slots, Fenced: !d.lease.Valid(),
	}
	for o := range outbox.Outcomes {
		s.Outcomes[o] = d.counters.outcomes[o].Load()
	}
	s.Sync, s.Async = d.slots.load()
	return s
}

// accept counts an entry that was written, or was not.
func (c *counters) accept(err error) {
	if err != nil {
		c.refused.Add(1)
		return
	}
	c.accepted.Add(1)
}

// LaneState is how a lane stands on this node.
type LaneState struct {
	Running   int           // runs here
	Limit     int           // of runs here; zero: none
	NextStart time.Duration // until its rate lets the next start
	FreeSlots int           // for async runs of any lane
}

// Lane says how a lane stands on this node.
func (d *Dispatcher) Lane(id uuid.UUID) LaneState {
	var s LaneState
	if lane := d.cfg.Lane(id); lane != nil {
		s.FreeSlots = d.slots.free(lane.App)
		s.Running, s.Limit = d.limits.runs(lane)
		_, s.NextStart = d.limits.room(lane)
	}
	return s
}
