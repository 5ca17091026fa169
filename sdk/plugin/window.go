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
)

// Window is the credit of one direction of one invocation, on the sender's side. The zero Window has WindowBytes of it,
// as every direction begins with. Safe for concurrent use.
type Window struct {
	mu   sync.Mutex
	used int64         // taken and not granted again
	more chan struct{} // closed when credit comes; nil while nobody waits
}

// Take takes credit for up to want bytes and returns for how many. It blocks while there is none, until ctx ends.
func (w *Window) Take(ctx context.Context, want int) (int, error) {
	for {
		w.mu.Lock()
		n := min(int64(want), WindowBytes-w.used)
		w.used += n
		if n > 0 || want == 0 {
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
