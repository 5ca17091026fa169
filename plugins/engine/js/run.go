package js

import (
	"context"
	"errors"
	"fmt"
	"runtime/debug"
	"sync"
	"sync/atomic"
	"time"

	"modernc.org/quickjs"

	"github.com/picloud/picloud/sdk/engine"
	"github.com/picloud/picloud/sdk/event"
	"github.com/picloud/picloud/sdk/fault"
	"github.com/picloud/picloud/sdk/picloud"
	"github.com/picloud/picloud/sdk/script"
	"github.com/picloud/picloud/sdk/watch"
)

// noInvocation is what a script runs for when it is loaded.
var noInvocation = engine.Invocation{
	Log: func(engine.Log) {}, Event: &event.Envelope{},
	Call: func(context.Context, string, string, []byte) ([]byte, error) {
		return nil, fault.New(fault.Unavailable, fault.Script, "nothing is sent while the script is loaded")
	},
}

// openCalls bounds the calls of the host that are under way for a run; more wait for their turn.
const openCalls = 16

// run is one run of a script: the platform as the script sees it (picloud.Runtime), its event loop, and what ends it
// (watch.Run).
type run struct {
	ctx     context.Context // ends with the run
	cancel  context.CancelCauseFunc
	outer   context.Context // of who asked for the run
	program *program
	inv     *engine.Invocation
	picloud *picloud.Context
	machine *machine
	held    atomic.Pointer[native]
	waiting atomic.Bool // for the host or a timer

	settled bool
	result  any          // in the form of script.NewAnswer
	failed  *fault.Fault // why there is none
	broken  bool         // the interpreter is of no use any more

	timers timers
	queued []func() completion
	open   int // calls
	done   chan completion
	calls  sync.WaitGroup
}

// completion is the answer of a call of the host.
type completion struct {
	id   int
	ok   int // 1: text is the answer; 0: it is the error
	text string
}

func newRun(ctx context.Context, p *program, inv *engine.Invocation) *run {
	r := &run{outer: ctx, program: p, inv: inv}
	r.ctx, r.cancel = context.WithCancelCause(ctx)
	r.picloud = picloud.NewContext(r, inv.ExecutionID, inv.Attempt, inv.Event, inv.Body)
	return r
}

// guard runs a part of a script until it ends or is ended. Errors are faults; after one of them the interpreter may be of no
// use, which r.broken says.
func (r *run) guard(f func() error) (err error) {
	defer r.cancel(nil)
	// The interpreter bounds what it holds itself; the heap has only what passes through.
	r.program.watch.Enter(r, watch.Limits{Memory: max(r.program.memory, watch.DefaultMemory), CPU: r.program.cpu})
	defer r.program.watch.Leave(r)
	defer func() {
		if p := recover(); p != nil { // a defect of the interpreter, which the script has found
			r.broken = true
			err = fault.New(fault.ScriptPanic, fault.Script, "the interpreter panicked: %v", p)
		}
		r.held.Store(nil)
	}()
	defer debug.SetPanicOnFault(debug.SetPanicOnFault(true))
	err = f()
	var over, known *fault.Fault
	switch cause := context.Cause(r.ctx); {
	case errors.As(cause, &over):
		r.broken = true
		return over
	case r.outer.Err() != nil:
		r.broken = true
		return script.EndOf(r.outer)
	case err == nil || errors.As(err, &known):
		return err
	}
	r.broken = true
	var thrown *quickjs.Error
	if !errors.As(err, &thrown) {
		return fault.New(fault.Internal, fault.Plugin, "the interpreter failed: %v", err)
	}
	if limit := r.exhausted(thrown.Name, thrown.Message); limit != nil {
		return limit
	}
	return fault.New(fault.ScriptError, fault.Script, "%s", thrown.Error())
}

func (r *run) exhausted(name, message string) *fault.Fault {
	if r.machine == nil {
		return nil
	}
	return r.machine.exhausted(name, message)
}

