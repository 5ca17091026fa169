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
//	ctx.retry(f, attempts=3, backoff=0.1)
//	                    calls f until it does not fail, and returns what it returns
//	ctx.kv, docs, files, http, call and so on, as sdk/service lists them
//
// The modules json, math and time are there, struct, and those of sdk/stdlib: base64, hex, url, hash, random, csv and regex. There is no
// recursion; loops may be without end and end with the run. What a script's file computes when it is loaded is frozen, so that calls run
// side by side and share nothing that changes.
//
// load("app/name", "f") takes f from the module name of the app, from the first of its files; load("./other.star", "f") from
// another file of the same script or module. Each file is computed once.
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
	handle  *starlark.Function
	limits  engine.Limits
	imports []string
}

// Info describes the engine.
func (s *scripts) Info() engine.Info {
	return engine.Info{Name: "starlark", Version: "20260908", SDKVersion: picloud.Version, Extensions: []string{".star"}}
}

// Load compiles a script and runs what stands outside of its functions, and of those of what it loads.
func (s *scripts) Load(ctx context.Context, b engine.Bundle) (engine.Loaded, error) {
	s.mu.RLock()
	p := s.bundles[b.Hash]
	s.mu.RUnlock()
	if p != nil {
		return engine.Loaded{Imports: p.imports}, nil
	}
	c := compile(b)
	loaded := engine.Loaded{Imports: c.imports, Diagnostics: c.found}
	var err error
	if len(c.found) == 0 {
		if p, loaded.Diagnostics, err = s.load(ctx, b, c); err != nil {
			return loaded, err
		}
	}
	if len(loaded.Diagnostics) > 0 {
		return loaded, script.CompileFault(loaded.Diagnostics[0])
	}
	s.mu.Lock()
	s.bundles[b.Hash] = p
	s.mu.Unlock()
	return loaded, nil
}

func (s *scripts) load(ctx context.Context, b engine.Bundle, c *compiler) (*program, []engine.Diagnostic, error) {
	r := newRun(ctx, &engine.Invocation{Log: func(engine.Log) {}, Event: &event.Envelope{}})
	var in *unit
	var failed error
	err := r.do(&s.watch, b.Limits, func() error {
		in, failed = c.run(r.thread)
		return failed
	})
	name := b.Files[0].Name
	if in != nil {
		name = in.name
	}
	switch {
	case context.Cause(ctx) == context.Canceled:
		return nil, nil, script.EndOf(ctx)
	case err != nil && fault.From(err).Kind == fault.ScriptError:
		return nil, []engine.Diagnostic{diagnose(name, failed)}, nil
	case err != nil:
		return nil, []engine.Diagnostic{diagnose(name, err)}, nil
	}
	p := &program{limits: b.Limits, imports: c.imports}
	if p.limits.BodyBytes <= 0 {
		p.limits.BodyBytes = script.BodyLimit
	}
	if b.Module {
		return p, nil, nil // nothing will be called
	}
	if p.handle, err = entry(c.order[len(c.order)-1].globals); err != nil {
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
