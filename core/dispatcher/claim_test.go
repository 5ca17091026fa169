package dispatcher

import (
	"bytes"
	"slices"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/hashicorp/go-hclog"

	"github.com/picloud/picloud/core/outbox"
	"github.com/picloud/picloud/core/schedule"
	"github.com/picloud/picloud/core/tenant"
)

// slow is a dispatcher with four slots for async runs, whose runs take a second, so that nothing is worth claiming ahead. It
// has no node; run claims and runs for some seconds, as if every lane had any number of entries, and counts the runs.
type slow struct {
	*Dispatcher
	now  int64
	live []*schedule.Ticket // runs, in the order of their start
	runs map[outbox.LaneKey]int
}

func newSlow(lanes func(uuid.UUID) *tenant.Lane) *slow {
	s := &slow{runs: map[outbox.LaneKey]int{}}
	alone := func() bool { return true }
	s.Dispatcher = New(Config{Lane: lanes, Alone: alone, Slots: 6, Log: hclog.NewNullLogger()})
	s.slots = newSlots(6, 0, func() int64 { return s.now }, alone)
	s.limits = newLimits(func() int64 { return s.now })
	return s
}

func (s *slow) run(seconds int, lanes []outbox.LaneKey) {
	for range 4 * seconds {
		parts, _ := s.share(lanes, s.slots.room())
		for _, p := range parts {
			s.runs[p.key] += p.runs
			for range p.runs {
				e := &outbox.Entry{App: p.key.App, Retry: p.key.Retry}
				s.live = append(s.live, s.slots.schedule.Enter(seatOf(e, p.lane), s.now)...)
			}
		}
		s.now += int64(time.Second) / 4 // a run comes to its end
		if len(s.live) > 0 {
			s.live = append(s.live[1:], s.slots.schedule.Leave(s.live[0], s.now)...)
		}
	}
}

func lanesOf(app uuid.UUID, n int) (keys []outbox.LaneKey) {
	for range n {
		lane := uuid.New()
		keys = append(keys, outbox.LaneKey{App: app, Lane: lane}, outbox.LaneKey{App: app, Lane: lane, Retry: true})
	}
	return keys
}

// Where there is one place at a time, each lane of an app has its turn, and so have its retries.
func TestLanesTakeTurns(t *testing.T) {
	t.Parallel()
	s := newSlow(func(uuid.UUID) *tenant.Lane { return nil })
	keys := lanesOf(uuid.New(), 3)
	s.run(1000, keys)
	total, retries := 0, 0
	for _, n := range s.runs {
		total += n
	}
	for _, k := range keys {
		switch {
		case k.Retry:
			retries += s.runs[k]
		case s.runs[k] < total/6:
			t.Errorf("a lane has %d of %d runs", s.runs[k], total)
		}
	}
	if total < 3900 || retries < total/8 || retries > total/3 {
		t.Errorf("%d of %d runs are retries", retries, total)
	}
}

// And so has each app, however many there are.
func TestAppsTakeTurns(t *testing.T) {
	t.Parallel()
	s := newSlow(func(uuid.UUID) *tenant.Lane { return nil })
	s.slots.alone = func() bool { return false }
	var keys []outbox.LaneKey
	for range 40 {
		keys = append(keys, outbox.LaneKey{App: uuid.New(), Lane: uuid.New()})
	}
	slices.SortFunc(keys, func(a, b outbox.LaneKey) int { return bytes.Compare(a.App[:], b.App[:]) })
	s.run(1000, keys)
	for _, k := range keys {
		if n := s.runs[k]; n < 40 || n > 200 {
			t.Errorf("an app of 40 has %d of 4,000 runs", n)
		}
	}
}

// A run that ends has nobody look at the outbox for what may not start.
func TestNothingToClaim(t *testing.T) {
	t.Parallel()
	lanes := map[uuid.UUID]*tenant.Lane{}
	s := newSlow(func(id uuid.UUID) *tenant.Lane { return lanes[id] })
	for name, c := range map[string]struct {
		lane tenant.Lane
		want bool
	}{
		"paused":      {tenant.Lane{Paused: true}, false},
		"limited":     {tenant.Lane{Policy: tenant.Policy{Concurrency: 1}}, false},
		"not limited": {tenant.Lane{Policy: tenant.Policy{Concurrency: 2}}, true},
	} {
		lane := c.lane
		lane.ID, lane.App = uuid.New(), uuid.New()
		lane.Script = &tenant.Script{ID: lane.ID}
		lanes[lane.ID] = &lane
		s.limits.reserve(&lane, 1)
		s.queued = map[uuid.UUID]uuid.UUID{lane.ID: lane.App}
		if s.claimable() != c.want {
			t.Errorf("%s: claimable is not %v", name, c.want)
		}
	}
}
