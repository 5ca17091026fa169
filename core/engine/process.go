package engine

import (
	"context"
	"sync"
	"time"

	"github.com/picloud/picloud/core/tenant"
	"github.com/picloud/picloud/sdk/engine"
	"github.com/picloud/picloud/sdk/fault"
)

// process is a running engine and what it has loaded.
type process struct {
	Process
	now    func() time.Time
	buried chan struct{} // closed when its seat has drawn the consequences of its end

	// Guarded by the seat's mu.
	born    time.Time
	used    time.Time // the end of the last run
	running int
	runs    int64 // since the start
	renewed bool  // a successor is on its way
	going   bool  // it takes no more runs, and ends with the last
	pulse   pulse

	mu     sync.Mutex
	loaded map[string]*loading // by hash
}

// loading is one Load, under way or done.
type loading struct {
	script *tenant.Script
	done   chan struct{}
	err    error

	// Guarded by the process' mu.
	runs    int       // that hold the bundle
	used    time.Time // when the last one let go
	old     bool      // no script names it any more: the last run that holds it unloads it
	leaving bool      // it is being unloaded; done is closed when the next Load may come
}

// loadLimit bounds compiling a bundle and running its initialisers.
func (p *process) loadLimit() time.Duration {
	limit := p.Engine().Info().LoadLimit
	if limit <= 0 {
		limit = engine.DefaultLoadLimit
	}
	return min(limit, engine.MaxLoadLimit)
}

// alive reports whether the process takes runs. Its end begins with that of its session, or with a run that does not end.
func (p *process) alive() bool {
	select {
	case <-p.Done():
	case <-p.Engine().Lost():
	case <-p.Engine().Stuck():
	default:
		return true
	}
	return false
}

// hold makes sure that the script's bundle is loaded, and keeps it so until release is called. Callers that come meanwhile
// share the Load.
func (p *process) hold(ctx context.Context, bundles Bundles, script *tenant.Script) (release func(), err error) {
	hash := script.Hash
	var l *loading
	for {
		p.mu.Lock()
		if l = p.loaded[hash]; l == nil {
			l = &loading{script: script, done: make(chan struct{})}
			p.loaded[hash] = l
			go p.fetch(l, bundles)
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
	l.used = p.now()
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
		ctx, cancel := context.WithTimeout(context.Background(), p.loadLimit())
		defer cancel()
		_ = p.Engine().Unload(ctx, hash) // a process that is gone has nothing loaded
		p.mu.Lock()
		delete(p.loaded, hash)
		p.mu.Unlock()
		close(gone.done)
	}()
}

// fetch reads and loads a bundle. A failure is forgotten, so that the next run tries again; but not where the process died
// of it, since it is then asked for whom it had loaded.
func (p *process) fetch(l *loading, bundles Bundles) {
	ctx, cancel := context.WithTimeout(context.Background(), p.loadLimit())
	defer cancel()
	defer close(l.done)
	b, err := bundles.Bundle(ctx, l.script)
	switch {
	case err != nil: // the database is away, most likely, and nothing was started
		l.err = fault.New(fault.Unavailable, fault.Platform, "the source of %q cannot be read: %v", l.script.Name, err)
	default:
		if _, err = p.Engine().Load(ctx, b); err == nil {
			return
		}
		f := fault.From(err)
		if l.err = f; f.Kind == fault.EngineLost {
			return
		}
		if ctx.Err() != nil {
			l.err = p.tooLong(l.script.Name)
		}
	}
	p.mu.Lock()
	delete(p.loaded, l.script.Hash)
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

// kept returns the scripts whose bundles are loaded and in use.
func (p *process) kept() []*tenant.Script {
	p.mu.Lock()
	defer p.mu.Unlock()
	var scripts []*tenant.Script
	for _, l := range p.loaded {
		select {
		case <-l.done:
			if l.err == nil && !l.old && !l.leaving {
				scripts = append(scripts, l.script)
			}
		default:
		}
	}
	return scripts
}

// recent is how long after its last run a script may still be to blame for the end of its process: a run that does not
// end in time is over for its caller moments before its process is.
const recent = 250 * time.Millisecond

// suspects returns the scripts that ran, or were being loaded, when the process ended.
func (p *process) suspects() []*tenant.Script {
	p.mu.Lock()
	defer p.mu.Unlock()
	var scripts []*tenant.Script
	for _, l := range p.loaded {
		if !l.leaving && (l.runs > 0 || p.now().Sub(l.used) < recent) {
			scripts = append(scripts, l.script)
		}
	}
	return scripts
}
