package dispatcher

import (
	"context"
	"errors"
	"sync/atomic"
	"time"

	"golang.org/x/sync/semaphore"
)

// ErrBusy says that no slot came free in time. Nothing was accepted.
var ErrBusy = errors.New("every slot is taken")

// syncPatience is how long a sync call waits for a place, and then for a slot.
const syncPatience = time.Second

// slots bound what runs and what waits in memory to run. A slot is held during a run; a place is held from before the
// entry is written until its run has ended, so that at most two entries a slot wait between commit and start.
type slots struct {
	run    *semaphore.Weighted
	async  *semaphore.Weighted // of run: async work leaves a quarter to callers who wait
	places *semaphore.Weighted // of sync calls

	asyncPlaces *semaphore.Weighted
	waitingRoom int64 // async entries that may wait in memory

	waiting    atomic.Int64 // sync calls that wait for a place
	maxWaiting int64
}

func newSlots(n, maxWaiting int) *slots {
	async := max(1, int64(n)*3/4)
	room := 2 * int64(n)
	return &slots{
		run: semaphore.NewWeighted(int64(n)), async: semaphore.NewWeighted(async),
		places:      semaphore.NewWeighted(int64(n) + room),
		asyncPlaces: semaphore.NewWeighted(async + room), waitingRoom: room,
		maxWaiting: int64(maxWaiting),
	}
}

// place waits for a place for a sync call, at most syncPatience.
func (s *slots) place(ctx context.Context) error {
	if s.places.TryAcquire(1) {
		return nil
	}
	if s.waiting.Add(1) > s.maxWaiting {
		s.waiting.Add(-1)
		return ErrBusy
	}
	defer s.waiting.Add(-1)
	ctx, cancel := context.WithTimeout(ctx, syncPatience)
	defer cancel()
	if s.places.Acquire(ctx, 1) != nil {
		return ErrBusy
	}
	return nil
}

// room takes places for claimed entries: as many as are free, but none before half of the waiting room is, so that a
// claim is worth its statement.
func (s *slots) room() int {
	for n := s.waitingRoom; n >= s.waitingRoom/2 && n > 0; n /= 2 {
		if s.asyncPlaces.TryAcquire(n) {
			return int(n)
		}
	}
	return 0
}

// free says whether an async run would find a slot now: zero, or at least one.
func (s *slots) free() int {
	if !s.async.TryAcquire(1) {
		return 0
	}
	defer s.async.Release(1)
	if !s.run.TryAcquire(1) {
		return 0
	}
	s.run.Release(1)
	return 1
}
