// Package js is the engine for scripts in JavaScript and TypeScript, as modules of ECMAScript 2023. A script has a function
//
//	export default async function handle(ctx) { … }
//
// or an export of that name, async or not, which is called once for each request or event. What it returns, or its promise
// gives, becomes the answer, by the rules of sdk/picloud:
//
//   - new Response(body, { status, headers }) is sent as it is: headers are texts or lists of them; a text or bytes as body are
//     sent as they are, anything else as JSON; so is what Response.json(value, init) has, whatever it is;
//   - null and undefined are an empty answer with status 204;
//   - new BatchResult([{ id, error, retryAfterMs, fatal }]) says which events of a batch failed;
//   - anything else is sent as JSON with status 200, as JSON.stringify writes it. Numbers are those of the language: integers
//     beyond 2^53 lose digits on their way in.
//
// What it throws makes the run fail; new RetryAfter("why", ms) asks to be tried again then, new Fatal("why") not at all, also
// where they are the cause of what is thrown. What the platform refuses is a PicloudError with code, message and retryAfterMs.
// A promise that is rejected and that nobody handles fails the run, too. The classes, and VERSION, are what "picloud" exports;
// they are globals as well.
//
//	ctx.executionId, ctx.attempt, ctx.sdkVersion
//	ctx.event           id, source, type, subject, time (RFC 3339), contentType
//	ctx.request         method, host, path, rest, headers and query (objects of lists), params (an object), body (Uint8Array),
//	                    header(name), queryValue(name), param(name), each "" where there is none; text(), json()
//	ctx.batch           null, or a list with id, attempt, event, body, text(), json()
//	ctx.log             trace, debug, info, warn, error (message, ...data); console writes there, too
//	ctx.sleep(ms)
//	ctx.invoke(script, data, delivery) and ctx.queue(name).send(data, delivery), sendAll(list, delivery), where delivery is of
//	                    delayMs, expiresInMs, runAt (a Date or RFC 3339), priority, maxAttempts, orderingKey, concurrencyKey,
//	                    rateKey, debounceKey, idempotencyKey
//	ctx.retry(f, {attempts, backoffMs})
//	ctx.kv, docs, files, http, call and so on, as sdk/service lists them
//
// Beside the language there are setTimeout, clearTimeout, queueMicrotask, TextEncoder and TextDecoder for UTF-8, atob, btoa, URL, URLSearchParams,
// crypto.randomUUID, crypto.getRandomValues and structuredClone; there is no Intl, and no way to the machine. Files import
// one another by relative names, modules of the app as "app/name", and JSON. They may await outside of functions. esbuild makes
// one text of them, without types, which it does not check; stacks name the author's files and lines.
//
// A run may have 16 calls of the platform under way at one time; more wait. When handle has ended, timers are dropped, and calls
// that were begun are waited for. The globals of a script live as long as an interpreter, which serves one call at a time; there
// may be several, and they come and go, so globals are good for caches and for nothing else. A new interpreter for each call would
// cost 0.4 ms where a call costs 25 µs, 42 µs with JSON in and out. One that was stopped, for time, memory or depth, is replaced.
//
// An interpreter looks for its end between the steps of a script, and in patterns. A single call of something built in that takes
// long, such as indexOf on an object whose length says 2^53, is only ended with the process.
package js

import (
	"context"
	"sync"

	"github.com/picloud/picloud/sdk/engine"
	"github.com/picloud/picloud/sdk/fault"
	"github.com/picloud/picloud/sdk/picloud"
	"github.com/picloud/picloud/sdk/script"
	"github.com/picloud/picloud/sdk/watch"
)

// version of the interpreter.
const version = "0.27.0"

// New makes the engine.
func New() engine.Engine {
	return &scripts{held: script.Budget{Bytes: idleHeld}, bundles: map[string]*pool{}}
}

// scripts holds the loaded bundles of one process.
type scripts struct {
	watch   watch.Watch
	held    script.Budget // of idle interpreters
	mu      sync.RWMutex
	bundles map[string]*pool
}

// Info describes the engine.
func (s *scripts) Info() engine.Info {
	return engine.Info{
		Name: "js", Version: version, SDKVersion: picloud.Version, Extensions: []string{".js", ".mjs", ".jsx", ".ts", ".tsx"},
	}
}

// Load bundles and compiles a script, and builds its first interpreter, which runs what stands outside of functions.
func (s *scripts) Load(ctx context.Context, b engine.Bundle) (engine.Loaded, error) {
	s.mu.RLock()
	p := s.bundles[b.Hash]
	s.mu.RUnlock()
	if p != nil {
		return engine.Loaded{Imports: p.program.imports}, nil
	}
	program, imports, found, err := compile(&b, &s.watch)
	if err != nil {
		return engine.Loaded{}, err
	}
	loaded := engine.Loaded{Diagnostics: found, Imports: imports}
	if program == nil {
		return loaded, script.CompileFault(wrong(found))
	}
	first, err := program.build(ctx)
	switch {
	case context.Cause(ctx) == context.Canceled:
		return engine.Loaded{}, script.EndOf(ctx)
	case err != nil && fault.From(err).Origin != fault.Script:
		return engine.Loaded{}, err
	case err != nil:
		d := program.failedToLoad(fault.From(err))
		loaded.Diagnostics = append([]engine.Diagnostic{d}, found...)
		return loaded, script.CompileFault(d)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.bundles[b.Hash] != nil {
		first.Close()
		return loaded, nil
	}
	s.bundles[b.Hash] = newPool(program, &s.held, b.Limits.Pool, first)
	return loaded, nil
}

// wrong is the first finding that is no warning.
func wrong(found []engine.Diagnostic) engine.Diagnostic {
	for _, d := range found {
		if !d.Warning {
			return d
		}
	}
	return found[0]
}

// Unload forgets a bundle.
func (s *scripts) Unload(hash string) {
	s.mu.Lock()
	p := s.bundles[hash]
	delete(s.bundles, hash)
	s.mu.Unlock()
	if p != nil {
		p.Close()
	}
}

// Invoke calls the script's handle once.
func (s *scripts) Invoke(ctx context.Context, inv *engine.Invocation, out engine.Reply) error {
	s.mu.RLock()
	p := s.bundles[inv.Bundle]
	s.mu.RUnlock()
	if p == nil {
		return fault.New(fault.Internal, fault.Platform, "bundle %s is not loaded", inv.Bundle)
	}
	m, err := p.get(ctx)
	if err != nil {
		return err
	}
	inv.Lend = p.Lend
	r := newRun(ctx, p.program, inv)
	err = r.guard(func() error {
		text, err := meta(r.picloud)
		if err != nil {
			return err
		}
		return r.serve(m, "begin", text)
	})
	if r.broken {
		p.discard(m)
	} else {
		p.put(m)
	}
	if err != nil {
		return err
	}
	a, err := script.NewAnswer(r.result, p.program.body, r.JSON)
	if err != nil {
		return err
	}
	return a.Send(out)
}
