package wasm

import (
	"context"
	"crypto/rand"
	"fmt"
	"io"
	"sync"
	"time"

	"github.com/tetratelabs/wazero"
	"github.com/tetratelabs/wazero/api"
	"github.com/tetratelabs/wazero/experimental"

	"github.com/picloud/picloud/sdk/engine"
	"github.com/picloud/picloud/sdk/fault"
	"github.com/picloud/picloud/sdk/watch"
)

// instance is a module with a memory of its own. It serves one run at a time.
type instance struct {
	program *program
	memory  *memory
	module  api.Module
	stop    api.MutableGlobal
	run     *run // now
	mu      sync.Mutex
	busy    bool // its code runs; with mu held
	stopped bool // its code was told to end; with mu held
	begun   bool // it was made, and is called
}

// instantiate makes an instance for a run, or to serve runs later. Its start function has run then, and what a reactor has to
// initialise; a command is ready to be called. The error is a fault.
func (p *program) instantiate(x *run) (in *instance, err error) {
	in = &instance{program: p, memory: &memory{budget: &p.scripts.memory, limit: p.memory}}
	in.serve(x)
	defer func() {
		if failed := recover(); failed != nil { // the runtime does not expect to be refused the memory that a module begins with
			err = fmt.Errorf("%v", failed)
		}
		if err != nil {
			err = x.failure(err)
			in.Close()
		}
	}()
	config := wazero.NewModuleConfig().WithName("").WithArgs(p.name).WithStartFunctions().
		WithStdin(io.Reader(stdin{in})).WithStdout(stdout{in}).WithStderr(stderr{in}).
		WithSysWalltime().WithSysNanotime().WithRandSource(rand.Reader).
		WithNanosleep(func(ns int64) { in.run.sleep(time.Duration(ns)) })
	ctx := experimental.WithMemoryAllocator(x.ctx, experimental.MemoryAllocatorFunc(func(uint64, uint64) experimental.LinearMemory {
		return in.memory
	}))
	if in.module, err = p.runtime.InstantiateModule(ctx, p.compiled, config); err != nil {
		return in, err
	}
	in.stop = in.module.ExportedGlobal(stopName).(api.MutableGlobal)
	if p.started {
		if err := in.call(startName); err != nil {
			return in, err
		}
	}
	if !p.command && in.module.ExportedFunction(reactorStart) != nil {
		return in, in.call(reactorStart)
	}
	return in, nil
}

// serve makes a run the one that the instance works for.
func (in *instance) serve(x *run) {
	in.mu.Lock()
	defer in.mu.Unlock()
	in.run, x.in, in.memory.refused = x, in, nil
}

// call calls a function of the module, and ends it when the run is over.
func (in *instance) call(name string) error {
	x := in.run
	s := in.program.scripts
	in.mu.Lock()
	in.busy = true
	in.mu.Unlock()
	s.running.Store(in, nil)
	defer context.AfterFunc(x.ctx, s.stopLate)()
	_, err := in.module.ExportedFunction(name).Call(x.ctx)
	s.running.Delete(in)
	in.mu.Lock()
	defer in.mu.Unlock()
	in.busy = false
	if in.stopped {
		<-x.ctx.Done() // what is late is stopped by whoever notices first
	}
	if err == nil && x.ctx.Err() != nil {
		err = context.Cause(x.ctx) // a stop that came too late would end the next run
	}
	return err
}

// stopLate stops all runs that are over. The first to be over looks for the others, too: where many runs compute, each waits long for
// its turn.
func (s *scripts) stopLate() {
	s.running.Range(func(key, _ any) bool {
		key.(*instance).stopLate()
		return true
	})
}

func (in *instance) stopLate() {
	in.mu.Lock()
	defer in.mu.Unlock()
	if !in.busy {
		return
	}
	if end, bounded := in.run.ctx.Deadline(); in.run.ctx.Err() != nil || bounded && !time.Now().Before(end) {
		in.stopped = true
		in.stop.Set(1)
	}
}

// close gives back what the instance holds. Its code must have ended.
func (in *instance) Close() {
	if in.module != nil {
		_ = in.module.Close(context.Background()) // its files are all in memory
	}
	in.memory.release()
}

// stdin is what a command reads.
type stdin struct{ *instance }

func (s stdin) Read(b []byte) (int, error) {
	n := copy(b, s.run.unread)
	s.run.unread = s.run.unread[n:]
	if n == 0 && len(b) > 0 {
		return 0, io.EOF
	}
	return n, nil
}

// stdout is the answer of a command. What a reactor prints is for people.
type stdout struct{ *instance }

func (s stdout) Write(b []byte) (int, error) {
	if s.program.command {
		return s.run.output.Write(b)
	}
	return s.run.console.Write(b)
}

type stderr struct{ *instance }

func (s stderr) Write(b []byte) (int, error) { return s.run.console.Write(b) }

// start makes an instance that is not for a certain run.
func (p *program) start(ctx context.Context) (*instance, error) {
	x := newRun(ctx, &engine.Invocation{Log: func(engine.Log) {}, Call: func(context.Context, string, string, []byte) ([]byte, error) {
		return nil, fault.New(fault.Invalid, fault.Script, "services are for runs, not for what comes before")
	}}, p.limit)
	defer x.end(nil)
	p.scripts.watch.Enter(x, watch.Limits{CPU: p.cpu})
	defer p.scripts.watch.Leave(x)
	in, err := p.instantiate(x)
	if err != nil {
		return nil, err
	}
	return in, nil
}
