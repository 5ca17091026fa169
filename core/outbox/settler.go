package outbox

import (
	"context"
	"errors"
	"sync"
	"time"

	"github.com/hashicorp/go-hclog"

	"github.com/picloud/picloud/core/failpoint"
)

// settleRows bounds one flush of settlements.
const settleRows = 500

// SettleStore applies settlements, each only where the entry still belongs to the same claim of owner, and writes the
// execution records in the same transaction. Of one that is Lost it takes nothing but whose claim it is. It returns how many
// applied. Repeating a batch is harmless.
type SettleStore interface {
	Settle(ctx context.Context, owner int64, batch []*Settlement) (int64, error)
}

// Settler ends attempts in batches, off the reply path. All methods are safe for concurrent use.
type Settler struct {
	store  SettleStore
	lease  Lease
	log    hclog.Logger
	gather time.Duration // how long a flush waits for company: a batch of twenty costs a fifteenth of twenty batches of one

	mu      sync.Mutex
	queue   []settling
	closing bool
	wake    chan struct{}
	ended   chan struct{}
}

// NewSettler starts a settler, of which each flush waits for company as long as gather says. Close ends it.
func NewSettler(store SettleStore, lease Lease, gather time.Duration, log hclog.Logger) *Settler {
	s := &Settler{
		store: store, lease: lease, log: log, gather: gather,
		wake: make(chan struct{}, 1), ended: make(chan struct{}),
	}
	go s.loop()
	return s
}

// settling is one settlement on its way, and who wants to know.
type settling struct {
	*Settlement
	done func()
}

// Settle queues the end of an attempt. It does not block. done is called once, on the settler's goroutine, when the
// settlement is through: applied, or dropped because the entry has another owner. It must not block.
func (s *Settler) Settle(x *Settlement, done func()) {
	s.mu.Lock()
	s.queue = append(s.queue, settling{x, done})
	s.mu.Unlock()
	failpoint.Hit(failpoint.FinishBuffered)
	s.signal()
}

// Close flushes what is queued and waits for it. Settlements queued later are lost; the sweep finds their entries.
func (s *Settler) Close() {
	s.mu.Lock()
	s.closing = true
	s.mu.Unlock()
	s.signal()
	<-s.ended
}

func (s *Settler) signal() {
	select {
	case s.wake <- struct{}{}:
	default:
	}
}

func (s *Settler) loop() {
	defer close(s.ended)
	for range s.wake {
		for {
			s.mu.Lock()
			closing, n := s.closing, len(s.queue)
			s.mu.Unlock()
			if closing && n == 0 {
				return
			}
			if n == 0 {
				break
			}
			if !closing && n < settleRows {
				pause(s.gather)
			}
			batch := s.take()
			s.flush(batch)
			for _, x := range batch {
				x.done()
			}
		}
	}
}

// take returns up to settleRows settlements.
func (s *Settler) take() []settling {
	s.mu.Lock()
	defer s.mu.Unlock()
	n := min(len(s.queue), settleRows)
	batch := s.queue[:n:n]
	if s.queue = s.queue[n:]; len(s.queue) == 0 {
		s.queue = nil
	}
	return batch
}

// flush repeats a batch until the database has it or the lease is gone: then the entries are somebody else's.
func (s *Settler) flush(batch []settling) {
	owner := s.lease.Epoch()
	for s.lease.Epoch() == owner {
		n, err := s.settle(owner, batch)
		var rejected *Rejected
		switch {
		case err == nil:
			committed(batch)
			if lost := int64(len(batch)) - n; lost > 0 {
				s.log.Warn("settlements dropped: the entries have another owner by now", "count", lost, "of", len(batch))
			}
			return
		case errors.As(err, &rejected) && len(batch) == 1:
			x := batch[0]
			s.log.Error("settlement refused by the database", "entry_id", x.Entry.ID, "outcome", x.Outcome, "error", err)
			if !x.strip() {
				return // the node finds the entry again, as one that it does not run
			}
			continue
		case errors.As(err, &rejected):
			s.flush(batch[:len(batch)/2])
			s.flush(batch[len(batch)/2:])
			return
		}
		s.log.Warn("settlements not written yet", "count", len(batch), "error", err)
		s.mu.Lock()
		closing := s.closing
		s.mu.Unlock()
		if closing && !s.lease.Valid() {
			return
		}
		pause(retryPause)
	}
}

// committed passes the failpoints behind a flush.
func committed(batch []settling) {
	failpoint.Hit(failpoint.FinishCommitted)
	for _, x := range batch {
		switch x.Outcome {
		case Retried:
			failpoint.Hit(failpoint.RetryScheduled)
		case DeadLettered:
			failpoint.Hit(failpoint.DeadCommitted)
		}
	}
}

func (s *Settler) settle(owner int64, batch []settling) (int64, error) {
	list := make([]*Settlement, len(batch))
	for i, x := range batch {
		list[i] = x.Settlement
	}
	ctx, cancel := context.WithTimeout(context.Background(), insertTimeout)
	defer cancel()
	return s.store.Settle(ctx, owner, list)
}
