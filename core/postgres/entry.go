package postgres

import (
	"context"
	"fmt"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/picloud/picloud/core/outbox"
	"github.com/picloud/picloud/core/record"
	"github.com/picloud/picloud/core/tenant"
)

// EntryStore reads and cancels entries that have not ended.
type EntryStore struct{ pool *pgxpool.Pool }

// NewEntryStore makes a store over pool.
func NewEntryStore(pool *pgxpool.Pool) *EntryStore { return &EntryStore{pool} }

const sqlEntryList = `
SELECT o.id, o.event_id, o.target, o.kind, o.attempt, o.max_attempts, o.accepted_at, o.lane, o.priority, o.state, o.run_at,
    coalesce(o.last_error, '')
FROM outbox o JOIN apps a ON a.id = o.app AND a.deleted_at IS NULL
WHERE o.app = $1 AND ($2::uuid IS NULL OR o.lane = $2) AND ($3::smallint IS NULL OR o.state = $3) AND o.id > $4
ORDER BY o.id LIMIT $5`

// List returns up to limit entries that have not ended, oldest first, from cursor on, and the cursor of the next page.
func (s *EntryStore) List(
	ctx context.Context, app uuid.UUID, f record.EntryFilter, cursor string, limit int,
) ([]record.Entry, string, error) {
	var after uuid.UUID
	if err := decodeCursor(cursor, &after); err != nil {
		return nil, "", err
	}
	rows, _ := s.pool.Query(ctx, sqlEntryList, app, optionalID(f.Lane), f.State, after, limit+1)
	list, err := pgx.CollectRows(rows, func(row pgx.CollectableRow) (e record.Entry, err error) {
		e.Waiting = &record.Waiting{}
		err = row.Scan(&e.ID, &e.EventID, &e.Script, &e.Kind, &e.Attempt, &e.MaxAttempts, &e.AcceptedAt, &e.Lane, &e.Priority,
			&e.Waiting.State, &e.Waiting.RunAt, &e.Waiting.LastError)
		return e, err
	})
	if err != nil {
		return nil, "", fmt.Errorf("list entries: %w", err)
	}
	list, next := page(list, limit, func(e *record.Entry) []any { return []any{e.ID} })
	return list, next, nil
}

func optionalID(id uuid.UUID) *uuid.UUID {
	if id == uuid.Nil {
		return nil
	}
	return &id
}

const (
	sqlEntryState = `SELECT state FROM outbox WHERE app = $1 AND id = $2`

	// sqlEntryStop asks the node that runs an entry to stop it.
	sqlEntryStop = `
UPDATE outbox SET cancelled_at = coalesce(cancelled_at, clock_timestamp()) WHERE app = $1 AND id = ANY ($2::uuid[]) AND state = 2`
)

// Cancel ends an entry that waits, and has one that runs stopped soon. It reports whether it ended at once. An entry that
// the app does not have is tenant.ErrNotFound, one that has ended a *tenant.Conflict.
func (s *EntryStore) Cancel(ctx context.Context, by, app, id uuid.UUID) (ended bool, err error) {
	c := &change{by: by, app: app, action: "entry.cancel", object: id.String()}
	err = pgx.BeginFunc(ctx, s.pool, func(tx pgx.Tx) error {
		var state outbox.State
		if err := tx.QueryRow(ctx, sqlEntryState, app, id).Scan(&state); err != nil {
			return missing("read entry", err)
		}
		stopped, done, err := cancelEntries(ctx, tx, app, []uuid.UUID{id})
		if err != nil {
			return err
		}
		if stopped+done == 0 {
			return &tenant.Conflict{Message: "the execution has just ended"}
		}
		ended = done == 1
		return audit(ctx, tx, c)
	})
	return ended, err
}

// cancelEntries ends those that wait and asks for the end of those that run. What starts between the two is asked too,
// since it is the second that looks for it.
func cancelEntries(ctx context.Context, tx pgx.Tx, app uuid.UUID, ids []uuid.UUID) (stopped, ended int, err error) {
	if ended, err = endWaiting(ctx, tx, ids, outbox.Cancelled, outbox.ReasonUser); err != nil {
		return 0, 0, err
	}
	tag, err := tx.Exec(ctx, sqlEntryStop, app, ids)
	if err != nil {
		return 0, 0, fmt.Errorf("stop entries: %w", err)
	}
	return int(tag.RowsAffected()), ended, nil
}

