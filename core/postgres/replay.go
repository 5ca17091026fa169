package postgres

import (
	"context"
	"fmt"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"github.com/picloud/picloud/core/tenant"
)

// sqlDeadLetterReplay puts a dead letter back as a new entry. Attempts begin anew; depth, root and principal stay, so a
// replay neither escapes a loop's bound nor gains rights.
const sqlDeadLetterReplay = `
WITH d AS (
    UPDATE dead_letters SET resolved_at = now(), resolution = 'replayed', replayed_as = $3
    WHERE app = $1 AND id = $2 RETURNING *
)
INSERT INTO outbox (id, event_id, app, lane, target, target_kind, trigger, root_id, replay_of, principal, run_at, accepted_at,
    timeout_ms, kind, state, priority, max_attempts, depth, backoff, gates, envelope, payload)
SELECT $3, event_id, app, lane, target, target_kind, trigger, root_id, id, principal, now(), now(),
    timeout_ms, 3, 1, priority, max_attempts, depth, backoff, gates, envelope, payload
FROM d`

// Replay puts an open dead letter back into the outbox and returns the id of the new entry. One that is resolved is a
// *tenant.Conflict.
func (s *DeadLetterStore) Replay(ctx context.Context, by, app, id uuid.UUID) (uuid.UUID, error) {
	entry, err := uuid.NewV7()
	if err != nil {
		return uuid.Nil, fmt.Errorf("make entry id: %w", err)
	}
	err = pgx.BeginFunc(ctx, s.pool, func(tx pgx.Tx) error {
		if err := lockApp(ctx, tx, app); err != nil {
			return err
		}
		var closed bool
		if err := tx.QueryRow(ctx, sqlDeadLetterLock, app, id).Scan(&closed); err != nil {
			return missing("lock dead letter", err)
		}
		if closed {
			return &tenant.Conflict{Message: "the dead letter is resolved already", With: id}
		}
		if _, err := tx.Exec(ctx, sqlDeadLetterReplay, app, id, entry); err != nil {
			return fmt.Errorf("replay dead letter: %w", err)
		}
		return audit(ctx, tx, &change{by: by, app: app, action: "dead_letter.replay", object: id.String()})
	})
	return entry, err
}
