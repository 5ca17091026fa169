package postgres_test

import (
	"context"
	"strconv"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/picloud/picloud/core/coretest"
	"github.com/picloud/picloud/core/data"
	"github.com/picloud/picloud/core/outbox"
	"github.com/picloud/picloud/core/postgres"
)

// trips counts how often the database is waited for.
type trips struct{ atomic.Int64 }

func (n *trips) TraceQueryStart(ctx context.Context, _ *pgx.Conn, _ pgx.TraceQueryStartData) context.Context {
	n.Add(1)
	return ctx
}

func (*trips) TraceQueryEnd(context.Context, *pgx.Conn, pgx.TraceQueryEndData) {}

func (n *trips) TraceBatchStart(ctx context.Context, _ *pgx.Conn, _ pgx.TraceBatchStartData) context.Context {
	n.Add(1)
	return ctx
}

func (*trips) TraceBatchQuery(context.Context, *pgx.Conn, pgx.TraceBatchQueryData) {}

func (*trips) TraceBatchEnd(context.Context, *pgx.Conn, pgx.TraceBatchEndData) {}

// However much a unit writes, and however many events that causes, the database is waited for as often: a commit has its time, and rows are
// locked as long.
func TestUnitRoundTrips(t *testing.T) {
	t.Parallel()
	plain := coretest.DB(t)
	owner := live(t, plain)
	n := &trips{}
	config := plain.Config()
	config.ConnConfig.Tracer = n
	pool, err := pgxpool.NewWithConfig(t.Context(), config)
	if err != nil {
		t.Fatal(err)
	}
	defer pool.Close()
	store, app := postgres.NewUnitStore(pool), uuid.New()
	commit := func(rows int) int64 {
		t.Helper()
		var writes []data.Staged
		for i := range rows {
			writes = append(writes,
				data.Staged{Row: data.Row{Kind: outbox.KindKV, Collection: "c", Key: strconv.Itoa(i)}, Value: []byte("1")},
				data.Staged{Row: data.Row{Kind: outbox.KindDocs, Collection: "c", Key: uuid.NewString()}, Value: []byte("{}")})
		}
		caused := func(c data.Change) ([]*outbox.Entry, error) {
			return []*outbox.Entry{{
				ID: uuid.New(), EventID: uuid.New(), App: app, Lane: app, Target: app, RootID: app, Depth: 1, Gate: outbox.OrderGate(c.Key), GateLimit: 1,
				TargetKind: outbox.TargetScript, Kind: outbox.KindKV, State: outbox.Ready, MaxAttempts: 1, Timeout: time.Second, Envelope: []byte{1},
			}}, nil
		}
		before := n.Load()
		entries, err := store.Commit(t.Context(), owner, &data.Unit{Writes: writes}, func(outbox.Kind, string) data.Caused { return caused },
			&outbox.Settlement{Entry: &outbox.Entry{App: app, Unwritten: true}})
		if err != nil || len(entries) != len(writes) {
			t.Fatalf("%d entries, %v", len(entries), err)
		}
		return n.Load() - before
	}
	if few, many := commit(1), commit(100); many != few {
		t.Errorf("%d round trips for two rows, %d for two hundred", few, many)
	}
	var ready int
	if err := plain.QueryRow(t.Context(), `SELECT count(*) FROM outbox WHERE state = 1`).Scan(&ready); err != nil || ready != 201 {
		t.Errorf("%d may start, %v", ready, err) // the second event of one key waits
	}
}
