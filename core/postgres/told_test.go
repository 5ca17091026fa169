package postgres_test

import (
	"errors"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/google/uuid"

	"github.com/picloud/picloud/core/lifecycle"
	"github.com/picloud/picloud/core/outbox"
	"github.com/picloud/picloud/core/tenant"
)

// A release is told of once, however many nodes know of it, together with its entries, and only by a node that is alive.
func TestReleaseTold(t *testing.T) {
	t.Parallel()
	w := newWorkshop(t)
	untold := func(want int) []lifecycle.Release {
		t.Helper()
		list, err := w.releases.Untold(t.Context(), nil, 10)
		if err != nil || len(list) != want {
			t.Fatalf("%+v, %v", list, err)
		}
		return list
	}
	w.deploy(w.deployment("early", tenant.KindEndpoint))
	untold(0) // nobody asks for it, and who comes later does not learn of it
	if _, err := w.pool.Exec(t.Context(), `INSERT INTO triggers (id, app, name, kind, script) SELECT gen_random_uuid(), app, 'tell', 'app', id FROM scripts`); err != nil {
		t.Fatal(err)
	}
	w.deploy(w.deployment("one", tenant.KindEndpoint))
	w.deploy(w.deployment("two", tenant.KindEndpoint))
	list := untold(2)
	if others, err := w.releases.Untold(t.Context(), []uuid.UUID{uuid.New(), w.app}, 10); err != nil || len(others) != 0 {
		t.Errorf("%+v, %v", others, err)
	}
	if s := list[1].Scripts; len(s) != 1 || s[0] != (lifecycle.Version{Script: "two", Version: 1}) || list[1].Action != "deploy" || list[1].Number != 3 {
		t.Errorf("%+v", list[1])
	}
	entry := func() *outbox.Entry {
		id := uuid.New()
		return &outbox.Entry{
			ID: id, EventID: id, RootID: id, App: w.app, Lane: uuid.New(), Target: uuid.New(), TargetKind: outbox.TargetScript,
			Kind: outbox.KindApp, State: outbox.Ready, MaxAttempts: 1, Timeout: 1e9, Envelope: []byte{1}, Payload: []byte("{}"),
		}
	}
	if told, err := w.releases.Tell(t.Context(), 4711, &list[0], []*outbox.Entry{entry()}); told || !errors.Is(err, outbox.ErrFenced) {
		t.Errorf("a dead node told: %t, %v", told, err)
	}
	untold(2)
	var owner int64
	if err := w.pool.QueryRow(t.Context(), `INSERT INTO nodes (name) VALUES ('n') RETURNING epoch`).Scan(&owner); err != nil {
		t.Fatal(err)
	}
	var told atomic.Int64
	var all sync.WaitGroup
	for range 8 {
		all.Go(func() {
			for i := range list {
				is, err := w.releases.Tell(t.Context(), owner, &list[i], []*outbox.Entry{entry()})
				if err != nil {
					t.Error(err)
				}
				if is {
					told.Add(1)
				}
			}
		})
	}
	all.Wait()
	untold(0)
	var entries int
	if err := w.pool.QueryRow(t.Context(), `SELECT count(*) FROM outbox WHERE kind = $1`, outbox.KindApp).Scan(&entries); err != nil {
		t.Fatal(err)
	}
	if told.Load() != 2 || entries != 2 {
		t.Errorf("told %d times, with %d entries", told.Load(), entries)
	}
}
