package lifecycle_test

import (
	"context"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/google/uuid"
	"github.com/hashicorp/go-hclog"

	"github.com/picloud/picloud/core/lifecycle"
	"github.com/picloud/picloud/core/outbox"
	"github.com/picloud/picloud/core/tenant"
)

// world is the releases that nobody was told of, and what was told.
type world struct {
	mu       sync.Mutex
	releases []lifecycle.Release
	full     uuid.UUID // an app with too much waiting
	told     []*outbox.Entry
	quiet    chan struct{} // gets one when there was nothing left to do
}

func (w *world) Untold(_ context.Context, without []uuid.UUID, limit int) ([]lifecycle.Release, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	list := slices.DeleteFunc(slices.Clone(w.releases), func(r lifecycle.Release) bool { return slices.Contains(without, r.App) })
	return list[:min(len(list), limit)], nil
}

func (w *world) Tell(_ context.Context, _ int64, r *lifecycle.Release, entries []*outbox.Entry) (bool, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.told = append(w.told, entries...)
	w.releases = slices.DeleteFunc(w.releases, func(o lifecycle.Release) bool { return o.App == r.App && o.Number == r.Number })
	if !slices.ContainsFunc(w.releases, func(o lifecycle.Release) bool { return o.App != w.full }) {
		w.quiet <- struct{}{}
	}
	return true, nil
}

func (w *world) Append(_ context.Context, e *outbox.Entry) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.told = append(w.told, e)
	return nil
}

func (w *world) AppendCaused(_ context.Context, app uuid.UUID, _ int, commit func(int64) ([]*outbox.Entry, error)) error {
	if app == w.full {
		return &outbox.Overloaded{Message: "too much waits"}
	}
	_, err := commit(1)
	return err
}

// newApp has a script that is told, by one trigger whose policy fits no event, and one that takes all.
func newApp() *tenant.App {
	a := &tenant.App{ID: uuid.New(), Slug: "a"}
	a.Scripts = []tenant.Script{{ID: uuid.New(), App: a.ID, Name: "tell", Kind: tenant.KindEndpoint, Version: 1, MaxAttempts: 1}}
	for name, key := range map[string]string{"odd": strings.Repeat("x", tenant.MaxKey) + "{body.event}", "all": ""} {
		a.Triggers = append(a.Triggers, tenant.Trigger{
			ID: uuid.New(), App: a.ID, Name: name, Kind: tenant.TriggerApp, Script: a.Scripts[0].ID, Enabled: true, Policy: tenant.Policy{OrderingKey: key},
		})
	}
	return a
}

func newTeller(w *world, apps ...*tenant.App) *lifecycle.Teller {
	snapshot := tenant.NewSnapshot(1, apps)
	return lifecycle.New(lifecycle.Config{Store: w, Outbox: w, Snapshot: func() *tenant.Snapshot { return snapshot }, Log: hclog.NewNullLogger()})
}

// An app whose releases cannot be told of now keeps no other waiting, and a trigger whose policy fits not keeps no other of the app.
func TestReleasesOfOthersAreTold(t *testing.T) {
	t.Parallel()
	full, other := newApp(), newApp()
	w := &world{full: full.ID, quiet: make(chan struct{}, 2)}
	const many = 250 // more than are read at once
	for n := range int64(many) {
		w.releases = append(w.releases, lifecycle.Release{App: full.ID, Number: n + 1, Version: 1, Action: "deploy"})
	}
	w.releases = append(w.releases, lifecycle.Release{App: other.ID, Number: 1, Version: 1, Action: "deploy"})
	ctx, stop := context.WithCancel(t.Context())
	var run sync.WaitGroup
	run.Go(func() { newTeller(w, full, other).Run(ctx) })
	<-w.quiet
	stop()
	run.Wait()
	if len(w.told) != 1 || w.told[0].App != other.ID || len(w.releases) != many {
		t.Errorf("told %+v, %d left", w.told, len(w.releases))
	}
}

// A failure is told wherever in its chain it was, and at the end of it, who is told of it is the last.
func TestFailuresAtTheEndOfTheirChain(t *testing.T) {
	t.Parallel()
	app := newApp()
	for _, depth := range []int{0, outbox.MaxDepth - 1, outbox.MaxDepth} {
		w := &world{}
		newTeller(w, app).Failed(&outbox.Settlement{
			Outcome: outbox.DeadLettered, Entry: &outbox.Entry{ID: uuid.New(), App: app.ID, Target: app.Scripts[0].ID, Depth: depth},
		})
		if len(w.told) != 1 || w.told[0].Depth != min(depth+1, outbox.MaxDepth) {
			t.Errorf("at %d: %+v", depth, w.told)
		}
	}
}

// Who is told of failures and fails at that is not told of it, also where the dead letter was put back.
func TestFailuresOfWhoIsToldAreNot(t *testing.T) {
	t.Parallel()
	app := newApp()
	for name, e := range map[string]outbox.Entry{
		"first": {Kind: outbox.KindApp, Trigger: app.Triggers[0].ID}, "put back": {Kind: outbox.KindReplay, Trigger: app.Triggers[0].ID},
	} {
		e.ID, e.App, e.Target = uuid.New(), app.ID, app.Scripts[0].ID
		w := &world{}
		newTeller(w, app).Failed(&outbox.Settlement{Outcome: outbox.DeadLettered, Entry: &e})
		if len(w.told) != 0 {
			t.Errorf("%s: %+v", name, w.told)
		}
	}
}
