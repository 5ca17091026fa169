// Package sink keeps the processes that deliver outward: one for each kind of sink, started when it is first needed and ended when it
// has nothing to do. It stands between core/execution and the sink plugins, beside core/engine, and fills secrets into configurations.
//
// A process serves all apps of the node: it runs none of their code.
package sink

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/google/uuid"
	"github.com/hashicorp/go-hclog"

	"github.com/picloud/picloud/core/secret"
	"github.com/picloud/picloud/core/tenant"
	"github.com/picloud/picloud/sdk/fault"
	"github.com/picloud/picloud/sdk/sink"
)

// Builtin are the kinds that need not be installed.
func Builtin() []string { return []string{"http", "smtp"} }

// Process is one running sink plugin.
type Process interface {
	Sink() *sink.Client
	// Done is closed when the process has ended. Its deliveries have failed by then.
	Done() <-chan struct{}
	// Err is why Done is closed; nil after Kill.
	Err() error
	// Kill ends the process at once. It may be called more than once.
	Kill()
}

// LaunchFunc starts a process of the named plugin ("sink/http") and waits until it serves.
type LaunchFunc func(ctx context.Context, plugin string) (Process, error)

// Config is what a manager is made of.
type Config struct {
	Launch  LaunchFunc
	Secrets secret.Values
	Log     hclog.Logger
	// Kinds are all that there are.
	Kinds []string
	// Idle is how long a process without deliveries is kept.
	Idle time.Duration
	// Reach is what the configurations of apps may lead to.
	Reach sink.Reach
	// Email is the configuration of tenant.EmailSink; nil: there is none.
	Email json.RawMessage
}

// Manager keeps the processes. Its methods are safe for concurrent use.
type Manager struct {
	cfg  Config
	log  hclog.Logger
	life context.Context // ends with Close
	end  context.CancelFunc

	mu     sync.Mutex
	houses map[string]*house // by kind
}

// New makes a manager. Close ends it.
func New(cfg Config) *Manager {
	m := &Manager{cfg: cfg, log: cfg.Log.Named("sink"), houses: map[string]*house{}}
	m.life, m.end = context.WithCancel(context.Background())
	return m
}

// Close ends every process.
func (m *Manager) Close() {
	m.end()
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, h := range m.houses {
		h.close()
	}
}

// Keep says which sinks there are: instances of others are dropped.
func (m *Manager) Keep(snapshot *tenant.Snapshot) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, h := range m.houses {
		h.keep(snapshot)
	}
}

// Running are the kinds of which there is a process, sorted.
func (m *Manager) Running() (kinds []string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for kind, h := range m.houses {
		if h.running() {
			kinds = append(kinds, kind)
		}
	}
	slices.Sort(kinds)
	return kinds
}

func (m *Manager) house(kind string) *house {
	m.mu.Lock()
	defer m.mu.Unlock()
	h := m.houses[kind]
	if h == nil {
		h = &house{manager: m, kind: kind}
		m.houses[kind] = h
	}
	return h
}

// Check says what is wrong with the configuration of a sink, as a *tenant.Invalid; other errors are faults. Secrets that it refers to
// must be there.
func (m *Manager) Check(ctx context.Context, app uuid.UUID, kind string, config json.RawMessage) error {
	if !slices.Contains(m.cfg.Kinds, kind) {
		return &tenant.Invalid{Field: "kind", Message: fmt.Sprintf("%.100q is no kind of sink; there are: %s", kind, strings.Join(m.cfg.Kinds, ", "))}
	}
	p, err := m.house(kind).take(ctx)
	if err != nil {
		return err
	}
	defer p.put()
	if _, err := tenant.SecretRefs(config, p.Sink().Info().Secrets); err != nil {
		return err
	}
	veil := &secret.Veil{}
	filled, f := secret.Fill(ctx, m.cfg.Secrets, app, config, veil)
	if f != nil {
		if f.Kind == fault.NotFound || f.Kind == fault.Invalid {
			return &tenant.Invalid{Field: "config", Message: f.Message}
		}
		return f
	}
	err = p.Sink().Check(ctx, sink.Config{JSON: filled, Reach: m.cfg.Reach})
	f = veil.Fault(fault.From(err))
	switch {
	case f == nil:
		return nil
	case f.Kind == fault.Invalid:
		return &tenant.Invalid{Field: "config", Message: f.Message}
	}
	return f
}

// errNoEmail is said of messages that were accepted by a node that has what this one lacks.
var errNoEmail = &fault.Fault{
	Kind: fault.Unavailable, Origin: fault.Platform, RetryAfter: time.Minute,
	Message: "e-mail is not configured on this node: set smtp_host and smtp_from",
}

// Deliver sends one item for app to a sink and waits for the answer, until the deadline that ctx must have. veil knows the secrets that
// the configuration refers to from then on.
func (m *Manager) Deliver(ctx context.Context, app uuid.UUID, s *tenant.Sink, d *sink.Delivery, veil *secret.Veil) sink.Answer {
	cfg := sink.Config{Reach: m.cfg.Reach}
	if s.ID == tenant.EmailSink {
		if m.cfg.Email == nil {
			return sink.Answer{Fault: errNoEmail}
		}
		cfg = sink.Config{JSON: m.cfg.Email, Reach: sink.Reach{Any: true}}
	} else {
		filled, f := secret.Fill(ctx, m.cfg.Secrets, app, s.Config, veil)
		if f != nil {
			return sink.Answer{Fault: f}
		}
		cfg.JSON = filled
	}
	p, err := m.house(s.Kind).take(ctx)
	if err != nil {
		return sink.Answer{Fault: fault.From(err)}
	}
	defer p.put()
	x, err := p.instance(ctx, s.ID, cfg)
	if err != nil {
		return sink.Answer{Fault: fault.From(err)}
	}
	defer p.release(x)
	return p.Sink().Deliver(ctx, x.number, d)
}
