// Package engine keeps the processes that run scripts: one for each app and engine, started when it is first needed,
// with the bundles of the app loaded. It stands between core/execution and the engine plugins.
//
// A process is never shared between apps: a script can change what its whole process sees, and can end it.
package engine

import (
	"context"
	"sync"
	"time"

	"github.com/google/uuid"
	"github.com/hashicorp/go-hclog"

	"github.com/picloud/picloud/core/failpoint"
	"github.com/picloud/picloud/core/tenant"
	"github.com/picloud/picloud/sdk/engine"
	"github.com/picloud/picloud/sdk/fault"
)

// Process is one running engine plugin.
type Process interface {
	Engine() *engine.Client
	// Done is closed when the process has ended.
	Done() <-chan struct{}
	// Kill ends the process at once. It may be called more than once.
	Kill()
}

// LaunchFunc starts a blank process of the named plugin ("engine/yaegi") and waits until it serves.
type LaunchFunc func(ctx context.Context, plugin string) (Process, error)

// Bundles reads what an engine loads for the active version of a script.
type Bundles interface {
	Bundle(ctx context.Context, script *tenant.Script) (engine.Bundle, error)
}

// loadLimit bounds compiling a bundle and running its initialisers.
const loadLimit = 5 * time.Second

// Manager keeps the processes. Its methods are safe for concurrent use.
type Manager struct {
	launch  LaunchFunc
	bundles Bundles
	log     hclog.Logger
	life    context.Context // ends with Close
	end     context.CancelFunc
	checks  chan struct{} // bounds the processes that only check sources

	mu     sync.RWMutex
	seats  map[key]*seat
	closed bool
}

// key names a process: no two apps share one.
type key struct {
	app    uuid.UUID
	engine string
}

// New makes a manager.
func New(launch LaunchFunc, bundles Bundles, log hclog.Logger) *Manager {
	life, end := context.WithCancel(context.Background())
	return &Manager{
		launch: launch, bundles: bundles, log: log.Named("engine"), life: life, end: end,
		checks: make(chan struct{}, 2), seats: map[key]*seat{},
	}
}

// Invoke runs the active version of script once in its app's process; lone takes a process that runs nothing else, so
// that if it dies it is clear whose doing that was. The error is a *fault.Fault.
func (m *Manager) Invoke(
	ctx context.Context, script *tenant.Script, lone bool, r *engine.Request, out engine.Reply,
) error {
	r.Bundle = script.Hash
	if lone {
		p, err := m.start(ctx, script.Engine)
		if err != nil {
			return err
		}
		defer p.Kill()
		if _, err := p.hold(ctx, m.bundles, script); err != nil { // until the kill
			return err
		}
		failpoint.Hit(failpoint.EnginePicked)
		return p.Engine().Invoke(ctx, r, out)
	}
	p, err := m.process(ctx, key{script.App, script.Engine})
	if err != nil {
		return err
	}
	release, err := p.hold(ctx, m.bundles, script)
	if err != nil {
		return err
	}
	defer release()
	failpoint.Hit(failpoint.EnginePicked)
	return p.Engine().Invoke(ctx, r, out)
}

// Check compiles bundles, one after the other, in a process of their own, which ends with the check: sources that nobody has
// run yet must not disturb those that run. It ends at the first that is wrong, which the last Loaded is of. A *fault.Fault of
// kind fault.Compile says that it is; the diagnostics say where.
func (m *Manager) Check(ctx context.Context, engineName string, bundles []engine.Bundle) ([]engine.Loaded, error) {
	select {
	case m.checks <- struct{}{}:
		defer func() { <-m.checks }()
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	}
	p, err := m.start(ctx, engineName)
	if err != nil {
		return nil, err
	}
	defer p.Kill()
	var done []engine.Loaded
	for _, b := range bundles {
		loaded, err := p.check(ctx, b)
		done = append(done, loaded)
		if err != nil {
			return done, err
		}
	}
	return done, nil
}

func (p *process) check(ctx context.Context, b engine.Bundle) (engine.Loaded, error) {
	ctx, cancel := context.WithTimeout(ctx, loadLimit)
	defer cancel()
	b.Hash = "check"
	loaded, err := p.Engine().Load(ctx, b)
	if err == nil {
		err = p.Engine().Unload(ctx, b.Hash)
	}
	if ctx.Err() != nil && err != nil {
		err = tooLong(b.Script)
	}
	return loaded, err
}

func tooLong(script string) *fault.Fault {
	f := fault.New(fault.Compile, fault.Script, "the script %q was not ready within %s: its initialisers take too long",
		script, loadLimit)
	f.Fatal = true
	return f
}

// process returns the app's process, starting it if need be.
func (m *Manager) process(ctx context.Context, k key) (*process, error) {
	m.mu.RLock()
	s := m.seats[k]
	m.mu.RUnlock()
	if s == nil {
		m.mu.Lock()
		if m.closed {
			m.mu.Unlock()
			return nil, fault.New(fault.Unavailable, fault.Platform, "the node is shutting down")
		}
		if s = m.seats[k]; s == nil {
			s = &seat{}
			m.seats[k] = s
		}
		m.mu.Unlock()
	}
	return s.get(ctx, func() (*process, error) { return m.start(m.life, k.engine) })
}

// start launches a blank process.
func (m *Manager) start(ctx context.Context, engineName string) (*process, error) {
	p, err := m.launch(ctx, "engine/"+engineName)
	if err != nil {
		m.log.Error("cannot start an engine", "engine", engineName, "error", err)
		f := fault.New(fault.Unavailable, fault.Platform, "the engine %q cannot be started", engineName)
		f.RetryAfter = time.Second
		return nil, f
	}
	return &process{Process: p, loaded: map[string]*loading{}}, nil
}

// Keep ends the processes of apps that are gone and unloads bundles that no script names any more.
func (m *Manager) Keep(snapshot *tenant.Snapshot) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for k, s := range m.seats {
		app := snapshot.App(k.app)
		if app == nil {
			delete(m.seats, k)
			s.close()
			continue
		}
		active := map[string]bool{}
		for i := range app.Scripts {
			active[app.Scripts[i].Hash] = true
		}
		s.unload(active)
	}
}

// Close ends every process.
func (m *Manager) Close() {
	m.end()
	m.mu.Lock()
	defer m.mu.Unlock()
	m.closed = true
	for k, s := range m.seats {
		delete(m.seats, k)
		s.close()
	}
}
