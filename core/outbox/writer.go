package outbox

import (
	"context"
	"errors"
	"sync"
	"time"

	"github.com/hashicorp/go-hclog"

	"github.com/picloud/picloud/core/failpoint"
)

// Limits of one INSERT. 500 rows are where the gain of a larger batch ends; 4 MiB bounds what one failure repeats.
const (
	batchRows  = 500
	batchBytes = 4 << 20
	aloneBytes = 256 << 10 // a payload this large goes alone, so that it holds up nobody's flush
)

// Inserter writes entries in one transaction. refused says why single entries were not written, by their place; nil: all
// were. ErrFenced says that none was, since the owner's epoch is no longer live. again says that an earlier try may have
// been committed, so entries that exist, or have ended since, count as written.
type Inserter interface {
	Insert(ctx context.Context, owner int64, entries []*Entry, again bool) (refused []error, err error)
}

// Rejected is an error of the database that is the fault of a row in the batch, not of the connection: repeating the
// same batch cannot help.
type Rejected struct{ Err error }

func (r *Rejected) Error() string { return r.Err.Error() }
func (r *Rejected) Unwrap() error { return r.Err }

// Lease is a node's right to write. Core/dispatcher keeps it.
type Lease interface {
	// Epoch is the life that owns what is written now.
	Epoch() int64
	// Valid reports whether the last good heartbeat is recent enough that no other node can have taken over.
	Valid() bool
}

// pending is one entry on its way, and who wants to know.
type pending struct {
	entry *Entry
	done  func(error)
}

// Writer is a group-committing writer: it takes whatever is queued, never waiting for more, and sends it in one
// statement. 64 waiting callers share one flush; the batch adapts to the disk by itself. All methods are safe for
// concurrent use.
type Writer struct {
	store Inserter
	lease Lease
	log   hclog.Logger
	queue chan pending

	mu     sync.RWMutex // guards closed against sends on queue
	closed bool
	ended  chan struct{}
}

// NewWriter starts a writer. Close ends it.
func NewWriter(store Inserter, lease Lease, log hclog.Logger) *Writer {
	w := &Writer{store: store, lease: lease, log: log, queue: make(chan pending, 2*batchRows), ended: make(chan struct{})}
	go w.loop()
	return w
}

// Append queues e. done is called once, on the writer's goroutine, so it must not block: with nil after the commit, or
// with why nothing was accepted. Append blocks only while two batches are queued.
func (w *Writer) Append(e *Entry, done func(error)) {
	if e.Depth > MaxDepth {
		done(ErrTooDeep)
		return
	}
	w.mu.RLock()
	defer w.mu.RUnlock()
	if w.closed {
		done(ErrClosed)
		return
	}
	w.queue <- pending{e, done}
}

// Close writes what is queued, refuses what comes after, and waits for the end.
func (w *Writer) Close() {
	w.mu.Lock()
	if !w.closed {
		w.closed = true
		close(w.queue)
	}
	w.mu.Unlock()
	<-w.ended
}

func (w *Writer) loop() {
	defer close(w.ended)
	var carry pending // taken from the queue, but too much for the batch before
	batch := make([]pending, 0, batchRows)
	for {
		first := carry
		carry = pending{}
		if first.entry == nil {
			var ok bool
			if first, ok = <-w.queue; !ok {
				return
			}
		}
		batch, carry = w.fill(batch[:0], first)
		w.write(batch, w.lease.Epoch(), time.Time{})
	}
}

// fill takes what is queued behind first, up to the limits of a batch.
func (w *Writer) fill(batch []pending, first pending) (_ []pending, carry pending) {
	batch = append(batch, first)
	size := len(first.entry.Payload)
	if size >= aloneBytes {
		return batch, pending{}
	}
	for len(batch) < batchRows {
		select {
		case next, ok := <-w.queue:
			if !ok {
				return batch, pending{}
			}
			n := len(next.entry.Payload) + len(next.entry.Envelope)
			if n >= aloneBytes || size+n > batchBytes {
				return batch, next
			}
			size += n
			batch = append(batch, next)
		default:
			return batch, pending{}
		}
	}
	return batch, pending{}
}

// write sends a batch until it is committed, refused, the lease of owner is in doubt, or it was repeated for RepeatFor. A
// batch that the database rejects for its content is halved until only the culprit fails. since is when the first try was
// sent that may have been committed; zero: there was none.
func (w *Writer) write(batch []pending, owner int64, since time.Time) {
	entries := make([]*Entry, len(batch))
	for i := range batch {
		entries[i] = batch[i].entry
	}
	for {
		again := !since.IsZero()
		now := time.Now()
		held := w.lease.Valid() && w.lease.Epoch() == owner
		switch {
		case again && (!held || elapsed(since, now) >= RepeatFor):
			settleAll(batch, ErrUnknown)
			return
		case !held:
			settleAll(batch, ErrFenced)
			return
		}
		failpoint.Hit(failpoint.OutboxInserted)
		refused, err := w.insert(owner, entries, again)
		var rejected *Rejected
		switch {
		case err == nil && refused != nil:
			failpoint.Hit(failpoint.OutboxCommitted)
			for i := range batch {
				batch[i].done(refused[i])
			}
			return
		case err == nil:
			failpoint.Hit(failpoint.OutboxCommitted)
			settleAll(batch, nil)
			return
		case errors.Is(err, ErrFenced) && again:
			settleAll(batch, ErrUnknown)
			return
		case errors.Is(err, ErrFenced):
			settleAll(batch, ErrFenced)
			return
		case errors.As(err, &rejected) && len(batch) == 1:
			settleAll(batch, err)
			return
		case errors.As(err, &rejected):
			half := len(batch) / 2
			w.write(batch[:half], owner, since)
			w.write(batch[half:], owner, since)
			return
		}
		// Unknown: the commit may have happened. Repeating with the same ids is safe while the same lease holds, since
		// nobody can have taken over what was born claimed. A new epoch must not repeat it: the rows may be others' by then.
		w.log.Warn("entries not written yet", "count", len(batch), "error", err)
		if !again {
			since = now
		}
		pause(retryPause)
	}
}

// RepeatFor is how long an INSERT is repeated, from the first try of which it is not known whether it was committed. All that
// time heartbeats get through, so it is not the database that is away: a longer wait would help neither these callers nor
// those behind them. Who asks whether an entry has ended relies on it: see core/history.
const RepeatFor = 10 * time.Second

// elapsed is the time between two readings of the clock, also where the machine was suspended or its time of day was set.
func elapsed(from, to time.Time) time.Duration { return max(to.Sub(from), to.Round(0).Sub(from)) }

// retryPause lies between two tries of a statement whose connection broke.
const retryPause = 50 * time.Millisecond

// insertTimeout bounds one try, so that a black hole is noticed within the fence window.
const insertTimeout = 2 * time.Second

func (w *Writer) insert(owner int64, entries []*Entry, again bool) ([]error, error) {
	ctx, cancel := context.WithTimeout(context.Background(), insertTimeout)
	defer cancel()
	return w.store.Insert(ctx, owner, entries, again)
}

func settleAll(batch []pending, err error) {
	for i := range batch {
		batch[i].done(err)
		batch[i] = pending{}
	}
}

func pause(d time.Duration) {
	t := time.NewTimer(d)
	defer t.Stop()
	<-t.C
}
