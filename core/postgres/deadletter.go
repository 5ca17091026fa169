package postgres

import (
	"context"
	"fmt"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/picloud/picloud/core/record"
	"github.com/picloud/picloud/core/tenant"
)

// DeadLetterStore reads dead letters and closes them. Putting one back is the outbox's work.
type DeadLetterStore struct{ pool *pgxpool.Pool }

// NewDeadLetterStore makes a store over pool.
func NewDeadLetterStore(pool *pgxpool.Pool) *DeadLetterStore { return &DeadLetterStore{pool} }

const (
	deadLetterColumns = `d.id, d.event_id, d.target, coalesce(s.name, ''), ` + sinkOfLetter + `, d.trigger, d.root_id, d.replay_of, d.kind,
    d.attempts, d.max_attempts, d.reason, d.error, d.fault, d.version, d.accepted_at, d.created_at, d.resolved_at,
    coalesce(d.resolution, ''), d.replayed_as, d.cause`
	deadLetterTables = ` FROM dead_letters d JOIN apps a ON a.id = d.app AND a.deleted_at IS NULL
    LEFT JOIN scripts s ON s.id = d.target AND s.app = d.app LEFT JOIN sinks k ON k.id = d.target AND k.app = d.app `
)

func scanDeadLetter(row pgx.CollectableRow) (d record.DeadLetter, err error) {
	var trigger, replayOf, replayedAs *uuid.UUID
	var resolved *time.Time
	err = row.Scan(&d.ID, &d.EventID, &d.Target, &d.TargetName, &d.SinkName, &trigger, &d.RootID, &replayOf, &d.Kind, &d.Attempts,
		&d.MaxAttempts, &d.Reason, &d.Error, &d.Fault, &d.Version, &d.AcceptedAt, &d.CreatedAt, &resolved, &d.Resolution,
		&replayedAs, &d.Cause, &d.Envelope, &d.Payload)
	d.Trigger, d.ReplayOf, d.ReplayedAs = orNil(trigger), orNil(replayOf), orNil(replayedAs)
	if resolved != nil {
		d.ResolvedAt = *resolved
	}
	return d, err
}

// deadLetterWhere is what a filter asks for, by the arguments of filterArgs.
const deadLetterWhere = `d.app = $1 AND (NOT $2::boolean OR d.resolved_at IS NULL) AND ($3::uuid IS NULL OR d.target = $3)
    AND ($4 = '' OR d.reason = $4) AND ($5 = '' OR d.cause = $5) AND ($6::timestamptz IS NULL OR d.created_at >= $6)
    AND ($7::timestamptz IS NULL OR d.created_at < $7) AND ($8 = '' OR position(lower($8) IN lower(d.error)) > 0)`

func filterArgs(app uuid.UUID, f *record.DeadLetterFilter) []any {
	return []any{
		app, f.Open, optionalID(f.Script), f.Reason, f.Cause, optionalTime(f.Since), optionalTime(f.Until), clean(f.Text),
	}
}

const sqlDeadLetterList = `
SELECT ` + deadLetterColumns + `, NULL::bytea, NULL::bytea` + deadLetterTables + `
WHERE ` + deadLetterWhere + ` AND (d.created_at, d.id) < ($9, $10)
ORDER BY d.created_at DESC, d.id DESC LIMIT $11`

// List returns up to limit dead letters that f finds, newest first, from cursor on, and the cursor of the next page.
func (s *DeadLetterStore) List(
	ctx context.Context, app uuid.UUID, f record.DeadLetterFilter, cursor string, limit int,
) ([]record.DeadLetter, string, error) {
	before, id := lastTime.UnixMicro(), lastID
	if err := decodeCursor(cursor, &before, &id); err != nil {
		return nil, "", err
	}
	rows, _ := s.pool.Query(ctx, sqlDeadLetterList, append(filterArgs(app, &f), time.UnixMicro(before), id, limit+1)...)
	list, err := pgx.CollectRows(rows, scanDeadLetter)
	if err != nil {
		return nil, "", fmt.Errorf("list dead letters: %w", err)
	}
	list, next := page(list, limit, func(d *record.DeadLetter) []any { return []any{d.CreatedAt.UnixMicro(), d.ID} })
	return list, next, nil
}

const sqlDeadLetterCount = `SELECT count(*)` + deadLetterTables + `WHERE ` + deadLetterWhere

// Count returns how many dead letters f finds.
func (s *DeadLetterStore) Count(ctx context.Context, app uuid.UUID, f record.DeadLetterFilter) (n int, err error) {
	if err := s.pool.QueryRow(ctx, sqlDeadLetterCount, filterArgs(app, &f)...).Scan(&n); err != nil {
		return 0, fmt.Errorf("count dead letters: %w", err)
	}
	return n, nil
}

const sqlDeadLetterGroups = `
SELECT d.cause, count(*), min(d.created_at), max(d.created_at), (array_agg(d.reason ORDER BY d.created_at DESC))[1],
    (array_agg(d.fault ORDER BY d.created_at DESC))[1], (array_agg(d.error ORDER BY d.created_at DESC))[1],
    (array_agg(coalesce(s.name, ` + sinkOfLetter + `) ORDER BY d.created_at DESC))[1], (array_agg(d.version ORDER BY d.created_at DESC))[1],
    (array_agg(d.id ORDER BY d.created_at DESC))[1]` + deadLetterTables + `
WHERE ` + deadLetterWhere + ` GROUP BY d.cause ORDER BY count(*) DESC, d.cause LIMIT $9`

