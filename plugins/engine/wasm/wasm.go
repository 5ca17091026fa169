// Package wasm is the engine for scripts that are WebAssembly modules, built from any language that compiles to WASI preview 1. For Go
// there is sdk/picloud/guest; this is the contract for others.
//
// # The module
//
// A script is one file of at most 12 MiB, in one of two forms:
//
//   - A command exports _start, as programs do. Each run has a fresh instance. What it reads from standard input is its input,
//     what it writes to standard output its answer. An exit code other than 0 makes the run fail.
//   - A reactor exports handle, and maybe _initialize, which is called first. Its instances serve call after call, one at a
//     time each; there may be several, and they come and go. What is in its memory stays until then. What it writes to standard
//     output is logged. An instance that trapped, exited or was stopped serves no more.
//
// All of these have no parameters and no results. In both each line on standard error is logged at level info. A run that traps or
// exits fails with the last line of standard error as its message.
//
// A module may be of WebAssembly 2.0, with vectors. It gets a clock, randomness, its script's name as its only argument, and the
// standard files; no other files, no environment and no sockets.
//
// # The host's functions
//
// They are imported from the module "picloud". All parameters and results are of type i32; texts and bytes are a pointer and a length, and
// one that is not in the module's memory ends the run. A function never changes what it does: one that does something else will have
// another name, and a module that imports what is not there is refused when it is deployed.
//
//	input(to, size) → length      copies as much of the input as there is room for, and returns the length of all of it: with
//	                              a size of 0 that is how one learns it. It is what a command finds on standard input.
//	output(from, size)            adds to the answer.
//	log(level, message, size, data, size)
//	                              logs; level is 0 trace, 1 debug, 2 info, 3 warn or 4 error; data is JSON, or nothing.
//	call(service, size, method, size, args, size) → refused
//	                              asks a service of the platform with JSON, and waits. It returns 0 where the service has
//	                              done it and 1 where it has refused.
//	result(to, size) → length     copies the result of the last call, as input does: JSON, or {"code", "message",
//	                              "retry_after_ms"} of a refusal.
//	sleep(milliseconds)           waits. WASI's poll_oneoff does, too.
//
// None tells that a run is over: its instance ends with it, also while it waits.
//
// The services are "invoke", whose "send" takes {"script": name} and the fields of a message and answers {"id"}, and "queue", whose "send"
// takes {"queue": name, "messages": [message…]} and answers {"messages": [{"id"} or {"code", "error"}…]}. A message has "data" or
// "data_base64", "content_type", and "delivery" with delay_ms, run_at, expires_in_ms, priority, max_attempts, ordering_key,
// concurrency_key, rate_key, debounce_key and idempotency_key, all optional.
//
// # Input and answer
//
// The input is a JSON object, see guest.Input:
//
//	execution_id, attempt, sdk_version, deadline (RFC 3339; none: nobody knows)
//	event          id, source, type, subject, time, content_type
//	request        of an event that is an HTTP request: method, host, path, rest, headers and query (lists by name), params (texts
//	               by name)
//	body           the data as a text, or body_base64 where it is not UTF-8
//	batch          in a run for several events, in place of a body: a list of id, attempt, event, body or body_base64
//
// The answer is one too, see guest.Answer; no output is an answer with status 204:
//
//	{"status": 201, "headers": {"X-A": "b", "X-B": ["c", "d"]}, "body": any JSON}     "text" or "base64" may stand for "body"
//	{"failures": [{"id", "error", "retry_after_ms", "fatal"}]}                        of a batch: the others are done
//	{"error": {"message", "retry_after_ms", "fatal"}}                                 the run has failed
//	{"error": {"message", "invalid": true}}                                           what the script returned cannot be sent
//
// An answer with an error is no fault of the instance, which goes on serving.
//
// # Limits
//
// An instance may have 64 MB of memory, unless its bundle says otherwise, and all of an app 512 MB together; memory.grow fails beyond that.
// A run ends when its time is over or when its caller has gone, wherever it is: see instrument.
package wasm

import (
	"context"
	"errors"
	"runtime/debug"
	"sync"
	_ "time/tzdata" // the process cannot open the machine's

	"github.com/picloud/picloud/sdk/engine"
	"github.com/picloud/picloud/sdk/fault"
	"github.com/picloud/picloud/sdk/picloud"
	"github.com/picloud/picloud/sdk/script"
	"github.com/picloud/picloud/sdk/watch"
)

// ownMemory is what compiled code and the compiler may take, in bytes: 14 MB stay of each module that is built from Go, and compiling one
// takes 60 MB more.
const ownMemory = 224 << 20

// Bound sets the limit of the process beyond which its heap is collected with more effort.
func Bound() { debug.SetMemoryLimit(ownMemory + 128<<20) }

