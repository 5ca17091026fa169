package engine

import (
	"context"
	"errors"
	"slices"
	"sync"
	"time"

	"github.com/picloud/picloud/core/retry"
	"github.com/picloud/picloud/sdk/fault"
)

// seat is the place of the processes that share the runs of one app and engine: none, one, or more where one is not enough.
//
// A run goes to the first process that is not busy, in the order of their starts, so that those that are not needed fall
// idle. Where all are busy another one is started, as long as there are fewer than processors; what then still finds all
// of them busy goes where the fewest runs are.
type seat struct {
	manager *Manager
	key     key

	mu        sync.Mutex
	processes []*process // that take runs, the oldest first
	leaving   []*process // that have successors
	starting  *starting  // nil: no start is under way
	crashes   retry.Crashes
	closed    bool
}

// starting is one start of a process, whose callers share it.
type starting struct {
	done chan struct{}
	err  error // read it after done
}

// errBuried says that a process had died, and that it is known now what follows from that.
var errBuried = errors.New("a process has died")

// take returns a process for one run and counts it; put takes it back. Callers that come while a process starts share the
// start, which outlives any of them. It fails with errBuried after the death of a process, and with faults.
func (s *seat) take(ctx context.Context) (*process, error) {
	for {
		p, dead, start, err := s.pick()
		if p != nil || err != nil {
			return p, err
		}
		if start != nil {
			dead = start.done
		}
		select {
		case <-dead:
		case <-ctx.Done():
			return nil, fault.From(context.Cause(ctx))
		}
		if start == nil {
			return nil, errBuried
		}
		if start.err != nil {
			return nil, start.err
		}
	}
}

// pick returns the process for a run, counted; or what to wait for: the consequences of a death, or a start.
func (s *seat) pick() (p *process, dead <-chan struct{}, start *starting, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return nil, nil, nil, fault.New(fault.Unavailable, fault.Platform, "the app is gone or the node is shutting down")
	}
	now := time.Now()
	var least *process
	for _, x := range s.processes {
		switch {
		case !x.alive():
			return nil, x.buried, nil, nil
		case !x.pulse.busy(x.Pid(), x.running, now):
			p = x
		case least == nil || x.running < least.running:
			least = x
		}
		if p != nil {
			break
		}
	}
	if p == nil && least != nil {
		p = s.grow(least)
	}
	if p == nil {
		start, err = s.begin()
		return nil, nil, start, err
	}
	p.running++
	p.runs++
	return p, nil, nil, nil
}

// grow returns another process, if one is there at once and may be taken, else busy. It is called with mu held.
func (s *seat) grow(busy *process) *process {
	if len(s.processes) >= s.manager.cfg.most || s.starting != nil || s.crashes.Wait(time.Now()) > 0 {
		return busy
	}
	if p := s.manager.spares.take(s.key.engine); p != nil {
		s.crashes.Started(time.Now())
		s.adopt(p)
		return p
	}
	s.launch()
	return busy
}

// put takes a process back after a run.
func (s *seat) put(p *process) {
	s.mu.Lock()
	defer s.mu.Unlock()
	p.running--
	p.used = s.manager.cfg.now()
	if p.going && p.running == 0 {
		p.Kill()
	}
}

// begin starts a process unless one is starting already. It refuses while the back-off lasts. It is called with mu held.
func (s *seat) begin() (*starting, error) {
	if s.starting != nil {
		return s.starting, nil
	}
	if wait := s.crashes.Wait(time.Now()); wait > 0 {
		f := fault.New(fault.Unavailable, fault.Script, "the app's engine process died %d times in a row", s.crashes.Row())
		f.RetryAfter = wait
		return nil, f
	}
	return s.launch(), nil
}

// launch starts a process in the background. It is called with mu held.
func (s *seat) launch() *starting {
	start := &starting{done: make(chan struct{})}
	s.starting = start
	go func() {
		p, err := s.manager.start(s.manager.life, s.key.engine)
		s.mu.Lock()
		defer s.mu.Unlock()
		defer close(start.done)
		s.starting, start.err = nil, err
		s.crashes.Started(time.Now())
		switch {
		case err != nil:
		case s.closed:
			p.Kill()
		default:
			s.adopt(p)
		}
	}()
	return start
}

// adopt makes a process the seat's. It is called with mu held.
func (s *seat) adopt(p *process) {
	p.born, p.used = s.manager.cfg.now(), s.manager.cfg.now()
	s.processes = append(s.processes, p)
	go s.watch(p)
}

// watch waits for the end of a process of the seat and draws the consequences.
func (s *seat) watch(p *process) {
	<-p.Done()
	suspects := p.suspects() // before it is long ago
	how, crashed := s.manager.died(p)
	switch {
	case !crashed:
	case s.key.hash == "":
		s.manager.guard.suspects(suspects, how)
	case len(suspects) > 0: // it is one, the only one
		s.manager.guard.lost(suspects[0], "", how)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.remove(p)
	if crashed {
		s.crashes.Died(time.Now())
	}
	close(p.buried)
}

func (s *seat) remove(p *process) {
	is := func(x *process) bool { return x == p }
	s.processes, s.leaving = slices.DeleteFunc(s.processes, is), slices.DeleteFunc(s.leaving, is)
}

// retire has a process take no more runs and end with the last. It is called with mu held.
func (s *seat) retire(p *process) {
	s.remove(p)
	if p.going = true; p.running == 0 {
		p.Kill()
		return
	}
	s.leaving = append(s.leaving, p)
}

// replace puts a successor into the place of p, and reports whether p was still there.
func (s *seat) replace(p, next *process) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed || !slices.Contains(s.processes, p) {
		return false
	}
	s.retire(p)
	s.adopt(next)
	return true
}

func (s *seat) unload(active map[string]bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, p := range slices.Concat(s.processes, s.leaving) {
		if p.alive() {
			p.unload(active)
		}
	}
}

func (s *seat) close() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.closed = true
	for _, p := range slices.Concat(s.processes, s.leaving) {
		p.Kill()
	}
}
