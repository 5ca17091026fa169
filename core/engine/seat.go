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

func (s *seat) unload(ctx context.Context, active map[string]bool) {
	if p := s.current.Load(); p != nil && p.alive() {
		p.unload(ctx, active)
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
}

func (p *process) alive() bool {
	select {
	case <-p.Done():
		return false
	default:
		return true
	}
}

// load makes sure that the script's bundle is loaded. Callers that come meanwhile share the Load.
func (p *process) load(ctx context.Context, bundles Bundles, script *tenant.Script) error {
	p.mu.Lock()
	l := p.loaded[script.Hash]
	if l == nil {
		l = &loading{done: make(chan struct{})}
		p.loaded[script.Hash] = l
		go p.fetch(l, bundles, *script)
	}
	p.mu.Unlock()
	select {
	case <-l.done:
		return l.err
	default:
	}
	select {
	case <-l.done:
		return l.err
	case <-ctx.Done():
		return fault.From(context.Cause(ctx))
	}
}

// fetch reads and loads a bundle. A failure is forgotten, so that the next run tries again.
func (p *process) fetch(l *loading, bundles Bundles, script tenant.Script) {
	ctx, cancel := context.WithTimeout(context.Background(), loadLimit)
	defer cancel()
	defer close(l.done)
	b, err := bundles.Bundle(ctx, &script)
	if err == nil {
		_, err = p.Engine().Load(ctx, b)
	}
	if err == nil {
		return
	}
	if l.err = fault.From(err); ctx.Err() != nil {
		l.err = tooLong(script.Name)
	}
	p.mu.Lock()
	delete(p.loaded, script.Hash)
	p.mu.Unlock()
}

// unload forgets bundles that are not active.
func (p *process) unload(ctx context.Context, active map[string]bool) {
	p.mu.Lock()
	var old []string
	for hash, l := range p.loaded {
		select {
		case <-l.done:
		default:
			continue // a load under way is for a version newer than what we look at
		}
		if !active[hash] {
			old = append(old, hash)
			delete(p.loaded, hash)
		}
	}
	p.mu.Unlock()
	for _, hash := range old {
		go func() { _ = p.Engine().Unload(ctx, hash) }() // a process that is gone has nothing loaded
	}
}
