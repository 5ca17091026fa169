package postgres_test

import (
	"errors"
	"testing"

	"github.com/google/uuid"

	"github.com/picloud/picloud/core/outbox"
)

// Entries that belong together are written all, or none of them is.
func TestInsertAll(t *testing.T) {
	t.Parallel()
	r := newRaces(t)
	app, root := uuid.New(), uuid.Must(uuid.NewV7())
	event := func(hash string) *outbox.Entry {
		e := r.entry(outbox.Ready)
		e.App, e.RootID, e.Depth = app, root, 1
		if hash != "" {
			e.Idempotency = &outbox.Idempotency{Scope: app, Key: "k", Hash: []byte(hash)}
		}
		return e
	}
	left := func(want int) {
		t.Helper()
		if n := one[int](r, `SELECT count(*) FROM outbox WHERE app = $1`, app); n != want {
			t.Errorf("%d entries, want %d", n, want)
		}
	}
	insert := func(entries ...*outbox.Entry) error { return r.keyed.InsertAll(t.Context(), here, entries) }
	r.must(insert(event("a"), event(""), event("")))
	left(3)
	if err, dup := insert(event("a"), event("")), (*outbox.Duplicate)(nil); !errors.As(err, &dup) {
		t.Error(err)
	}
	if err := insert(event("b"), event("")); !errors.Is(err, outbox.ErrKeyReused) {
		t.Error(err)
	}
	r.exec(`UPDATE roots SET events = $2 WHERE id = $1`, root, outbox.MaxRootEvents-1)
	if err := insert(event(""), event("")); !errors.Is(err, outbox.ErrBudget) {
		t.Error(err)
	}
	left(3)
	r.must(insert(event("")))
	left(4)
	odd := event("")
	odd.Depth = 0
	if err := r.keyed.InsertAll(t.Context(), here+100, []*outbox.Entry{odd}); !errors.Is(err, outbox.ErrFenced) {
		t.Error(err)
	}
	odd.Gate = "a\x00"
	if err := insert(odd); !errors.As(err, new(*outbox.Rejected)) {
		t.Error(err)
	}
	left(4)
}
