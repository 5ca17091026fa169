package engine

import (
	"context"
	"slices"
	"sync"
	"time"
)

// fillPause is how long after one was taken the next spare is started: whoever took it needs the processor first.
const fillPause = 50 * time.Millisecond

// spares keeps blank processes ready, so that an app's first run does not wait for the start of one: that takes 25 to 80 ms,
// and a spare is there at once. A spare is nobody's: it has loaded nothing, and once taken it is never given back.
type spares struct {
	want   int // of each engine in use
	launch func(ctx context.Context, engine string) (*process, error)
	life   context.Context // after which nothing is started

	mu    sync.Mutex
	pools map[string]*pool // of the engines in use
}

// pool holds the spares of one engine.
type pool struct {
	ready    []*process // the oldest first
	starting bool
}

// take returns a spare, or nil where none is ready, and has the next one started.
func (s *spares) take(engine string) *process {
	s.mu.Lock()
	defer s.mu.Unlock()
	p := s.pools[engine]
	if p == nil {
		return nil
	}
	defer s.fill(engine, p)
	for len(p.ready) > 0 {
		first := p.ready[0]
		p.ready = slices.Delete(p.ready, 0, 1)
		if first.alive() {
			return first
		}
	}
	return nil
}

// keep has spares of engines and of no others.
func (s *spares) keep(engines map[string]bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for engine, p := range s.pools {
		if !engines[engine] {
			delete(s.pools, engine)
			for _, x := range p.ready {
				x.Kill()
			}
		}
	}
	for engine := range engines {
		if s.pools[engine] == nil {
			s.pools[engine] = &pool{}
		}
	}
	for engine, p := range s.pools {
		s.fill(engine, p)
	}
}

// renew replaces spares that have died, and tries again what could not be started.
func (s *spares) renew() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for engine, p := range s.pools {
		p.ready = slices.DeleteFunc(p.ready, func(x *process) bool { return !x.alive() })
		s.fill(engine, p)
	}
}

// fill starts what is missing, one after the other: a start takes a processor for tens of milliseconds, and the runs that
// took the spares need it too. It is called with mu held.
func (s *spares) fill(engine string, p *pool) {
	if p.starting || len(p.ready) >= s.want || s.life.Err() != nil {
		return
	}
	p.starting = true
	go func() {
		select {
		case <-time.After(fillPause):
		case <-s.life.Done():
		}
		x, err := s.launch(s.life, engine)
		s.mu.Lock()
		defer s.mu.Unlock()
		p.starting = false
		switch {
		case err != nil: // renew tries again
		case s.pools[engine] != p:
			x.Kill() // the engine is out of use
		default:
			p.ready = append(p.ready, x)
			s.fill(engine, p)
		}
	}()
}

// ready counts spares by engine.
func (s *spares) ready() map[string]int {
	s.mu.Lock()
	defer s.mu.Unlock()
	n := map[string]int{}
	for engine, p := range s.pools {
		n[engine] = len(p.ready)
	}
	return n
}
