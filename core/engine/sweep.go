package engine

import (
	"fmt"
	"slices"
	"time"

	"github.com/picloud/picloud/sdk/fault"
)

// lookEvery is how often processes are looked at: whether they are idle, or to be replaced. One look reads one small file
// of each process.
const lookEvery = 5 * time.Second

// memoryRest is how long a process is not replaced for its memory after its start: one that needs as much as that would
// else be replaced without end.
const memoryRest = time.Minute

// mostMapped is which part of the addresses that it may write to a process takes before it is replaced: scripts that were ended for
// their memory leave holes that the next may not fit into. A run that is at its limit takes a third.
const mostMapped = 0.6

// Why a process is replaced.
const (
	recycleRuns   = "runs"
	recycleMemory = "memory"
	recycleAge    = "age"
)

// look looks at all processes now and then, until Close.
func (m *Manager) look() {
	tick := time.NewTicker(lookEvery)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
			m.sweep()
		case <-m.life.Done():
			return
		}
	}
}

// sweep ends what is idle and replaces what is old.
func (m *Manager) sweep() {
	m.spares.renew()
	m.guard.prune()
	for _, s := range m.all() {
		s.sweep()
	}
}

func (s *seat) sweep() {
	s.mu.Lock()
	defer s.mu.Unlock()
	m := s.manager
	for _, p := range slices.Clone(s.processes) {
		idle := m.cfg.now().Sub(p.used)
		if m.cfg.Idle > 0 && p.running == 0 && idle >= m.cfg.Idle {
			s.retire(p)
			m.count.stopped()
			m.log.Debug("an idle engine process is ended", "engine", s.key.engine, "app", s.key.app, "pid", p.Pid(), "idle", idle)
			continue
		}
		if reason := m.due(p); reason != "" && !p.renewed {
			p.renewed = true
			go s.renew(p, reason)
		}
	}
}

// due says why a process is to be replaced; empty: it is not. It is called with the seat's mu held.
func (m *Manager) due(p *process) string {
	age := m.cfg.now().Sub(p.born)
	switch {
	case m.cfg.Runs > 0 && p.runs >= m.cfg.Runs:
		return recycleRuns
	case m.cfg.Age > 0 && age >= m.cfg.Age:
		return recycleAge
	case m.cfg.Memory > 0 && age >= memoryRest:
		if own, mapped, known := ownMemory(p.Pid()); known && (own >= m.cfg.Memory || mapped > mostMapped) {
			return recycleMemory
		}
	}
	return ""
}

// renew replaces p by a process that has loaded what p has. Until that one is ready p goes on; then it takes no more
// runs, and ends with the last. Where it fails p stays, and the next sweep tries again.
func (s *seat) renew(p *process, reason string) {
	m := s.manager
	next, err := s.successor(p)
	if err == nil && s.replace(p, next) {
		m.count.recycled(reason)
		m.log.Info("an engine process is replaced", "engine", s.key.engine, "app", s.key.app, "pid", p.Pid(), "reason", reason)
		return
	}
	if err == nil { // p is gone, so there is nothing to replace
		next.Kill()
		return
	}
	if m.life.Err() == nil {
		m.log.Warn("cannot replace an engine process", "engine", s.key.engine, "app", s.key.app, "pid", p.Pid(), "error", err)
	}
	s.mu.Lock()
	p.renewed = false
	s.mu.Unlock()
}

// successor starts a process and loads what p has loaded. A bundle that does not load will be tried again by its next run.
func (s *seat) successor(p *process) (*process, error) {
	m := s.manager
	next, err := m.start(m.life, s.key.engine)
	if err != nil {
		return nil, err
	}
	for _, script := range p.kept() {
		release, err := next.hold(m.life, m.cfg.Bundles, script)
		if err == nil {
			release()
		}
		if err != nil && fault.From(err).Kind == fault.EngineLost || m.life.Err() != nil {
			next.Kill()
			return nil, fmt.Errorf("load %q: %w", script.Name, err)
		}
	}
	return next, nil
}
