package postgres_test

import (
	"errors"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/picloud/picloud/core/postgres"
	"github.com/picloud/picloud/core/record"
	"github.com/picloud/picloud/core/tenant"
)

func TestDeadLetterFilters(t *testing.T) {
	t.Parallel()
	g := newGraveyard(t)
	other := g.newApp("other")
	now := time.Now()
	for _, l := range []letter{
		{reason: "fatal", err: "No Such order 17", cause: "a", ago: 5 * time.Hour},
		{reason: "fatal", err: "no such order 18", cause: "a", ago: 4 * time.Hour},
		{reason: "exhausted", err: "dial 10%_ tcp", cause: "b", ago: 3 * time.Hour},
		{reason: "fatal", err: "no such order 99", cause: "a", app: other},
	} {
		g.bury(l)
	}
	closed := g.bury(letter{reason: "exhausted", cause: "b", ago: 2 * time.Hour})
	if err := g.store.Resolve(t.Context(), g.by, g.app.ID, closed, "ignored"); err != nil {
		t.Fatal(err)
	}
	type filter = record.DeadLetterFilter
	for _, c := range []struct {
		f    filter
		want int
	}{
		{filter{}, 4},
		{filter{Open: true}, 3},
		{filter{Script: g.app.Scripts[0].ID}, 4},
		{filter{Script: g.app.Scripts[1].ID}, 0},
		{filter{Reason: "fatal"}, 2},
		{filter{Cause: "b"}, 2},
		{filter{Cause: "b", Open: true}, 1},
		{filter{Since: now.Add(-150 * time.Minute)}, 1},
		{filter{Until: now.Add(-150 * time.Minute)}, 3},
		{filter{Since: now.Add(-270 * time.Minute), Until: now.Add(-150 * time.Minute)}, 2},
		{filter{Text: "SUCH ORDER"}, 2},
		{filter{Text: "%_"}, 1}, // taken as it is
		{filter{Text: "such%17"}, 0},
		{filter{Text: "\x00\xff"}, 0},
	} {
		n, err := g.store.Count(t.Context(), g.app.ID, c.f)
		if err != nil || n != c.want {
			t.Errorf("%+v counts %d, want %d: %v", c.f, n, c.want, err)
		}
		var listed []record.DeadLetter
		for cursor := ""; ; {
			page, next, err := g.store.List(t.Context(), g.app.ID, c.f, cursor, 1)
			if err != nil {
				t.Fatal(err)
			}
			listed = append(listed, page...)
			if cursor = next; cursor == "" {
				break
			}
		}
		if len(listed) != c.want {
			t.Errorf("%+v lists %d, want %d", c.f, len(listed), c.want)
		}
		for i := range listed[:max(0, len(listed)-1)] {
			if listed[i].CreatedAt.Before(listed[i+1].CreatedAt) {
				t.Errorf("%+v does not list the newest first", c.f)
			}
		}
	}

	groups, err := g.store.Groups(t.Context(), g.app.ID, filter{Open: true}, 10)
	if err != nil || len(groups) != 2 {
		t.Fatalf("%d groups, %v", len(groups), err)
	}
	if a := groups[0]; a.Cause != "a" || a.Count != 2 || a.Error != "no such order 18" || a.Script != "work" || a.Version != 3 ||
		a.Reason != "fatal" || a.Fault != "script" || a.Last.Sub(a.First) < 50*time.Minute {
		t.Errorf("the first group is %+v", a)
	}
	if b := groups[1]; b.Cause != "b" || b.Count != 1 {
		t.Errorf("the second group is %+v", b)
	}
}

