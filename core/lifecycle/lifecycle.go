// Package lifecycle tells triggers of kind app what becomes of the app itself: that it was deployed, and that a script of it, or a
// delivery to a sink, has failed. It stands beside core/trigger: releases come from the database, failures from core/dispatcher.
package lifecycle

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/google/uuid"
	"github.com/hashicorp/go-hclog"

	"github.com/picloud/picloud/core/outbox"
	"github.com/picloud/picloud/core/tenant"
	"github.com/picloud/picloud/core/trigger"
)

// Release is one that nobody was told of.
type Release struct {
	App       uuid.UUID
	Number    int64
	Version   int64  // of the configuration that it came with, or a later one
	Action    string // such as "deploy"
	By        uuid.UUID
	CreatedAt time.Time
	Scripts   []Version // that have another version than in the release before
}

// Version is which one of a script is active.
type Version struct {
	Script  string `json:"script"`
	Version int    `json:"version"`
}

// Store keeps releases. See core/postgres.ReleaseStore.
type Store interface {
	// Untold returns releases that nobody was told of, the oldest first, without those of some apps.
	Untold(ctx context.Context, without []uuid.UUID, limit int) ([]Release, error)
	// Tell writes entries and notes that the release was told of, in one transaction, under the owner's epoch. Another node may have
	// been faster: then nothing is written, and told is false.
	Tell(ctx context.Context, owner int64, r *Release, entries []*outbox.Entry) (told bool, err error)
}

// Outbox is where entries go. See core/dispatcher.
type Outbox interface {
	Append(ctx context.Context, e *outbox.Entry) error
	AppendCaused(ctx context.Context, app uuid.UUID, size int, commit func(owner int64) ([]*outbox.Entry, error)) error
}

// Config is what a teller works with.
type Config struct {
	Store    Store
	Outbox   Outbox
	Snapshot func() *tenant.Snapshot
	Unfit    trigger.UnfitFunc
	Log      hclog.Logger
}

// Teller makes entries of what becomes of apps. One runs on each node; they do not get in each other's way.
type Teller struct {
	Config
	poke chan struct{}
}

// New makes a teller.
func New(c Config) *Teller {
	c.Log = c.Log.Named("lifecycle")
	return &Teller{Config: c, poke: make(chan struct{}, 1)}
}

// Poke says that there may be new releases. It does not block.
func (t *Teller) Poke() {
	select {
	case t.poke <- struct{}{}:
	default:
	}
}

// Bounds of telling: of one step, how many releases it reads, when one that failed is tried again, and how long a run that failed
// waits for its failure to be told.
const (
	limit    = 30 * time.Second
	batch    = 100
	again    = 5 * time.Second
	patience = 5 * time.Second
)

// Run tells of releases until ctx ends.
func (t *Teller) Run(ctx context.Context) {
	timer := time.NewTimer(0) // there may be some from before
	defer timer.Stop()
	for {
		select {
		case <-timer.C:
		case <-t.poke:
		case <-ctx.Done():
			return
		}
		if err := t.step(ctx); err != nil && ctx.Err() == nil {
			t.Log.Warn("releases are told of later", "error", err)
			timer.Reset(again)
		}
	}
}

func (t *Teller) step(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	failed := map[uuid.UUID]error{} // by app: its later releases wait, those of others do not
	for {
		releases, err := t.Store.Untold(ctx, slices.Collect(maps.Keys(failed)), batch)
		if err != nil {
			return err
		}
		snapshot := t.Snapshot()
		for i := range releases {
			r := &releases[i]
			if r.Version > snapshot.Version {
				break // whoever reads the configuration pokes
			}
			if failed[r.App] == nil {
				if err := t.tell(ctx, snapshot, r); err != nil {
					failed[r.App] = fmt.Errorf("release %d of the app %s: %w", r.Number, r.App, err)
				}
			}
		}
		if len(releases) < batch || releases[batch-1].Version > snapshot.Version {
			return errors.Join(slices.Collect(maps.Values(failed))...)
		}
	}
}

func (t *Teller) tell(ctx context.Context, s *tenant.Snapshot, r *Release) error {
	var names []string
	for _, v := range r.Scripts {
		names = append(names, v.Script)
	}
	by := ""
	if r.By != uuid.Nil {
		by = r.By.String()
	}
	entries, err := t.entries(s, r.App, tenant.EventDeployed, slices.Concat(names, []string{""})[0], names, nil, struct {
		Event     string    `json:"event"`
		Release   int64     `json:"release"`
		Action    string    `json:"action"`
		By        string    `json:"by,omitempty"`
		CreatedAt time.Time `json:"created_at"`
		Scripts   []Version `json:"scripts"`
	}{tenant.EventDeployed, r.Number, r.Action, by, r.CreatedAt.UTC(), r.Scripts})
	if err != nil {
		return err
	}
	return t.Outbox.AppendCaused(ctx, r.App, 0, func(owner int64) ([]*outbox.Entry, error) {
		told, err := t.Store.Tell(ctx, owner, r, entries)
		if !told {
			return nil, err
		}
		return entries, err
	})
}

