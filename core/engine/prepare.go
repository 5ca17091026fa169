package engine

import (
	"context"
	"slices"
	"sync"

	"github.com/picloud/picloud/core/tenant"
)

// Prepare loads what next has new of scripts that run here, into the processes that have the version before, so that the first calls
// of a new version need not wait for it: calls of the one before go on meanwhile. It returns when all is loaded, or with ctx; what
// does not load is for the call that needs it to say.
func (m *Manager) Prepare(ctx context.Context, next *tenant.Snapshot) {
	var loads sync.WaitGroup
	for _, s := range m.all() {
		for _, p := range s.serving() {
			for _, script := range p.outdated(next) {
				loads.Go(func() {
					if release, err := p.hold(ctx, m.cfg.Bundles, script); err == nil {
						release()
					}
				})
			}
		}
	}
	loads.Wait()
}

// serving returns the processes that take runs.
func (s *seat) serving() []*process {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.DeleteFunc(slices.Clone(s.processes), func(p *process) bool { return !p.alive() })
}

// outdated returns the scripts of which a process has another bundle than next names.
func (p *process) outdated(next *tenant.Snapshot) []*tenant.Script {
	var scripts []*tenant.Script
	for _, old := range p.kept() {
		if now := next.Script(old.ID); now != nil && now.Version != 0 && now.Hash != old.Hash {
			scripts = append(scripts, now)
		}
	}
	return scripts
}
