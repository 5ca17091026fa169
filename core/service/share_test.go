package service

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/uuid"
)

// An app alone is not held up; beside another, each has its part, and has it back when the other is quiet again.
func TestShare(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := &share{width: 4, apps: map[uuid.UUID]*turn{}}
		busy, quiet := uuid.New(), uuid.New()
		for range 10 {
			if err := s.enter(t.Context(), busy); err != nil {
				t.Fatal(err)
			}
		}
		if err := s.enter(t.Context(), quiet); err != nil {
			t.Fatal(err)
		}
		var entered atomic.Int64
		var all sync.WaitGroup
		for range 5 {
			all.Go(func() {
				if s.enter(t.Context(), busy) == nil {
					entered.Add(1)
				}
			})
		}
		synctest.Wait()
		if entered.Load() != 0 {
			t.Errorf("%d calls beyond its part", entered.Load())
		}
		for range 8 { // down to its part
			s.leave(busy)
		}
		synctest.Wait()
		if entered.Load() != 0 {
			t.Errorf("%d calls at its part", entered.Load())
		}
		s.leave(busy)
		synctest.Wait()
		if entered.Load() != 1 {
			t.Errorf("%d calls, not the next", entered.Load())
		}
		s.leave(quiet)
		<-time.After(2 * recent)
		s.leave(busy)
		synctest.Wait()
		if entered.Load() != 5 {
			t.Errorf("%d calls once it is alone", entered.Load())
		}
		all.Wait()
		for range 5 {
			s.leave(busy)
		}
		if turn := s.apps[busy]; turn.running != 0 || len(turn.waiting) != 0 {
			t.Errorf("%+v is left", turn)
		}
	})
}

// Who gives up waiting leaves no trace, also where it was just its turn.
func TestShareGivesUp(t *testing.T) {
	t.Parallel()
	s := &share{width: 2, apps: map[uuid.UUID]*turn{}}
	apps := []uuid.UUID{uuid.New(), uuid.New()}
	gone := errors.New("gone")
	var all sync.WaitGroup
	for i := range 64 {
		all.Go(func() {
			for n := range 200 {
				ctx, cancel := context.WithCancelCause(t.Context())
				if (i+n)%3 == 0 {
					go cancel(gone)
				}
				switch err := s.enter(ctx, apps[i%2]); {
				case err == nil:
					s.leave(apps[i%2])
				case !errors.Is(err, gone):
					t.Error(err)
				}
				cancel(nil)
			}
		})
	}
	all.Wait()
	for _, app := range apps {
		if turn := s.apps[app]; turn != nil && (turn.running != 0 || len(turn.waiting) != 0) {
			t.Errorf("%+v is left", turn)
		}
	}
}

func BenchmarkShare(b *testing.B) {
	s := newShare()
	apps := []uuid.UUID{uuid.New(), uuid.New(), uuid.New()}
	b.ReportAllocs()
	for i := 0; b.Loop(); i++ {
		if err := s.enter(b.Context(), apps[i%3]); err != nil {
			b.Fatal(err)
		}
		s.leave(apps[i%3])
	}
}
