package sink

import (
	"context"
	"crypto/sha256"
	"sync"
	"time"

	"github.com/google/uuid"

	"github.com/picloud/picloud/core/retry"
	"github.com/picloud/picloud/core/tenant"
	"github.com/picloud/picloud/sdk/fault"
	"github.com/picloud/picloud/sdk/sink"
)

// house is the place of the process of a kind: there is none, or one.
type house struct {
	manager *Manager
	kind    string

	mu       sync.Mutex
	process  *process
	starting *starting // nil: no start is under way
	crashes  retry.Crashes
	closed   bool
}

// starting is one start of a process, whose callers share it.
type starting struct {
	done chan struct{}
	err  error // read it after done
}

// process is a running sink and its instances.
type process struct {
	Process
	house *house
	idle  *time.Timer

	// Guarded by the house's mu.
	running int

	mu        sync.Mutex
	instances map[uuid.UUID]*instance // by sink
}

// instance is a configuration in a process.
type instance struct {
	digest [sha256.Size]byte // of the configuration, with secrets
	ready  chan struct{}
	number uint64 // read it after ready, like err
	err    error

	// Guarded by the process' mu.
	running int
	old     bool // another has taken its place, or the sink is gone
}

// take returns the process for one delivery; put takes it back. Callers that come while it starts share the start, which outlives any of
// them. Errors are faults: nothing was started.
func (h *house) take(ctx context.Context) (*process, error) {
	for {
		h.mu.Lock()
		if h.closed {
			h.mu.Unlock()
			return nil, fault.New(fault.Unavailable, fault.Platform, "the node is shutting down")
		}
		if p := h.process; p != nil && p.alive() {
			p.running++
			p.idle.Stop()
			h.mu.Unlock()
			return p, nil
		}
		start, err := h.begin()
		h.mu.Unlock()
		if err != nil {
			return nil, err
		}
		select {
		case <-start.done:
		case <-ctx.Done():
			return nil, fault.New(fault.Unavailable, fault.Platform, "the sink %q was not started in time", h.kind)
		}
		if start.err != nil {
			return nil, start.err
		}
	}
}

// begin starts a process unless one is starting already. It refuses while the back-off lasts. It is called with mu held.
func (h *house) begin() (*starting, error) {
	if h.starting != nil {
		return h.starting, nil
	}
	if wait := h.crashes.Wait(time.Now()); wait > 0 {
		f := fault.New(fault.Unavailable, fault.Plugin, "the process of the sink %q died %d times in a row", h.kind, h.crashes.Row())
		f.RetryAfter = wait
		return nil, f
	}
	start := &starting{done: make(chan struct{})}
	h.starting = start
	go func() {
		p, err := h.manager.cfg.Launch(h.manager.life, "sink/"+h.kind)
		h.mu.Lock()
		defer h.mu.Unlock()
		defer close(start.done)
		h.starting = nil
		h.crashes.Started(time.Now())
		switch {
		case err != nil:
			if h.manager.life.Err() == nil {
				h.manager.log.Error("cannot start a sink", "sink", h.kind, "error", err)
			}
			f := fault.New(fault.Unavailable, fault.Platform, "the sink %q cannot be started", h.kind)
			f.RetryAfter = time.Second
			start.err = f
		case h.closed:
			p.Kill()
		default:
			h.adopt(p)
		}
	}()
	return start, nil
}

// adopt makes a process the house's. It is called with mu held.
func (h *house) adopt(started Process) {
	p := &process{Process: started, house: h, instances: map[uuid.UUID]*instance{}}
	p.idle = time.AfterFunc(h.manager.cfg.Idle, p.retire)
	h.process = p
	go func() {
		<-p.Done()
		h.mu.Lock()
		defer h.mu.Unlock()
		p.idle.Stop()
		if h.process == p {
			h.process = nil
		}
		if p.Err() != nil {
			h.crashes.Died(time.Now())
		}
	}()
}

// put takes the process back after a delivery.
func (p *process) put() {
	p.house.mu.Lock()
	defer p.house.mu.Unlock()
	if p.running--; p.running == 0 {
		p.idle.Reset(p.house.manager.cfg.Idle)
	}
}

// retire ends a process that has had nothing to do.
func (p *process) retire() {
	p.house.mu.Lock()
	defer p.house.mu.Unlock()
	if p.running == 0 {
		if p.house.process == p {
			p.house.process = nil
		}
		p.Kill()
	}
}

func (p *process) alive() bool {
	select {
	case <-p.Done():
	case <-p.Sink().Lost():
	default:
		return true
	}
	return false
}

func (h *house) running() bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.process != nil
}

func (h *house) close() {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.closed = true
	if h.process != nil {
		h.process.Kill()
	}
}

// keep drops the instances of sinks that are gone.
func (h *house) keep(snapshot *tenant.Snapshot) {
	h.mu.Lock()
	p := h.process
	h.mu.Unlock()
	if p == nil {
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	for id, x := range p.instances {
		if id != tenant.EmailSink && snapshot.Sink(id) == nil {
			delete(p.instances, id)
			p.leave(x)
		}
	}
}

// instance returns that of a sink with a configuration, for one delivery; release lets it go. One of another configuration, also if only
// a secret differs, is replaced.
func (p *process) instance(ctx context.Context, id uuid.UUID, cfg sink.Config) (*instance, error) {
	digest := sha256.Sum256(cfg.JSON)
	p.mu.Lock()
	x := p.instances[id]
	if x == nil || x.digest != digest {
		if x != nil {
			p.leave(x)
		}
		x = &instance{digest: digest, ready: make(chan struct{})}
		p.instances[id] = x
		go p.configure(id, x, cfg)
	}
	x.running++
	p.mu.Unlock()
	select {
	case <-x.ready:
		if x.err == nil {
			return x, nil
		}
		p.release(x)
		return nil, x.err
	case <-ctx.Done():
		p.release(x)
		return nil, fault.New(fault.Unavailable, fault.Platform, "the sink was not configured in time")
	}
}

// configure makes the instance. One that cannot be made is forgotten, so that the next delivery tries again.
func (p *process) configure(id uuid.UUID, x *instance, cfg sink.Config) {
	x.number, x.err = p.Sink().Configure(p.house.manager.life, cfg)
	if x.err != nil {
		p.mu.Lock()
		if p.instances[id] == x {
			delete(p.instances, id)
		}
		p.mu.Unlock()
	}
	close(x.ready)
}

// leave has an instance go with its last delivery. It is called with mu held.
func (p *process) leave(x *instance) {
	if x.old = true; x.running == 0 {
		p.forget(x)
	}
}

func (p *process) release(x *instance) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if x.running--; x.old && x.running == 0 {
		p.forget(x)
	}
}

func (p *process) forget(x *instance) {
	go func() {
		if <-x.ready; x.err == nil {
			_ = p.Sink().Forget(p.house.manager.life, x.number) // a process that is gone has forgotten it
		}
	}()
}
