// Package notice tells the owners of apps of what no run tells: that a trigger did not take an event since its expression fails. It stands
// beside core/trigger, and writes executions that were stopped before they began.
package notice

import (
	"cmp"
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/google/uuid"
	"github.com/hashicorp/go-hclog"

	"github.com/picloud/picloud/core/outbox"
	"github.com/picloud/picloud/core/tenant"
	"github.com/picloud/picloud/core/trigger"
)

// Store keeps notices. See core/postgres.ExecutionStore.
type Store interface {
	// Stopped records that e was not made, and why.
	Stopped(ctx context.Context, e *outbox.Entry, reason, why string) error
}

// Board takes notices and writes them. Its methods are safe for concurrent use.
type Board struct {
	store Store
	log   hclog.Logger
	now   func() time.Time
	queue chan note

	mu   sync.Mutex
	last map[uuid.UUID]time.Time // by trigger, of those whose pause lasts
}

type note struct {
	trigger *tenant.Trigger
	kind    outbox.Kind
	why     string
}

// Bounds of notices: how long a trigger that was told of is not again, how many wait to be written, and how long that may take. More
// than wait are dropped.
const (
	pause   = time.Minute
	waiting = 100
	limit   = 5 * time.Second
)

// New makes a board.
func New(store Store, now func() time.Time, log hclog.Logger) *Board {
	return &Board{
		store: store, log: log.Named("notice"), now: now, queue: make(chan note, waiting), last: map[uuid.UUID]time.Time{},
	}
}

// Unfit notes that the expression of a trigger fails for a change. It does not block. It is a trigger.UnfitFunc.
func (b *Board) Unfit(t *tenant.Trigger, c *trigger.Change, err error) {
	if b.told(t.ID) {
		return
	}
	select {
	case b.queue <- note{t, c.Kind, fmt.Sprintf("no event: the expression of the trigger %q fails: %v; more of it within %s is not told", t.Name, err, pause)}:
	default:
	}
}

// told reports whether a trigger was told of just now, and notes that it is now.
func (b *Board) told(id uuid.UUID) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	now := b.now()
	if last, is := b.last[id]; is && now.Sub(last) < pause {
		return true
	}
	for other, last := range b.last {
		if now.Sub(last) >= pause {
			delete(b.last, other)
		}
	}
	b.last[id] = now
	return false
}

// Run writes notices until ctx ends.
func (b *Board) Run(ctx context.Context) {
	for {
		select {
		case n := <-b.queue:
			b.write(ctx, n)
		case <-ctx.Done():
			return
		}
	}
}

func (b *Board) write(ctx context.Context, n note) {
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	id, err := uuid.NewV7()
	if err == nil {
		err = b.store.Stopped(ctx, &outbox.Entry{
			ID: id, EventID: id, RootID: id, App: n.trigger.App, Kind: n.kind, Trigger: n.trigger.ID, Target: cmp.Or(n.trigger.Sink, n.trigger.Script),
		}, outbox.ReasonWhen, n.why)
	}
	if err != nil {
		b.log.Warn("a notice is lost", "app", n.trigger.App, "trigger", n.trigger.Name, "text", n.why, "error", err)
	}
}
