// Package inbox hands the reply of a run to the caller that waits for it, on the node where both are.
package inbox

import (
	"context"
	"errors"
	"sync"
	"time"

	"github.com/google/uuid"

	"github.com/picloud/picloud/sdk/engine"
	"github.com/picloud/picloud/sdk/fault"
)

// ErrGone says that nobody waits for the reply any more.
var ErrGone = errors.New("the caller is gone")

// Part is a piece of a reply. A whole small answer is one part: head, data and end together.
type Part struct {
	Head *engine.Head // set in the first part of an answer
	Data []byte
	End  bool
	// Fault ends the reply. Without a head before it, it is the whole answer.
	Fault *fault.Fault
}

// Inbox knows who waits. The zero value is ready; it is safe for concurrent use.
type Inbox struct{ waiting sync.Map } // uuid.UUID → *Waiter

// Waiter is a caller that waits. One goroutine receives; Close may come at any time and more than once.
type Waiter struct {
	inbox *Inbox
	id    uuid.UUID
	parts chan Part
	gone  chan struct{}

	mu     sync.Mutex
	closed bool
	onGone func()
}

// Register begins to wait for the reply with this id, which must be fresh and unguessable.
func (b *Inbox) Register(id uuid.UUID) *Waiter {
	// Two parts in flight let the engine produce one while the caller consumes the other, and bound what a slow caller
	// makes us hold.
	w := &Waiter{inbox: b, id: id, parts: make(chan Part, 2), gone: make(chan struct{})}
	b.waiting.Store(id, w)
	return w
}

// ErrLate says that no reply came in time.
var ErrLate = errors.New("no reply came in time")

// Next returns the next part. It fails with ctx's cause, or with ErrLate when late fires: one timer for all parts of a
// reply costs a third of a context with a deadline.
func (w *Waiter) Next(ctx context.Context, late <-chan time.Time) (Part, error) {
	select {
	case p := <-w.parts:
		return p, nil
	case <-ctx.Done():
		return Part{}, context.Cause(ctx)
	case <-late:
		return Part{}, ErrLate
	}
}

// Close stops waiting: whoever still replies learns that the caller is gone.
func (w *Waiter) Close() {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.closed {
		return
	}
	w.closed = true
	w.inbox.waiting.Delete(w.id)
	close(w.gone)
	if w.onGone != nil {
		w.onGone()
	}
}

// Reply is the writing end of a waiter. It implements engine.Reply; not safe for concurrent use.
type Reply struct {
	ctx    context.Context
	waiter *Waiter
	held   Part // not sent yet: a small answer leaves as one part
}

// Reply takes the reply for this id: the first call has it, a second finds nothing, so a reply is given once. ctx bounds
// the blocking of its methods. It fails with ErrGone when nobody waits.
func (b *Inbox) Reply(ctx context.Context, id uuid.UUID) (*Reply, error) {
	w, ok := b.waiting.LoadAndDelete(id)
	if !ok {
		return nil, ErrGone
	}
	return &Reply{ctx: ctx, waiter: w.(*Waiter)}, nil
}

// OnGone has f called when the caller no longer waits, at once if it has left already. f must not block.
func (r *Reply) OnGone(f func()) {
	w := r.waiter
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.onGone = f; w.closed {
		f()
	}
}

// Head begins the answer.
func (r *Reply) Head(h engine.Head) error {
	r.held.Head = &h
	return nil
}

// Write adds a chunk and keeps it: the caller of Write must not change it afterwards. It blocks while the caller that
// waits is behind.
func (r *Reply) Write(chunk []byte) (int, error) {
	if r.held.Head != nil && r.held.Data == nil {
		r.held.Data = chunk
		return len(chunk), nil
	}
	if err := r.flush(); err != nil {
		return 0, err
	}
	r.held.Data = chunk
	return len(chunk), r.flush()
}

// End completes the answer; with a fault it ends it there.
func (r *Reply) End(f *fault.Fault) error {
	r.held.End, r.held.Fault = true, f
	return r.flush()
}

func (r *Reply) flush() error {
	if r.held.Head == nil && r.held.Data == nil && !r.held.End {
		return nil
	}
	p := r.held
	r.held = Part{}
	// A caller that left is seen before one that could still take a part.
	select {
	case <-r.waiter.gone:
		return ErrGone
	default:
	}
	select {
	case r.waiter.parts <- p:
		return nil
	case <-r.waiter.gone:
		return ErrGone
	case <-r.ctx.Done():
		return context.Cause(r.ctx)
	}
}
