package cron

import (
	"bytes"
	"context"
	"errors"
	"slices"
	"time"

	"github.com/google/uuid"
	"github.com/hashicorp/go-hclog"

	"github.com/picloud/picloud/core/outbox"
	"github.com/picloud/picloud/core/tenant"
	"github.com/picloud/picloud/core/trigger"
)

// ErrOld says that there is a newer configuration, in which other times may be asked for.
var ErrOld = errors.New("the configuration is old")

// Plan is when a trigger fires next if it has no time by the same Spec already.
type Plan struct {
	App, Trigger uuid.UUID
	Spec         string
	At           time.Time
	Paused       bool // it keeps its time, and fires when it goes on
}

// Due is a trigger whose time has come.
type Due struct {
	App, Trigger uuid.UUID
	At           time.Time
}

// Firing is what becomes of a trigger whose time has come.
type Firing struct {
	Due
	Next  time.Time // when it fires after this
	Entry *outbox.Entry
}

// Store keeps the times of all nodes. See core/postgres.CronStore.
type Store interface {
	Plan(ctx context.Context, version int64, plans []Plan) error
	Due(ctx context.Context, now time.Time, after Due, limit int) ([]Due, error)
	Next(ctx context.Context, now time.Time) (time.Time, error)
	Fire(ctx context.Context, owner int64, firings []Firing) (written []*outbox.Entry, err error)
}

// Outbox is where entries go. See core/dispatcher.
type Outbox interface {
	AppendCaused(ctx context.Context, app uuid.UUID, size int, commit func(owner int64) ([]*outbox.Entry, error)) error
}

// Config is what a scheduler works with.
type Config struct {
	Store    Store
	Outbox   Outbox
	Snapshot func() *tenant.Snapshot
	Now      func() time.Time
	Log      hclog.Logger
}

// Scheduler fires triggers whose time has come. One runs on each node; they do not get in each other's way. Clocks of nodes that
// differ make a trigger fire early by as much, never twice.
type Scheduler struct {
	Config
	poke chan struct{}

	version  int64 // of the configuration that the plan is of
	triggers map[uuid.UUID]*planned
}

type planned struct {
	*tenant.Trigger
	spec     string
	schedule *Schedule
}

// New makes a scheduler.
func New(c Config) *Scheduler {
	c.Log = c.Log.Named("cron")
	return &Scheduler{Config: c, poke: make(chan struct{}, 1)}
}

// Poke says that the configuration has changed. It does not block.
func (s *Scheduler) Poke() {
	select {
	case s.poke <- struct{}{}:
	default:
	}
}

// Bounds of the loop: how long one step may take, how many triggers it reads at once, and how long the next is put off. Within
// longest a node takes up what another has left.
const (
	limit    = 30 * time.Second
	batch    = 100
	shortest = time.Second // after a step that failed or left something
	longest  = 5 * time.Second
)

// Run works until ctx ends.
func (s *Scheduler) Run(ctx context.Context) {
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		select {
		case <-timer.C:
		case <-s.poke:
		case <-ctx.Done():
			return
		}
		wait, err := s.step(ctx)
		if err != nil && ctx.Err() == nil {
			s.Log.Warn("triggers may be late", "error", err)
		}
		timer.Reset(wait)
	}
}

func (s *Scheduler) step(ctx context.Context) (time.Duration, error) {
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	return s.Step(ctx)
}

// Step fires what is due now, and returns when there may be more. It is for Run and tests.
func (s *Scheduler) Step(ctx context.Context) (wait time.Duration, err error) {
	if err := s.plan(ctx); errors.Is(err, ErrOld) {
		return shortest, nil // whoever reads it pokes
	} else if err != nil {
		return shortest, err
	}
	if len(s.triggers) == 0 {
		return time.Hour, nil // a change pokes
	}
	now := s.Now()
	left, err := s.fireAll(ctx, now)
	if err != nil || left {
		return shortest, err
	}
	next, err := s.Store.Next(ctx, now)
	switch {
	case err != nil:
		return shortest, err
	case next.IsZero():
		return longest, nil
	}
	return max(0, min(next.Sub(s.Now()), longest)), nil
}

