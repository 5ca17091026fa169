package postgres

import (
	"context"
	"fmt"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
)

// sqlDeadLetterReplay puts a dead letter back as a new entry. Attempts begin anew; depth, root and principal stay, so a
// replay neither escapes a loop's bound nor gains rights.
const sqlDeadLetterReplay = `
WITH d AS (
    UPDATE dead_letters SET resolved_at = now(), resolution = 'replayed', replayed_as = $3
    WHERE app = $1 AND id = $2 RETURNING *
)
INSERT INTO outbox (id, event_id, app, lane, target, target_kind, trigger, root_id, replay_of, principal, run_at, accepted_at,
    timeout_ms, kind, state, priority, max_attempts, depth, backoff, gate, gate_limit, rate_key, envelope, payload)
SELECT $3, event_id, app, lane, target, target_kind, trigger, root_id, id, principal, now(), now(),
    timeout_ms, 3, 1, priority, max_attempts, depth, backoff, gate, gate_limit, rate_key, envelope, payload
FROM d`

// Replay puts an open dead letter back into the outbox and returns the id of the new entry. One that is resolved is a
// *tenant.Conflict.
func (s *DeadLetterStore) Replay(ctx context.Context, by, app, id uuid.UUID) (uuid.UUID, error) {
	entry, err := uuid.NewV7()
	if err != nil {
		return uuid.Nil, fmt.Errorf("make entry id: %w", err)
	}
	c := &change{by: by, app: app, action: "dead_letter.replay", object: id.String()}
	err = s.close(ctx, c, id, func(tx pgx.Tx) error {
		_, err := tx.Exec(ctx, sqlDeadLetterReplay, app, id, entry)
		return err
	})
	return entry, err
}
