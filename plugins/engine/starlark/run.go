package starlark

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	startime "go.starlark.net/lib/time"
	"go.starlark.net/starlark"

	"github.com/picloud/picloud/sdk/engine"
	"github.com/picloud/picloud/sdk/fault"
	"github.com/picloud/picloud/sdk/picloud"
	"github.com/picloud/picloud/sdk/script"
	"github.com/picloud/picloud/sdk/watch"
)

// maxSteps bounds a run where its time does not: some ten seconds of computing.
const maxSteps = 500_000_000

// runKey is under which a thread knows its run.
const runKey = "picloud.run"

// run is one run of a script: the platform as the script sees it (picloud.Runtime), and what ends it (watch.Run).
type run struct {
	ctx     context.Context
	inv     *engine.Invocation
	thread  *starlark.Thread
	picloud *picloud.Context
	inHost  atomic.Int32 // calls of the host that the script waits for

	mu   sync.Mutex
	over *fault.Fault // why it was stopped, where that was not the end of its time
}

func newRun(ctx context.Context, inv *engine.Invocation) *run {
	r := &run{ctx: ctx, inv: inv}
	r.thread = &starlark.Thread{
		Name:  inv.ExecutionID,
		Print: func(_ *starlark.Thread, line string) { r.Log("info", line, nil) },
		OnMaxSteps: func(*starlark.Thread) {
			r.Fail(fault.New(fault.Limit, fault.Script, "the script takes more than %d steps", maxSteps))
		},
	}
	r.thread.SetMaxExecutionSteps(maxSteps)
	r.thread.SetLocal(runKey, r)
	startime.SetNow(r.thread, func() (time.Time, error) { return time.Now().UTC(), nil })
	r.picloud = picloud.NewContext(r, inv.ExecutionID, inv.Attempt, inv.Event, inv.Body)
	return r
}

// do runs a part of the script, until it ends or is ended. Errors are faults.
func (r *run) do(w *watch.Watch, limits engine.Limits, f func() error) (err error) {
	defer context.AfterFunc(r.ctx, func() { r.thread.Cancel("the run is over") })()
	w.Enter(r, watch.Limits{Memory: limits.Memory, CPU: limits.CPU})
	defer w.Leave(r)
	defer func() {
		if p := recover(); p != nil { // a defect of the interpreter, which the script has found
			err = fault.New(fault.ScriptPanic, fault.Script, "the interpreter panicked: %v", p)
		}
	}()
	err = f()
	r.mu.Lock()
	over := r.over
	r.mu.Unlock()
	var known *fault.Fault
	switch {
	case r.ctx.Err() != nil:
		return script.EndOf(r.ctx)
	case over != nil:
		return over
	case err == nil:
		return nil
	case errors.As(err, &known):
		return known
	}
	failed := picloud.Failed(err)
	var where *starlark.EvalError
	if errors.As(err, &where) {
		failed.Detail = where.Backtrace()
	}
	return failed
}

// Fail is part of watch.Run.
func (r *run) Fail(f *fault.Fault) {
	r.mu.Lock()
	if r.over == nil {
		r.over = f
	}
	r.mu.Unlock()
	r.thread.Cancel(f.Message)
}

// Waits is part of watch.Run.
func (r *run) Waits() bool { return r.inHost.Load() > 0 }

// Done is part of picloud.Runtime.
func (r *run) Done() <-chan struct{} { return r.ctx.Done() }

// Call is part of picloud.Runtime.
func (r *run) Call(service, method string, args []byte) ([]byte, error) {
	r.inHost.Add(1)
	defer r.inHost.Add(-1)
	return r.inv.Call(r.ctx, service, method, args)
}

// JSON is part of picloud.Runtime.
func (r *run) JSON(v any) ([]byte, error) {
	value, ok := v.(starlark.Value)
	if !ok {
		return nil, fmt.Errorf("a %T is no value of a script", v)
	}
	return r.encode(value)
}

// Log is part of picloud.Runtime.
func (r *run) Log(level, message string, data []any) {
	l := engine.Log{Time: time.Now(), Level: level, Message: message}
	if len(data) > 0 {
		var value starlark.Value = data[0].(starlark.Value) // the logger of ctx gives nothing else
		if len(data) > 1 {
			list := make(starlark.Tuple, len(data))
			for i, d := range data {
				list[i] = d.(starlark.Value)
			}
			value = list
		}
		var err error
		if l.Data, err = r.encode(value); err != nil {
			l.Data = fmt.Appendf(nil, "%q", "not logged: "+err.Error())
		}
	}
	r.inv.Log(l)
}
