// Package source runs the configured sources of apps: it takes in what they emit, and tells them once that is safe. It begins the line, as
// core/ingress does for requests: core/trigger says which scripts and sinks want an event, and the entries are written in the transaction
// that moves the source's cursor.
//
// A source runs on one node, by a lease: a row that names the node's epoch. A commit of a node that has lost its epoch, or the lease,
// changes nothing.
package source

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/google/uuid"
	"github.com/hashicorp/go-hclog"

	"github.com/picloud/picloud/core/outbox"
	"github.com/picloud/picloud/core/secret"
	"github.com/picloud/picloud/core/tenant"
	"github.com/picloud/picloud/core/trigger"
	"github.com/picloud/picloud/sdk/fault"
	"github.com/picloud/picloud/sdk/source"
)

// Builtin are the kinds that need not be installed.
func Builtin() []string { return []string{"smtp"} }

// ErrLost says that this node does not run a source any more, or that the source is not where this node believes: nothing was taken in.
var ErrLost = errors.New("another node runs the source, or nobody does")

// Lease is one holding of a source by an epoch.
type Lease struct {
	App, Source uuid.UUID
	Owner       int64
	Claims      int64
}

// Taken is what a batch does to a source.
type Taken struct {
	Before, After string // cursors
	Events        int
	Lag           time.Duration // how old the last event is
}

// Store keeps leases and cursors. See core/postgres.SourceStore.
type Store interface {
	// Hold takes sources that nobody runs, of the kinds, for an epoch, and returns all that it has. What it does not take at once, so that
	// other nodes have some, it takes at the next call.
	Hold(ctx context.Context, owner int64, kinds []string) ([]Lease, error)
	// Begin says that an instance begins, and returns its cursor.
	Begin(ctx context.Context, l Lease) (cursor string, err error)
	// Failed notes why an instance has ended.
	Failed(ctx context.Context, l Lease, why string) error
	// Take writes entries, as far as their idempotency keys are new, and moves the cursor, in one transaction. It returns those that were
	// written. ErrLost: nothing was done. Other errors leave that open.
	Take(ctx context.Context, l Lease, t Taken, entries []*outbox.Entry) ([]*outbox.Entry, error)
}

// Outbox is where entries go. See core/dispatcher.
type Outbox interface {
	// Ready is nil while the node may write.
	Ready() error
	Epoch() int64
	AppendCaused(ctx context.Context, app uuid.UUID, size int, commit func(owner int64) ([]*outbox.Entry, error)) error
}

// Process is one running source plugin.
type Process interface {
	Source() *source.Client
	// Done is closed when the process has ended. Its instances have ended by then.
	Done() <-chan struct{}
	// Kill ends the process at once. It may be called more than once.
	Kill()
}

// LaunchFunc starts a process of the named plugin ("source/smtp") and waits until it serves.
type LaunchFunc func(ctx context.Context, plugin string) (Process, error)

// Config is what a manager is made of.
type Config struct {
	Launch   LaunchFunc
	Store    Store
	Outbox   Outbox
	Secrets  secret.Values
	Snapshot func() *tenant.Snapshot
	Kinds    []string // all that there are on this node
	Unfit    trigger.UnfitFunc
	Log      hclog.Logger
}

// Manager runs the node's share of all sources.
type Manager struct {
	cfg    Config
	log    hclog.Logger
	houses houses
	poke   chan struct{}

	running map[uuid.UUID]*instance // by source; only Run touches it
}

// New makes a manager.
func New(cfg Config) *Manager {
	m := &Manager{cfg: cfg, log: cfg.Log.Named("source"), poke: make(chan struct{}, 1), running: map[uuid.UUID]*instance{}}
	m.houses = houses{launch: cfg.Launch, live: map[string]*house{}}
	return m
}

// Poke says that the configuration has changed. It does not block.
func (m *Manager) Poke() {
	select {
	case m.poke <- struct{}{}:
	default:
	}
}

// How often the node looks whether it may still write, and for sources that nobody runs; and how long one look may take.
const (
	watchEvery = time.Second
	holdEvery  = 5 * time.Second
	holdLimit  = 10 * time.Second
)

