package postgres

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/picloud/picloud/core/record"
)

// TableStore looks after the tables themselves. Vacuum is for one goroutine at a time.
type TableStore struct {
	pool *pgxpool.Pool
	rest map[string]time.Time // until when a table is left alone
}

// NewTableStore makes a store over pool.
func NewTableStore(pool *pgxpool.Pool) *TableStore {
	return &TableStore{pool: pool, rest: map[string]time.Time{}}
}

// sqlTablesDead lists hot tables in which dead rows have the upper hand. A server's own vacuum may sleep for a minute
// between two looks; at some thousand events a second that is what makes an outbox slow.
const sqlTablesDead = `
SELECT relname::text FROM pg_stat_user_tables
WHERE schemaname = current_schema() AND relname IN ('outbox', 'gates', 'idempotency_keys', 'results', 'roots', 'nodes')
    AND n_dead_tup > greatest(20000, 2 * n_live_tup)
ORDER BY relname`

// sqlTablesLock keeps two nodes from the same work.
const sqlTablesLock = `SELECT pg_try_advisory_lock(2615)`

const sqlTablesUnlock = `SELECT pg_advisory_unlock(2615)`

// A table is left alone after a vacuum for a while, and for many times as long as that took: where an old transaction keeps the
// dead rows it is in vain, and must not be all that the server does.
const (
	restAtLeast = 10 * time.Second
	restFactor  = 20
)

// Vacuum removes the dead rows of tables that have many, and returns which those were. While another node does so it does
// nothing.
func (s *TableStore) Vacuum(ctx context.Context) (done []string, err error) {
	rows, _ := s.pool.Query(ctx, sqlTablesDead)
	tables, err := pgx.CollectRows(rows, pgx.RowTo[string])
	if err != nil {
		return nil, fmt.Errorf("count dead rows: %w", err)
	}
	tables = slices.DeleteFunc(tables, func(table string) bool { return time.Now().Before(s.rest[table]) })
	if len(tables) == 0 {
		return nil, nil
	}
	conn, err := s.pool.Acquire(ctx)
	if err != nil {
		return nil, err
	}
	defer conn.Release()
	var free bool
	if err := conn.QueryRow(ctx, sqlTablesLock).Scan(&free); err != nil || !free {
		return nil, err
	}
	defer func() {
		ctx := context.WithoutCancel(ctx)
		_, reset := conn.Exec(ctx, `RESET statement_timeout`)
		_, unlock := conn.Exec(ctx, sqlTablesUnlock)
		err = errors.Join(err, reset, unlock)
	}()
	if _, err := conn.Exec(ctx, `SET statement_timeout = 0`); err != nil {
		return nil, err
	}
	for _, table := range tables {
		began := time.Now()
		_, failed := conn.Exec(ctx, `VACUUM (SKIP_LOCKED) `+pgx.Identifier{table}.Sanitize())
		s.rest[table] = time.Now().Add(max(restAtLeast, restFactor*time.Since(began)))
		if failed != nil {
			err = errors.Join(err, fmt.Errorf("vacuum %s: %w", table, failed))
			continue
		}
		done = append(done, table)
	}
	return done, err
}

// sqlTablesHealth looks at what makes a queue in a database slow: rows that vacuum may not remove yet, those that it has not
// removed, and what waits. Numbers of rows are the server's own estimates, so a large backlog costs no more than a small one.
const sqlTablesHealth = `
SELECT coalesce(extract(epoch FROM clock_timestamp() - least(
        (SELECT min(xact_start) FROM pg_stat_activity WHERE backend_xmin IS NOT NULL),
        (SELECT min(prepared) FROM pg_prepared_xacts))), 0)::float8,
    t.n_dead_tup, t.n_live_tup, pg_database_size(current_database())
FROM pg_stat_user_tables t WHERE t.schemaname = current_schema() AND t.relname = 'outbox'`

// sqlTablesOldest finds how long the first entry of each lane has been ready, for up to 1,000 lanes, and takes the longest.
const sqlTablesOldest = `
WITH RECURSIVE ready (app, lane, retry, run_at) AS (
    (SELECT o.app, o.lane, o.retry, o.run_at FROM outbox o WHERE o.state = 1
        ORDER BY o.app, o.lane, o.retry, o.priority, o.run_at LIMIT 1)
    UNION ALL
    SELECT n.app, n.lane, n.retry, n.run_at FROM ready r CROSS JOIN LATERAL (
        SELECT o.app, o.lane, o.retry, o.run_at FROM outbox o WHERE o.state = 1 AND (o.app, o.lane, o.retry) > (r.app, r.lane, r.retry)
        ORDER BY o.app, o.lane, o.retry, o.priority, o.run_at LIMIT 1) n
)
SELECT coalesce(extract(epoch FROM clock_timestamp() - min(run_at)), 0)::float8 FROM (SELECT run_at FROM ready LIMIT 1000) x`

// Health looks at the database.
func (s *TableStore) Health(ctx context.Context) (h record.Health, err error) {
	var transaction, ready float64
	err = s.pool.QueryRow(ctx, sqlTablesHealth).Scan(&transaction, &h.DeadRows, &h.Entries, &h.DatabaseBytes)
	if err == nil {
		err = s.pool.QueryRow(ctx, sqlTablesOldest).Scan(&ready)
	}
	if err != nil {
		return h, fmt.Errorf("look at the tables: %w", err)
	}
	seconds := func(v float64) time.Duration { return time.Duration(max(0, v) * float64(time.Second)) }
	h.OldestTransaction, h.OldestReady = seconds(transaction), seconds(ready)
	return h, nil
}
