package source

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/hashicorp/go-hclog"

	"github.com/picloud/picloud/core/failpoint"
	"github.com/picloud/picloud/core/outbox"
	"github.com/picloud/picloud/core/secret"
	"github.com/picloud/picloud/core/tenant"
	"github.com/picloud/picloud/core/trigger"
	"github.com/picloud/picloud/sdk/event"
	"github.com/picloud/picloud/sdk/fault"
	"github.com/picloud/picloud/sdk/source"
)

// instance runs one source for as long as this node holds it.
type instance struct {
	manager *Manager
	source  *tenant.Source
	lease   Lease
	log     hclog.Logger
	cancel  context.CancelFunc
	done    chan struct{} // closed when nothing of it is left
	cursor  string
	veil    *secret.Veil // of the secrets in its configuration
}

func (m *Manager) begin(f *tenant.Source, l Lease) *instance {
	ctx, cancel := context.WithCancel(context.Background())
	i := &instance{
		manager: m, source: f, lease: l, cancel: cancel, done: make(chan struct{}),
		log: m.log.With("app", m.cfg.Snapshot().Slug(f.App), "source", f.Name),
	}
	go func() {
		defer close(i.done)
		i.live(ctx)
	}()
	return i
}

func (i *instance) over() bool {
	select {
	case <-i.done:
		return true
	default:
		return false
	}
}

// Back-off of a source that keeps failing. One that has run for failForget is a fresh start.
const (
	failPause  = 500 * time.Millisecond
	failCap    = time.Minute
	failForget = time.Minute
)

// live has the source run, again and again, until ctx ends or the lease is lost.
func (i *instance) live(ctx context.Context) {
	for failures := 0; ; {
		began := time.Now()
		err := i.run(ctx)
		if ctx.Err() != nil {
			return
		}
		if errors.Is(err, ErrLost) {
			i.manager.Poke()
			return
		}
		if time.Since(began) > failForget {
			failures = 0
		}
		wait := min(failPause<<min(failures, 16), failCap)
		failures++
		why := i.veil.Text(fault.From(err).Message)
		i.log.Warn("a source has failed", "error", why, "again_in", wait)
		note, cancel := context.WithTimeout(ctx, holdLimit)
		if err := i.manager.cfg.Store.Failed(note, i.lease, why); err != nil {
			i.log.Warn("the failure of a source is not noted", "error", err)
		}
		cancel()
		again := time.NewTimer(wait)
		select {
		case <-again.C:
		case <-ctx.Done():
			again.Stop()
			return
		}
	}
}

// stopLimit is how long an instance may take to end when it is to.
const stopLimit = 5 * time.Second

// run is one instance in the process: it takes in what the source emits, batch by batch. It returns why that has ended.
func (i *instance) run(ctx context.Context) error {
	m := i.manager
	i.veil = &secret.Veil{}
	var err error
	if i.cursor, err = m.cfg.Store.Begin(ctx, i.lease); err != nil {
		return err
	}
	config, f := secret.Fill(ctx, m.cfg.Secrets, i.source.App, i.source.Config, i.veil)
	if f != nil {
		return f
	}
	p, err := m.houses.enter(ctx, i.source.Kind)
	if err != nil {
		return fault.New(fault.Unavailable, fault.Plugin, "the source %q cannot be started: %v", i.source.Kind, err)
	}
	defer m.houses.leave(p)
	x, err := p.Source().Start(source.Setting{Config: config, Cursor: i.cursor}, i.lines(i.veil))
	if err != nil {
		return err
	}
	defer func() {
		x.Stop()
		late := time.NewTimer(stopLimit)
		defer late.Stop()
		select {
		case <-x.Ended():
		case <-late.C:
			i.log.Warn("a source does not stop: its process is ended")
			p.Kill()
		}
	}()
	for {
		b, err := x.Next(ctx)
		if err != nil {
			return err
		}
		failpoint.Hit(failpoint.SourceReceived)
		switch err, overloaded, f := i.take(ctx, b), (*outbox.Overloaded)(nil), (*fault.Fault)(nil); {
		case err == nil:
			failpoint.Hit(failpoint.SourceAcked)
			b.Ack()
		case errors.As(err, &f) && f.Origin == fault.Plugin: // it would be no better the next time
			return err
		case errors.As(err, &overloaded):
			b.Nack(max(overloaded.RetryAfter, time.Second), overloaded.Message)
		case b.Cursor == "" && ctx.Err() == nil: // what was taken in after all is known by its ids when it comes again
			b.Nack(time.Second, "it cannot be stored now")
			if errors.Is(err, ErrLost) {
				return err
			}
			i.log.Warn("events were not taken in", "error", err)
		default:
			return err
		}
	}
}

