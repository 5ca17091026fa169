package dispatcher_test

import (
	"context"
	"slices"
	"testing"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/picloud/picloud/core/coretest"
	"github.com/picloud/picloud/core/outbox"
	"github.com/picloud/picloud/core/postgres"
	"github.com/picloud/picloud/sdk/fault"
)

// One app has every slot that it may have, with runs that do not end, and many more wait. Another's event runs all the same,
// as often as it comes, and so does a caller's.
func TestQuietBesideNoisy(t *testing.T) {
	t.Parallel()
	noisy := uuid.New()
	open := make(chan struct{})
	b := setup(t, "", func(ctx context.Context, e *outbox.Entry) *fault.Fault {
		if e.App == noisy {
			select {
			case <-open:
			case <-ctx.Done():
			}
		}
		return nil
	})
	for range 60 {
		e := entry()
		e.App = noisy
		if err := b.Append(t.Context(), e); err != nil {
			t.Fatal(err)
		}
	}
	started := map[uuid.UUID]bool{}
	see := func(id uuid.UUID) func() bool {
		return func() bool {
			for {
				select {
				case e := <-b.runs.seen:
					started[e.ID] = true
				default:
					return started[id]
				}
			}
		}
	}
	coretest.Eventually(t, "the noisy app has its slots", func() bool { see(uuid.Nil)(); return len(started) == 5 })
	for range 5 {
		e := entry()
		if err := b.Append(t.Context(), e); err != nil {
			t.Fatal(err)
		}
		coretest.Eventually(t, "the quiet app's event starts", see(e.ID))
	}
	if noisy := len(started) - 5; noisy != 5 {
		t.Errorf("the noisy app has %d of 8 slots", noisy)
	}
	e := entry()
	e.Kind, e.ReplyTo = outbox.KindHTTP, uuid.New()
	if err := b.Call(t.Context(), e); err != nil {
		t.Fatal(err)
	}
	coretest.Eventually(t, "a caller's run starts", see(e.ID))
	close(open)
	coretest.Eventually(t, "everything has run", func() bool { return left(t, b.pool) == 0 })
}

// fill writes entries that wait, before there is a node.
func fill(t *testing.T, url string, list []*outbox.Entry) *pgxpool.Pool {
	t.Helper()
	pool, err := postgres.Open(t.Context(), postgres.Config{URL: url}, coretest.Logger(t))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(pool.Close)
	var epoch int64
	if err := pool.QueryRow(t.Context(), `INSERT INTO nodes (name) VALUES ('filler') RETURNING epoch`).Scan(&epoch); err != nil {
		t.Fatal(err)
	}
	if _, err := postgres.NewOutboxStore(pool).Insert(t.Context(), epoch, list, false); err != nil {
		t.Fatal(err)
	}
	if _, err := pool.Exec(t.Context(), `DELETE FROM nodes`); err != nil {
		t.Fatal(err)
	}
	return pool
}

// What was tried before waits behind what is fresh, but some of it runs too.
func TestRetriesBehindFresh(t *testing.T) {
	t.Parallel()
	url := coretest.URL(t)
	first := entry()
	var again []uuid.UUID
	var list []*outbox.Entry
	for i := range 120 {
		e := entry()
		e.App, e.Lane, e.Target, e.State = first.App, first.Lane, first.Lane, outbox.Ready
		if list = append(list, e); i < 60 {
			again = append(again, e.ID)
		}
	}
	if _, err := fill(t, url, list).Exec(t.Context(), `UPDATE outbox SET retry = true WHERE id = ANY ($1)`, again); err != nil {
		t.Fatal(err)
	}
	b := setup(t, url, func(context.Context, *outbox.Entry) *fault.Fault { return nil })
	retries := 0
	for i := range 120 {
		e := <-b.runs.seen
		if i < 50 && slices.Contains(again, e.ID) {
			retries++
		}
	}
	if retries == 0 || retries > 20 {
		t.Errorf("%d of the first 50 are retries", retries)
	}
}
