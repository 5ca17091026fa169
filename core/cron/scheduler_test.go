package cron_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/picloud/picloud/core/coretest"
	"github.com/picloud/picloud/core/cron"
	"github.com/picloud/picloud/core/outbox"
	"github.com/picloud/picloud/core/postgres"
	"github.com/picloud/picloud/core/retry"
	"github.com/picloud/picloud/core/tenant"
)

// world is a database, a clock that is set, and an app whose triggers the tests change, maybe among others.
type world struct {
	*testing.T
	pool   *pgxpool.Pool
	app    *tenant.App
	others []*tenant.App

	mu       sync.Mutex
	now      time.Time
	snapshot *tenant.Snapshot
}

func newWorld(t *testing.T) *world {
	t.Helper()
	w := &world{T: t, pool: coretest.DB(t), now: time.Date(2026, 3, 2, 8, 0, 0, 0, time.UTC)}
	w.app = &tenant.App{ID: uuid.New(), Slug: "ours"}
	w.app.Scripts = []tenant.Script{{ID: uuid.New(), App: w.app.ID, Name: "s", Version: 1, Timeout: time.Minute, MaxAttempts: 5}}
	return w
}

// trigger adds one; the nodes see it after configure.
func (w *world) trigger(schedule string) *tenant.Trigger {
	w.app.Triggers = append(w.app.Triggers, tenant.Trigger{
		ID: uuid.New(), App: w.app.ID, Name: fmt.Sprint("t", len(w.app.Triggers)), Kind: tenant.TriggerCron, Script: w.app.Scripts[0].ID,
		Enabled: true, RegisteredBy: uuid.New(), Filter: tenant.TriggerFilter{Schedule: schedule},
	})
	return &w.app.Triggers[len(w.app.Triggers)-1]
}

// configure makes the app as it is a new version of the configuration.
func (w *world) configure() {
	w.Helper()
	var version int64
	if err := w.pool.QueryRow(w.Context(), `UPDATE config SET version = version + 1 RETURNING version`).Scan(&version); err != nil {
		w.Fatal(err)
	}
	app := *w.app
	app.Triggers = append([]tenant.Trigger{}, app.Triggers...)
	w.mu.Lock()
	defer w.mu.Unlock()
	w.snapshot = tenant.NewSnapshot(version, append([]*tenant.App{&app}, w.others...))
}

func (w *world) pass(d time.Duration) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.now = w.now.Add(d)
}

// node is one of several schedulers over the same database. refuse, if set, is what its outbox answers, to all or to the app full.
type node struct {
	*cron.Scheduler
	epoch   int64
	refuse  error
	full    uuid.UUID
	commits int
}

func (w *world) node() *node {
	w.Helper()
	n := &node{}
	if err := w.pool.QueryRow(w.Context(), `INSERT INTO nodes (name) VALUES ('n') RETURNING epoch`).Scan(&n.epoch); err != nil {
		w.Fatal(err)
	}
	locked := func(read func()) { w.mu.Lock(); defer w.mu.Unlock(); read() }
	n.Scheduler = cron.New(cron.Config{
		Store: postgres.NewCronStore(w.pool), Outbox: n, Log: coretest.Logger(w),
		Snapshot: func() (s *tenant.Snapshot) { locked(func() { s = w.snapshot }); return s },
		Now:      func() (now time.Time) { locked(func() { now = w.now }); return now },
	})
	return n
}

func (n *node) AppendCaused(_ context.Context, app uuid.UUID, _ int, commit func(int64) ([]*outbox.Entry, error)) error {
	if n.refuse != nil && (n.full == uuid.Nil || n.full == app) {
		return n.refuse
	}
	_, err := commit(n.epoch)
	if err == nil {
		n.commits++
	}
	return err
}

// step is one look of a node, and how long it then waits.
func (w *world) step(n *node) time.Duration {
	w.Helper()
	wait, err := n.Step(w.Context())
	if err != nil {
		w.Fatal(err)
	}
	return wait
}

// fired returns the times that triggers fired for, in the order of firing, and forgets them.
func (w *world) fired(of *tenant.Trigger) string {
	w.Helper()
	rows, err := w.pool.Query(w.Context(), `WITH gone AS (DELETE FROM outbox WHERE trigger = $1 RETURNING id, payload)
		SELECT convert_from(payload, 'UTF8') FROM gone ORDER BY id`, of.ID)
	if err != nil {
		w.Fatal(err)
	}
	defer rows.Close()
	var all []string
	for rows.Next() {
		var s string
		if err := rows.Scan(&s); err != nil {
			w.Fatal(err)
		}
		all = append(all, strings.NewReplacer(`{"scheduled_at":"2026-03-`, "", `:00Z"}`, "").Replace(s))
	}
	return strings.Join(all, " ")
}