// Failed tells of a run, or a delivery to a sink, that has failed for good, before that is settled: if the node dies between the two, it
// is told again.
func (t *Teller) Failed(x *outbox.Settlement) {
	entries, err := t.Failure(t.Snapshot(), x)
	if len(entries) == 0 && err == nil {
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	for _, entry := range entries {
		if err == nil {
			err = t.Outbox.Append(ctx, entry)
		}
	}
	if err != nil {
		t.Log.Warn("nobody was told of a failure", "execution_id", x.Entry.ID, "error", err)
	}
}

// Failure makes the entries of those who are told that a run, or a delivery to a sink, has failed for good. A failure of who is told of
// failures is not told. What those send in turn ends with the length of its chain: a script that tells a sink of every failure, also of
// that sink's, does so a few times.
func (t *Teller) Failure(snapshot *tenant.Snapshot, x *outbox.Settlement) ([]*outbox.Entry, error) {
	e := x.Entry
	switch x.Outcome {
	case outbox.Failed, outbox.DeadLettered, outbox.HandlerFailed:
	default:
		return nil, nil
	}
	triggers := snapshot.Triggers(e.App, tenant.TriggerApp)
	tells := func(to *tenant.Trigger) bool { return to.ID == e.Trigger } // also of a dead letter that was put back
	if len(triggers) == 0 || e.Kind == outbox.KindApp || slices.ContainsFunc(triggers, tells) {
		return nil, nil
	}
	var script, sink string
	var scripts []string // that a trigger may ask for by name
	if e.TargetKind == outbox.TargetSink {
		to := snapshot.SinkOf(e.App, e.Target)
		if to == nil {
			return nil, nil
		}
		sink = to.Name
	} else {
		of := snapshot.Script(e.Target)
		if of == nil {
			return nil, nil
		}
		script, scripts = of.Name, []string{of.Name}
	}
	return t.entries(snapshot, e.App, tenant.EventFailed, cmp.Or(script, sink), scripts, e, struct {
		Event       string    `json:"event"`
		Script      string    `json:"script"` // that failed, or
		Sink        string    `json:"sink"`   // that did not take it
		Version     int       `json:"version"`
		ExecutionID string    `json:"execution_id"`
		Kind        string    `json:"kind"`
		Outcome     string    `json:"outcome"`
		Reason      string    `json:"reason"`
		Error       string    `json:"error"`
		Fault       string    `json:"fault"`
		Attempt     int       `json:"attempt"`
		StartedAt   time.Time `json:"started_at"`
		DurationMS  int64     `json:"duration_ms"`
	}{
		tenant.EventFailed, script, sink, x.Version, e.ID.String(), e.Kind.String(), x.Outcome.String(), x.Reason, x.Error, x.Fault, e.Attempt,
		x.Started.UTC(), x.Duration.Milliseconds(),
	})
}

// entries makes those of the triggers that take an event, but those whose policy cannot be applied to it. subject is the first script or
// sink that it is about; cause the entry whose run it is of, nil: none. A failure at the end of its chain is told all the same: who is told
// of it can cause nothing more.
func (t *Teller) entries(
	s *tenant.Snapshot, app uuid.UUID, event, subject string, scripts []string, cause *outbox.Entry, about any,
) (entries []*outbox.Entry, err error) {
	var change *trigger.Change
	if cause != nil && cause.Depth >= outbox.MaxDepth {
		last := *cause
		last.Depth = outbox.MaxDepth - 1
		cause = &last
	}
	for _, to := range s.Triggers(app, tenant.TriggerApp) {
		if !to.Filter.TakesEvent(event, scripts) {
			continue
		}
		if change == nil {
			data, err := json.Marshal(about)
			if err != nil {
				return nil, fmt.Errorf("describe what has become of an app: %w", err)
			}
			change = &trigger.Change{Kind: outbox.KindApp, Op: event, Key: subject, Data: data}
		}
		if trigger.Takes(to, change, t.Unfit) != nil {
			continue
		}
		e, err := trigger.Caused(to, change, cause)
		if unfit := (*tenant.Invalid)(nil); errors.As(err, &unfit) {
			t.Log.Warn("a trigger is not told", "app", s.Slug(app), "trigger", to.Name, "event", event, "error", err)
			continue
		}
		if err != nil {
			return nil, fmt.Errorf("the trigger %q: %w", to.Name, err)
		}
		entries = append(entries, e)
	}
	return entries, nil
}
