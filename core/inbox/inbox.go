// Package inbox hands the reply of a run to the caller that waits for it, on the node where both are.
package inbox

import (
	"context"
	"errors"
	"sync"
	"time"

	"github.com/google/uuid"

	"github.com/picloud/picloud/core/planted"
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

	mu        sync.Mutex
	closed    bool
	delivered bool          // a part has left the reply for this caller
	hold      chan struct{} // closed by Release; nil: the reply is not held
	released  Release       // the last word of Release
	onGone    func()
}

// Release is what became of an attempt to go on without the caller.
type Release int

const (
	// Attached: the caller waits on, as before.
	Attached Release = iota
	// Detached: nobody waits any more. The reply is gathered, and the run goes on without its caller.
	Detached
	// InDoubt: the caller waits on, but the run may be recorded as one that goes on without it. It does, and its reply
	// is gathered as well.
	InDoubt
)

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

// Hold keeps the reply from delivering anything until Release. It fails when a part is on its way to the caller, or the
// caller has left.
func (w *Waiter) Hold() bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.closed || w.delivered || w.hold != nil || w.released != Attached {
		return false
	}
	w.hold = make(chan struct{})
	return true
}

// Release ends a Hold, which must not last: the run is held with it. After Detached the waiter receives nothing more, and
// is still found by a run that begins later.
func (w *Waiter) Release(r Release) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.hold == nil {
		return
	}
	w.released = r
	close(w.hold)
	w.hold = nil
}

// Close stops waiting: whoever still replies learns that the caller is gone. A run that goes on without its caller does
// not.
func (w *Waiter) Close() {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.closed || w.released == Detached {
		return
	}
	w.closed = true
	if !planted.Is(planted.ReplyKept) {
		w.inbox.waiting.Delete(w.id)
	}
	close(w.gone)
	if w.onGone != nil && w.released == Attached {
		w.onGone()
	}
}

// Reply is the writing end of a waiter. It implements engine.Reply; not safe for concurrent use.
type Reply struct {
	ctx    context.Context
	waiter *Waiter
	held   Part // not sent yet: a small answer leaves as one part

	kept   engine.Reply // takes the answer too, where it is gathered; nil: nobody does
	always bool         // it is, whether the caller waits or not
}

// Reply takes the reply for this id: the first call has it, a second finds nothing, so a reply is given once. ctx bounds
// the blocking of its methods. It fails with ErrGone when nobody waits.
func (b *Inbox) Reply(ctx context.Context, id uuid.UUID) (*Reply, error) {
	take := b.waiting.LoadAndDelete
	if planted.Is(planted.ReplyKept) {
		take = b.waiting.Load
	}
	w, ok := take(id)
	if !ok {
		return nil, ErrGone
	}
	return &Reply{ctx: ctx, waiter: w.(*Waiter)}, nil
}

// Keep gathers the answer in kept: from the beginning if always is true, so that a caller who leaves no longer matters;
// otherwise once the run goes on without its caller.
func (r *Reply) Keep(kept engine.Reply, always bool) { r.kept, r.always = kept, always }

// OnGone has f called when the caller no longer waits, at once if it has left already, and never once the run goes on
// without it. f must not block.
func (r *Reply) OnGone(f func()) {
	w := r.waiter
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.onGone = f; w.closed && w.released == Attached {
		f()
	}
}

// Released says whether the run goes on without its caller. It is final once End has returned.
func (r *Reply) Released() Release {
	w := r.waiter
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.released
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
	released, err := r.waiter.deliver(r.ctx)
	if err != nil && !r.always {
		return err
	}
	if released != Attached || r.always {
		if err := r.gather(p); err != nil {
			return err
		}
	}
	if err != nil || released == Detached {
		return nil
	}
	if err := r.send(p); !r.always && released == Attached {
		return err
	}
	return nil // it is gathered, so the run goes on for whoever asks later
}

// deliver waits until the reply is not held, and marks that a part is on its way.
func (w *Waiter) deliver(ctx context.Context) (Release, error) {
	for {
		w.mu.Lock()
		hold, released := w.hold, w.released
		if hold == nil && released != Detached {
			w.delivered = true
		}
		w.mu.Unlock()
		if hold == nil {
			return released, nil
		}
		select {
		case <-hold:
		case <-w.gone:
			return released, ErrGone
		case <-ctx.Done():
			return released, context.Cause(ctx)
		}
	}
}

func (r *Reply) gather(p Part) error {
	if r.kept == nil {
		return nil
	}
	if p.Head != nil {
		if err := r.kept.Head(*p.Head); err != nil {
			return err
		}
	}
	if len(p.Data) == 0 {
		return nil
	}
	_, err := r.kept.Write(p.Data)
	return err
}

// send hands a part to the caller. One that left is seen before one that could still take a part.
func (r *Reply) send(p Part) error {
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