func TestFire(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	hourly, daily := w.trigger("0 * * * *"), w.trigger("30 12 * * *")
	w.configure()
	n := w.node()
	if wait := w.step(n); wait != 5*time.Second || w.fired(hourly) != "" {
		t.Errorf("it waits for %s", wait)
	}
	w.pass(time.Hour - 3*time.Second)
	if wait := w.step(n); wait != 3*time.Second || w.fired(hourly) != "" {
		t.Errorf("it waits for %s", wait)
	}
	w.pass(3 * time.Second)
	w.step(n)
	var state outbox.State
	var principal, lane, app uuid.UUID
	var kind outbox.Kind
	err := w.pool.QueryRow(t.Context(), `SELECT state, kind, principal, lane, app FROM outbox`).Scan(&state, &kind, &principal, &lane, &app)
	if err != nil || state != outbox.Ready || kind != outbox.KindCron || principal != hourly.RegisteredBy || lane != hourly.ID || app != w.app.ID {
		t.Errorf("%d %s %s %s %s, %v", state, kind, principal, lane, app, err)
	}
	if got := w.fired(hourly); got != "02T09:00" {
		t.Error(got)
	}
	w.step(n)
	if got := w.fired(hourly); got != "" {
		t.Errorf("%s is fired twice", got)
	}
	w.pass(4 * time.Hour) // all of them missed
	w.step(n)
	if got := w.fired(hourly); got != "02T10:00" {
		t.Errorf("for four that were missed: %s", got)
	}
	if got := w.fired(daily); got != "02T12:30" {
		t.Error(got)
	}
	w.pass(time.Hour)
	w.step(n)
	if got := w.fired(hourly); got != "02T14:00" {
		t.Error(got)
	}
}

// What is changed holds from then on: nothing fires for a time at which it was not asked for.
func TestChanges(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	trigger := w.trigger("0 * * * *")
	n := w.node()
	look := func(after time.Duration, want string) {
		t.Helper()
		w.configure()
		w.step(n)
		w.pass(after)
		w.step(n)
		if got := w.fired(trigger); got != want {
			t.Errorf("fired %q, want %q", got, want)
		}
	}
	look(time.Hour, "02T09:00")
	trigger.Enabled = false
	look(3*time.Hour, "") // 12:00
	trigger.Enabled = true
	look(time.Hour, "02T13:00")
	trigger.Filter.Schedule = "30 * * * *"
	look(29*time.Minute, "")
	look(time.Minute, "02T13:30")
	w.app.Paused = []uuid.UUID{trigger.ID}
	look(3*time.Hour, "") // 16:30
	w.app.Paused = nil
	look(0, "02T14:30") // once
	w.app.Scripts[0].Version = 0
	look(time.Hour, "")
	w.app.Scripts[0].Version = 1
	look(0, "02T17:30")
	w.app.Triggers = nil
	w.configure()
	if wait := w.step(n); wait != time.Hour {
		t.Errorf("without a trigger it waits for %s", wait)
	}
	var rows int
	if err := w.pool.QueryRow(t.Context(), `SELECT count(*) FROM cron_state`).Scan(&rows); err != nil || rows != 0 {
		t.Errorf("%d rows, %v", rows, err)
	}
}

// A node whose configuration is old plans nothing.
func TestOldConfiguration(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	trigger := w.trigger("0 * * * *")
	w.configure()
	before := w.snapshot
	fast, slow := w.node(), w.node()
	trigger.Filter.Schedule = "30 * * * *"
	w.configure()
	w.step(fast)
	now := w.snapshot
	w.snapshot = before
	if wait := w.step(slow); wait != time.Second {
		t.Errorf("it waits for %s", wait)
	}
	w.pass(time.Hour)
	w.snapshot = now
	w.step(slow)
	w.step(fast)
	if got := w.fired(trigger); got != "02T08:30" {
		t.Error(got)
	}
}

// Several nodes that look at once fire each time once.
func TestOnce(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	const triggers, nodes, minutes = 20, 4, 5
	for range triggers {
		w.trigger("* * * * *")
	}
	w.configure()
	all := make([]*node, nodes)
	for i := range all {
		all[i] = w.node()
	}
	for range minutes + 1 {
		var together sync.WaitGroup
		for _, n := range all {
			together.Go(func() {
				if _, err := n.Step(t.Context()); err != nil {
					t.Error(err)
				}
			})
		}
		together.Wait()
		w.pass(time.Minute)
	}
	for i := range w.app.Triggers {
		if got := w.fired(&w.app.Triggers[i]); got != "02T08:01 02T08:02 02T08:03 02T08:04 02T08:05" {
			t.Errorf("%d: %s", i, got)
		}
	}
}

