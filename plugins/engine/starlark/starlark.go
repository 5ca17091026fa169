// Package starlark is the engine for scripts in Starlark, a small language that looks like Python and can do nothing but
// compute: for rules, and for bringing data into another form. A script has a function
//
//	def handle(ctx):
//
// which is called once for each request or event. What it returns becomes the answer, by the rules of sdk/picloud:
//
//   - response(status=200, headers={}, body=None) is sent as it is: headers are texts or lists of them, a text or bytes as
//     body are sent as they are, anything else as JSON;
//   - None is an empty answer with status 204;
//   - batch_result([failure(id=…, error=…, retry_after=…, fatal=…)]) says which events of a batch failed;
//   - anything else is sent as JSON with status 200.
//
// fail("why") makes the run fail; retry_after("why", seconds) asks to be tried again then, and fatal("why") not at all. What
// the platform refuses makes the run fail, too, with its code in the message.
//
//	ctx.execution_id, ctx.attempt, ctx.sdk_version
//	ctx.event           id, source, type, subject, time (RFC 3339), content_type
//	ctx.request         method, host, path, rest, headers and query (dicts of lists), params (a dict), body (bytes),
//	                    header(name), query_value(name), param(name), each "" where there is none; text(), json()
//	ctx.batch           None, or a list with id, attempt, event, body, text(), json()
//	ctx.log             trace, debug, info, warn, error (message, data…); print writes at info
//	ctx.sleep(seconds)
//	ctx.invoke(script, data, **delivery) and ctx.queue(name).send(data, **delivery), send_all(list, **delivery), where delivery
//	                    is of delay, expires_in (seconds), run_at (RFC 3339), priority, max_attempts, ordering_key,
//	                    concurrency_key, rate_key, debounce_key, idempotency_key
//
// The modules json, math and struct are there. There is no recursion; loops may be without end and end with the run. What a
// script's file computes when it is loaded is frozen, so that calls run side by side and share nothing that changes.
package starlark

import (
	"context"
	"encoding/json"
	"sync"

	"go.starlark.net/starlark"

	"github.com/picloud/picloud/sdk/engine"
	"github.com/picloud/picloud/sdk/event"
	"github.com/picloud/picloud/sdk/fault"
	"github.com/picloud/picloud/sdk/picloud"
	"github.com/picloud/picloud/sdk/script"
	"github.com/picloud/picloud/sdk/watch"
)

// New makes the engine.
func New() engine.Engine { return &scripts{bundles: map[string]*program{}} }

// scripts holds the loaded bundles of one process.
type scripts struct {
	watch   watch.Watch
	mu      sync.RWMutex
	bundles map[string]*program
}

// program is a loaded script. It does not change.
type program struct {
	handle *starlark.Function
	limits engine.Limits
}

// Info describes the engine.
func (s *scripts) Info() engine.Info {
	return engine.Info{Name: "starlark", Version: "20260908", SDKVersion: picloud.Version, Extensions: []string{".star"}}
}

// Load compiles a script and runs what stands outside of its functions.
func (s *scripts) Load(ctx context.Context, b engine.Bundle) (engine.Loaded, error) {
	s.mu.RLock()
	_, loaded := s.bundles[b.Hash]
	s.mu.RUnlock()
	if loaded {
		return engine.Loaded{}, nil
	}
	p, found, err := s.load(ctx, b)
	if err != nil {
		return engine.Loaded{}, err
	}
	if len(found) > 0 {
		return engine.Loaded{Diagnostics: found}, script.CompileFault(found[0])
	}
	s.mu.Lock()
	s.bundles[b.Hash] = p
	s.mu.Unlock()
	return engine.Loaded{}, nil
}

func (s *scripts) load(ctx context.Context, b engine.Bundle) (*program, []engine.Diagnostic, error) {
	compiled, found := compile(b.Files)
	if found != nil {
		return nil, found, nil
	}
	r := newRun(ctx, &engine.Invocation{Log: func(engine.Log) {}, Event: &event.Envelope{}})
	var globals starlark.StringDict
	var failed error
	err := r.do(&s.watch, b.Limits, func() error {
		globals, failed = compiled.Init(r.thread, predeclared)
		return failed
	})
	name := b.Files[0].Name
	switch {
	case context.Cause(ctx) == context.Canceled:
		return nil, nil, script.EndOf(ctx)
	case err != nil && fault.From(err).Kind == fault.ScriptError:
		return nil, []engine.Diagnostic{diagnose(name, failed)}, nil
	case err != nil:
		return nil, []engine.Diagnostic{diagnose(name, err)}, nil
	}
	globals.Freeze()
	p := &program{limits: b.Limits}
	if p.limits.BodyBytes <= 0 {
		p.limits.BodyBytes = script.BodyLimit
	}
	if p.handle, err = entry(globals); err != nil {
		return nil, []engine.Diagnostic{{File: name, Line: 1, Column: 1, Message: err.Error()}}, nil
	}
	return p, nil, nil
}

// Unload forgets a bundle.
func (s *scripts) Unload(hash string) {
	s.mu.Lock()
	delete(s.bundles, hash)
	s.mu.Unlock()
}

// Invoke calls the script's handle once.
func (s *scripts) Invoke(ctx context.Context, inv *engine.Invocation, out engine.Reply) error {
	s.mu.RLock()
	p := s.bundles[inv.Bundle]
	s.mu.RUnlock()
	if p == nil {
		return fault.New(fault.Internal, fault.Platform, "bundle %s is not loaded", inv.Bundle)
	}
	r := newRun(ctx, inv)
	var result any
	err := r.do(&s.watch, p.limits, func() error {
		value, err := starlark.Call(r.thread, p.handle, starlark.Tuple{newContext(r)}, nil)
		if err == nil {
			result, err = r.result(value)
		}
		return err
	})
	if err != nil {
		return err
	}
	a, err := script.NewAnswer(result, p.limits.BodyBytes, json.Marshal)
	if err != nil {
		return err
	}
	return a.Send(out)
}