// fireAll fires what is due. What cannot be fired holds nothing else up; left says that there was some.
func (s *Scheduler) fireAll(ctx context.Context, now time.Time) (left bool, err error) {
	for after := (Due{}); ; {
		due, err := s.Store.Due(ctx, now, after, batch)
		if err != nil {
			return true, err
		}
		n := len(due)
		if n > 0 {
			after = due[n-1]
		}
		slices.SortStableFunc(due, func(a, b Due) int { return bytes.Compare(a.App[:], b.App[:]) })
		for len(due) > 0 {
			first := due[0].App
			end := slices.IndexFunc(due, func(d Due) bool { return d.App != first })
			if end < 0 {
				end = len(due)
			}
			some, err := s.fireEach(ctx, now, due[:end])
			if err != nil {
				return true, err
			}
			left, due = left || some, due[end:]
		}
		if n < batch {
			return left, nil
		}
	}
}

// fireEach fires triggers of one app: together, which takes a twentieth of the time, or, where one of them cannot be, the halves by
// themselves.
func (s *Scheduler) fireEach(ctx context.Context, now time.Time, due []Due) (left bool, err error) {
	fired, err := s.fire(ctx, now, due)
	switch {
	case err == nil:
		return fired < len(due), nil
	case ctx.Err() != nil || errors.Is(err, outbox.ErrFenced):
		return true, err
	case len(due) > 1:
		for _, half := range [][]Due{due[:len(due)/2], due[len(due)/2:]} {
			some, err := s.fireEach(ctx, now, half)
			if err != nil {
				return true, err
			}
			left = left || some
		}
		return left, nil
	}
	if overloaded := (*outbox.Overloaded)(nil); !errors.As(err, &overloaded) { // its app's own doing
		s.Log.Warn("a trigger is late", "app", due[0].App, "trigger", due[0].Trigger, "error", err)
	}
	return true, nil
}

// plan has the store know the triggers of the configuration as it is now.
func (s *Scheduler) plan(ctx context.Context) error {
	snapshot := s.Snapshot()
	if s.triggers != nil && snapshot.Version == s.version {
		return nil
	}
	now := s.Now()
	triggers := map[uuid.UUID]*planned{}
	var plans []Plan
	for app := range snapshot.Apps() {
		for _, t := range snapshot.Triggers(app.ID, tenant.TriggerCron) {
			p := &planned{Trigger: t, spec: t.Filter.Schedule + "\n" + t.Filter.TimeZone}
			if before := s.triggers[t.ID]; before != nil && before.spec == p.spec {
				p.schedule = before.schedule
			} else if schedule, err := Parse(t.Filter.Schedule, t.Filter.TimeZone); err == nil {
				p.schedule = schedule
			} else { // it could be read when it was made
				s.Log.Error("a trigger cannot fire", "app", app.Slug, "trigger", t.Name, "error", err)
				continue
			}
			triggers[t.ID] = p
			plans = append(plans, Plan{
				App: app.ID, Trigger: t.ID, Spec: p.spec, At: p.next(now), Paused: t.Lane.Paused || !t.Lane.Active(),
			})
		}
	}
	if err := s.Store.Plan(ctx, snapshot.Version, plans); err != nil {
		return err
	}
	s.version, s.triggers = snapshot.Version, triggers
	return nil
}

// next is the first time after now. One that has none within decades is asked again in a year.
func (p *planned) next(now time.Time) time.Time {
	if at := p.schedule.Next(now); !at.IsZero() {
		return at
	}
	return now.AddDate(1, 0, 0)
}

// fire makes the entries of times that have come to triggers of one app, each once, however many times were missed. All are fired or
// none, but for those that another node has in its hands. fired is how many this node did.
func (s *Scheduler) fire(ctx context.Context, now time.Time, due []Due) (fired int, err error) {
	var firings []Firing
	size := 0
	for _, d := range due {
		t := s.triggers[d.Trigger]
		if t == nil || t.App != d.App {
			continue // it came after the configuration that is planned
		}
		e, err := trigger.Caused(t.Trigger, Tick(d.At), nil)
		if err != nil {
			return 0, err
		}
		firings = append(firings, Firing{d, t.next(now), e})
		size += len(e.Payload) + len(e.Envelope)
	}
	if len(firings) == 0 {
		return 0, nil
	}
	err = s.Outbox.AppendCaused(ctx, due[0].App, size, func(owner int64) ([]*outbox.Entry, error) {
		written, err := s.Store.Fire(ctx, owner, firings)
		fired = len(written)
		return written, err
	})
	return fired, err
}
