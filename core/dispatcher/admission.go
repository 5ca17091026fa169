package dispatcher

import (
	"context"
	"fmt"
	"math"
	"sync"
	"time"

	"github.com/google/uuid"

	"github.com/picloud/picloud/core/outbox"
)

// BacklogStore measures what waits.
type BacklogStore interface {
	// Backlog counts the waiting entries of an app and their bytes, up to limit entries.
	Backlog(ctx context.Context, app uuid.UUID, limit int) (entries int, bytes int64, err error)
}

// admission keeps the backlog of each app within bounds. It counts what this node writes and looks into the database only
// where that count has come to the bound, so an app far from it costs nothing. Safe for concurrent use.
type admission struct {
	store      BacklogStore
	maxEntries int   // zero: no bound
	maxBytes   int64 // likewise

	mu   sync.Mutex
	apps map[uuid.UUID]*backlog
}

// backlog is an upper bound of what one app has waiting, but for what other nodes wrote since.
type backlog struct {
	mu      sync.Mutex
	known   bool
	entries int
	bytes   int64
	looked  time.Time
}

// lookEvery is how often an app that is at its bound is measured anew.
const lookEvery = time.Second

func (a *admission) of(app uuid.UUID) *backlog {
	a.mu.Lock()
	defer a.mu.Unlock()
	b := a.apps[app]
	if b == nil {
		b = &backlog{}
		a.apps[app] = b
	}
	return b
}

// admit counts an entry of so many bytes in, or refuses it with an *outbox.Overloaded.
func (a *admission) admit(ctx context.Context, app uuid.UUID, bytes int) error {
	if a.maxEntries == 0 && a.maxBytes == 0 {
		return nil
	}
	size := int64(bytes)
	b := a.of(app)
	b.mu.Lock()
	defer b.mu.Unlock()
	if !b.known || a.over(b, size) && time.Since(b.looked) >= lookEvery {
		limit := math.MaxInt32
		if a.maxEntries > 0 {
			limit = a.maxEntries + 1
		}
		entries, bytes, err := a.store.Backlog(ctx, app, limit)
		if err != nil {
			return err
		}
		b.known, b.entries, b.bytes, b.looked = true, entries, bytes, time.Now()
	}
	if a.over(b, size) {
		return &outbox.Overloaded{
			Message: fmt.Sprintf("the app has %d events (%d MiB) waiting, which is its limit; "+
				"try again when some have run", b.entries, b.bytes>>20),
			RetryAfter: lookEvery,
		}
	}
	b.entries++
	b.bytes += size
	return nil
}

// more counts what was written beyond what was admitted.
func (a *admission) more(app uuid.UUID, entries, bytes int) {
	if a.maxEntries == 0 && a.maxBytes == 0 {
		return
	}
	b := a.of(app)
	b.mu.Lock()
	defer b.mu.Unlock()
	b.entries += entries
	b.bytes = max(0, b.bytes+int64(bytes))
}

func (a *admission) over(b *backlog, size int64) bool {
	return a.maxEntries > 0 && b.entries >= a.maxEntries || a.maxBytes > 0 && b.bytes+size > a.maxBytes
}
