package service

import (
	"context"
	"runtime"
	"slices"
	"sync"
	"time"

	"github.com/google/uuid"
)

// recent is how long after its last call an app counts as one that uses services.
const recent = time.Second

// share has apps take turns. While one app alone uses services, it may have as many calls under way as it has runs. Beside others it
// may have its part of as many as the machine can do at a time: so a call of a quiet app meets few of a busy one, in the database and on
// the processors. Safe for concurrent use.
type share struct {
	width int // calls at a time, of all apps

	mu      sync.Mutex
	apps    map[uuid.UUID]*turn
	active  int // apps that used services lately, as counted at
	counted time.Time
}

// turn is where one app stands.
type turn struct {
	running int
	waiting []chan struct{} // closed when it is their turn
	last    time.Time
}

func newShare() *share { return &share{width: runtime.GOMAXPROCS(0), apps: map[uuid.UUID]*turn{}} }

// enter waits until the app may have one more call under way. leave must be called after that.
func (s *share) enter(ctx context.Context, app uuid.UUID) error {
	s.mu.Lock()
	t := s.apps[app]
	if t == nil {
		t = &turn{}
		s.apps[app] = t
		s.counted = time.Time{}
	}
	t.last = time.Now()
	if len(t.waiting) == 0 && t.running < s.each(t.last) {
		t.running++
		s.mu.Unlock()
		return nil
	}
	mine := make(chan struct{})
	t.waiting = append(t.waiting, mine)
	s.mu.Unlock()
	select {
	case <-mine:
		return nil
	case <-ctx.Done():
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	at := slices.Index(t.waiting, mine)
	if at < 0 { // it was its turn meanwhile
		t.running--
		s.next(t)
		return context.Cause(ctx)
	}
	t.waiting = slices.Delete(t.waiting, at, at+1)
	return context.Cause(ctx)
}

func (s *share) leave(app uuid.UUID) {
	s.mu.Lock()
	defer s.mu.Unlock()
	t := s.apps[app]
	t.running--
	s.next(t)
}

// next gives turns to calls that wait. There are none that wait without one that runs.
func (s *share) next(t *turn) {
	for now := time.Now(); len(t.waiting) > 0 && t.running < s.each(now); {
		close(t.waiting[0])
		t.waiting = t.waiting[1:]
		t.running++
	}
}

// unlimited is more than an app has runs.
const unlimited = 1 << 20

// each is how many calls an app may have under way.
func (s *share) each(now time.Time) int {
	if now.Sub(s.counted) > recent/10 {
		s.active, s.counted = 0, now
		for app, t := range s.apps {
			switch {
			case t.running > 0 || len(t.waiting) > 0 || now.Sub(t.last) < recent:
				s.active++
			default:
				delete(s.apps, app)
			}
		}
	}
	if s.active <= 1 {
		return unlimited
	}
	return max(1, s.width/s.active)
}
