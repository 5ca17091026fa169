// Package engine keeps the processes that run scripts: one for each app and engine, started when it is first needed,
// with the bundles of the app loaded. It stands between core/execution and the engine plugins.
//
// A process is never shared between apps: a script can change what its whole process sees, and can end it. Beyond the one
// process, an app has more for a while: where its runs keep one processor to themselves (see seat), where a script may be
// to blame for the end of a process (see guard), and while one process replaces another (see sweep.go).
package engine

import (
	"context"
	"runtime"
	"sync"
	"time"

	"github.com/google/uuid"
	"github.com/hashicorp/go-hclog"

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
