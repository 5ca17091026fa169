package dispatcher

import (
	"context"
	"errors"
	"slices"
	"sync"
	"time"

	"github.com/google/uuid"

	"github.com/picloud/picloud/core/schedule"
)

// ErrBusy says that no slot came free in time. Nothing was accepted.
var ErrBusy = errors.New("every slot is taken")

// syncPatience is how long a sync call waits for a place, and then for a slot.
const syncPatience = time.Second

// slots bound what runs and what waits in memory to run, as the schedule says. A slot is held during a run; a place is held
// from before the entry is written until its run starts. Safe for concurrent use.
type slots struct {
	clock func() int64 // nanoseconds, as uptime
	alone func() bool  // there is one app only

	mu       sync.Mutex
	schedule *schedule.Scheduler
}

var begun = time.Now()

// uptime is a monotonic clock in nanoseconds. It is read several times for each run, and costs a tenth of bootTime, which is
// a system call.
func uptime() int64 { return int64(time.Since(begun)) }

func newSlots(n, callers int, clock func() int64, alone func() bool) *slots {
	return &slots{clock: clock, alone: alone, schedule: schedule.New(n, callers)}
}

func (s *slots) lock() {
	s.mu.Lock()
	s.schedule.Alone = s.alone()
}

// place waits for a place for a sync call, at most syncPatience.
func (s *slots) place(ctx context.Context, t *schedule.Ticket) error {
	s.lock()
	if !s.schedule.Ask(t) {
		s.mu.Unlock()
		return ErrBusy
	}
	if !t.Hopes() {
		s.mu.Unlock()
		return nil
	}
	t.Moved = make(chan struct{}, 1)
	s.mu.Unlock()
	patience := time.NewTimer(syncPatience)
	defer patience.Stop()
	select {
	case <-t.Moved:
		return nil
	case <-patience.C:
	case <-ctx.Done():
	}
	s.leave(t)
	return ErrBusy
}

// atOnce gives a ticket a slot if one is free.
func (s *slots) atOnce(t *schedule.Ticket) bool {
	s.lock()
	defer s.mu.Unlock()
	if t.Class != schedule.Sync {
		if s.schedule.Free(t.App) == 0 || s.schedule.Expect(t.App, 1) == 0 {
			return false
		}
	} else if !s.schedule.Ask(t) {
		return false
	}
	if !t.Hopes() {
		s.wake(s.schedule.Enter(t, s.clock()), t)
	}
	if !t.Started() {
		s.wake(s.schedule.Leave(t, s.clock()), t)
	}
	return t.Started()
}

// enter asks for a slot. False: wait follows. In either case leave does.
func (s *slots) enter(t *schedule.Ticket) bool {
	if t.Lent != nil {
		return true
	}
	s.lock()
	defer s.mu.Unlock()
	if t.Started() {
		return true
	}
	s.wake(s.schedule.Enter(t, s.clock()), t)
	if !t.Started() && t.Moved == nil {
		t.Moved = make(chan struct{}, 1)
	}
	return t.Started()
}

// wait waits for a slot that was asked for. Its error is the cause of ctx.
func (s *slots) wait(ctx context.Context, t *schedule.Ticket) error {
	select {
	case <-t.Moved:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// leave gives back what a ticket has.
func (s *slots) leave(t *schedule.Ticket) {
	if t.Lent != nil {
		<-t.Lent
		return
	}
	s.lock()
	defer s.mu.Unlock()
	s.wake(s.schedule.Leave(t, s.clock()), t)
}

// wake tells tickets that they have moved, but for the caller's own.
func (s *slots) wake(moved []*schedule.Ticket, own *schedule.Ticket) {
	for _, t := range moved {
		if t != own {
			t.Moved <- struct{}{}
		}
	}
}

// expect takes places for up to n entries of an app that are written here, and returns how many it got.
func (s *slots) expect(app uuid.UUID, n int) int {
	s.lock()
	defer s.mu.Unlock()
	return s.schedule.Expect(app, n)
}

// claim takes places for entries that are to be claimed.
func (s *slots) claim(app uuid.UUID, n int) int {
	s.lock()
	defer s.mu.Unlock()
	return s.schedule.Claim(app, n)
}

// forgo gives places back that were not used.
func (s *slots) forgo(app uuid.UUID, n int) {
	s.lock()
	defer s.mu.Unlock()
	s.schedule.Forgo(app, n)
}

// claimable reports whether there are places for entries of an app.
func (s *slots) claimable(app uuid.UUID) bool {
	s.lock()
	defer s.mu.Unlock()
	return s.schedule.Claimable(app)
}

// sort brings the parts of apps into the order in which they are to have places.
func (s *slots) sort(apps [][]part) {
	s.lock()
	defer s.mu.Unlock()
	slices.SortStableFunc(apps, func(a, b []part) int { return s.schedule.Compare(a[0].key.App, b[0].key.App) })
}

// room is how many places there are, whosever.
func (s *slots) room() int {
	s.lock()
	defer s.mu.Unlock()
	return s.schedule.Room()
}

// load is what runs and waits in memory.
func (s *slots) load() (sync, async schedule.Load) {
	s.lock()
	defer s.mu.Unlock()
	return s.schedule.Loads()
}

// free says whether an async run of an app would find a slot now: zero, or at least one.
func (s *slots) free(app uuid.UUID) int {
	s.lock()
	defer s.mu.Unlock()
	return s.schedule.Free(app)
}
