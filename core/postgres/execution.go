package postgres

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/picloud/picloud/core/outbox"
	"github.com/picloud/picloud/core/record"
	"github.com/picloud/picloud/core/tenant"
)

// ExecutionStore reads what is kept of executions.
type ExecutionStore struct{ pool *pgxpool.Pool }

// NewExecutionStore makes a store over pool.
func NewExecutionStore(pool *pgxpool.Pool) *ExecutionStore { return &ExecutionStore{pool} }

const (
	executionColumns = `e.id, e.attempt, e.script, coalesce(s.name, ''), ` + sinkOfExecution + `, e.version, e.trigger, e.kind, e.outcome, e.reason,
    e.status, e.depth, e.event_id, e.root_id, e.accepted_at, e.started_at, e.finished_at, e.duration_us, e.error, e.fault`
	executionTables = ` FROM executions e JOIN apps a ON a.id = e.app AND a.deleted_at IS NULL
    LEFT JOIN scripts s ON s.id = e.script AND s.app = e.app LEFT JOIN sinks k ON k.id = e.script AND k.app = e.app `
)

func scanExecution(row pgx.CollectableRow) (e record.Execution, err error) {
	var trigger *uuid.UUID
	var micros int64
	err = row.Scan(&e.ID, &e.Attempt, &e.Script, &e.ScriptName, &e.SinkName, &e.Version, &trigger, &e.Kind, &e.Outcome, &e.Reason,
		&e.Status, &e.Depth, &e.EventID, &e.RootID, &e.AcceptedAt, &e.StartedAt, &e.FinishedAt, &micros, &e.Error, &e.Fault)
	e.Trigger = orNil(trigger)
	e.Duration = time.Duration(micros) * time.Microsecond
	return e, err
}

const sqlExecutionList = `
SELECT ` + executionColumns + executionTables + `
WHERE e.app = $1 AND ($2::uuid = '00000000-0000-0000-0000-000000000000' OR e.script = $2)
    AND ($3::smallint = 0 OR e.outcome = $3) AND (e.finished_at, e.id, e.attempt) < ($4, $5, $6)
ORDER BY e.finished_at DESC, e.id DESC, e.attempt DESC LIMIT $7`

// The end of time and of ids, where lists of the newest begin.
var (
	lastTime = time.Date(9999, 12, 31, 0, 0, 0, 0, time.UTC)
	lastID   = uuid.Max
)

// List returns up to limit attempts, newest first, from cursor on, and the cursor of the next page.
func (s *ExecutionStore) List(
	ctx context.Context, app uuid.UUID, f record.ExecutionFilter, cursor string, limit int,
) ([]record.Execution, string, error) {
	before, id, attempt := lastTime.UnixMicro(), lastID, 0
	if err := decodeCursor(cursor, &before, &id, &attempt); err != nil {
		return nil, "", err
	}
	rows, _ := s.pool.Query(ctx, sqlExecutionList, app, f.Script, f.Outcome, time.UnixMicro(before), id, attempt, limit+1)
	list, err := pgx.CollectRows(rows, scanExecution)
	if err != nil {
		return nil, "", fmt.Errorf("list executions: %w", err)
	}
	list, next := page(list, limit, func(e *record.Execution) []any {
		return []any{e.FinishedAt.UnixMicro(), e.ID, e.Attempt}
	})
	return list, next, nil
}

const sqlExecutionGet = `
SELECT ` + executionColumns + executionTables + `
WHERE e.app = $1 AND e.id = $2 AND e.finished_at >= $3 ORDER BY e.attempt`

// Get returns the attempts of an entry that have ended, first to last; none is tenant.ErrNotFound.
func (s *ExecutionStore) Get(ctx context.Context, app, id uuid.UUID) ([]record.Execution, error) {
	rows, _ := s.pool.Query(ctx, sqlExecutionGet, app, id, since(id))
	list, err := pgx.CollectRows(rows, scanExecution)
	if err != nil {
		return nil, fmt.Errorf("read executions: %w", err)
	}
	if len(list) == 0 {
		return nil, tenant.ErrNotFound
	}
	return list, nil
}

// since is the earliest time at which the entry can have ended, so that older partitions need not be read. The id holds
// the time of the node that made it, whose clock may be ahead.
func since(id uuid.UUID) time.Time {
	if id.Version() != 7 {
		return time.Unix(0, 0)
	}
	return outbox.AcceptedAt(id).Add(-time.Hour)
}

const sqlExecutionLogs = `
SELECT b.attempt, b.logs FROM execution_bodies b JOIN apps a ON a.id = b.app AND a.deleted_at IS NULL
WHERE b.app = $1 AND b.id = $2 AND b.finished_at >= $3 AND b.logs IS NOT NULL ORDER BY b.attempt`

// Logs returns what the attempts of an entry logged, in order; nil where nothing was or the entry is not known.
func (s *ExecutionStore) Logs(ctx context.Context, app, id uuid.UUID) ([]record.Log, error) {
	rows, _ := s.pool.Query(ctx, sqlExecutionLogs, app, id, since(id))
	type part struct {
		Attempt int
		Logs    []byte
	}
	parts, err := pgx.CollectRows(rows, pgx.RowToStructByPos[part])
	if err != nil {
		return nil, fmt.Errorf("read logs: %w", err)
	}
	var logs []record.Log
	for _, p := range parts {
		var lines []record.Log
		if err := json.Unmarshal(p.Logs, &lines); err != nil {
			return nil, fmt.Errorf("decode logs: %w", err)
		}
		for i := range lines {
			lines[i].Attempt = p.Attempt
		}
		logs = append(logs, lines...)
	}
	return logs, nil
}

const sqlEntryGet = `
SELECT o.id, o.event_id, o.target, o.kind, o.attempt, o.max_attempts, o.accepted_at, o.state, o.run_at,
    coalesce(o.last_error, '')
FROM outbox o JOIN apps a ON a.id = o.app AND a.deleted_at IS NULL WHERE o.app = $1 AND o.id = $2`

// Entry tells where an entry stands or how it ended, or tenant.ErrNotFound.
func (s *ExecutionStore) Entry(ctx context.Context, app, id uuid.UUID) (record.Entry, error) {
	// The outbox comes first: an entry moves from there to the executions in one transaction, so it is in one of them.
	var e record.Entry
	var w record.Waiting
	err := s.pool.QueryRow(ctx, sqlEntryGet, app, id).Scan(
		&e.ID, &e.EventID, &e.Script, &e.Kind, &e.Attempt, &e.MaxAttempts, &e.AcceptedAt, &w.State, &w.RunAt, &w.LastError,
	)
	if err == nil {
		e.Waiting = &w
		return e, nil
	}
	if !errors.Is(err, pgx.ErrNoRows) {
		return e, fmt.Errorf("read entry: %w", err)
	}
	attempts, err := s.Get(ctx, app, id)
	if err != nil {
		return e, err
	}
	last := &attempts[len(attempts)-1]
	return record.Entry{
		ID: id, EventID: last.EventID, Script: last.Script, Kind: last.Kind, Attempt: last.Attempt,
		AcceptedAt: last.AcceptedAt, Ended: last,
	}, nil
}