// serve runs the event loop from a first turn until the script has settled and nothing is left that it waits for. The run's
// timers end when it settles; calls of the host that were begun are waited for.
func (r *run) serve(m *machine, turn string, args ...any) error {
	m.run, r.machine = r, m
	m.native.lacked = false
	r.held.Store(m.native)
	defer func() {
		m.run = nil
		m.native.forget()
	}()
	over, stopped := make(chan struct{}), make(chan struct{})
	stop := context.AfterFunc(r.ctx, func() { // a request that comes between two turns is forgotten by the interpreter
		defer close(stopped)
		for tick := time.NewTicker(time.Millisecond); ; {
			m.vm.Interrupt()
			select {
			case <-tick.C:
			case <-over:
				tick.Stop()
				return
			}
		}
	})
	defer func() {
		close(over)
		if !stop() {
			<-stopped
		}
	}()
	defer func() {
		if r.open > 0 {
			r.cancel(nil)
			r.calls.Wait() // nothing of the run is left
		}
	}()
	if err := r.take(append([]any{turn}, args...)...); err != nil {
		return err
	}
	for {
		switch {
		case r.failed != nil:
			return r.failed
		case r.settled && r.open == 0:
			return r.unhandled(nil)
		case r.open == 0 && len(r.timers) == 0:
			return r.unhandled(fault.New(fault.ScriptError, fault.Script, "handle waits for a promise that nothing will settle"))
		}
		if err := r.wait(); err != nil {
			return err
		}
	}
}

// take runs one turn of the event loop: a call of the prelude, and all that follows of it before anything else happens.
func (r *run) take(args ...any) error {
	if err := r.ctx.Err(); err != nil {
		return err
	}
	if _, err := r.machine.turn.Call(quickjs.UndefinedValue, args...); err != nil {
		return err
	}
	for {
		n, err := r.machine.vm.ExecutePendingJobs()
		if r.ctx.Err() != nil {
			return r.ctx.Err()
		}
		if err == nil {
			return nil
		}
		if thrown := (*quickjs.Error)(nil); errors.As(err, &thrown) || n == 0 {
			return err
		}
	}
}

// wait takes the turn of whatever is next: a timer that is due, or a call that was answered.
func (r *run) wait() error {
	var due <-chan time.Time
	if len(r.timers) > 0 && !r.settled {
		left := time.Until(r.timers[0].at)
		if left <= 0 {
			select {
			case c := <-r.done:
				return r.resume(c)
			default:
				t := r.timers.next()
				return r.take("fire", t.id)
			}
		}
		t := time.NewTimer(left)
		defer t.Stop()
		due = t.C
	}
	r.waiting.Store(true)
	defer r.waiting.Store(false)
	select {
	case c := <-r.done:
		r.waiting.Store(false)
		return r.resume(c)
	case <-due:
		return nil
	case <-r.ctx.Done():
		return r.ctx.Err()
	}
}

func (r *run) resume(c completion) error {
	r.open--
	if len(r.queued) > 0 {
		next := r.queued[0]
		r.queued = r.queued[1:]
		r.start(next)
	}
	return r.take("resume", c.id, c.ok, c.text)
}

// start makes a call of the host beside the script.
func (r *run) start(call func() completion) {
	if r.done == nil {
		r.done = make(chan completion, openCalls) // none of them ever waits to be heard
	}
	r.open++
	r.calls.Go(func() { r.done <- call() })
}

// unhandled is the fault of a promise that was rejected and that nothing handles; otherwise where there is none.
func (r *run) unhandled(otherwise *fault.Fault) error {
	if otherwise != nil {
		if limit := r.exhausted("", ""); limit != nil { // it had no memory left to say so
			r.broken = true
			return limit
		}
	}
	if r.machine.native.unhandled("$reason") {
		text, err := r.machine.turn.Call(quickjs.UndefinedValue, "unhandled")
		if err != nil {
			return err
		}
		return r.thrown(word(text))
	}
	if otherwise != nil {
		return otherwise
	}
	return nil
}

// Fail is part of watch.Run.
func (r *run) Fail(f *fault.Fault) {
	r.cancel(f)
	if n := r.held.Load(); n != nil {
		n.starve()
	}
}

// Waits is part of watch.Run.
func (r *run) Waits() bool { return r.waiting.Load() }

// Holds is part of watch.Holder.
func (r *run) Holds() int {
	if n := r.held.Load(); n != nil {
		return n.memory()
	}
	return 0
}

// Done is part of picloud.Runtime.
func (r *run) Done() <-chan struct{} { return r.ctx.Done() }

// Deadline is part of picloud.Limited.
func (r *run) Deadline() (time.Time, bool) { return r.ctx.Deadline() }

// Call is part of picloud.Runtime.
func (r *run) Call(service, method string, args []byte) ([]byte, error) {
	return r.inv.Call(r.ctx, service, method, args)
}

// JSON is part of picloud.Runtime. The script has written the value already.
func (r *run) JSON(v any) ([]byte, error) {
	text, ok := v.(encoded)
	if !ok {
		return nil, fmt.Errorf("a %T is no value of a script", v)
	}
	return []byte(text), nil
}

// Log is part of picloud.Runtime.
func (r *run) Log(level, message string, _ []any) {
	r.inv.Log(engine.Log{Time: time.Now(), Level: level, Message: message})
}

// encoded is JSON that a script wrote.
type encoded string
