package engine

import (
	"context"
	"sync"
	"sync/atomic"
	"time"

	"github.com/picloud/picloud/core/tenant"
	"github.com/picloud/picloud/sdk/fault"
)

// Back-off of a process that keeps dying: the first death costs nothing, then each doubles the wait. A process that
// lived for crashForget is a fresh start.
const (
	crashPause  = 100 * time.Millisecond
	crashCap    = 30 * time.Second
	crashForget = time.Minute
)

// seat is the place of one app's process: empty, starting, or taken.
type seat struct {
	current atomic.Pointer[process] // the hot path: a live process needs no lock

	mu       sync.Mutex
	starting chan struct{} // closed when the start that is under way has ended
	err      error         // of that start
	born     time.Time
	crashes  int
	closed   bool
}

// get returns the seat's process; start is called when there is none. Callers that come meanwhile share the start, which
// outlives any of them.
func (s *seat) get(ctx context.Context, start func() (*process, error)) (*process, error) {
	for {
		if p := s.current.Load(); p != nil && p.alive() {
			return p, nil
		}
		wait, err := s.begin(start)
		if err != nil {
			return nil, err
		}
		select {
		case <-wait:
		case <-ctx.Done():
			return nil, fault.From(context.Cause(ctx))
		}
		s.mu.Lock()
		err = s.err
		s.mu.Unlock()
		if err != nil {
			return nil, err
		}
	}
}

// begin starts a process unless one is starting already. It refuses while the back-off lasts.
func (s *seat) begin(start func() (*process, error)) (<-chan struct{}, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return nil, fault.New(fault.Unavailable, fault.Platform, "the app is gone or the node is shutting down")
	}
	if s.starting != nil {
		return s.starting, nil
	}
	if p := s.current.Load(); p != nil {
		if p.alive() {
			done := make(chan struct{})
			close(done)
			return done, nil
		}
		if s.current.Store(nil); time.Since(s.born) > crashForget {
			s.crashes = 0
		}
		s.crashes++
	}
	if wait := time.Until(s.born.Add(s.pause())); wait > 0 {
		f := fault.New(fault.Unavailable, fault.Script, "the app's engine process died %d times in a row", s.crashes)
		f.RetryAfter = wait
		return nil, f
	}
	done := make(chan struct{})
	s.starting, s.err = done, nil
	go func() {
		p, err := start()
		s.mu.Lock()
		defer s.mu.Unlock()
		s.starting, s.err, s.born = nil, err, time.Now()
		switch {
		case err != nil:
		case s.closed:
			p.Kill()
		default:
			s.current.Store(p)
		}
		close(done)
	}()
	return done, nil
}

// pause is the least time between the last start and the next.
func (s *seat) pause() time.Duration {
	if s.crashes < 2 {
		return 0
	}
	return min(crashPause<<min(s.crashes-2, 16), crashCap)
}

func (s *seat) unload(active map[string]bool) {
	if p := s.current.Load(); p != nil && p.alive() {
		p.unload(active)
	}
}

func (s *seat) close() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.closed = true
	if p := s.current.Load(); p != nil {
		p.Kill()
	}
}

// process is a running engine and what it has loaded.
type process struct {
	Process
	mu     sync.Mutex
	loaded map[string]*loading // by hash
}

// loading is one Load, under way or done.
type loading struct {
	done chan struct{}
	err  error

	// Guarded by the process' mu.
	runs    int  // that hold the bundle
	old     bool // no script names it any more: the last run that holds it unloads it
	leaving bool // it is being unloaded; done is closed when the next Load may come
}

func (p *process) alive() bool {
	select {
	case <-p.Done():
		return false
	default:
		return true
	}
}

// hold makes sure that the script's bundle is loaded, and keeps it so until release is called. Callers that come meanwhile
// share the Load.
func (p *process) hold(ctx context.Context, bundles Bundles, script *tenant.Script) (release func(), err error) {
	hash := script.Hash
	var l *loading
	for {
		p.mu.Lock()
		if l = p.loaded[hash]; l == nil {
			l = &loading{done: make(chan struct{})}
			p.loaded[hash] = l
			go p.fetch(l, bundles, *script)
		}
		leaving := l.leaving
		if !leaving {
			l.runs++
			l.old = false
		}
		p.mu.Unlock()
		select {
		case <-l.done:
		case <-ctx.Done():
			if !leaving {
				p.release(hash, l)
			}
			return nil, fault.From(context.Cause(ctx))
		}
		if !leaving {
			break
		}
	}
	if l.err != nil {
		p.release(hash, l)
		return nil, l.err
	}
	return func() { p.release(hash, l) }, nil
}

func (p *process) release(hash string, l *loading) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if l.runs--; l.old && l.runs == 0 {
		p.forget(hash)
	}
}

// forget has the engine drop a bundle that nobody holds. It is called with mu held. The next Load of the bundle waits for
// it: an Unload that came after that Load would take away what the runs that follow believe to be there.
func (p *process) forget(hash string) {
	gone := &loading{done: make(chan struct{}), leaving: true}
	p.loaded[hash] = gone
	go func() {
		ctx, cancel := context.WithTimeout(context.Background(), loadLimit)
		defer cancel()
		_ = p.Engine().Unload(ctx, hash) // a process that is gone has nothing loaded
		p.mu.Lock()
		delete(p.loaded, hash)
		p.mu.Unlock()
		close(gone.done)
	}()
}

// fetch reads and loads a bundle. A failure is forgotten, so that the next run tries again.
func (p *process) fetch(l *loading, bundles Bundles, script tenant.Script) {
	ctx, cancel := context.WithTimeout(context.Background(), loadLimit)
	defer cancel()
	defer close(l.done)
	b, err := bundles.Bundle(ctx, &script)
	switch {
	case err != nil: // the database is away, most likely, and nothing was started
		l.err = fault.New(fault.Unavailable, fault.Platform, "the source of %q cannot be read: %v", script.Name, err)
	default:
		if _, err = p.Engine().Load(ctx, b); err == nil {
			return
		}
		if l.err = fault.From(err); ctx.Err() != nil {
			l.err = tooLong(script.Name)
		}
	}
	p.mu.Lock()
	delete(p.loaded, script.Hash)
	p.mu.Unlock()
}

// unload drops bundles that are not active, as soon as no run holds them.
func (p *process) unload(active map[string]bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for hash, l := range p.loaded {
		select {
		case <-l.done:
		default:
			continue // on its way in, for a version newer than what we look at, or out
		}
		if active[hash] {
			continue
		}
		if l.old = true; l.runs == 0 {
			p.forget(hash)
		}
	}
}
