// Package engine keeps the processes that run scripts: one for each app and engine, started when it is first needed,
// with the bundles of the app loaded. It stands between core/execution and the engine plugins.
//
// A process is never shared between apps: a script can change what its whole process sees, and can end it. Beyond the one
// process, an app has more for a while: where its runs keep one processor to themselves (see seat), where a script may be
// to blame for the end of a process (see guard), and while one process replaces another (see sweep.go).
package engine

import (
	"context"
	"errors"
	"runtime"
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
	// Done is closed when the process has ended. Its runs have failed by then.
	Done() <-chan struct{}
	// Err is why Done is closed; nil after Kill.
	Err() error
	// Fate says in words how the process ended. It waits for that.
	Fate() string
	Pid() int
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

// Config is what a manager is made of. A zero limit means that there is none.
type Config struct {
	Launch  LaunchFunc
	Bundles Bundles
	Log     hclog.Logger

	// Spares is how many blank processes are ready of each engine that an active script uses.
	Spares int
	// Idle is how long a process without runs is kept.
	Idle time.Duration
	// Runs, Memory (bytes, of its own) and Age are when a process is replaced.
	Runs   int64
	Memory int64
	Age    time.Duration
	// Losses is how often within ten minutes, under different events, a version of a script may end processes of its own
	// before it is quarantined.
	Losses int

	now  func() time.Time // nil: time.Now
	most int              // processes that share the runs of one app and engine; zero: the machine's processors
}

// Manager keeps the processes. Its methods are safe for concurrent use.
type Manager struct {
	cfg    Config
	log    hclog.Logger
	life   context.Context // ends with Close
	end    context.CancelFunc
	checks chan struct{} // bounds the processes that only check sources
	spares spares
	guard  guard
	count  counters

	mu     sync.RWMutex
	seats  map[key]*seat
	closed bool
}

// key names a seat: no two apps share one. A suspect version of a script has a seat of its own.
type key struct {
	app    uuid.UUID
	engine string
	hash   string // of the suspect's bundle; empty: all others of the app
}

// New makes a manager. Close ends it.
func New(cfg Config) *Manager {
	if cfg.now == nil {
		cfg.now = time.Now
	}
	if cfg.most == 0 {
		cfg.most = runtime.NumCPU()
	}
	m := &Manager{cfg: cfg, log: cfg.Log.Named("engine"), checks: make(chan struct{}, 2), seats: map[key]*seat{}}
	m.life, m.end = context.WithCancel(context.Background())
	m.spares = spares{want: cfg.Spares, launch: m.launch, life: m.life, pools: map[string]*pool{}}
	m.guard = guard{losses: cfg.Losses, now: cfg.now, log: m.log, records: map[version]*record{}}
	m.count = counters{starts: map[string]int64{}, alive: map[string]int{}, recycles: map[string]int64{}}
	go m.look()
	return m
}

// Invoke runs the active version of script once in its app's process; lone takes a process that runs nothing else, so
// that if it dies it is clear whose doing that was. The error is a *fault.Fault.
func (m *Manager) Invoke(
	ctx context.Context, script *tenant.Script, lone bool, r *engine.Request, out engine.Reply,
) error {
	r.Bundle = script.Hash
	for retried := false; ; {
		where, err := m.guard.admit(script)
		if err != nil {
			return err
		}
		if lone || where == onTrial {
			return m.alone(ctx, script, where == onTrial, r, out)
		}
		k := key{app: script.App, engine: script.Engine}
		if where == apart {
			k.hash = script.Hash
		}
		unstarted, err := m.together(ctx, k, script, r, out)
		switch {
		case errors.Is(err, errBuried): // the script may be suspect now
		case unstarted && !retried: // most likely by another's doing
			retried = true
		default:
			return err
		}
	}
}

// together runs in a process that may have other runs. unstarted reports that the process died before the run began.
func (m *Manager) together(
	ctx context.Context, k key, script *tenant.Script, r *engine.Request, out engine.Reply,
) (unstarted bool, err error) {
	s, err := m.seat(k)
	if err != nil {
		return false, err
	}
	p, err := s.take(ctx)
	if err != nil {
		return false, err
	}
	defer s.put(p)
	release, err := p.hold(ctx, m.cfg.Bundles, script)
	if err != nil {
		return fault.From(err).Kind == fault.EngineLost, err
	}
	defer release()
	failpoint.Hit(failpoint.EnginePicked)
	if err = p.Engine().Invoke(ctx, r, out); err == nil {
		return false, nil
	}
	select {
	case <-p.Engine().Lost():
		return fault.From(err).Kind == fault.Unavailable, err
	default:
		return false, err
	}
}

// alone runs in a process that has no other runs and ends with this one.
func (m *Manager) alone(
	ctx context.Context, script *tenant.Script, trial bool, r *engine.Request, out engine.Reply,
) error {
	verdict := undecided
	if trial {
		defer func() { m.guard.settle(script, verdict) }()
	}
	p, err := m.start(ctx, script.Engine)
	if err != nil {
		return err
	}
	defer p.Kill()
	if _, err = p.hold(ctx, m.cfg.Bundles, script); err == nil { // until the kill
		failpoint.Hit(failpoint.EnginePicked)
		if err = p.Engine().Invoke(ctx, r, out); ctx.Err() == nil {
			verdict = survived // and was not given up before its time
		}
	}
	if err != nil && fault.From(err).Kind == fault.EngineLost {
		<-p.Done()
		if how, crashed := m.died(p); crashed {
			m.guard.lost(script, r.ExecutionID, how)
		}
		verdict = undecided // or settled by lost
	}
	return err
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

// seat returns the place of the processes for k.
func (m *Manager) seat(k key) (*seat, error) {
	m.mu.RLock()
	s := m.seats[k]
	m.mu.RUnlock()
	if s != nil {
		return s, nil
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.closed {
		return nil, fault.New(fault.Unavailable, fault.Platform, "the node is shutting down")
	}
	if s = m.seats[k]; s == nil {
		s = &seat{manager: m, key: k}
		m.seats[k] = s
	}
	return s, nil
}

// all returns every seat there is now.
func (m *Manager) all() []*seat {
	m.mu.RLock()
	defer m.mu.RUnlock()
	seats := make([]*seat, 0, len(m.seats))
	for _, s := range m.seats {
		seats = append(seats, s)
	}
	return seats
}

// start returns a blank process: a spare, or one that is launched now.
func (m *Manager) start(ctx context.Context, engineName string) (*process, error) {
	if p := m.spares.take(engineName); p != nil {
		return p, nil
	}
	return m.launch(ctx, engineName)
}

func (m *Manager) launch(ctx context.Context, engineName string) (*process, error) {
	p, err := m.cfg.Launch(ctx, "engine/"+engineName)
	if err != nil {
		if m.life.Err() == nil {
			m.log.Error("cannot start an engine", "engine", engineName, "error", err)
		}
		f := fault.New(fault.Unavailable, fault.Platform, "the engine %q cannot be started", engineName)
		f.RetryAfter = time.Second
		return nil, f
	}
	m.count.started(engineName)
	go func() {
		<-p.Done()
		m.count.ended(engineName)
	}()
	now := m.cfg.now()
	return &process{Process: p, now: m.cfg.now, born: now, used: now, buried: make(chan struct{}), loaded: map[string]*loading{}}, nil
}

// Keep says what there is to run: it ends the processes of apps that are gone, unloads bundles that no script names any
// more, and has spares of the engines that are in use.
func (m *Manager) Keep(snapshot *tenant.Snapshot) {
	active, engines := map[uuid.UUID]map[string]bool{}, map[string]bool{}
	for app := range snapshot.Apps() {
		hashes := map[string]bool{}
		for i := range app.Scripts {
			if s := &app.Scripts[i]; s.Version != 0 {
				hashes[s.Hash] = true
				engines[s.Engine] = engines[s.Engine] || s.Kind != tenant.KindModule // which others load
			}
		}
		active[app.ID] = hashes
	}
	m.guard.keep(active)
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.closed {
		return
	}
	for k, s := range m.seats {
		if hashes := active[k.app]; hashes != nil {
			s.unload(hashes)
			continue
		}
		delete(m.seats, k)
		s.close()
	}
	m.spares.keep(engines)
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
	m.spares.keep(nil)
}