// What cannot be fired is fired later, and holds nothing else up.
func TestRefused(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	trigger := w.trigger("0 * * * *")
	w.configure()
	n, other := w.node(), w.node()
	w.step(n)
	w.pass(time.Hour)
	for _, refuse := range []error{&outbox.Overloaded{Message: "too much waits"}, errors.New("odd")} {
		n.refuse = refuse
		if wait := w.step(n); wait != time.Second {
			t.Errorf("it waits for %s", wait)
		}
	}
	n.refuse = outbox.ErrFenced
	if wait, err := n.Step(t.Context()); wait != time.Second || !errors.Is(err, outbox.ErrFenced) {
		t.Errorf("%s, %v", wait, err)
	}
	if _, err := w.pool.Exec(t.Context(), `DELETE FROM nodes WHERE epoch = $1`, n.epoch); err != nil { // it was taken for dead
		t.Fatal(err)
	}
	n.refuse = nil
	if _, err := n.Step(t.Context()); !errors.Is(err, outbox.ErrFenced) {
		t.Error(err)
	}
	w.step(other)
	if got := w.fired(trigger); got != "02T09:00" {
		t.Error(got)
	}
}

// One whose policy cannot be applied holds up none of those that are fired with it.
func TestUnfit(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	for range 9 {
		w.trigger("0 * * * *")
	}
	w.app.Triggers[4].Policy = tenant.Policy{Delay: retry.Duration(time.Minute), ExpiresIn: retry.Duration(time.Second)}
	w.configure()
	n := w.node()
	w.step(n)
	w.pass(time.Hour)
	if wait := w.step(n); wait != time.Second {
		t.Errorf("it waits for %s", wait)
	}
	for i := range w.app.Triggers {
		if got, want := w.fired(&w.app.Triggers[i]), i != 4; (got == "02T09:00") != want {
			t.Errorf("%d: %q", i, got)
		}
	}
}

// What is due at one time is fired app by app, and an app that is at its limit holds up no other.
func TestApps(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	ours := w.app
	for n := range 3 {
		if w.app = ours; n > 0 {
			w.app = &tenant.App{ID: uuid.New(), Slug: fmt.Sprint("other", n), Scripts: []tenant.Script{ours.Scripts[0]}}
			w.app.Scripts[0].ID, w.app.Scripts[0].App = uuid.New(), w.app.ID
			w.others = append(w.others, w.app)
		}
		for range 5 {
			w.trigger("0 * * * *")
		}
	}
	w.app = ours
	w.configure()
	n := w.node()
	w.step(n)
	w.pass(time.Hour)
	n.refuse, n.full = &outbox.Overloaded{Message: "too much waits"}, w.others[0].ID
	if wait := w.step(n); wait != time.Second || n.commits != 2 {
		t.Errorf("%d commits, and it waits for %s", n.commits, wait)
	}
	n.refuse = nil
	if wait := w.step(n); wait != 5*time.Second || n.commits != 3 {
		t.Errorf("%d commits, and it waits for %s", n.commits, wait)
	}
	for _, app := range append(w.others, ours) {
		for i := range app.Triggers {
			if got := w.fired(&app.Triggers[i]); got != "02T09:00" {
				t.Errorf("%s, %d: %q", app.Slug, i, got)
			}
		}
	}
}

// More are due than are read at once.
func TestMany(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	for range 205 {
		w.trigger("* * * * *")
	}
	w.configure()
	n := w.node()
	w.step(n)
	w.pass(time.Minute)
	w.step(n)
	var entries int
	if err := w.pool.QueryRow(t.Context(), `SELECT count(DISTINCT trigger) FROM outbox`).Scan(&entries); err != nil || entries != 205 || n.commits != 3 {
		t.Errorf("%d entries in %d commits, %v", entries, n.commits, err)
	}
}

// The loop looks again when it is poked, and ends.
func TestRun(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.configure()
	n := w.node()
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() { defer close(done); n.Run(ctx) }()
	defer func() { cancel(); <-done }()
	trigger := w.trigger("* * * * *")
	w.configure()
	n.Poke()
	planned := func(at string) func() bool {
		return func() (is bool) {
			err := w.pool.QueryRow(t.Context(), `SELECT EXISTS (SELECT 1 FROM cron_state WHERE next_at = $1::text::timestamptz)`, at).Scan(&is)
			return err == nil && is
		}
	}
	coretest.Eventually(t, "the trigger is planned", planned("2026-03-02 08:01Z"))
	w.pass(time.Minute)
	n.Poke()
	coretest.Eventually(t, "it is moved on", planned("2026-03-02 08:02Z"))
	if got := w.fired(trigger); got != "02T08:01" {
		t.Error(got)
	}
}
