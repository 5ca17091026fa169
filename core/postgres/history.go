package postgres

import (
	"context"
	"fmt"
	"regexp"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/picloud/picloud/core/history"
)

// HistoryStore knows how much is kept of the runs of each app, and removes what is old.
type HistoryStore struct{ pool *pgxpool.Pool }

// NewHistoryStore makes a store over pool.
func NewHistoryStore(pool *pgxpool.Pool) *HistoryStore { return &HistoryStore{pool} }

const (
	sqlHistoryAdd = `
INSERT INTO history_usage AS u (app, day, bytes, records, left_out)
SELECT app, day, bytes, records, left_out FROM unnest($1::uuid[], $2::date[], $3::bigint[], $4::bigint[], $5::bigint[])
    AS x (app, day, bytes, records, left_out) ORDER BY app, day
ON CONFLICT (app, day) DO UPDATE SET bytes = u.bytes + excluded.bytes, records = u.records + excluded.records,
    left_out = u.left_out + excluded.left_out
RETURNING app, day, bytes, records, left_out`

	sqlHistoryAddRuns = `
INSERT INTO script_usage AS u (app, script, day, outcome, attempts, duration_us)
SELECT app, script, day, outcome, attempts, duration_us
FROM unnest($1::uuid[], $2::uuid[], $3::date[], $4::smallint[], $5::bigint[], $6::bigint[])
    AS x (app, script, day, outcome, attempts, duration_us) ORDER BY app, script, day, outcome
ON CONFLICT (app, script, day, outcome) DO UPDATE SET attempts = u.attempts + excluded.attempts,
    duration_us = u.duration_us + excluded.duration_us`
)

// Add adds what a node has counted, and returns the usage of all nodes by then.
func (s *HistoryStore) Add(ctx context.Context, added history.Tally) (total []history.Usage, err error) {
	n := len(added.Usage)
	apps, days := make([][16]byte, n), make([]time.Time, n)
	bytes, records, left := make([]int64, n), make([]int64, n), make([]int64, n)
	for i, u := range added.Usage {
		apps[i], days[i], bytes[i], records[i], left[i] = u.App, u.Day, u.Bytes, u.Records, u.LeftOut
	}
	var q pgx.Batch
	q.Queue(sqlHistoryAdd, apps, days, bytes, records, left).Query(func(rows pgx.Rows) error {
		total, err = pgx.CollectRows(rows, pgx.RowToStructByPos[history.Usage])
		return err
	})
	q.Queue(sqlHistoryAddRuns, runArgs(added.Runs)...)
	if err := s.pool.SendBatch(ctx, &q).Close(); err != nil {
		return nil, fmt.Errorf("add to the history's usage: %w", err)
	}
	return total, nil
}

func runArgs(runs []history.Runs) []any {
	n := len(runs)
	apps, scripts, days := make([][16]byte, n), make([][16]byte, n), make([]time.Time, n)
	outcomes, attempts, durations := make([]int16, n), make([]int64, n), make([]int64, n)
	for i, r := range runs {
		apps[i], scripts[i], days[i], outcomes[i] = r.App, r.Script, r.Day, int16(r.Outcome)
		attempts[i], durations[i] = r.Attempts, r.Time.Microseconds()
	}
	return []any{apps, scripts, days, outcomes, attempts, durations}
}

const sqlHistoryRuns = `
SELECT app, script, day::timestamp AT TIME ZONE 'UTC', outcome, attempts, duration_us
FROM script_usage WHERE app = $1 AND script = $2 ORDER BY day DESC, outcome`

// Runs returns how the attempts at the events of a script ended, newest day first.
func (s *HistoryStore) Runs(ctx context.Context, app, script uuid.UUID) ([]history.Runs, error) {
	rows, _ := s.pool.Query(ctx, sqlHistoryRuns, app, script)
	list, err := pgx.CollectRows(rows, func(row pgx.CollectableRow) (r history.Runs, err error) {
		var us int64
		err = row.Scan(&r.App, &r.Script, &r.Day, &r.Outcome, &r.Attempts, &us)
		r.Time = time.Duration(us) * time.Microsecond
		return r, err
	})
	if err != nil {
		return nil, fmt.Errorf("read the runs of a script: %w", err)
	}
	return list, nil
}

