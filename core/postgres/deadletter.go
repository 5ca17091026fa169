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
	deadLetterColumns = `d.id, d.event_id, d.target, coalesce(s.name, ''), d.trigger, d.root_id, d.replay_of, d.kind,
    d.attempts, d.max_attempts, d.reason, d.error, d.fault, d.version, d.accepted_at, d.created_at, d.resolved_at,
    coalesce(d.resolution, ''), d.replayed_as`
	deadLetterTables = ` FROM dead_letters d JOIN apps a ON a.id = d.app AND a.deleted_at IS NULL
    LEFT JOIN scripts s ON s.id = d.target AND s.app = d.app `
)

func scanDeadLetter(row pgx.CollectableRow) (d record.DeadLetter, err error) {
	var trigger, replayOf, replayedAs *uuid.UUID
	var resolved *time.Time
	err = row.Scan(&d.ID, &d.EventID, &d.Target, &d.TargetName, &trigger, &d.RootID, &replayOf, &d.Kind, &d.Attempts,
		&d.MaxAttempts, &d.Reason, &d.Error, &d.Fault, &d.Version, &d.AcceptedAt, &d.CreatedAt, &resolved, &d.Resolution,
		&replayedAs, &d.Envelope, &d.Payload)
	d.Trigger, d.ReplayOf, d.ReplayedAs = orNil(trigger), orNil(replayOf), orNil(replayedAs)
	if resolved != nil {
		d.ResolvedAt = *resolved
	}
	return d, err
}

const sqlDeadLetterList = `
SELECT ` + deadLetterColumns + `, NULL::bytea, NULL::bytea` + deadLetterTables + `
WHERE d.app = $1 AND (NOT $2::boolean OR d.resolved_at IS NULL) AND (d.created_at, d.id) < ($3, $4)
ORDER BY d.created_at DESC, d.id DESC LIMIT $5`

// List returns up to limit dead letters, newest first, from cursor on, and the cursor of the next page. open leaves out
// those that are resolved.
func (s *DeadLetterStore) List(
	ctx context.Context, app uuid.UUID, open bool, cursor string, limit int,
) ([]record.DeadLetter, string, error) {
	before, id := lastTime.UnixMicro(), lastID
	if err := decodeCursor(cursor, &before, &id); err != nil {
		return nil, "", err
	}
	rows, _ := s.pool.Query(ctx, sqlDeadLetterList, app, open, time.UnixMicro(before), id, limit+1)
	list, err := pgx.CollectRows(rows, scanDeadLetter)
	if err != nil {
		return nil, "", fmt.Errorf("list dead letters: %w", err)
	}
	list, next := page(list, limit, func(d *record.DeadLetter) []any { return []any{d.CreatedAt.UnixMicro(), d.ID} })
	return list, next, nil
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
