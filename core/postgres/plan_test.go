package postgres_test

import (
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"

	"github.com/picloud/picloud/core/coretest"
	"github.com/picloud/picloud/core/postgres"
)

// Settlements look entries up, also where the planner has seen the outbox large and empty: it came to believe that walking
// over the whole index was cheaper.
func TestPlansOfSettlements(t *testing.T) {
	t.Parallel()
	r := newRaces(t)
	r.exec(`INSERT INTO outbox (id, event_id, app, lane, target, root_id, run_at, accepted_at, timeout_ms, kind, state, max_attempts, envelope)
		SELECT gen_random_uuid(), gen_random_uuid(), gen_random_uuid(), gen_random_uuid(), gen_random_uuid(), gen_random_uuid(),
			now(), now(), 1, 1, 2, 1, 'some bytes' FROM generate_series(1, 20000)`)
	r.exec(`DELETE FROM outbox`)
	r.exec(`ANALYZE outbox`)
	pools, err := postgres.OpenPools(t.Context(), r.url, coretest.Logger(t))
	r.must(err)
	defer pools.Close()
	for statement, types := range postgres.Probes {
		conn, err := pools.Fast.Acquire(t.Context())
		r.must(err)
		_, err = conn.Exec(t.Context(), `PREPARE probe (`+types+`) AS `+statement)
		r.must(err)
		nulls := "NULL" + strings.Repeat(", NULL", strings.Count(types, ","))
		rows, _ := conn.Query(t.Context(), `EXPLAIN EXECUTE probe (`+nulls+`)`, pgx.QueryExecModeSimpleProtocol)
		lines, err := pgx.CollectRows(rows, pgx.RowTo[string])
		r.must(err)
		if plan := strings.Join(lines, "\n"); !strings.Contains(plan, "Index Cond: (id = ANY (ARRAY[x.id]))") {
			t.Errorf("%s\nis planned as\n%s", statement, plan)
		}
		_, err = conn.Exec(t.Context(), `DEALLOCATE probe`)
		r.must(err)
		conn.Release()
	}
}