const sqlHistoryUsage = `
SELECT app, min(day)::timestamp AT TIME ZONE 'UTC', sum(bytes)::bigint, sum(records)::bigint, sum(left_out)::bigint
FROM history_usage GROUP BY app ORDER BY app`

// Usage returns what is kept of each app, from its first day on.
func (s *HistoryStore) Usage(ctx context.Context) ([]history.Usage, error) {
	rows, _ := s.pool.Query(ctx, sqlHistoryUsage)
	list, err := pgx.CollectRows(rows, pgx.RowToStructByPos[history.Usage])
	if err != nil {
		return nil, fmt.Errorf("read the history's usage: %w", err)
	}
	return list, nil
}

const (
	sqlHistoryPartitions = `
SELECT c.relname FROM pg_inherits i JOIN pg_class c ON c.oid = i.inhrelid
WHERE i.inhparent IN ('executions'::regclass, 'execution_bodies'::regclass) ORDER BY c.relname`

	sqlHistoryBefore = `SELECT clock_timestamp() - $1 * interval '1 microsecond'`

	sqlHistoryForget     = `DELETE FROM history_usage WHERE day < ($1::timestamptz AT TIME ZONE 'UTC')::date`
	sqlHistoryForgetRuns = `DELETE FROM script_usage WHERE day < ($1::timestamptz AT TIME ZONE 'UTC')::date`

	sqlHistoryStrays = `
DELETE FROM executions_default WHERE ctid = ANY (ARRAY (SELECT ctid FROM executions_default WHERE finished_at < $1 LIMIT 5000))`

	sqlHistoryStrayBodies = `
DELETE FROM execution_bodies_default WHERE ctid = ANY (ARRAY (
    SELECT ctid FROM execution_bodies_default WHERE finished_at < $1 LIMIT 5000))`
)

var partitionName = regexp.MustCompile(`^(?:executions|execution_bodies)_(\d{8})$`)

// Purge drops the days that ended before keep ago, by the database's clock, and returns how many partitions that were. Rows that came before there
// was a partition for their day are removed some at a time.
func (s *HistoryStore) Purge(ctx context.Context, keep time.Duration) (dropped int, err error) {
	var before time.Time
	if err := s.pool.QueryRow(ctx, sqlHistoryBefore, keep.Microseconds()).Scan(&before); err != nil {
		return 0, fmt.Errorf("read the time: %w", err)
	}
	rows, _ := s.pool.Query(ctx, sqlHistoryPartitions)
	names, err := pgx.CollectRows(rows, pgx.RowTo[string])
	if err != nil {
		return 0, fmt.Errorf("list partitions: %w", err)
	}
	for _, name := range names {
		m := partitionName.FindStringSubmatch(name)
		if m == nil {
			continue
		}
		day, err := time.Parse("20060102", m[1])
		if err != nil || day.AddDate(0, 0, 1).After(before) {
			continue
		}
		if err := s.drop(ctx, name); err != nil {
			return dropped, err
		}
		dropped++
	}
	for _, sql := range []string{sqlHistoryStrays, sqlHistoryStrayBodies} {
		for {
			tag, err := s.pool.Exec(ctx, sql, before)
			if err != nil {
				return dropped, fmt.Errorf("remove old records: %w", err)
			}
			if tag.RowsAffected() < 5000 {
				break
			}
		}
	}
	for _, sql := range []string{sqlHistoryForget, sqlHistoryForgetRuns} {
		if _, err := s.pool.Exec(ctx, sql, before); err != nil {
			return dropped, fmt.Errorf("forget the usage of old days: %w", err)
		}
	}
	return dropped, nil
}

// drop removes a partition. It waits for those who read the table, and whoever comes after waits behind it, for two seconds
// at most: then it gives way, and is tried again at the next occasion.
func (s *HistoryStore) drop(ctx context.Context, name string) error {
	err := pgx.BeginFunc(ctx, s.pool, func(tx pgx.Tx) error {
		if _, err := tx.Exec(ctx, sqlPartitionLock); err != nil {
			return err
		}
		_, err := tx.Exec(ctx, `DROP TABLE IF EXISTS `+pgx.Identifier{name}.Sanitize())
		return err
	})
	if err != nil {
		return fmt.Errorf("drop %s: %w", name, err)
	}
	return nil
}
