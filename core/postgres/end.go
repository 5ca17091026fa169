package postgres

import (
	"context"
	"fmt"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"github.com/picloud/picloud/core/outbox"
)

const sqlEntryGates = `SELECT DISTINCT app, gate FROM outbox WHERE id = ANY ($1::uuid[]) AND gate IS NOT NULL`

// sqlEntryEnd ends entries that do not run.
const sqlEntryEnd = `
WITH g AS (
    DELETE FROM outbox o WHERE o.id = ANY ($1::uuid[]) AND o.state <> 2
    RETURNING o.id, o.attempt, o.app, o.target, o.trigger, o.kind, o.depth, o.event_id, o.root_id, o.accepted_at,
        coalesce(o.last_error, '') AS error
)
INSERT INTO executions (id, attempt, finished_at, app, script, trigger, kind, outcome, reason, depth, event_id, root_id,
    accepted_at, started_at, duration_us, node, error)
SELECT id, attempt, clock_timestamp(), app, target, trigger, kind, $2, $3, depth, event_id, root_id, accepted_at,
    clock_timestamp(), 0, 0, error
FROM g`

// endWaiting ends those of the entries that do not run now, with a record that says so, and lets others through the gates
// that they leave. It returns how many it ended.
func endWaiting(ctx context.Context, tx pgx.Tx, ids []uuid.UUID, outcome outbox.Outcome, reason string) (int, error) {
	rows, _ := tx.Query(ctx, sqlEntryGates, ids)
	keys, err := pgx.CollectRows(rows, scanGateKey)
	if err != nil {
		return 0, fmt.Errorf("read gates of entries: %w", err)
	}
	keys = gateKeys(keys)
	if err := lockGates(ctx, tx, keys); err != nil {
		return 0, err
	}
	tag, err := tx.Exec(ctx, sqlEntryEnd, ids, outcome, reason)
	if err != nil {
		return 0, fmt.Errorf("end entries: %w", err)
	}
	if _, err := fillGates(ctx, tx, keys); err != nil {
		return 0, err
	}
	return int(tag.RowsAffected()), nil
}

const sqlOutboxExpired = `SELECT id FROM outbox WHERE expires_at <= clock_timestamp() AND state <> 2 LIMIT 500`

// Expire ends up to 500 entries that have waited too long, and returns how many.
func (s *OutboxStore) Expire(ctx context.Context) (n int, err error) {
	err = pgx.BeginFunc(ctx, s.pool, func(tx pgx.Tx) error {
		rows, _ := tx.Query(ctx, sqlOutboxExpired)
		ids, err := pgx.CollectRows(rows, pgx.RowTo[uuid.UUID])
		if err != nil {
			return fmt.Errorf("look for expired entries: %w", err)
		}
		n, err = endWaiting(ctx, tx, ids, outbox.Expired, "expired")
		return err
	})
	return n, err
}