// Run runs sources until ctx ends, and returns when none is left.
func (m *Manager) Run(ctx context.Context) {
	defer m.keep(nil)
	watch := time.NewTicker(watchEvery)
	defer watch.Stop()
	m.step(ctx)
	for last := time.Now(); ; {
		select {
		case <-ctx.Done():
			return
		case <-m.poke:
		case <-watch.C:
			if m.cfg.Outbox.Ready() != nil {
				m.keep(nil) // before another node may take over
			} else if time.Since(last) < holdEvery {
				continue
			}
		}
		last = time.Now()
		m.step(ctx)
	}
}

// step makes what runs be what this node is to run.
func (m *Manager) step(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, holdLimit)
	defer cancel()
	wanted := map[uuid.UUID]*tenant.Source{}
	for app := range m.cfg.Snapshot().Apps() {
		for i := range app.Sources {
			if f := &app.Sources[i]; f.Enabled {
				wanted[f.ID] = f
			}
		}
	}
	if len(wanted) == 0 || m.cfg.Outbox.Ready() != nil {
		m.keep(nil)
		return
	}
	m.keep(func(i *instance) bool { // what is stopped here is not held by the time of Hold
		f := wanted[i.source.ID]
		return f != nil && f.Version == i.source.Version
	})
	leases, err := m.cfg.Store.Hold(ctx, m.cfg.Outbox.Epoch(), m.cfg.Kinds)
	if err != nil {
		if ctx.Err() == nil {
			m.log.Warn("sources may be without a node", "error", err)
		}
		return
	}
	held := make(map[Lease]bool, len(leases)) // thousands, maybe
	for _, l := range leases {
		held[l] = true
	}
	m.keep(func(i *instance) bool { return held[i.lease] })
	for _, l := range leases {
		if f := wanted[l.Source]; f != nil && m.running[l.Source] == nil {
			m.running[l.Source] = m.begin(f, l)
		}
	}
}

// keep ends instances but those that are to stay, and waits for their end. nil: none stays.
func (m *Manager) keep(stays func(*instance) bool) {
	var ending []*instance
	for id, i := range m.running {
		if stays == nil || !stays(i) || i.over() {
			i.cancel()
			ending = append(ending, i)
			delete(m.running, id)
		}
	}
	for _, i := range ending {
		<-i.done
	}
}

// Check says what is wrong with the configuration of a source, as a *tenant.Invalid; other errors are faults. Secrets that it refers to
// must be there.
func (m *Manager) Check(ctx context.Context, app uuid.UUID, kind string, config json.RawMessage) error {
	if !slices.Contains(m.cfg.Kinds, kind) {
		return &tenant.Invalid{Field: "kind", Message: fmt.Sprintf("%.100q is no kind of source; there are: %s", kind, strings.Join(m.cfg.Kinds, ", "))}
	}
	p, err := m.houses.enter(ctx, kind)
	if err != nil {
		return fault.New(fault.Unavailable, fault.Platform, "the source %q cannot be started: %v", kind, err)
	}
	defer m.houses.leave(p)
	if _, err := tenant.SecretRefs(config, p.Source().Info().Secrets); err != nil {
		return err
	}
	veil := &secret.Veil{}
	filled, f := secret.Fill(ctx, m.cfg.Secrets, app, config, veil)
	switch {
	case f == nil:
	case f.Kind == fault.NotFound || f.Kind == fault.Invalid:
		return &tenant.Invalid{Field: "config", Message: f.Message}
	default:
		return f
	}
	problems, err := p.Source().Check(ctx, filled)
	if err != nil {
		return err
	}
	if len(problems) == 0 {
		return nil
	}
	first := problems[0]
	if first.Field == "" {
		return &tenant.Invalid{Field: "config", Message: veil.Text(first.Message)}
	}
	return &tenant.Invalid{Field: "config." + first.Field, Message: veil.Text(first.Field + " " + first.Message)}
}

// Running are the kinds of which there is a process, sorted.
func (m *Manager) Running() []string { return m.houses.running() }
