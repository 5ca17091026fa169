package plugin

import (
	"context"
	"errors"
	"sync"
)

// Credit of a body's direction: how far a sender may run ahead of the receiver, and the largest piece that it sends.
const (
	WindowBytes = 1 << 20
	ChunkBytes  = 256 << 10
	// leastCost is what a small piece costs, so that what waits is bounded in number too.
	leastCost = 1 << 10
)

// Cost is what a piece of n bytes takes from the credit.
func Cost(n int) int64 { return int64(max(n, leastCost)) }

// Window is the credit of one direction of one invocation, on the sender's side. The zero Window has WindowBytes of it,
// as every direction begins with. Safe for concurrent use.
type Window struct {
	mu   sync.Mutex
	used int64         // taken and not granted again; the last piece may have taken more than there was
	more chan struct{} // closed when credit comes; nil while nobody waits
}

// Take takes credit for a piece of up to want bytes and returns its length. It blocks while there is no credit at all,
// until ctx ends.
func (w *Window) Take(ctx context.Context, want int) (int, error) {
	for {
		w.mu.Lock()
		if n := min(int64(want), WindowBytes-w.used); n > 0 || want == 0 {
			if n > 0 {
				w.used += Cost(int(n))
			}
			w.mu.Unlock()
			return int(n), nil
		}
		if w.more == nil {
			w.more = make(chan struct{})
		}
		more := w.more
		w.mu.Unlock()
		select {
		case <-more:
		case <-ctx.Done():
			return 0, context.Cause(ctx)
		}
	}
}

// Grant adds credit that the receiver gave. It refuses what no receiver can give: less than nothing, or more than was
// taken.
func (w *Window) Grant(n int64) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	if n < 0 || n > w.used {
		return errCredit
	}
	w.used -= n
	if w.more != nil {
		close(w.more)
		w.more = nil
	}
	return nil
}

var errCredit = errors.New("credit for what was not sent")
