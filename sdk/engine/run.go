package engine

import (
	"context"
	"errors"
	"sync"

	"github.com/picloud/picloud/sdk/fault"
	"github.com/picloud/picloud/sdk/plugin"
	enginev1 "github.com/picloud/picloud/sdk/proto/engine/v1"
)

// run is one invocation under way, on the host's side.
type run struct {
	id     uint64
	req    *Request
	ctx    context.Context // of the run as its caller sees it
	window *plugin.Window  // of the request's body; nil where it fits into the first message

	mu     sync.Mutex
	calls  int             // service calls under way
	lent   int             // of those, that wait for another run
	back   func()          // takes back what they have lent
	asked  bool            // there was one
	help   context.Context // of what works for the run beside it: service calls, sending the body
	stop   context.CancelFunc
	queue  []*enginev1.Output
	credit int64 // bytes of answer that the engine may still send
	headed bool  // the head has come
	closed bool  // an end has come; nothing may follow
	over   bool  // Invoke has returned; what comes now is late
	wake   chan struct{}
}

// lend gives the run's place in a room to others, once for all the calls that wait for another run.
func (x *run) lend(r *Room) (back func()) {
	x.mu.Lock()
	defer x.mu.Unlock()
	if x.lent++; x.lent == 1 {
		x.back = r.Lend()
	}
	return func() {
		x.mu.Lock()
		defer x.mu.Unlock()
		if x.lent--; x.lent == 0 {
			x.back()
		}
	}
}

// stopped says why a run was told to end.
func stopped(ctx context.Context) error {
	if cause := context.Cause(ctx); cause != context.DeadlineExceeded {
		return fault.New(fault.Cancelled, fault.Platform, "the run was cancelled: %v", cause)
	}
	return fault.New(fault.Deadline, fault.Script, "the run did not end in time")
}

// result is what an answer's last part makes of its run. The engine knows best why a run failed, unless it was told to
// end: then all that it may know is that.
func (x *run) result(last *enginev1.Output, why error, refused bool) error {
	f := plugin.FaultFromWire(last.GetFault())
	switch {
	case why != nil && (refused || f == nil || f.Kind == fault.Cancelled || f.Kind == fault.Deadline):
		return why
	case f != nil && x.begun():
		return charged(f)
	case f != nil:
		return f
	case !x.answered():
		return fault.New(fault.Internal, fault.Plugin, "the engine ended the run without an answer")
	}
	return nil
}

// charged makes a fault of a run that has begun one that counts. Unavailable says that nothing was started, and Cancelled
// that the host gave the run up: an engine that passes on what a service said to its script must not have the run taken
// for one of those, since it would be started again under the same attempt.
func charged(f *fault.Fault) *fault.Fault {
	if f.Kind != fault.Unavailable && f.Kind != fault.Cancelled {
		return f
	}
	c := *f
	c.Kind = fault.ScriptError
	return &c
}

// pass hands a part of an answer on.
func pass(m *enginev1.Output, out Reply) error {
	if m.GetHead() != nil {
		if err := out.Head(headFromWire(m.GetHead())); err != nil {
			return err
		}
	}
	if len(m.GetData()) == 0 {
		return nil
	}
	_, err := out.Write(m.GetData())
	return err
}

// take returns what has arrived.
func (x *run) take() []*enginev1.Output {
	x.mu.Lock()
	defer x.mu.Unlock()
	q := x.queue
	x.queue = nil
	return q
}

func (x *run) ended() bool {
	x.mu.Lock()
	defer x.mu.Unlock()
	return x.closed && len(x.queue) > 0
}

// helper returns the context of what works for the run beside it, which most runs need not have. x.mu is held.
func (x *run) helper() context.Context {
	if x.help == nil {
		x.help, x.stop = context.WithCancel(x.ctx)
	}
	return x.help
}

// begun reports whether the engine has done something for the run.
func (x *run) begun() bool {
	x.mu.Lock()
	defer x.mu.Unlock()
	return x.headed || x.asked
}

func (x *run) answered() bool {
	x.mu.Lock()
	defer x.mu.Unlock()
	return x.headed
}

func (x *run) grant(n int64) {
	x.mu.Lock()
	x.credit += n
	x.mu.Unlock()
}

// push queues a part of the answer. What the queue may hold is bounded by the credit, so each part must cost some of it,
// but for the first and the last.
func (x *run) push(m *enginev1.Output) error {
	n := len(m.GetData())
	switch first := m.GetHead() != nil; {
	case n > plugin.ChunkBytes || int64(n) > x.credit:
		return errors.New("output beyond its credit")
	case first && x.headed:
		return errors.New("a second head")
	case len(m.GetData()) > 0 && !first && !x.headed:
		return errors.New("output before the head")
	case len(m.GetData()) == 0 && !first && !m.GetEnd():
		return errors.New("output without content")
	case first:
		x.headed = true
	}
	if n > 0 {
		x.credit -= plugin.Cost(n)
	}
	x.closed = m.GetEnd()
	x.queue = append(x.queue, m)
	select {
	case x.wake <- struct{}{}:
	default:
	}
	return nil
}
