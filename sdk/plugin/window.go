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

// Window is the credit of one direction of one invocation, on the sender's side. Safe for concurrent use.
type Window struct {
	mu   sync.Mutex
	left int64
	more chan struct{} // signalled when credit comes
}

// NewWindow makes a window with the credit that every direction begins with.
func NewWindow() *Window { return &Window{left: WindowBytes, more: make(chan struct{}, 1)} }

// Take takes credit for up to want bytes and returns for how many. It blocks while there is none, until ctx ends.
func (w *Window) Take(ctx context.Context, want int) (int, error) {
	for {
		w.mu.Lock()
		n := min(int64(want), w.left)
		w.left -= n
		w.mu.Unlock()
		if n > 0 || want == 0 {
			return int(n), nil
		}
		select {
		case <-w.more:
		case <-ctx.Done():
			return 0, context.Cause(ctx)
		}
	}
}

// Grant adds credit that the receiver gave. It refuses what no receiver can give: less than nothing, or more than was
// taken.
func (w *Window) Grant(n int64) error {
	w.mu.Lock()
	if n < 0 || n > WindowBytes-w.left {
		w.mu.Unlock()
		return errCredit
	}
	w.left += n
	w.mu.Unlock()
	select {
	case w.more <- struct{}{}:
	default:
	}
	return nil
}

var errCredit = errors.New("credit for what was not sent")