func TestResolveAll(t *testing.T) {
	t.Parallel()
	g := newGraveyard(t)
	other := g.newApp("other")
	for range 3 {
		g.bury(letter{reason: "fatal", cause: "a"})
		g.bury(letter{app: other, reason: "fatal", cause: "a"})
	}
	kept := g.bury(letter{reason: "fatal", cause: "b"})
	f := record.DeadLetterFilter{Cause: "a"}
	for _, want := range []int{3, 0} {
		if n, err := g.store.ResolveAll(t.Context(), g.by, g.app.ID, f, "handled_by_script"); err != nil || n != want {
			t.Errorf("closed %d, want %d: %v", n, want, err)
		}
	}
	if n := g.count(`SELECT count(*) FROM dead_letters WHERE app = $1 AND cause = 'a' AND resolution = 'handled_by_script'
		AND resolved_at IS NOT NULL`, g.app.ID); n != 3 {
		t.Errorf("%d are closed", n)
	}
	if n := g.count(`SELECT count(*) FROM dead_letters WHERE resolved_at IS NULL`); n != 4 {
		t.Errorf("%d are open", n)
	}
	if err := g.store.Resolve(t.Context(), g.by, other.ID, kept, "ignored"); !errors.Is(err, tenant.ErrNotFound) {
		t.Errorf("closed from another app: %v", err)
	}
	if n := g.count(`SELECT count(*) FROM audit_log WHERE action = 'dead_letter.resolve_all' AND actor = $1 AND app = $2
		AND (detail->>'count')::int = 3`, g.by, g.app.ID); n != 1 {
		t.Errorf("the log has it %d times", n)
	}
}

// What is old goes, in batches; what is not stays.
func TestPurge(t *testing.T) {
	t.Parallel()
	g := newGraveyard(t)
	const day = 24 * time.Hour
	g.bury(letter{ago: 30*day + time.Minute})
	kept := g.bury(letter{ago: 30*day - time.Minute})
	for age, n := range map[string]int{"31 days 1 minute": 2500, "30 days 23 hours": 1} {
		g.exec(`INSERT INTO roots (id, app, events, updated_at) SELECT gen_random_uuid(), $1, 1, now() - $2::interval
			FROM generate_series(1, $3)`, g.app.ID, age, n)
	}
	for state, age := range map[string]string{"done": "31 days 1 minute", "running": "40 days", "cancelled": "30 days"} {
		g.exec(`INSERT INTO replays (id, app, filter, rate, state, total, created_at, ended_at)
			VALUES (gen_random_uuid(), $1, '{}', 1, $2, 1, now() - $3::interval, CASE WHEN $2 <> 'running' THEN now() END)`,
			g.app.ID, state, age)
	}
	if n, err := g.store.Purge(t.Context(), 40*day); err != nil || n != 0 {
		t.Errorf("removed %d that are to be kept for longer, %v", n, err)
	}
	if n, err := g.store.Purge(t.Context(), 30*day); err != nil || n != 2502 {
		t.Errorf("removed %d, %v", n, err)
	}
	if n := g.count(`SELECT count(*) FROM dead_letters WHERE id = $1`, kept); n != 1 {
		t.Error("a letter that is not old is gone")
	}
	for table, want := range map[string]int{"dead_letters": 1, "roots": 1, "replays": 2} {
		if n := g.count(`SELECT count(*) FROM ` + table); n != want {
			t.Errorf("%d %s are left, want %d", n, table, want)
		}
	}

	// Chains outlive letters that are kept for a short time: entries of theirs may still wait.
	if n, err := g.store.Purge(t.Context(), day); err != nil || n != 2 {
		t.Errorf("removed %d after a day, %v", n, err)
	}
	for table, want := range map[string]int{"dead_letters": 0, "roots": 1, "replays": 1} {
		if n := g.count(`SELECT count(*) FROM ` + table); n != want {
			t.Errorf("%d %s are left after a day, want %d", n, table, want)
		}
	}

	results := postgres.NewResultStore(g.pool)
	for _, left := range []string{"-1 minute", "1 minute"} {
		g.exec(`INSERT INTO results (id, app, status, expires_at) SELECT gen_random_uuid(), $1, 200, now() + $2::interval
			FROM generate_series(1, 700)`, g.app.ID, left)
		g.exec(`INSERT INTO idempotency_keys (app, scope, key, hash, entry, expires_at)
			SELECT $1, $1, $2 || n, '', $3, now() + $2::interval FROM generate_series(1, 700) n`, g.app.ID, left, uuid.New())
	}
	if n, err := results.Purge(t.Context()); err != nil || n != 1400 {
		t.Errorf("removed %d, %v", n, err)
	}
	for _, table := range []string{"results", "idempotency_keys"} {
		if n := g.count(`SELECT count(*) FROM ` + table + ` WHERE expires_at > now()`); n != 700 {
			t.Errorf("%d %s are left", n, table)
		}
		if n := g.count(`SELECT count(*) FROM ` + table + ` WHERE expires_at <= now()`); n != 0 {
			t.Errorf("%d old %s are left", n, table)
		}
	}
}
