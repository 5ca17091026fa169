package postgres

import (
	"context"
	"fmt"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"github.com/picloud/picloud/core/outbox"
)

// sqlQueueDepth looks at up to 10,000 messages of each state, by the indexes of the states.
const sqlQueueDepth = `
WITH waiting AS (
    (SELECT accepted_at FROM outbox WHERE state = 1 AND app = $1 AND lane = $2 LIMIT 10000)
    UNION ALL (SELECT accepted_at FROM outbox WHERE state = 3 AND app = $1 AND lane = $2 LIMIT 10000)
    UNION ALL (SELECT accepted_at FROM outbox WHERE state = 0 AND app = $1 AND lane = $2 LIMIT 10000)
)
SELECT count(*), (SELECT count(*) FROM (SELECT 1 FROM outbox WHERE state = 2 AND app = $1 AND lane = $2 LIMIT 10000) x),
    coalesce(extract(epoch FROM clock_timestamp() - min(accepted_at)) * 1000, 0)::bigint FROM waiting`

// Depth returns how many messages of a queue wait and run, of each state up to 10,000, and how long the oldest of those has waited.
func (s *QueueStore) Depth(ctx context.Context, app, id uuid.UUID) (waiting, running int, oldest time.Duration, err error) {
	var ms int64
	if err := s.pool.QueryRow(ctx, sqlQueueDepth, app, id).Scan(&waiting, &running, &ms); err != nil {
		return 0, 0, 0, fmt.Errorf("count messages: %w", err)
	}
	return waiting, running, time.Duration(max(0, ms)) * time.Millisecond, nil
}

const sqlQueueWaiting = `SELECT id FROM outbox WHERE app = $1 AND lane = $2 AND state <> 2 ORDER BY id LIMIT $3`

// Purge ends up to limit messages of a queue that wait, under the owner's epoch, and returns how many.
func (s *QueueStore) Purge(ctx context.Context, owner int64, app, id uuid.UUID, limit int) (n int, err error) {
	err = pgx.BeginFunc(ctx, s.pool, func(tx pgx.Tx) error {
		var live bool
		if err := tx.QueryRow(ctx, sqlKVLive, owner).Scan(&live); err != nil {
			return fmt.Errorf("purge messages: %w", err)
		}
		if !live {
			return outbox.ErrFenced
		}
		rows, _ := tx.Query(ctx, sqlQueueWaiting, app, id, limit)
		ids, err := pgx.CollectRows(rows, pgx.RowTo[uuid.UUID])
		if err != nil {
			return fmt.Errorf("list messages: %w", err)
		}
		n, err = endWaiting(ctx, tx, ids, outbox.Cancelled, outbox.ReasonPurged)
		return err
	})
	return n, err
}
