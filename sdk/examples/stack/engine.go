package main

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"time"

	"github.com/picloud/picloud/sdk/engine"
	"github.com/picloud/picloud/sdk/fault"
	"github.com/picloud/picloud/sdk/picloud"
	"github.com/picloud/picloud/sdk/script"
	"github.com/picloud/picloud/sdk/watch"
)

// defaultPool is how many runs of a script there may be where its limits do not say.
const defaultPool = 16

// Engine runs programs of the language.
type Engine struct {
	watch watch.Watch

	mu     sync.Mutex
	loaded map[string]*bundle // by their hashes
}

// bundle is a compiled script.
type bundle struct {
	program *definition
	imports []string
	limits  engine.Limits
	pool    chan struct{} // holds one for each run
}

// New makes an engine without scripts.
func New() engine.Engine { return &Engine{loaded: map[string]*bundle{}} }

func (*Engine) Info() engine.Info {
	return engine.Info{Name: "stack", Version: "1", SDKVersion: picloud.Version, Extensions: []string{".stack"}}
}

func (e *Engine) Load(_ context.Context, b engine.Bundle) (engine.Loaded, error) {
	if known := e.find(b.Hash); known != nil {
		return engine.Loaded{Imports: known.imports}, nil
	}
	program, imports, wrong := compile(b)
	if wrong != nil {
		return engine.Loaded{Diagnostics: []engine.Diagnostic{*wrong}, Imports: imports}, script.CompileFault(*wrong)
	}
	size := b.Limits.Pool
	if size <= 0 {
		size = defaultPool
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.loaded[b.Hash] == nil { // it may have been loaded meanwhile
		e.loaded[b.Hash] = &bundle{program: program, imports: imports, limits: b.Limits, pool: make(chan struct{}, size)}
	}
	return engine.Loaded{Imports: imports}, nil
}

func (e *Engine) Unload(hash string) {
	e.mu.Lock()
	defer e.mu.Unlock()
	delete(e.loaded, hash)
}

func (e *Engine) find(hash string) *bundle {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.loaded[hash]
}

func (e *Engine) Invoke(ctx context.Context, inv *engine.Invocation, out engine.Reply) error {
	b := e.find(inv.Bundle)
	if b == nil {
		return fault.New(fault.NotFound, fault.Platform, "the script is not loaded")
	}
	select {
	case b.pool <- struct{}{}:
		defer func() { <-b.pool }()
	case <-ctx.Done():
		return script.EndOf(ctx)
	}
	r := &run{inv: inv}
	r.ctx, r.stop = context.WithCancelCause(ctx)
	defer r.stop(nil)
	e.watch.Enter(r, watch.Limits{Memory: b.limits.Memory, CPU: b.limits.CPU})
	defer e.watch.Leave(r)
	m := &machine{run: r, ctx: picloud.NewContext(r, inv.ExecutionID, inv.Attempt, inv.Event, inv.Body)}
	value, err := m.answer(b.program)
	if ended := r.ended(); ended != nil {
		return ended // whatever it made of that
	}
	if err != nil {
		return failed(err)
	}
	limit := b.limits.BodyBytes
	if limit <= 0 {
		limit = script.BodyLimit
	}
	answer, err := script.NewAnswer(value, limit, encode)
	if err != nil {
		return err
	}
	return answer.Send(out)
}

// failed makes the fault of a run that failed. Its detail says where.
func failed(err error) error {
	f := picloud.Failed(err)
	if limit := (*fault.Fault)(nil); errors.As(err, &limit) {
		copied := *limit
		f = &copied
	}
	if at := (*failure)(nil); errors.As(err, &at) {
		f.Detail = at.trace()
	}
	return f
}

// run is what the platform sees of one run, and what it gives to it: a watch.Run and a picloud.Runtime.
type run struct {
	inv   *engine.Invocation
	ctx   context.Context
	stop  context.CancelCauseFunc
	waits atomic.Bool
}

// ended is the fault of a run that has to end; nil: it goes on.
func (r *run) ended() error {
	if r.ctx.Err() == nil {
		return nil
	}
	if f := (*fault.Fault)(nil); errors.As(context.Cause(r.ctx), &f) {
		return f
	}
	return script.EndOf(r.ctx)
}

func (r *run) Fail(f *fault.Fault) { r.stop(f) }

func (r *run) Waits() bool { return r.waits.Load() }

func (r *run) Log(level, message string, data []any) {
	line := engine.Log{Time: time.Now(), Level: level, Message: message}
	var err error
	switch len(data) {
	case 0:
	case 1:
		line.Data, err = encode(data[0])
	default:
		line.Data, err = encode(data)
	}
	if err != nil {
		line.Data, _ = encode(err.Error()) // a text has a form in JSON
	}
	r.inv.Log(line)
}

func (r *run) Call(service, method string, args []byte) ([]byte, error) {
	r.waits.Store(true)
	defer r.waits.Store(false)
	return r.inv.Call(r.ctx, service, method, args)
}

func (r *run) JSON(v any) ([]byte, error) { return encode(v) }

func (r *run) Done() <-chan struct{} { return r.ctx.Done() }
