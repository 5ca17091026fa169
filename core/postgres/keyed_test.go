package postgres_test

import (
	"errors"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/picloud/picloud/core/outbox"
)

// What a first cause may lead to is not used up by repeats, and a key whose event was refused is free again.
func TestBudgetAndIdempotency(t *testing.T) {
	t.Parallel()
	r := newRaces(t)
	root, script := uuid.Must(uuid.NewV7()), uuid.New()
	app := uuid.New()
	event := func(key string) *outbox.Entry {
		e := r.entry(outbox.Ready)
		e.App, e.Lane, e.Target, e.RootID, e.Depth = app, script, script, root, 1
		e.Idempotency = &outbox.Idempotency{Scope: script, Key: key, Hash: []byte("h")}
		return e
	}
	insert := func(entries ...*outbox.Entry) []error {
		t.Helper()
		refused, err := r.keyed.Insert(t.Context(), here, entries, false)
		r.must(err)
		return refused
	}
	counted := func(want int) {
		t.Helper()
		if n := one[int](r, `SELECT events FROM roots WHERE id = $1`, root); n != want {
			t.Errorf("%d events count for the first cause, want %d", n, want)
		}
	}

	first, again, later := event("a"), event("a"), event("a")
	got := insert(first, again)
	if dup := (*outbox.Duplicate)(nil); got[0] != nil || !errors.As(got[1], &dup) || dup.Entry != first.ID {
		t.Fatalf("two of one key: %v", got)
	}
	if dup := (*outbox.Duplicate)(nil); !errors.As(insert(later)[0], &dup) || dup.Entry != first.ID {
		t.Error("a repeat was accepted")
	}
	counted(1)

	r.exec(`UPDATE roots SET events = $2 WHERE id = $1`, root, outbox.MaxRootEvents)
	for _, err := range insert(event("b"), event("b")) {
		if !errors.Is(err, outbox.ErrBudget) {
			t.Errorf("beyond the budget: %v", err)
		}
	}
	counted(outbox.MaxRootEvents + 1)
	if dup := (*outbox.Duplicate)(nil); !errors.As(insert(event("a"))[0], &dup) || dup.Entry != first.ID {
		t.Error("beyond the budget a repeat of what was accepted is told otherwise")
	}
	r.exec(`UPDATE roots SET events = 1 WHERE id = $1`, root)
	if got := insert(event("b")); got[0] != nil {
		t.Errorf("the key of an event that was refused is not free: %v", got[0])
	}
}

// An event that comes again, or that its first cause may not lead to, does not take the place of one that is new.
func TestRefusedReplaceNothing(t *testing.T) {
	t.Parallel()
	r := newRaces(t)
	app, script, root := uuid.New(), uuid.New(), uuid.Must(uuid.NewV7())
	event := func(key string) *outbox.Entry {
		e := r.entry(outbox.Scheduled)
		e.App, e.Lane, e.Target = app, script, script
		e.Debounce, e.DebounceFor, e.DebounceMax, e.Delay = "d", time.Minute, time.Hour, time.Minute
		if key != "" {
			e.Idempotency = &outbox.Idempotency{Scope: script, Key: key, Hash: []byte("h")}
		}
		return e
	}
	insert := func(entries ...*outbox.Entry) []error {
		t.Helper()
		refused, err := r.keyed.Insert(t.Context(), here, entries, false)
		r.must(err)
		return refused
	}
	waits := func(want *outbox.Entry) {
		t.Helper()
		if got := one[uuid.UUID](r, `SELECT id FROM outbox WHERE app = $1`, app); got != want.ID {
			t.Errorf("%s waits, not %s", got, want.ID)
		}
	}

	insert(event("a"))
	fresh, repeat := event(""), event("a")
	if got := insert(fresh, repeat); got[0] != nil || !errors.As(got[1], new(*outbox.Duplicate)) {
		t.Fatal(got)
	}
	waits(fresh)

	r.exec(`INSERT INTO roots (id, app, events) VALUES ($1, $2, $3)`, root, app, outbox.MaxRootEvents)
	fresh, beyond := event(""), event("")
	beyond.RootID, beyond.Depth = root, 1
	if got := insert(fresh, beyond); got[0] != nil || !errors.Is(got[1], outbox.ErrBudget) {
		t.Fatal(got)
	}
	waits(fresh)
}

// Events of one cause may be many and large: no statement is.
func TestLargeTogether(t *testing.T) {
	t.Parallel()
	r := newRaces(t)
	app, root, large := uuid.New(), uuid.Must(uuid.NewV7()), make([]byte, 3<<20)
	var entries []*outbox.Entry
	for range 13 {
		e := r.entry(outbox.Ready)
		e.App, e.RootID, e.Depth, e.Payload = app, root, 1, large
		entries = append(entries, e)
	}
	refused, err := r.keyed.Insert(t.Context(), here, entries, false)
	r.must(err)
	for _, err := range refused {
		r.must(err)
	}
	most := one[int](r, `SELECT max(n)::int FROM (SELECT sum(octet_length(payload)) AS n FROM outbox WHERE app = $1 GROUP BY cmin::text) x`, app)
	all := one[int](r, `SELECT count(*)::int FROM outbox WHERE app = $1`, app)
	if all != len(entries) || most == 0 || most > 16<<20 {
		t.Errorf("%d of %d are written, %d bytes by one statement", all, len(entries), most)
	}
}