const sqlEntryLane = `
SELECT id FROM outbox WHERE app = $1 AND lane = $2 AND cancelled_at IS NULL ORDER BY id LIMIT 500`

// CancelLane cancels entries of a lane, up to 500 at a time, and returns how many; more says that there may be others.
func (s *EntryStore) CancelLane(ctx context.Context, by, app, lane uuid.UUID) (n int, more bool, err error) {
	err = pgx.BeginFunc(ctx, s.pool, func(tx pgx.Tx) error {
		rows, _ := tx.Query(ctx, sqlEntryLane, app, lane)
		ids, err := pgx.CollectRows(rows, pgx.RowTo[uuid.UUID])
		if err != nil {
			return fmt.Errorf("list entries: %w", err)
		}
		stopped, ended, err := cancelEntries(ctx, tx, app, ids)
		if err != nil {
			return err
		}
		n, more = stopped+ended, len(ids) == 500
		return audit(ctx, tx, &change{
			by: by, app: app, action: "lane.cancel", object: lane.String(), detail: map[string]int{"entries": n},
		})
	})
	return n, more, err
}

const (
	sqlEntryFacts = `
SELECT o.lane, o.target, o.state, clock_timestamp(), o.run_at, o.attempt, coalesce(o.last_error, ''),
    o.cancelled_at IS NOT NULL, coalesce(o.gate, ''), coalesce(o.gate_limit, 0), coalesce(o.gate_seq, 0),
    coalesce((SELECT n.name FROM nodes n WHERE n.epoch = o.owner), ''), o.priority, o.retry, o.expires_at
FROM outbox o JOIN apps a ON a.id = o.app AND a.deleted_at IS NULL WHERE o.app = $1 AND o.id = $2`

	sqlEntryHolders = `SELECT id FROM outbox WHERE app = $1 AND gate = $2 AND gate_held AND id <> $3 ORDER BY id LIMIT 20`

	sqlEntryBehindGate = `
SELECT count(*) FROM (SELECT 1 FROM outbox WHERE state = 3 AND app = $1 AND gate = $2 AND gate_seq < $3 LIMIT 10000) x`

	sqlEntryBehind = `
SELECT count(*) FROM (
    SELECT 1 FROM outbox WHERE state = 1 AND app = $1 AND lane = $2 AND retry = $3 AND (priority, run_at, id) < ($4, $5, $6)
    LIMIT 10000) x`
)

// Facts returns what the database knows of an entry that has not ended, or tenant.ErrNotFound.
func (s *EntryStore) Facts(ctx context.Context, app, id uuid.UUID) (f record.EntryFacts, err error) {
	var seq int64
	var priority int16
	var retry bool
	var expires *time.Time
	err = s.pool.QueryRow(ctx, sqlEntryFacts, app, id).Scan(&f.Lane, &f.Target, &f.State, &f.Now, &f.RunAt, &f.Attempt,
		&f.LastError, &f.Cancelled, &f.Gate, &f.GateLimit, &seq, &f.Node, &priority, &retry, &expires)
	if err != nil {
		return f, missing("read entry", err)
	}
	if expires != nil {
		f.ExpiresAt = *expires
	}
	switch f.State {
	case outbox.Blocked:
		rows, _ := s.pool.Query(ctx, sqlEntryHolders, app, f.Gate, id)
		if f.Holders, err = pgx.CollectRows(rows, pgx.RowTo[uuid.UUID]); err != nil {
			return f, fmt.Errorf("read who holds the gate: %w", err)
		}
		err = s.pool.QueryRow(ctx, sqlEntryBehindGate, app, f.Gate, seq).Scan(&f.Ahead)
	case outbox.Ready:
		err = s.pool.QueryRow(ctx, sqlEntryBehind, app, f.Lane, retry, priority, f.RunAt, id).Scan(&f.Ahead)
	}
	if err != nil {
		return f, fmt.Errorf("count entries before: %w", err)
	}
	return f, nil
}