// lines passes on what the source logs.
func (i *instance) lines(veil *secret.Veil) func(level, message string) {
	return func(level, message string) {
		i.log.Log(hclog.LevelFromString(level), "the source says", "text", veil.Text(message))
	}
}

// takeLimit bounds the commit of a batch.
const takeLimit = 30 * time.Second

// take commits a batch and the cursor after it. Without a cursor, what has come before is known by the ids of events.
func (i *instance) take(ctx context.Context, b *source.Incoming) error {
	ctx, cancel := context.WithTimeout(ctx, takeLimit)
	defer cancel()
	entries, err := i.entries(b)
	if err != nil {
		return err
	}
	t := Taken{Before: i.cursor, After: i.cursor, Events: len(b.Events)}
	if b.Cursor != "" {
		t.After = b.Cursor
	}
	if at := b.Events[len(b.Events)-1].Time; !at.IsZero() {
		t.Lag = max(0, time.Since(at))
	}
	store := i.manager.cfg.Store
	if len(entries) == 0 {
		_, err = store.Take(ctx, i.lease, t, nil)
	} else {
		size := 0
		for _, e := range entries {
			size += len(e.Payload) + len(e.Envelope)
		}
		err = i.manager.cfg.Outbox.AppendCaused(ctx, i.source.App, size, func(int64) ([]*outbox.Entry, error) {
			return store.Take(ctx, i.lease, t, entries)
		})
	}
	if err == nil {
		i.cursor = t.After
	}
	return err
}

// entries are those of the triggers that take the events.
func (i *instance) entries(b *source.Incoming) (all []*outbox.Entry, err error) {
	snapshot := i.manager.cfg.Snapshot()
	for at := range b.Events {
		e := &b.Events[at]
		changes := []*trigger.Change{i.change(e)}
		if e.Type == trigger.MailType {
			mail, err := trigger.Mail(e.Data)
			if err != nil {
				return nil, fault.New(fault.Invalid, fault.Plugin, "the source sends what is no mail: %v", err)
			}
			changes = append(changes, mail)
		}
		for _, c := range changes {
			entries, unfit, err := trigger.Entries(snapshot, i.source.App, c, i.manager.cfg.Unfit)
			if err != nil {
				return nil, err
			}
			for _, err := range unfit {
				i.log.Warn("an event is left out", "event_id", e.ID, "error", err)
			}
			for _, entry := range entries {
				if b.Cursor == "" {
					entry.Idempotency = &outbox.Idempotency{
						Scope: entry.Trigger, Key: fmt.Sprintf("%s/%s", i.source.ID, e.ID), Hash: i.source.ID[:],
					}
				}
				all = append(all, entry)
			}
		}
	}
	return all, nil
}

func (i *instance) change(e *source.Event) *trigger.Change {
	c := &trigger.Change{
		Kind: outbox.KindSource, Source: i.source.Name, Topic: e.Type, About: e.Subject, Data: e.Data, ContentType: e.ContentType,
	}
	if c.ContentType == "" {
		c.ContentType = "application/json"
	}
	if len(e.Attributes) > 0 {
		c.HTTP = &event.HTTP{Headers: e.Attributes}
	}
	return c
}