// New makes the engine.
func New() engine.Engine {
	s := &scripts{watch: watch.Watch{Room: ownMemory}, bundles: map[string]*program{}}
	s.memory.relieve = s.relieve
	return s
}

// scripts holds the loaded bundles of one process.
type scripts struct {
	watch   watch.Watch
	memory  budget
	running sync.Map // *instance → nil: whose code runs
	mu      sync.RWMutex
	bundles map[string]*program
}

// Info describes the engine.
func (s *scripts) Info() engine.Info {
	return engine.Info{Name: "wasm", Version: "1.12.0", SDKVersion: picloud.Version, Extensions: []string{".wasm"}, LoadLimit: engine.MaxLoadLimit}
}

// Load compiles a module and makes its first instance, in which what runs before any call has run.
func (s *scripts) Load(ctx context.Context, b engine.Bundle) (engine.Loaded, error) {
	s.mu.RLock()
	_, loaded := s.bundles[b.Hash]
	s.mu.RUnlock()
	if loaded {
		return engine.Loaded{}, nil
	}
	p, found, err := s.compile(ctx, b)
	if err == nil && found == nil {
		err = p.prepare(ctx, b.Limits.Pool)
	}
	switch {
	case context.Cause(ctx) == context.Canceled:
		return engine.Loaded{}, script.EndOf(ctx)
	case err != nil:
		found = []engine.Diagnostic{{File: b.Files[0].Name, Message: fault.From(err).Message}}
	}
	if found != nil {
		f := fault.New(fault.Compile, fault.Script, "%s: %s", found[0].File, found[0].Message)
		f.Fatal = true
		return engine.Loaded{Diagnostics: found}, f
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if _, loaded := s.bundles[b.Hash]; loaded {
		p.close()
		return engine.Loaded{}, nil
	}
	s.bundles[b.Hash] = p
	return engine.Loaded{}, nil
}

// prepare makes the first instance. If that fails the program is closed.
func (p *program) prepare(ctx context.Context, size int) error {
	p.pool = script.NewPool[*instance](size, nil)
	in, err := p.start(ctx)
	switch {
	case err != nil:
		p.close()
		return err
	case p.command: // it was only to be seen that there can be one
		in.Close()
	default:
		p.pool.Keep(in)
	}
	return nil
}

// Unload forgets a bundle.
func (s *scripts) Unload(hash string) {
	s.mu.Lock()
	p := s.bundles[hash]
	delete(s.bundles, hash)
	s.mu.Unlock()
	if p != nil {
		p.close()
	}
}

// relieve ends all instances without work.
func (s *scripts) relieve() {
	s.mu.RLock()
	defer s.mu.RUnlock()
	for _, p := range s.bundles {
		p.pool.Drop()
	}
}

// Invoke runs a command, or calls a reactor, once.
func (s *scripts) Invoke(ctx context.Context, inv *engine.Invocation, out engine.Reply) error {
	s.mu.RLock()
	p := s.bundles[inv.Bundle]
	s.mu.RUnlock()
	if p == nil || !p.use() {
		return fault.New(fault.Internal, fault.Platform, "bundle %s is not loaded", inv.Bundle)
	}
	defer p.leave()
	if err := p.pool.Enter(ctx); err != nil {
		return err
	}
	defer p.pool.Leave()
	inv.Lend = p.pool.Lend
	a, err := p.answer(ctx, inv)
	if err != nil {
		return err
	}
	return a.Send(out)
}

// answer has an instance answer.
func (p *program) answer(ctx context.Context, inv *engine.Invocation) (a script.Answer, err error) {
	x := newRun(ctx, inv, p.limit)
	defer x.end(nil)
	if x.input, err = newInput(ctx, inv); err != nil {
		return a, err
	}
	x.unread = x.input
	p.scripts.watch.Enter(x, watch.Limits{CPU: p.cpu})
	defer p.scripts.watch.Leave(x)
	if p.command {
		err = p.execute(x)
	} else {
		err = p.serve(x)
	}
	if err != nil {
		return a, err
	}
	result, err := x.answered()
	if err != nil {
		return a, err
	}
	return script.NewAnswer(result, p.limit, encode)
}

// execute runs a command.
func (p *program) execute(x *run) error {
	in, err := p.instantiate(x)
	if err != nil {
		return err
	}
	defer in.Close()
	in.begun = true
	return x.failure(in.call(commandEntry))
}

// serve calls a reactor.
func (p *program) serve(x *run) (err error) {
	in, ok := p.pool.Take()
	if !ok {
		if in, err = p.start(x.ctx); err != nil {
			if f := (*fault.Fault)(nil); errors.As(context.Cause(x.ctx), &f) {
				err = f
			}
			return err
		}
	}
	in.serve(x)
	if err := x.failure(in.call(reactorEntry)); err != nil {
		in.Close()
		return err
	}
	p.pool.Keep(in)
	return nil
}