// Groups returns the causes of the dead letters that f finds, up to limit, the most frequent first.
func (s *DeadLetterStore) Groups(
	ctx context.Context, app uuid.UUID, f record.DeadLetterFilter, limit int,
) ([]record.DeadLetterGroup, error) {
	rows, _ := s.pool.Query(ctx, sqlDeadLetterGroups, append(filterArgs(app, &f), limit)...)
	groups, err := pgx.CollectRows(rows, pgx.RowToStructByPos[record.DeadLetterGroup])
	if err != nil {
		return nil, fmt.Errorf("group dead letters: %w", err)
	}
	return groups, nil
}

const sqlDeadLetterResolveAll = `
UPDATE dead_letters SET resolved_at = clock_timestamp(), resolution = $9 WHERE id = ANY (ARRAY (
    SELECT d.id` + deadLetterTables + `WHERE ` + deadLetterWhere + ` ORDER BY d.id LIMIT 1000 FOR UPDATE OF d))`

// ResolveAll closes the open dead letters that f finds, up to 1,000 at a time, and returns how many.
func (s *DeadLetterStore) ResolveAll(
	ctx context.Context, by, app uuid.UUID, f record.DeadLetterFilter, resolution string,
) (n int, err error) {
	f.Open = true
	err = pgx.BeginFunc(ctx, s.pool, func(tx pgx.Tx) error {
		tag, err := tx.Exec(ctx, sqlDeadLetterResolveAll, append(filterArgs(app, &f), resolution)...)
		if err != nil {
			return fmt.Errorf("resolve dead letters: %w", err)
		}
		n = int(tag.RowsAffected())
		return audit(ctx, tx, &change{
			by: by, app: app, action: "dead_letter.resolve_all", detail: map[string]any{"filter": f, "count": n},
		})
	})
	return n, err
}

const sqlDeadLetterPurge = `
DELETE FROM dead_letters WHERE id = ANY (ARRAY (
    SELECT id FROM dead_letters WHERE created_at < clock_timestamp() - $1::interval ORDER BY created_at LIMIT 1000
    FOR UPDATE SKIP LOCKED))`

const sqlRootPurge = `
DELETE FROM roots WHERE id = ANY (ARRAY (
    SELECT id FROM roots WHERE updated_at < clock_timestamp() - $1::interval ORDER BY updated_at LIMIT 1000
    FOR UPDATE SKIP LOCKED))`

const sqlReplayPurge = `
DELETE FROM replays WHERE id = ANY (ARRAY (
    SELECT id FROM replays WHERE state <> 'running' AND created_at < clock_timestamp() - $1::interval LIMIT 1000
    FOR UPDATE SKIP LOCKED))`

// keepRoots is the least time that the budget of a chain is kept after its last event, since entries may wait as well.
const keepRoots = 31 * 24 * time.Hour

// Purge removes dead letters that are older than keep, and then the budgets of chains that none of them can continue and
// what is known of their replays, some at a time. It returns how many rows that were.
func (s *DeadLetterStore) Purge(ctx context.Context, keep time.Duration) (removed int64, err error) {
	const day = 24 * time.Hour
	for _, old := range []struct {
		sql string
		age time.Duration
	}{
		{sqlDeadLetterPurge, keep},
		{sqlRootPurge, max(keep+day, keepRoots)},
		{sqlReplayPurge, keep + day},
	} {
		for {
			tag, err := s.pool.Exec(ctx, old.sql, old.age)
			if err != nil {
				return removed, fmt.Errorf("remove old dead letters: %w", err)
			}
			if removed += tag.RowsAffected(); tag.RowsAffected() < 1000 {
				break
			}
		}
	}
	return removed, nil
}

const sqlDeadLetterGet = `
SELECT ` + deadLetterColumns + `, d.envelope, d.payload` + deadLetterTables + `WHERE d.app = $1 AND d.id = $2`

// Get returns a dead letter with its event, or tenant.ErrNotFound.
func (s *DeadLetterStore) Get(ctx context.Context, app, id uuid.UUID) (record.DeadLetter, error) {
	rows, _ := s.pool.Query(ctx, sqlDeadLetterGet, app, id)
	d, err := pgx.CollectExactlyOneRow(rows, scanDeadLetter)
	return d, missing("read dead letter", err)
}

const sqlDeadLetterLock = `SELECT resolved_at IS NOT NULL FROM dead_letters WHERE app = $1 AND id = $2 FOR UPDATE`

const sqlDeadLetterResolve = `UPDATE dead_letters SET resolved_at = now(), resolution = $3 WHERE app = $1 AND id = $2`

// Resolve closes a dead letter with one of the resolutions of the schema. One that is closed is a *tenant.Conflict.
func (s *DeadLetterStore) Resolve(ctx context.Context, by, app, id uuid.UUID, resolution string) error {
	c := &change{
		by: by, app: app, action: "dead_letter.resolve", object: id.String(), detail: map[string]string{"resolution": resolution},
	}
	return s.close(ctx, c, id, func(tx pgx.Tx) error {
		_, err := tx.Exec(ctx, sqlDeadLetterResolve, app, id, resolution)
		return err
	})
}

// close runs write on a dead letter that is open, and keeps others from closing it meanwhile.
func (s *DeadLetterStore) close(ctx context.Context, c *change, id uuid.UUID, write func(tx pgx.Tx) error) error {
	return pgx.BeginFunc(ctx, s.pool, func(tx pgx.Tx) error {
		if err := lockApp(ctx, tx, c.app); err != nil {
			return err
		}
		var closed bool
		if err := tx.QueryRow(ctx, sqlDeadLetterLock, c.app, id).Scan(&closed); err != nil {
			return missing("lock dead letter", err)
		}
		if closed {
			return &tenant.Conflict{Message: "the dead letter is resolved already", With: id}
		}
		if err := write(tx); err != nil {
			return fmt.Errorf("%s: %w", c.action, err)
		}
		return audit(ctx, tx, c)
	})
}
